"""Two steps of Euler's for underdamped Langevin dynamics: the whole equation frozen, or its force alone."""

import optax

from ..engine.protocols import Noise, NoiseSpec, Potential
from ..engine.pytree import pytree
from .underdamped import Phase, Underdamped


@pytree
class UnderdampedEulerMaruyama(Underdamped):
    """Euler-Maruyama for position and momentum together: the bad example. `SymplecticEuler` costs the same.

        x' = x + h p/m,    p' = p - h ∇U(x) - hγ p + √(2γhmT) ξ

    step_size: h, time. friction: γ, a rate. temperature: T, energy. mass: m, a scalar, a diagonal or a matrix.
    Cost: 1 gradient, 1 normal. Weak and stationary order 1; on U = kx²/2, w = h²k/m, it samples
    k<x²>/T = 2γh(2 - γh + w)/((γh - w)(4 - 2γh + w)), and is stable only for w < γh (and 2γh < 4 + w): without friction
    never. Drift and diffusion of a free particle are exact.
    """

    weak_order = 1
    stationary_order = 1
    strong_order = 1
    increments = True
    noise = NoiseSpec(normals=1)

    def step(self, potential: Potential, state: Phase, noise: Noise) -> Phase:
        x, p, h = state.position, state.momentum, self.step_size
        new = optax.tree.add_scale(optax.tree.add_scale(p, -h * self.friction, p), -h, potential.gradient(x))
        new = optax.tree.add(new, self.agitation(2 * self.friction * h, noise.normals[0]))
        return Phase(optax.tree.add_scale(x, h, self.velocity(p)), new, None)


@pytree
class ExponentialEuler(Underdamped):
    """The frozen-force integrator, exact for a force that does not change: "ULMC" of the sampling literature, also SES.

        (x', p') = the exact law after h of dx = p/m dt, dp = -g dt - γp dt + √(2γmT) dW,    g = ∇U(x)

    step_size: h, time. friction: γ, a rate. temperature: T, energy. mass: m, a scalar, a diagonal or a matrix.
    Cost: 1 gradient, 2 normals. Weak and stationary order 1: `UBU` and `BUB` have the same noise and order 2. Exact for
    free particles and constant forces, transients too. On U = kx²/2 it needs friction.
    Cheng, Chatterji, Bartlett and Jordan (COLT 2018), eq. (10); Ermak and Buckholz, J. Comput. Phys. 35, 169 (1980).
    """

    weak_order = 1
    stationary_order = 1
    noise = NoiseSpec(normals=2)

    def step(self, potential: Potential, state: Phase, noise: Noise) -> Phase:
        x, p, _ = state
        first, second = noise.normals
        return Phase(*self.glide((x, p), potential.gradient(x), self.step_size, (first, second)), None)
