"""Cold processes: how long they take to start, and how much memory they need."""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

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


PLAIN_JAX = """
import json
import jax, jax.numpy as jnp
jax.jit(lambda x: x + 1)(jnp.zeros(3)).block_until_ready()
status = open("/proc/self/status").read()
print(json.dumps({"peak": int(status.split("VmHWM:")[1].split()[0]) / 1024}))
"""


def script(text: str, *arguments: str, **environment: str) -> str:
    """What a process of its own prints. Python may keep its bytecode, as it does unless it is told not to; nothing else
    that this process was told counts.
    """
    kept = {name: value for name, value in os.environ.items() if name not in TOLD}
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


def memory(repeats: int) -> dict[str, float]:
    """MiB at a million particles of two coordinates: above a process that does the same with 64, which has compiled as much
    (the allocator makes single pairs differ by 30), and of both above one that has only started JAX.
    """
    pairs = [[last_line(MEMORY, n) for n in ("64", "1000000")] for _ in range(repeats)]
    above = [large["peak"] - base["peak"] for base, large in pairs]
    started, median = last_line(PLAIN_JAX)["peak"], statistics.median
    return {
        "above 64 particles": median(above), "at least": min(above), "at most": max(above), "state": pairs[0][1]["state"],
        "above JAX": median(large["peak"] for _, large in pairs) - started,
        "64 particles above JAX": median(base["peak"] for base, _ in pairs) - started,
    }  # fmt: skip
