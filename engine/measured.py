"""A number with its error bar, and a run as plain snapshots and plain numbers: what thermodynamics is computed from."""

from typing import Any, NamedTuple

import jax
import numpy as np

from .configuration import evaluate
from .hardware import PLAIN, jit
from .marks import Each, Sweep, is_mark
from .pytree import named_leaves
from .run import Run


class Measured(NamedTuple):
    """A value and its standard error: numbers, or arrays with one entry a rung; and how they were come by."""

    value: Any
    error: Any
    method: str = ""

    def __repr__(self) -> str:
        pairs = zip(np.ravel(self.value), np.ravel(self.error), strict=True)
        shown = ", ".join(f"{value:.6g} ± {error:.2g}" for value, error in pairs)
        return shown + (f" ({self.method})" if self.method else "")


def plain(run: Run, rung: int, after: int, until: int | None = None) -> tuple[Any, Any]:
    """The potential and integrator of a rung with plain numbers: what their schedules are from `after` to `until`.

    until: a step; that of the run if not given.

    Raises ValueError where a number differs between particles, or still changes.
    """

    def number(name: str, leaf: Any) -> Any:
        if isinstance(leaf, Each):
            raise ValueError(f"{name} differs between particles (each): there is no one equilibrium to compare with")
        if isinstance(leaf, Sweep):
            return leaf.values[rung]
        if callable(leaf):
            window = max(1, (run.step if until is None else until) - after)
            sample = np.unique(np.linspace(after, after + window - 1, min(window, 33)).astype(int))
            values = [np.asarray(evaluate([(name, "", leaf)], int(s), 1, 1, np.float32)[0])[0] for s in sample]
            if np.ptp(values) > 1e-6 * np.abs(values).max():
                raise ValueError(
                    f"{name} still changes after step {after}: there is no one equilibrium to compare with"
                )
            return float(values[-1])
        return leaf

    leaves = [number(name, leaf) for name, _, leaf in named_leaves((run.potential, run.integrator), is_mark)]
    treedef = jax.tree.structure((run.potential, run.integrator), is_leaf=is_mark)
    return jax.tree.unflatten(treedef, leaves)


def temperatures_of(run: Run, after: int) -> np.ndarray:
    """The bath's temperature of every rung (rungs,). Raises ValueError where it is not one positive number."""
    found = [plain(run, rung, after)[1].temperature for rung in range(run.rungs or 1)]
    if any(t is None or np.ndim(t) or not float(t) > 0 for t in found):
        raise ValueError(f"{type(run.integrator).__name__} needs one positive temperature a rung; got {found}")
    return np.array([float(t) for t in found])


def snapshots(run: Run) -> np.ndarray:
    """Ravelled positions of every rung's particles, (rungs, n, d), in float64. Raises ValueError unless independent."""
    if any(chance.shared for chance in run.potential.chance):
        raise ValueError(
            "particles that share their minibatches are not independent, so a snapshot has no error: shared=False"
        )
    lead = (run.rungs or 1, run.particles)
    leaves = [np.asarray(leaf, float).reshape(*lead, -1) for leaf in jax.tree.leaves(run.positions)]
    return np.concatenate(leaves, axis=-1)


def snapshot_energies(run: Run) -> np.ndarray:
    """Potential energies of every rung's particles as they are, (rungs, n), each in its own rung's potential."""
    energies = []
    for rung in range(run.rungs or 1):
        positions = jax.tree.map(lambda a, r=rung: a[r], run.positions) if run.ladder else run.positions
        energies.append(_energies(plain(run, rung, run.step)[0], positions))
    return np.asarray(energies, float)


@jit(PLAIN)
def _energies(potential: Any, positions: Any) -> jax.Array:
    return jax.vmap(lambda x: potential.value_and_gradient(x)[0])(positions)
