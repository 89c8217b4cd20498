"""When a run leaves the finite numbers: which particle, at which step, and what to try."""

from typing import Any

import jax
import numpy as np

from .block import run_block, window
from .checks import NonFiniteError
from .run import Run


def diagnose(plan: Any, run: Run, state: Any, start: int, count: int) -> NonFiniteError:
    """Replay the block that failed from its start, halving it until the first bad step is known."""
    layout = plan.program.layout
    good, bad = 0, count
    broken = np.zeros(0, bool)
    while bad > good:
        middle = (good + bad) // 2
        if middle == 0:
            broken, bad = np.zeros(0, bool), bad
        found = _broken(plan, state, start, max(middle, 1))
        if found.any():
            bad, broken = max(middle, 1), found
            if bad == 1:
                break
        else:
            good = middle
            if bad - good == 1:
                broken = _broken(plan, state, start, bad)
                break
    before, _ = _replay(plan, state, start, bad - 1)
    where = np.argwhere(broken)
    first = tuple(where[0])
    position = jax.tree.map(lambda a: np.asarray(a)[first], plan.unpack(before).position)
    flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(position)])
    rung = f" of rung {first[0]}" if layout.ladder else ""
    detail = f"{rung}, whose largest coordinate was {np.abs(flat).max():.3g} one step before"
    h = run.integrator.step_size
    if h is not None:
        h = float(np.max(h.values if hasattr(h, "values") else h(start + bad - 1) if callable(h) else np.asarray(h)))
    return NonFiniteError(
        particles=where[:, -1], of=layout.particles * layout.rungs, step=start + bad, step_size=h, detail=detail
    )


def _replay(plan: Any, state: Any, start: int, count: int) -> tuple[Any, Any]:
    """The packed state and the broken particles, packed, after some steps."""
    if count == 0:
        return state, None
    scheduled, at = plan.scheduled(start, count), window(plan.program, start, count)
    state, _, broken = run_block(plan.program, plan.shared, plan.particle, scheduled, state, plan.keys, at)
    return state, broken


def _broken(plan: Any, state: Any, start: int, count: int) -> np.ndarray:
    """Which particles are not finite after some steps: (n,), or (rungs, n)."""
    broken = _replay(plan, state, start, count)[1]
    return np.asarray(plan.program.layout._public(broken, 0))
