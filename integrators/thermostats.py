"""Thermostats that learn the friction: Langevin dynamics under gradient noise of unknown, constant strength.

    dx = p/m dt,    dp = -∇U dt - ζp dt + √(2γmT) dW,    dζ = (p·M⁻¹p/n - T)/Q dt

keeps exp(-H/T - nQ(ζ - γ)²/2T): ζ has mean γ and variance T/nQ, independent of position and momentum. Gradient noise of
variance σ² acts like a γ larger by hσ²/2mT: the friction shifts by that much, and the temperature holds. n counts the
coordinates of the whole particle, all leaves of its tree: one thermostat a leaf would keep another law.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ..engine.protocols import Noise, NoiseSpec, Potential
from ..engine.pytree import dot, number, pytree, root_times, size_of
from .massive import Massive
from .underdamped import Underdamped


class Thermostatted(NamedTuple):
    """State under a thermostat: position, momentum, the friction ζ that it has found, and a gradient that is kept."""

    position: Any
    momentum: Any
    friction: Any  # (), a rate
    gradient: Any


@pytree
class SGNHT(Underdamped):
    """Stochastic-gradient Nosé-Hoover thermostat: holds the temperature under gradient noise that nobody measured.

        p' = p - h ∇U(x) - hζ p + √(2γmTh) ξ,    x' = x + h p'/m,    ζ' = ζ + (h/Q) (p'·M⁻¹p'/n - T)

    step_size: h, time. friction: γ, a rate, of which only the noise is added; ζ starts there. temperature: T, energy.
    mass: m, a scalar, a diagonal or a matrix. inertia: Q, energy·time²; the thermostat's time is √(Q/T).
    Samples exp(-U/T) as h → 0; the mean kinetic temperature is T at any step, so positions are off by about -hζ/2 of the
    temperature. Gradient noise that depends on the position is averaged, not cured. Cost: 1 gradient. Weak order 1,
    stationary order 1. In Ding's letters A = γT, at m = Q = T = 1.
    Ding, Fang, Babbush, Chen, Skeel and Neven, NIPS 2014, algorithm 2.
    """

    inertia: Any = number("positive", default=1.0)
    weak_order = 1
    stationary_order = 1
    noise = NoiseSpec(normals=1)

    def init(self, potential: Potential, position: Any, noise: Noise) -> Thermostatted:
        return _start(self, self.friction, position, noise)

    def step(self, potential: Potential, state: Thermostatted, noise: Noise) -> Thermostatted:
        x, p, zeta, _ = state
        h, kick = self.step_size, root_times(self.mass, noise.normals[0])
        p, g = optax.tree.add_scale(p, -h * zeta, p), potential.gradient(x)
        p = optax.tree.add_scale(p, -h, g)
        p = optax.tree.add_scale(p, jnp.sqrt(2 * self.friction * self.temperature * h), kick)
        x = optax.tree.add_scale(x, h, self.velocity(p))
        return Thermostatted(x, p, _driven(self, zeta, p, h), None)


@pytree
class BADODAB(Underdamped):
    """The thermostat of `SGNHT` by symmetric splitting: second order for the price of one gradient.

        B: p ← p - (h/2) ∇U(x)    A: x ← x + (h/2) p/m    D: ζ ← ζ + (h/2Q) (p·M⁻¹p/n - T)
        O: p ← e^(-ζh) p + √(γmT (1 - e^(-2ζh))/ζ) ξ

    step_size, friction, temperature, mass, inertia: as in `SGNHT`; ζ may be negative, and O is exact at any ζ.
    Samples exp(-U/T) as h → 0. Gradient noise of variance σ² shifts the mean of ζ by hσ²/2mT to first order, and only at the
    next order the temperature. Cost: 1 gradient. Weak order 2, stationary order 2.
    Leimkuhler and Shang, SIAM J. Sci. Comput. 38 (2016), A712-A736; their μ is nQ and σ_A² is 2γT.
    """

    inertia: Any = number("positive", default=1.0)
    weak_order = 2
    stationary_order = 2
    noise = NoiseSpec(normals=1)

    def init(self, potential: Potential, position: Any, noise: Noise) -> Thermostatted:
        return _start(self, self.friction, position, noise)._replace(gradient=potential.gradient(position))

    def refresh(self, potential: Potential, state: Thermostatted) -> Thermostatted:
        return state._replace(gradient=potential.gradient(state.position))

    def step(self, potential: Potential, state: Thermostatted, noise: Noise) -> Thermostatted:
        x, p, zeta, g = state
        h, kick = self.step_size, root_times(self.mass, noise.normals[0])
        p = optax.tree.add_scale(p, -h / 2, g)
        x = optax.tree.add_scale(x, h / 2, self.velocity(p))
        zeta = _driven(self, zeta, p, h / 2)
        loss, spread = (
            jnp.expm1(-zeta * h),
            jnp.sqrt(2 * self.friction * self.temperature * h * _mean_decay(2 * zeta * h)),
        )
        p = optax.tree.add_scale(optax.tree.add_scale(p, loss, p), spread, kick)
        zeta = _driven(self, zeta, p, h / 2)
        x = optax.tree.add_scale(x, h / 2, self.velocity(p))
        g = potential.gradient(x)
        return Thermostatted(x, optax.tree.add_scale(p, -h / 2, g), zeta, g)


def _start(bath: Massive, friction: Any, position: Any, noise: Noise) -> Thermostatted:
    """A thermal momentum, and the friction at its mean."""
    momentum = bath.thermal(noise)
    zeta = jnp.asarray(friction, jnp.result_type(*jax.tree.leaves(momentum)))
    return Thermostatted(position, momentum, zeta, None)


def _driven(bath: SGNHT | BADODAB, zeta: Any, p: Any, h: Any) -> Any:
    """ζ after a time h under the excess of the kinetic temperature of the whole particle."""
    excess = dot(p, bath.velocity(p)) / size_of(p) - bath.temperature
    return zeta + h / bath.inertia * excess


def _mean_decay(y: Any) -> Any:
    """(1 - e^(-y))/y, which is 1 at 0."""
    safe = jnp.where(y == 0, 1.0, y)
    return jnp.where(y == 0, 1.0, -jnp.expm1(-safe) / safe)
