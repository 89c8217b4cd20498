"""How fast heatbath is, against a plain `lax.scan`, other libraries, the physics without noise, and hand-written C.

`make bench` runs all of it (about half an hour on two cores), `make bench-quick` a corner of it, into results/quick.json.
Contestants live in processes of their own, by compiler flags and devices, and take turns call by call; a figure is the
median of at least five turns. Only ratios mean anything on a shared machine. The result goes to
benchmarks/results/performance.json with date, versions and device; `page.py` makes docs/performance.md of it.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from field import Field

from heatbath.engine.hardware import usable_cores

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "results" / "performance.json"
RATIOS = HERE / "results" / "ratios.json"  # to the plain scan, for each kind of vectors: what a test holds us to
CORES = usable_cores()
SCHEMES = ("overdamped", "BAOAB")
SIZES = {"full": (1, 100, 1_000, 16_384, 262_144, 1_000_000), "quick": (1, 1_000, 16_384)}
DIMENSIONS = {"full": (1, 2, 3, 10, 100), "quick": (2, 10)}
MOST_COORDINATES = 30_000_000
# scheme, energy, particles, coordinates
TESTED = [
    (scheme, "double well", n, d) for n, d in ((16_384, 2), (16_384, 10), (262_144, 2)) for scheme in ("HMC", "GHMC")
]
TESTED += [(scheme, "funnel", 16_384, 22) for scheme in ("HMC", "GHMC", "BAOAB")]
SAME_NOISE = ("overdamped", "BAOAB", "LeimkuhlerMatthews", "OBABO", "GronbechJensen", "SGHMC", "BADODAB")
PEER_SHAPES = ((16_384, 2), (16_384, 3), (4_096, 10))
# million coordinate-steps a second, roughly: only to choose how many steps a call takes
GUESS = {"heatbath": 800, "C": 1200}


TUNED, SILENT, ONE, ALL = (CORES, "tuned"), (CORES, "silent"), (1, "plain"), (CORES, "plain")  # kinds of workers


def steps_for(who: str, n: int, d: int, seconds: float) -> int:
    """A multiple of 16 steps that take about so long."""
    rate = GUESS.get(who, 120) * 1e6
    small = 3e6 if n * d < 64 else 3e5  # steps a second of loops that are all overhead
    least = 64 if who == "heatbath" else 16  # `simulate` calls its block for half a second, not for a few steps
    return max(least, min(int(seconds * rate / (n * d)), int(seconds * small)) // 16 * 16)


def grid(field: Field, size: str, seconds: float, done: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows that are not done yet."""
    there = {(row["scheme"], row["n"], row["d"]) for row in done}
    for d in DIMENSIONS[size]:
        for n in SIZES[size]:
            if n * d > MOST_COORDINATES:
                continue
            for scheme in SCHEMES:
                if (scheme, n, d) in there:
                    continue
                entrants = {"heatbath": (TUNED, "heatbath"), "scan": (ONE, "scan")}
                if n >= CORES:
                    entrants["scan, all devices"] = (ALL, "scan")
                if n % 32 == 0 and n >= 10_000:
                    entrants["C"] = ((*ALL, "float32"), "C")
                if d in (2, 10) and n <= 16_384:
                    entrants["scan, a key a particle"] = ((*ALL, "float32"), "scan, a key a particle")
                    entrants["heatbath, not tuned"] = ((*ONE, "float32"), "heatbath")
                if d in (2, 10) and n == 16_384:
                    entrants["without noise"] = (SILENT, "heatbath")
                yield race(field, scheme, n, d, seconds, entrants)


