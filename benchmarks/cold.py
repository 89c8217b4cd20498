"""Cold processes: how long they take to start, and how much memory they need."""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

HERE = pathlib.Path(__file__).parent
TOLD = ("PYTHONDONTWRITEBYTECODE", "XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR")

START = """
import json, time
began = time.perf_counter()
import jax, jax.numpy
jax_at = time.perf_counter()
from heatbath import engine
print(json.dumps({"import jax": jax_at - began, "import heatbath.engine adds": time.perf_counter() - jax_at}))
"""

PEAK = """
import json, sys
import jax, jax.numpy as jnp
n = int(sys.argv[1])
def peak():  # MiB resident, at most
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024
"""

MEMORY = f"""{PEAK}
from heatbath import engine, integrators, potentials
well, observables = potentials.DoubleWell(barrier=1.0, tilt=0.3), (() if "loop" in sys.argv else None)
if "tuned" in sys.argv:
    engine.tune_cpu()
bath, start = integrators.BAOAB(step_size=0.05, temperature=0.5), [engine.scatter(jnp.zeros(2), n, key=1)]
run = engine.simulate(well, bath, start.pop(), steps=1_000, key=2, progress=False, observables=observables)
found = {{"peak": peak(), "state": sum(a.nbytes for a in jax.tree.leaves(run.state)) / 2**20, "step": run.step}}
if observables is None:
    found["energy"] = float(run.observables["potential_energy"].mean)
print(json.dumps(found))
"""

PLAIN_SCAN = f"""{PEAK}
jax.jit(lambda x: x + 1)(jnp.zeros(3)).block_until_ready()
started, h, c = peak(), 0.05, jnp.exp(-0.05)
def gradient(x):
    return 4 * x * (x * x - 1) + 0.3
def step(state, key):  # BAOAB
    x, p, g = state
    p = p - h / 2 * g
    x = x + h / 2 * p
    p = c * p + jnp.sqrt(0.5 * (1 - c * c)) * jax.random.normal(key, x.shape)
    x = x + h / 2 * p
    g = gradient(x)
    return (x, p - h / 2 * g, g), None
steps = jax.jit(lambda state, key: jax.lax.scan(step, state, jax.random.split(key, 100))[0], donate_argnums=0)
state = jax.jit(lambda x: (x, jnp.zeros_like(x), gradient(x)))(jnp.zeros((n, 2)))
for key in jax.random.split(jax.random.key(0)):
    state = jax.block_until_ready(steps(state, key))
print(json.dumps({{"started": started, "peak": peak()}}))
"""


def script(text: str, *arguments: str, **environment: str) -> str:
    """What a process of its own prints. Python may keep its bytecode, as it does unless it is told not to; nothing else
    that this process was told counts.
    """
    kept = {name: value for name, value in os.environ.items() if name not in TOLD}
    command = [sys.executable, "-c", text, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=kept | environment).stdout


def last_line(text: str, *arguments: str, **environment: str) -> dict[str, float]:
    return json.loads(script(text, *arguments, **environment).strip().split("\n")[-1])


def caching(folder: str) -> dict[str, str]:
    """The environment of processes that keep their compiled code in a folder."""
    return {"JAX_COMPILATION_CACHE_DIR": folder, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}


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
        cached = seconds(**caching(cache))
    return {**found, "README's first snippet": seconds(), "the same, compiled before": cached}


def memory(repeats: int) -> dict[str, Any]:
    """Peaks of resident memory in 1,000 steps of a million particles of two coordinates, in MiB, as medians.

    Above a process that has started JAX and no more: of the loop, and with the default observables, each also after
    `engine.tune_cpu()`; with the compiled code of an earlier process; and of a plain scan. Above a process that does the
    same with 64 particles, and so imports and compiles as much: of the loop and with the default observables.
    """
    few, many = "64", "1000000"
    kinds, cached, scan = (
        ("loop", "loop, tuned", "observed", "observed, tuned"),
        "observed, compiled before",
        "a plain scan",
    )
    with tempfile.TemporaryDirectory() as cache:
        found = [
            {
                **{(kind, n): last_line(MEMORY, n, *kind.split(", ")) for kind in kinds for n in (few, many)},
                (cached, many): last_line(MEMORY, many, "observed", **caching(cache)),
                (scan, many): last_line(PLAIN_SCAN, many),
            }
            for _ in range(repeats + 1)
        ][1:]  # the first has filled the cache
    median = lambda name: statistics.median(row[name, many]["peak"] for row in found)  # noqa: E731
    started = statistics.median(row[scan, many]["started"] for row in found)
    return {
        "state": found[0]["loop", many]["state"],
        "above JAX": {name: median(name) - started for name in (*kinds, cached, scan)},
        "above 64 particles": {
            name: statistics.median(row[name, many]["peak"] - row[name, few]["peak"] for row in found) for name in kinds
        },
    }
