"""Langevin dynamics by symplectic Euler, momentum first: what momentum SGD with noise is."""

from typing import Any

import jax.numpy as jnp
import optax

from ..engine.protocols import Noise, NoiseSpec, Potential
from ..engine.pytree import number, pytree, root, times
from .massive import Massive
from .splitting import Phase


@pytree
class SymplecticEuler(Massive):
    """The cheapest underdamped step: second-order positions, hot momenta. For noisy gradients see `SGHMC`.

        p' = p - h ∇U(x) - hγ p + √(2γmTh) ξ,    x' = x + h p'/m

    step_size: h, time. friction: γ, a rate. temperature: T, energy. mass: m, a scalar or a diagonal shaped like the
    position.
    Cost: 1 gradient. Weak order 1, stationary order 2 for positions and 1 for momenta; on U = kx²/2 with w = h²k/m it
    samples k<x²>/T = 2(2 - hγ)/(4 - 2hγ - w) and <p²>/mT = 4/(4 - 2hγ - w), and is stable for w + 2hγ < 4.
    """

    step_size: Any = number("positive")
    friction: Any = number("non-negative", default=1.0)
    temperature: Any = number("non-negative", default=1.0)
    mass: Any = number("positive", default=1.0)
    weak_order = 1
    stationary_order = 2
    noise = NoiseSpec(normals=1)

    def init(self, potential: Potential, position: Any, noise: Noise) -> Phase:
        return Phase(position, self.thermal(noise), None)

    def step(self, potential: Potential, state: Phase, noise: Noise) -> Phase:
        x, p, h = state.position, state.momentum, self.step_size
        p, g = optax.tree.add_scale(p, -h * self.friction, p), potential.gradient(x)
        p, kick = optax.tree.add_scale(p, -h, g), times(root(self.mass), noise.normals[0])
        p = optax.tree.add_scale(p, jnp.sqrt(2 * self.friction * self.temperature * h), kick)
        return Phase(optax.tree.add_scale(x, h, self.velocity(p)), p, None)
