"""Gradient descent and its relatives: temperature zero."""

from typing import Any, NamedTuple

import optax

from ..engine.protocols import Integrator, Noise, Potential
from ..engine.pytree import pytree, static


class Descending(NamedTuple):
    """State of a descent: the position and the optimiser's own state."""

    position: Any
    optimizer: Any


@pytree
class Descent(Integrator):
    """Any optax optimiser as an integrator at temperature 0.

        updates, s' = optimizer.update(∇U(x), s, x),    x' = x + updates

    optimizer: an `optax.GradientTransformation`; it sees each particle's tree of parameters as a tree. Its learning rate
    is its own: use `optax.inject_hyperparams` for one that changes without recompiling.
    Cost: 1 gradient. No noise, so no stationary law; momentum, schedules and counters live in the optimiser's state.
    Raises TypeError for anything but an optax transformation.
    """

    optimizer: Any = static(kw_only=False)
    temperature = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.optimizer, optax.GradientTransformation):
            raise TypeError(
                "optimizer must be an optax.GradientTransformation, such as optax.adam(1e-3); "
                f"got {type(self.optimizer).__name__}"
            )

    def init(self, potential: Potential, position: Any, noise: Noise) -> Descending:
        return Descending(position, self.optimizer.init(position))

    def step(self, potential: Potential, state: Descending, noise: Noise) -> Descending:
        x, s = state
        updates, s = self.optimizer.update(potential.gradient(x), s, x)
        return Descending(optax.apply_updates(x, updates), s)
