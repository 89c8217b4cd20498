"""When a run leaves the finite numbers: which particle, at which step, and what to try."""

from typing import Any

import jax
import numpy as np

from .block import run_block
from .checks import NonFiniteError
from .marks import Each, Sweep
from .run import Run


def diagnose(plan: Any, run: Run, carry: Any, start: int, count: int) -> NonFiniteError:
    """Replay the block that failed from its start, halving it until the first bad step is known."""
    layout = plan.program.layout
    good, bad = 0, count  # finite after `good` steps of the block, broken after `bad`
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (good, middle) if _broken(plan, carry, start, middle).any() else (middle, bad)
    broken = _broken(plan, carry, start, bad)
    before, _ = _replay(plan, carry, start, good)
    where = np.argwhere(broken)
    first = tuple(where[0])
    position = jax.tree.map(lambda a: np.asarray(a)[first], plan.unpack(before)["state"].position)
    flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(position)])
    rung = f" of rung {first[0]}" if layout.ladder else ""
    detail = f"{rung}, whose largest coordinate was {np.abs(flat).max():.3g} one step before"
    return NonFiniteError(
        particles=where[:, -1],
        of=layout.particles * layout.rungs,
        step=start + bad,
        step_size=_step_size(run, start + bad - 1),
        detail=detail,
    )


def _step_size(run: Run, step: int) -> float | None:
    """The integrator's step size at a step: the largest where it differs; None for an optimiser."""
    h: Any = run.integrator.step_size
    if h is None:
        return None
    value = h.values if isinstance(h, Each | Sweep) else h(step) if callable(h) else h
    return float(np.max(np.asarray(value)))


def _replay(plan: Any, carry: Any, start: int, count: int) -> tuple[Any, Any]:
    """The packed carry and the broken particles, packed, after some steps."""
    if count == 0:
        return carry, None
    scheduled, at = plan.scheduled(start, count), plan.window(start, count)
    carry, _, broken = run_block(plan.program, plan.shared, plan.particle, scheduled, carry, plan.keys, at)
    return carry, broken


def _broken(plan: Any, carry: Any, start: int, count: int) -> np.ndarray:
    """Which particles are not finite after some steps: (n,), or (rungs, n)."""
    broken = _replay(plan, carry, start, count)[1]
    return plan.program.layout.unpack_mask(np.concatenate([np.asarray(part) for part in broken]))
