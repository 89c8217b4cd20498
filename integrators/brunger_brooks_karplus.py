"""The thermostat of Brünger, Brooks and Karplus."""

from typing import Any, NamedTuple

import optax

from ..engine.protocols import Noise, NoiseSpec, Potential
from ..engine.pytree import pytree
from .underdamped import Underdamped


class Shaken(NamedTuple):
    """Position, momentum and gradient, and the normal of the random force there, which the next step uses again."""

    position: Any
    momentum: Any
    gradient: Any
    normal: Any


@pytree
class BBK(Underdamped):
    """Verlet with friction and a random force in both half kicks: the old default of molecular dynamics (NAMD, CHARMM).

        p½ = (1 - γh/2) p - h/2 ∇U(x) + √(γhmT/2) ξ,    x' = x + h p½/m
        p' = (p½ - h/2 ∇U(x') + √(γhmT/2) ξ')/(1 + γh/2),    ξ' is the ξ of the next step

    step_size: h, time. friction: γ, a rate. temperature: T, energy. mass: m, a scalar, a diagonal or a matrix.
    Cost: 1 gradient, 1 normal. Weak order 1, stationary order 2; on U = kx²/2 positions are hot by 1/(1 - h²ω²/4) as
    OBABO's, p reads T/(1 + γh/2), stable for hω < 2; drift and diffusion of a free particle are exact.
    Brünger, Brooks and Karplus, Chem. Phys. Lett. 105, 495 (1984).
    """

    weak_order = 1
    stationary_order = 2
    noise = NoiseSpec(normals=1)
    init_noise = NoiseSpec(normals=2)

    def init(self, potential: Potential, position: Any, noise: Noise) -> Shaken:
        return Shaken(position, self.thermal(noise), potential.gradient(position), noise.normals[1])

    def refresh(self, potential: Potential, state: Shaken) -> Shaken:
        return state._replace(gradient=potential.gradient(state.position))

    def step(self, potential: Potential, state: Shaken, noise: Noise) -> Shaken:
        x, p, g, old = state
        (new,), h, half = noise.normals, self.step_size, self.friction * self.step_size / 2
        p = optax.tree.add_scale(optax.tree.add_scale(p, -half, p), -h / 2, g)
        p = optax.tree.add(p, self.agitation(half, old))
        x = optax.tree.add_scale(x, h, self.velocity(p))
        g = potential.gradient(x)
        p = optax.tree.add(optax.tree.add_scale(p, -h / 2, g), self.agitation(half, new))
        return Shaken(x, optax.tree.scale(1 / (1 + half), p), g, new)
