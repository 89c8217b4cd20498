"""Langevin dynamics by symplectic Euler, momentum first: what momentum SGD with noise is."""

import optax

from ..engine.protocols import Noise, NoiseSpec, Potential
from ..engine.pytree import pytree
from .underdamped import Phase, Underdamped


@pytree
class SymplecticEuler(Underdamped):
    """The cheapest underdamped step: second-order positions, hot momenta. For noisy gradients see `SGHMC`.

        p' = p - h ∇U(x) - hγ p + √(2γmTh) ξ,    x' = x + h p'/m

    step_size: h, time. friction: γ, a rate. temperature: T, energy. mass: m, a scalar, a diagonal
    or a matrix.
    Cost: 1 gradient. Weak order 1, stationary order 2 for positions and 1 for momenta; on U = kx²/2 with w = h²k/m it
    samples k<x²>/T = 2(2 - hγ)/(4 - 2hγ - w) and <p²>/mT = 4/(4 - 2hγ - w), and is stable for w + 2hγ < 4.
    """

    weak_order = 1
    stationary_order = 2
    strong_order = 1
    increments = True
    noise = NoiseSpec(normals=1)

    def step(self, potential: Potential, state: Phase, noise: Noise) -> Phase:
        x, p, h = state.position, state.momentum, self.step_size
        p = optax.tree.add_scale(optax.tree.add_scale(p, -h * self.friction, p), -h, potential.gradient(x))
        p = optax.tree.add(p, self.agitation(2 * self.friction * h, noise.normals[0]))
        return Phase(optax.tree.add_scale(x, h, self.velocity(p)), p, None)
