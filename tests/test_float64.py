"""Everything also runs in float64, in a process of its own: same noise to rounding, same laws, exact continuation."""

import json
import subprocess
import sys

CODE = """
import jax, json
jax.config.update("jax_enable_x64", {x64})
import jax.numpy as jnp, numpy as np, optax
from heatbath import engine, integrators, potentials
well = potentials.DoubleWell(barrier=1.0, tilt=0.3)
start = engine.scatter(jnp.zeros(2), 2_000, scale=0.8, key=1)
found = {{"dtype": str(start.dtype)}}
short = engine.simulate(well, integrators.BAOAB(step_size=0.05, temperature=0.7), start, steps=20, key=3)
found["short"] = np.asarray(short.positions[:50]).ravel().tolist()
underdamped = integrators.BAOA(step_size=0.1, temperature=0.7)
for bath in (underdamped, integrators.LeimkuhlerMatthews(step_size=0.02, temperature=0.7)):
    run = engine.simulate(well, bath, start, steps=3_000, key=3)
    assert run.positions.dtype == start.dtype, run.positions.dtype
    found[type(run.state).__name__] = bool(engine.compare(run, p_value=1e-6).passed)
half = engine.simulate(engine.simulate(well, bath, start, steps=1_234, key=3), steps=1_766)
found["continues"] = bool(np.array_equal(np.asarray(half.positions), np.asarray(run.positions)))
point = engine.simulate(well, integrators.Descent(optax.adam(0.01)), start, steps=50)
found["descends"] = float(jnp.mean(jax.vmap(well)(point.positions)))
print(json.dumps(found))
"""


def found(x64: bool) -> dict:
    run = subprocess.run([sys.executable, "-c", CODE.format(x64=x64)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2_000:]
    return json.loads(run.stdout.strip().split("\n")[-1])


def test_float64_and_float32():
    wide, narrow = found(True), found(False)
    for here, dtype in ((wide, "float64"), (narrow, "float32")):
        assert here["dtype"] == dtype
        assert here["Phase"] is True
        assert here["Smoothed"] is True
        assert here["continues"] is True
    # the same 32-bit words, so the same path until rounding grows: 20 steps are short of that
    difference = max(abs(a - b) for a, b in zip(wide["short"], narrow["short"], strict=True))
    assert 0 < difference < 1e-4
