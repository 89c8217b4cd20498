"""A measured number against an exact one, as a line of a verdict; and how an example ends."""

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from heatbath import engine
from heatbath.engine.observables.statistics import normal_score

OUT = pathlib.Path(__file__).parent.parent / "out"
P_VALUE = 1e-6  # of a line: one false alarm in a million lines that are right
RULE = f" (p-value {P_VALUE:g} a line)"


def judge(measured: Any, exact: Any, error: Any, *, dof: int | None = None, note: str = "") -> engine.Line:
    """A line that passes when measured and exact agree within the error; dof: of the error, where it has few."""
    from scipy.special import ndtri

    measured, exact, error = float(measured), float(exact), float(error)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.float64(measured - exact) / error
    z = float(t if dof is None else normal_score(t, dof))
    return engine.Line(measured, exact, error, z, passed=bool(abs(z) < -ndtri(P_VALUE / 2)), note=note)


def report(title: str, lines: dict[str, engine.Line]) -> bool:
    """Print the table; whether every line passed."""
    verdict = engine.Verdict(title, lines, rule=RULE)
    print(f"\n{verdict}")
    return verdict.passed


def run(main: Callable[[], bool]) -> None:
    """Run an example on all cores; its exit status says whether every line passed."""
    engine.tune_cpu()  # before JAX starts
    OUT.mkdir(exist_ok=True)
    raise SystemExit(0 if main() else 1)