def race(field: Field, scheme: str, n: int, d: int, seconds: float, entrants: dict, **more: Any) -> dict[str, Any]:
    work = {}
    for name, (kind, maker) in entrants.items():
        options = {"scheme": scheme, "n": n, "d": d, "steps": steps_for(maker.split(",")[0], n, d, seconds), **more}
        work[name] = (kind, maker, options)
    times = field.race(work)
    rates = {name: n * d / t / 1e6 if isinstance(t, float) else t for name, t in times.items()}
    row = {"scheme": scheme, "n": n, "d": d, "million coordinate-steps/s": rates}
    text = "  ".join(f"{name} {r:.1f}" if isinstance(r, float) else f"{name}: {r[:40]}" for name, r in rates.items())
    print(f"{scheme:<11} n = {n:<8} d = {d:<4} {text}", flush=True)
    return row


def flatness(field: Field, seconds: float) -> list[dict[str, Any]]:
    """Populations from 10⁴ to 10⁷ coordinates in turns: a machine that drifts would change from row to row of the grid."""
    rows = []
    for d in DIMENSIONS["full"]:
        for scheme in SCHEMES:
            sizes = [n for n in SIZES["full"] if 1e4 <= n * d <= 1e7]
            options = [
                {"scheme": scheme, "n": n, "d": d, "steps": steps_for("heatbath", n, d, 2 * seconds)} for n in sizes
            ]
            entrants = {
                f"{n}": ((*TUNED, "float32", seat), "heatbath", work)
                for seat, (n, work) in enumerate(zip(sizes, options, strict=True))
            }
            times = field.race(entrants)
            rates = {n: int(n) * d / t / 1e6 if isinstance(t, float) else t for n, t in times.items()}
            rows.append({"scheme": scheme, "d": d, "million coordinate-steps/s": rates})
            print(rows[-1], flush=True)
    return rows


def peers(field: Field, seconds: float) -> list[dict[str, Any]]:
    rows = []
    for n, d in PEER_SHAPES:
        for scheme in SCHEMES:
            entrants: dict[str, tuple] = {"heatbath": (TUNED, "heatbath")}
            for peer in ("BlackJAX", "jax-md", "diffrax"):
                entrants[peer] = (ALL, peer)
            row = race(field, scheme, n, d, seconds / 2, entrants)
            if d == 3:
                for where in ("Reference", "CPU"):
                    extra = race(field, scheme, n, d, seconds / 2, {"OpenMM": (ALL, "OpenMM")}, platform=where)
                    rate = extra["million coordinate-steps/s"]["OpenMM"]
                    row["million coordinate-steps/s"][f"OpenMM {where}"] = rate
            rows.append(row)
    return rows


