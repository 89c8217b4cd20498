"""Every shipped integrator on eight energies, and those of BlackJAX and jax-md on three: docs/integrators.md.

`make bench-integrators`; `--quick` for a rough answer in a few minutes, which writes no page, `--only phi4 ring` for some
of the energies, `--fresh` to forget what is done. An energy's figures go to benchmarks/results/integrators/<name>.json as
soon as they are there, so an interrupted run goes on; two energies run at a time.
"""

import argparse
import dataclasses
import json
import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "results" / "integrators"
AT_A_TIME = 2
SIZES = {"full": {"particles": 256, "gradients": 2_000}, "quick": {"particles": 128, "gradients": 300}}


def run(name: str, size: str) -> None:
    """All schemes on one energy."""
    import problems

    from heatbath import engine

    problem, sizes = problems.PROBLEMS[name], dict(SIZES[size])
    sizes["particles"] = int(sizes["particles"] * problem.share)
    target = problem.make()
    if target.start is not None:
        target = dataclasses.replace(target, start=target.start[: sizes["particles"]])
    schemes, _ = problems.shipped(problem)
    if not target.potential.quadratic:
        del schemes["ExactOrnsteinUhlenbeck"]  # exact there, and nothing elsewhere
    if problem.peers:
        schemes |= problems.peers(problem)
    found = engine.benchmark(schemes, {problem.title: target}, **sizes, key=1)
    found.save(RESULTS / f"{name}.json" if size == "full" else pathlib.Path("out") / f"benchmark_{name}.json")
    print(found, flush=True)


def check_temperatures() -> None:
    """Whether the peers sample at the temperature they are given: on a quadratic energy, T = 0.25 and 4."""
    import adapters
    import jax.numpy as jnp

    from heatbath import engine, potentials

    rows = []
    for kernel in (*adapters.BLACKJAX[:4], *adapters.JAX_MD):
        for t in (0.25, 1.0, 4.0):
            bath = kernel(step_size=0.05, temperature=t)
            start = potentials.Harmonic().equilibrium(t, like=jnp.zeros(2)).sample(1, 4_000)
            made = engine.simulate(potentials.Harmonic(), bath, start, steps=400, key=2, progress=False)
            line = engine.compare(made, p_value=1e-6)["virial_temperature"]
            rows.append([kernel.__name__, t, line.measured, line.error, line.step_bias, line.passed])
            print(rows[-1], flush=True)
    (RESULTS / "temperatures.json").write_text(json.dumps(rows, indent=1) + "\n")


def certify_peers() -> None:
    """What `engine.certify` says of the peers: which lines fail, and what they measured."""
    import adapters

    from heatbath import engine

    rows = []
    for kernel in (*adapters.BLACKJAX, *adapters.JAX_MD):
        verdict = engine.certify(kernel(step_size=0.1))
        failures = "; ".join(f"{name}: {verdict[name].measured:.4g}" for name in verdict.failures)
        rows.append([kernel.__name__, "passed" if verdict.passed else "**not passed**", failures])
        print(rows[-1], flush=True)
    (RESULTS / "certificates.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


ALONE = {"temperatures": check_temperatures, "certificates": certify_peers}  # beside the energies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a rough answer, no page")
    parser.add_argument("--only", nargs="*", help="some of the energies, by name; or temperatures, certificates")
    parser.add_argument("--fresh", action="store_true", help="do again what is done")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # in a process of its own
    options = parser.parse_args()
    size = "quick" if options.quick else "full"
    RESULTS.mkdir(parents=True, exist_ok=True)
    pathlib.Path("out").mkdir(exist_ok=True)
    if options.one:
        ALONE[options.one]() if options.one in ALONE else run(options.one, size)
        return
    names = options.only or ["logistic", "phi4", "harmonic", *ALONE, "stiff", "double_well", "mueller_brown",
                             "funnel", "ring"]  # fmt: skip
    if not options.fresh and not options.quick:
        names = [name for name in names if not (RESULTS / f"{name}.json").exists()]
    began, running, failed = time.monotonic(), {}, []
    while names or running:
        while names and len(running) < AT_A_TIME:
            name = names.pop(0)
            more = ["--quick"] if options.quick else []
            running[name] = subprocess.Popen([sys.executable, __file__, "--one", name, *more])
        time.sleep(0.5)
        for name in [name for name, process in running.items() if process.poll() is not None]:
            failed += [name] if running.pop(name).returncode else []
            print(f"# {name}: {time.monotonic() - began:.0f} s since the start", flush=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")
    if not options.quick:
        from integrators_page import write
        from machine import stamp

        (RESULTS / "machine.json").write_text(json.dumps(stamp(), indent=1) + "\n")
        write(RESULTS)


if __name__ == "__main__":
    main()
