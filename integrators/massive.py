"""What integrators with a momentum p and a mass m have in common."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from ..engine.protocols import Integrator, Noise, NoiseSpec
from ..engine.pytree import dot, root_times, size_of, solve


class Massive(Integrator):
    """An integrator with fields `mass` and `temperature`, whose state has a `momentum` and starts with a thermal one."""

    mass: Any = None
    init_noise = NoiseSpec(normals=1)
    has_momentum = True

    def velocity(self, momentum: Any) -> Any:
        """M⁻¹p."""
        return solve(self.mass, momentum)

    def thermal(self, noise: Noise) -> Any:
        """A momentum of the Maxwell-Boltzmann law, from the first normal; raises ValueError for a mass that does not fit."""
        check_mass(self.mass, noise.normals[0])
        return optax.tree.scale(jnp.sqrt(self.temperature), root_times(self.mass, noise.normals[0]))

    def momentum(self, state: Any) -> Any:
        return state.momentum

    def kinetic_energy(self, state: Any) -> jax.Array:
        return dot(state.momentum, self.velocity(state.momentum)) / 2


def check_mass(mass: Any, position: Any) -> None:
    """A mass is a number, one array over all coordinates, or a tree of the position's structure and shapes."""
    d = size_of(position)
    structures = [jax.tree.structure(tree) for tree in (mass, position)]
    shapes = [[jnp.shape(leaf) for leaf in jax.tree.leaves(tree)] for tree in (mass, position)]
    if structures[0] == jax.tree.structure(0) and shapes[0][0] in ((), (d,), (d, d)):
        return
    if structures[0] != structures[1] or any(m not in ((), x) for m, x in zip(*shapes, strict=True)):
        raise ValueError(
            f"mass must be a number, a matrix, or a tree like the position; got {structures[0]} with shapes {shapes[0]} "
            f"for a position {structures[1]} with shapes {shapes[1]}"
        )
