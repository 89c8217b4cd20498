"""Overdamped Langevin schemes: dx = -μ∇U dt + √(2μT) dW.

The mobility μ of each is a scalar, a diagonal shaped like the position, or a symmetric positive definite matrix (d, d)
over its ravelled coordinates; √μ is the Cholesky factor of a matrix.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from ..engine.protocols import Integrator, Noise, NoiseSpec, Potential
from ..engine.pytree import number, pytree, root_times, times


class Position(NamedTuple):
    """State of a memoryless overdamped scheme."""

    position: Any


class Smoothed(NamedTuple):
    """State of Leimkuhler-Matthews: the position and the normal that the next step uses again."""

    position: Any
    normal: Any


@pytree
class EulerMaruyama(Integrator):
    """The simplest Langevin step; biased at first order (also: unadjusted Langevin, LMC; SGLD on minibatches).

        x' = x - μh ∇U(x) + √(2μhT) ξ

    step_size: h, time. temperature: T, energy. mobility: μ, a scalar, diagonal or matrix.
    Cost: 1 gradient. Weak order 1, stationary order 1; on U = kx²/2 it samples at T/(1 - μhk/2), stable for μhk < 2.
    Welling and Teh (ICML 2011) write ε for 2h, at T = 1. Maruyama (1955).
    """

    step_size: Any = number("positive")
    temperature: Any = number("non-negative", default=1.0)
    mobility: Any = number("positive definite", default=1.0)
    weak_order = 1
    stationary_order = 1
    strong_order = 1  # as the noise does not depend on the position
    increments = True
    noise = NoiseSpec(normals=1)

    def init(self, potential: Potential, position: Any, noise: Noise) -> Position:
        return Position(position)

    def step(self, potential: Potential, state: Position, noise: Noise) -> Position:
        x, h, (xi,) = state.position, self.step_size, noise.normals
        drift = times(self.mobility, potential.gradient(x))
        kick = root_times(self.mobility, xi)
        return Position(
            optax.tree.add_scale(optax.tree.add_scale(x, -h, drift), jnp.sqrt(2 * h * self.temperature), kick)
        )


SGLD = EulerMaruyama  # stochastic-gradient Langevin dynamics is this scheme on a minibatch potential


@pytree
class LeimkuhlerMatthews(Integrator):
    """Euler-Maruyama's cost at second-order equilibrium averages: each normal is used twice.

        x' = x - μh ∇U(x) + √(μhT/2) (ξ + ξ'),    ξ' is the ξ of the next step

    step_size: h, time. temperature: T, energy. mobility: μ, a scalar, diagonal or matrix.
    Cost: 1 gradient. Weak order 1, stationary order 2 (averages of x at equilibrium only: rates and currents are first
    order); positions exact on Gaussians, stable for μhk < 2. The limit of BAOAB at high friction with μh = h²/2m.
    Leimkuhler and Matthews, Appl. Math. Res. Express 2013, 34-56.
    """

    step_size: Any = number("positive")
    temperature: Any = number("non-negative", default=1.0)
    mobility: Any = number("positive definite", default=1.0)
    weak_order = 1
    stationary_order = 2
    exact = frozenset({"positions"})
    noise = NoiseSpec(normals=1)
    init_noise = NoiseSpec(normals=1)

    def init(self, potential: Potential, position: Any, noise: Noise) -> Smoothed:
        return Smoothed(position, noise.normals[0])

    def step(self, potential: Potential, state: Smoothed, noise: Noise) -> Smoothed:
        x, old, h, (new,) = state.position, state.normal, self.step_size, noise.normals
        drift = times(self.mobility, potential.gradient(x))
        kick = root_times(self.mobility, optax.tree.add(old, new))
        x = optax.tree.add_scale(optax.tree.add_scale(x, -h, drift), jnp.sqrt(h * self.temperature / 2), kick)
        return Smoothed(x, new)


@pytree
class StochasticHeun(Integrator):
    """Second order in everything, rates and currents too, for two gradients a step (Honeycutt's SRK2).

        u = x - μh ∇U(x) + √(2μhT) ξ,    x' = x - μh (∇U(x) + ∇U(u))/2 + √(2μhT) ξ

    step_size: h, time. temperature: T, energy. mobility: μ, a scalar, diagonal or matrix.
    Cost: 2 gradients. Weak order 2, stationary order 2; on U = kx²/2 with z = μhk it samples at
    T (1 - z/2)/(1 - z/2 + z²/4), stable for z < 2. Honeycutt, Phys. Rev. A 45, 600 (1992).
    """

    step_size: Any = number("positive")
    temperature: Any = number("non-negative", default=1.0)
    mobility: Any = number("positive definite", default=1.0)
    weak_order = 2
    stationary_order = 2
    gradients = 2
    noise = NoiseSpec(normals=1)

    def init(self, potential: Potential, position: Any, noise: Noise) -> Position:
        return Position(position)

    def step(self, potential: Potential, state: Position, noise: Noise) -> Position:
        x, h, (xi,) = state.position, self.step_size, noise.normals
        spread, kick = jnp.sqrt(2 * h * self.temperature), root_times(self.mobility, xi)
        here = times(self.mobility, potential.gradient(x))
        ahead = optax.tree.add_scale(optax.tree.add_scale(x, -h, here), spread, kick)
        there = times(self.mobility, potential.gradient(ahead))
        x = optax.tree.add_scale(x, -h / 2, optax.tree.add(here, there))
        return Position(optax.tree.add_scale(x, spread, kick))
