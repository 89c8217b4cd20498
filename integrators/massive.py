"""What integrators with a momentum p and a mass m have in common."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from ..engine.protocols import Integrator, Noise, NoiseSpec
from ..engine.pytree import dot, inverse, root, times


class Massive(Integrator):
    """An integrator with fields `mass` and `temperature`, whose state has a `momentum` and starts with a thermal one."""

    mass: Any = None
    init_noise = NoiseSpec(normals=1)
    has_momentum = True

    def velocity(self, momentum: Any) -> Any:
        """p/m."""
        return times(inverse(self.mass), momentum)

    def thermal(self, noise: Noise) -> Any:
        """A momentum of the Maxwell-Boltzmann law, from the first normal."""
        return optax.tree.scale(jnp.sqrt(self.temperature), times(root(self.mass), noise.normals[0]))

    def momentum(self, state: Any) -> Any:
        return state.momentum

    def kinetic_energy(self, state: Any) -> jax.Array:
        return dot(state.momentum, self.velocity(state.momentum)) / 2
