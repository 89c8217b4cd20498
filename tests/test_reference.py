"""The stored digits of the demo's posterior: well formed, and (slow) what a fresh long run of NUTS finds."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parent.parent
STORED = json.loads((ROOT / "examples" / "breast_cancer_posterior.json").read_text())

AGAIN = """
import sys, json
sys.path[:0] = [{benchmarks!r}, {examples!r}]
import reference_posterior as r
print(json.dumps(r.digits(r.sample(chains=2, warmup=1_000, draws=5_000, seed=77))))
"""


def test_stored_digits_say_where_they_come_from():
    assert "NUTS" in STORED["how"]
    digits = {name: np.asarray(values) for name, values in STORED["digits"].items()}
    assert {name: values.shape for name, values in digits.items()} == dict.fromkeys(digits, (31,))
    assert np.all(digits["variance"] > 0)
    assert np.all(digits["variance"] < 1)  # data only narrow a standard normal prior here
    assert np.all(digits["mean_error"] < 0.01 * np.sqrt(digits["variance"]))


@pytest.mark.slow
def test_a_fresh_run_of_nuts_agrees():
    """Other seeds, a quarter of the draws: every digit within 5.5 errors (p = 1e-6 for all 62 together: 2.4e-6)."""
    code = AGAIN.format(benchmarks=str(ROOT / "benchmarks"), examples=str(ROOT / "examples"))
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    again = {name: np.asarray(values) for name, values in json.loads(run.stdout.strip().split("\n")[-1]).items()}
    for name in ("mean", "variance"):
        error = np.hypot(again[f"{name}_error"], STORED["digits"][f"{name}_error"])
        assert np.all(np.abs(again[name] - STORED["digits"][name]) < 5.5 * error), name