def metropolised(field: Field, seconds: float) -> list[dict[str, Any]]:
    """HMC, generalised HMC, and the funnel, against plain scans on one and on all devices."""
    rows = []
    for scheme, work, n, d in TESTED:
        # a step of HMC has ten gradients
        steps = max(2, steps_for("scan", n, d, seconds) // (10 if scheme == "HMC" else 2))
        entrants = {"heatbath": (TUNED, "metropolised"), "scan": (ONE, "metropolised scan")}
        entrants["scan, all devices"] = (ALL, "metropolised scan")
        row = race(field, scheme, n, d, seconds, entrants, work=work, steps=steps)
        rows.append(row | {"scheme": f"{scheme}, {work}"})
    return rows


def same_noise(field: Field, seconds: float) -> list[dict[str, Any]]:
    """What the engine itself costs, over scans of the same scheme by hand that draw the same noise."""
    rows = []
    for n, d in ((16_384, 2), (16_384, 10), (262_144, 2)):
        for scheme in SAME_NOISE:
            entrants = {"heatbath": (TUNED, "engine")}
            by_hand = ("by hand, in pairs", "by hand, in blocks")
            entrants |= {name: ((*TUNED, "float32", seat), name) for seat, name in enumerate(by_hand)}
            rows.append(race(field, scheme, n, d, 4 * seconds, entrants))  # the ratios are near 1
    return rows


def float64(field: Field, seconds: float) -> list[dict[str, Any]]:
    entrants = {"heatbath": ((*TUNED, "float64"), "heatbath"), "scan": ((*ALL, "float64"), "scan")}
    return [race(field, scheme, 16_384, d, seconds, entrants) for scheme in SCHEMES for d in (2, 10)]


def networks(field: Field, seconds: float) -> list[dict[str, Any]]:
    rows = []
    for n in (8, 64):
        steps = max(32, int(seconds * 4 / (n * 6e-5)))
        work = {
            who: (kind, "networks", {"who": who.split(",")[0], "n": n, "steps": steps})
            for who, kind in (("heatbath", TUNED), ("without noise", SILENT), ("scan", ONE), ("scan, all devices", ALL))
        }
        rows.append({"work": f"{n} networks 64-64-10, batch 128", "ms a step": scaled(field.race(work))})
        print(rows[-1], flush=True)
    for batch in (None, 64):
        steps = max(32, int(seconds * 2 / 2e-3))
        work = {
            who: (kind, "regression", {"who": who.split(",")[0], "n": 1_000, "steps": steps, "batch": batch})
            for who, kind in (("heatbath", TUNED), ("scan", ONE), ("scan, all devices", ALL))
        }
        name = f"logistic regression 569 × 31, 1,000 particles, {'all data' if batch is None else f'batch {batch}'}"
        rows.append({"work": name, "ms a step": scaled(field.race(work))})
        print(rows[-1], flush=True)
    return rows


def scaled(times: dict[str, float | str]) -> dict[str, float | str]:
    return {name: t * 1e3 if isinstance(t, float) else t for name, t in times.items()}


def observing(field: Field, seconds: float) -> list[dict[str, Any]]:
    """The time of a long run with observables over that of one without, in calls of `simulate` of a few seconds."""
    rows = []
    for d in (1, 2, 3):
        for scheme in SCHEMES:
            options = {"scheme": scheme, "n": 16_384, "d": d, "steps": int(seconds * 2.4e6 / d)}
            entrants = {
                "none": (TUNED, "long run", options | {"observing": False}),
                "observed": ((*TUNED, "float32"), "long run", options | {"observing": True}),
            }
            times = field.race(entrants)
            ratio = times["observed"] / times["none"]  # pyright: ignore[reportOperatorIssue]
            rows.append({"scheme": scheme, "d": d, "time over time without": ratio})
            print(rows[-1], flush=True)
    return rows


START = """
import json, time
began = time.perf_counter()
import jax, jax.numpy
jax_at = time.perf_counter()
from heatbath import engine
print(json.dumps({"import jax": jax_at - began, "import heatbath.engine adds": time.perf_counter() - jax_at}))
"""

MEMORY = """
import json, sys
import jax, jax.numpy as jnp
from heatbath import engine, integrators, potentials
well, n = potentials.DoubleWell(barrier=1.0, tilt=0.3), int(sys.argv[1])
bath = integrators.BAOAB(step_size=0.05, temperature=0.5)
run = engine.simulate(well, bath, engine.scatter(jnp.zeros(2), n, key=1), steps=200, key=2, progress=False)
status = open("/proc/self/status").read()
state = sum(a.nbytes for a in jax.tree.leaves(run.state)) / 2**20
print(json.dumps({"peak": int(status.split("VmHWM:")[1].split()[0]) / 1024, "state": state}))
"""


def script(text: str, *arguments: str, **environment: str) -> str:
    """What a process of its own prints. Python may keep its bytecode, as it does unless it is told not to."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", text, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=kept | environment).stdout


def last_line(text: str, *arguments: str) -> dict[str, float]:
    return json.loads(script(text, *arguments).strip().split("\n")[-1])


def starting(repeats: int) -> dict[str, float]:
    """Cold processes, from their start to their end: imports, and the README's first snippet; the latter also with the
    compiled code of an earlier one. The first of each, which writes Python's bytecode or the cache, is not counted.
    """
    snippet = (HERE.parent / "README.md").read_text().split("```python\n")[1].split("```")[0]

    def seconds(**environment: str) -> float:
        found = []
        for _ in range(repeats + 1):
            began = time.perf_counter()
            script(snippet, **environment)
            found.append(time.perf_counter() - began)
        return statistics.median(found[1:])

    imports = [last_line(START) for _ in range(repeats + 1)][1:]
    found = {name: statistics.median(row[name] for row in imports) for name in imports[0]}
    with tempfile.TemporaryDirectory() as cache:
        cached = seconds(JAX_COMPILATION_CACHE_DIR=cache, JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0")
    return {**found, "README's first snippet": seconds(), "the same, compiled before": cached}


def memory() -> dict[str, float]:
    """MiB at a million particles of two coordinates, above a process that did the same with 64."""
    base, large = last_line(MEMORY, "64"), last_line(MEMORY, "1000000")
    return {"above 64 particles": large["peak"] - base["peak"], "state": large["state"], "peak": large["peak"]}


def versions() -> dict[str, str]:
    names = ("heatbath", "jax", "jaxlib", "numpy", "blackjax", "jax-md", "diffrax", "openmm")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def vectors() -> str:
    """The widest vectors of this processor."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    return "AVX-512" if "avx512f" in text else "AVX2" if "avx2" in text else platform.machine()


def record_ratios(grid: list[dict[str, Any]]) -> None:
    """Keep the ratios to the better plain scan at 16,384 × 2 for this kind of processor."""
    found = json.loads(RATIOS.read_text()) if RATIOS.exists() else {}
    for row in grid:
        if (row["n"], row["d"]) == (16_384, 2):
            rates = row["million coordinate-steps/s"]
            ratio = rates["heatbath"] / max(rates["scan"], rates["scan, all devices"])
            found.setdefault(vectors(), {})[row["scheme"]] = round(ratio, 2)
    RATIOS.write_text(json.dumps(found, indent=1) + "\n")


def processor() -> str:
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    model = next(
        (line.split(":")[1].strip() for line in text.split("\n") if line.startswith("model name")), platform.processor()
    )
    return f"{CORES} cores of {model}, {vectors()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a corner of the grid, fewer seconds")
    parser.add_argument(
        "--only",
        nargs="*",
        help="some of: grid peers metropolised 'same noise' float64 networks observing flatness starting memory",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with an interrupted run: only the rest of the grid"
    )
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    size, seconds = ("quick", 0.06) if options.quick else ("full", 0.08)
    field = Field(options.repeats)
    parts = {
        "starting": lambda: starting(3 if options.quick else 5),
        "memory": memory,
        "observing": lambda: observing(field, seconds),
        "flatness": lambda: flatness(field, seconds),
        "networks": lambda: networks(field, seconds),
        "peers": lambda: peers(field, seconds),
        "metropolised": lambda: metropolised(field, seconds),
        "same noise": lambda: same_noise(field, seconds),
        "float64": lambda: float64(field, seconds),
    }
    results = RESULTS.with_name("quick.json") if options.quick else RESULTS
    again = (options.only or options.resume) and results.exists()
    found: dict[str, Any] = json.loads(results.read_text()) if again else {}
    found |= {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "device": processor(),
        "size": size,
    }

    def keep() -> None:
        results.parent.mkdir(exist_ok=True)
        results.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")

    for name, part in parts.items():
        if name in (options.only or parts) and not options.resume:
            print(f"# {name}", flush=True)
            found[name] = part()
            print(json.dumps(found[name])[:400] if name in ("starting", "memory", "observing") else "", flush=True)
            field.close()
            keep()
    if not options.only or "grid" in options.only:
        found["grid"] = found.get("grid", []) if options.resume else []
        for row in grid(field, size, seconds, list(found["grid"])):
            found["grid"].append(row)
            keep()
        field.close()
        if not options.quick:
            record_ratios(found["grid"])


if __name__ == "__main__":
    main()
