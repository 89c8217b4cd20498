"""Memory and speed that cannot get worse unseen; both measured in processes of their own."""

import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent

MEMORY = """
import json
import jax.numpy as jnp
from heatbath import engine, integrators, potentials
well = potentials.DoubleWell(barrier=1.0, tilt=0.3)
bath = integrators.BAOAB(step_size=0.05, temperature=0.5)
run = engine.simulate(well, bath, engine.scatter(jnp.zeros(2), 1_000_000, key=1), steps=1_000, key=2, progress=False)
status = open('/proc/self/status').read()  # ru_maxrss would count the parent's memory at the fork
peak = int(status.split('VmHWM:')[1].split()[0]) / 1024
print(json.dumps({"peak MiB": peak, "step": run.step, "energy": float(run.observables["potential_energy"].mean)}))
"""


def test_a_million_particles_fit_in_600_mib():
    """10⁶ particles, d = 2, 1,000 steps with all standard observables: peak resident memory, interpreter included."""
    run = subprocess.run([sys.executable, "-c", MEMORY], check=True, capture_output=True, text=True)
    found = json.loads(run.stdout.strip().split("\n")[-1])
    print(found)
    assert found["step"] == 1_000
    assert 0 < found["energy"] < 1
    assert found["peak MiB"] < 600


def test_faster_than_a_plain_scan():
    """A guard, not the benchmark: half the ratio that `benchmarks/against_scan.py` must reach, on a machine under load."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'benchmarks')!r})\n"
        "import against_scan as b\n"
        "rows = b.against_scan(2, 3)\n"
        "print(min(row['ratio'] for row in rows))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert float(run.stdout.strip().split("\n")[-1]) > 2.0, run.stdout
