"""How a run prints: one line a quantity, then what no error bar sees."""

from typing import Any

import jax
import numpy as np

from .run import Run


def describe(run: Run) -> str:
    """The table that a run prints as."""
    rungs = f"{run.rungs} rungs × " if run.ladder else ""
    size = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(run.position))
    kind = getattr(run.integrator, "scheme", type(run.integrator).__name__)
    lines = [f"{kind} on {type(run.potential).__name__}: {rungs}{run.particles:,} particles × {size:,} coordinates, "
             f"step {run.step:,}" + _time(run.time)]  # fmt: skip
    named = run.named_results()
    width = max((len(name) for name, _ in named), default=0)
    first = min((record.first for record in run.records if record.rows), default=None)
    if first is not None:
        lines[0] += f"; averages over steps {first} to {run.step}"
    lines += [f"  {name:<{width}}  {'nothing yet' if result is None else result!r}" for name, result in named]
    lines += [f"  ! {warning}" for warning in run.warnings]
    return "\n".join(lines)


def _time(time: Any) -> str:
    return "" if time is None or np.ndim(time) else f", time {float(time):g}"
