"""What the schemes of underdamped Langevin dynamics share: dx = M⁻¹p dt, dp = -∇U dt - γp dt + √(2γTM) dW."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from ..engine.protocols import Noise, Potential
from ..engine.pytree import number, pytree, root_times
from .free_motion import free_motion
from .massive import Massive


class Phase(NamedTuple):
    """Position and momentum; the gradient is kept where the next step begins at the same position, else None."""

    position: Any
    momentum: Any
    gradient: Any


@pytree
class Underdamped(Massive):
    """A scheme with a step, a bath and a mass; unless told otherwise its state is a position and a momentum."""

    step_size: Any = number("positive")
    friction: Any = number("non-negative", default=1.0)
    temperature: Any = number("non-negative", default=1.0)
    mass: Any = number("positive definite", default=1.0)

    def init(self, potential: Potential, position: Any, noise: Noise) -> Any:
        return Phase(position, self.thermal(noise), None)

    def agitation(self, scale: Any, normal: Any) -> Any:
        """√(scale TM) ξ: what a bath adds to a momentum."""
        return optax.tree.scale(jnp.sqrt(scale * self.temperature), root_times(self.mass, normal))

    def glide(self, phase: tuple[Any, Any], gradient: Any, time: Any, normals: tuple[Any, Any]) -> tuple[Any, Any]:
        """Position and momentum after a time under a gradient that stays (None: no force), exactly."""
        (x, p), free = phase, free_motion(self.friction, time)
        kick, stray = (self.agitation(1.0, normal) for normal in normals)
        onward = optax.tree.add_scale(p, free.lean, kick)
        x = optax.tree.add_scale(x, free.reach, self.velocity(onward))
        x = optax.tree.add_scale(x, free.stray, self.velocity(stray))
        p = optax.tree.add_scale(optax.tree.add_scale(p, free.loss, p), free.spread, kick)
        if gradient is None:
            return x, p
        x = optax.tree.add_scale(x, -free.pull, self.velocity(gradient))
        return x, optax.tree.add_scale(p, -free.reach, gradient)
