"""heatbath against a hand-written `lax.scan` with `jax.random.normal`, and its observables against none.

Everything alternates in one process; medians; only ratios mean anything on a shared machine. The result is printed and
written to benchmarks/results/against_scan.json with date, versions and device.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax

jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)  # before JAX starts: one device a core

import jax.numpy as jnp
import jaxlib
from jax import lax

from heatbath import engine, integrators, potentials
from heatbath.engine import observables
from heatbath.engine.block import run_block, window
from heatbath.engine.preparation import Plan, prepare

RESULTS = pathlib.Path(__file__).parent / "results"
PARTICLES = 16_384
WELL = potentials.DoubleWell(barrier=1.0, tilt=0.3)
SCHEMES = {
    "overdamped": integrators.EulerMaruyama(step_size=0.01, temperature=0.5),
    "BAOAB": integrators.BAOAB(step_size=0.05, friction=1.0, temperature=0.5),
}


def by_scan(scheme: str, d: int, steps: int) -> Callable[[], Any]:
    """What a competent JAX user writes: one scan, one key a step, noise for the whole array."""
    h, temperature, gamma = float(SCHEMES[scheme].step_size), 0.5, 1.0
    gradient = jax.grad(lambda x: jnp.sum((x * x - 1) ** 2 + 0.3 * x))

    def overdamped(x: Any, key: Any) -> Any:
        noise = jax.random.normal(key, x.shape)
        return x - h * gradient(x) + jnp.sqrt(2 * h * temperature) * noise, None

    def baoab(state: Any, key: Any) -> Any:
        x, p, g = state
        c = jnp.exp(-gamma * h)
        p = p - h / 2 * g
        x = x + h / 2 * p
        p = c * p + jnp.sqrt(temperature * (1 - c * c)) * jax.random.normal(key, x.shape)
        x = x + h / 2 * p
        g = gradient(x)
        return (x, p - h / 2 * g, g), None

    @jax.jit
    def run(x: Any) -> Any:
        keys = jax.random.split(jax.random.key(0), steps)
        start = x if scheme == "overdamped" else (x, jnp.zeros_like(x), gradient(x))
        return lax.scan(overdamped if scheme == "overdamped" else baoab, start, keys)[0]

    x = engine.scatter(jnp.zeros(d), PARTICLES, scale=0.5, key=1)
    return lambda: jax.block_until_ready(run(x))


def by_heatbath(scheme: str, d: int, steps: int, measured: Any = ()) -> Callable[[], Any]:
    """The engine's compiled block on the same problem."""
    start = engine.scatter(jnp.zeros(d), PARTICLES, scale=0.5, key=1)
    run = prepare(WELL, SCHEMES[scheme], start, key=0, observables=measured)
    plan = Plan.of(run)
    state, at = plan.pack(run.state), window(plan.program, 0, steps)
    return lambda: jax.block_until_ready(run_block(plan.program, plan.shared, plan.particle, [], state, plan.keys, at))


def alternate(work: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each, taken in turns after one warm-up."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for name in work:
        work[name]()
    for _ in range(repeats):
        for name, call in work.items():
            began = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - began)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def against_scan(d: int, repeats: int) -> list[dict[str, Any]]:
    """Throughput of both loops, and their ratio, for each scheme."""
    rows = []
    for scheme in SCHEMES:
        steps = max(64, 12_000_000 // (PARTICLES * d))
        seconds = alternate({"scan": by_scan(scheme, d, steps), "heatbath": by_heatbath(scheme, d, steps)}, repeats)
        rate = {name: PARTICLES * d * steps / s / 1e6 for name, s in seconds.items()}
        ratio = seconds["scan"] / seconds["heatbath"]
        rows.append({"scheme": scheme, "d": d, "million coordinate-steps/s": rate, "ratio": ratio})
        print(f"{scheme:<11} d = {d:<3} scan {rate['scan']:6.0f}  heatbath {rate['heatbath']:6.0f} M/s   {ratio:.1f} x")
    return rows


def observing(d: int, repeats: int) -> list[dict[str, Any]]:
    """Energy, two temperatures and a histogram every 10 steps, against no observables."""
    rows = []
    for scheme, second in (("overdamped", "virial_temperature"), ("BAOAB", "kinetic_temperature")):
        measured = {
            "energy": observables.Mean(observables.potential_energy),
            "first": observables.Mean(observables.configurational_temperature),
            "second": observables.Mean(getattr(observables, second)),
            "histogram": observables.Histogram(lambda x: x[0], bins=50, low=-2.0, high=2.0),
        }
        steps = 12_000_000 // (PARTICLES * d)
        work = {"none": by_heatbath(scheme, d, steps), "observed": by_heatbath(scheme, d, steps, measured)}
        seconds = alternate(work, repeats)
        ratio = seconds["observed"] / seconds["none"]
        rows.append({"scheme": scheme, "d": d, "observed every": 10, "time over time without": ratio})
        print(f"{scheme:<11} d = {d:<3} observed every 10 steps: {ratio:.2f} x the time without")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    found = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {"heatbath": engine.__version__, "jax": jax.__version__, "jaxlib": jaxlib.__version__,
                     "python": platform.python_version()},
        "device": f"{jax.local_device_count()} x {jax.devices()[0].device_kind}, {os.cpu_count()} cores, "
                  f"{platform.machine()}",
        "particles": PARTICLES,
        "against scan": [row for d in (2, 10) for row in against_scan(d, repeats)],
        "observing": [row for d in (1, 2, 3) for row in observing(d, repeats)],
    }  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "against_scan.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
