"""Deterministic canonical dynamics: a chain of Nosé-Hoover thermostats."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ..engine.protocols import Noise, Potential
from ..engine.pytree import number, pytree, size_of, static
from .massive import Massive

_THIRD, _FIFTH = 1 / (2 - 2 ** (1 / 3)), 1 / (4 - 4 ** (1 / 3))
SUZUKI_YOSHIDA = {  # parts of a step whose error of third order cancels
    1: (1.0,),
    3: (_THIRD, 1 - 2 * _THIRD, _THIRD),
    5: (_FIFTH, _FIFTH, 1 - 4 * _FIFTH, _FIFTH, _FIFTH),
}


class Chained(NamedTuple):
    """State under a chain of thermostats."""

    position: Any
    momentum: Any
    chain: Any  # (length,): ζ, rates
    heat: Any  # (): energy that the chain has taken up, n T η_1 + T Σ η_j of its coordinates
    gradient: Any


@pytree
class NoseHooverChain(Massive):
    """A thermostat without noise, reversible, with a conserved quantity that tells whether the step is small enough.

        dx = p/m dt,    dp = -∇U dt - ζ₁p dt
        dζ₁ = ((p·M⁻¹p/n - T)/Q - ζ₂ζ₁) dt,    dζ_j = ((Q_(j-1) ζ_(j-1)² - T)/Q - ζ_(j+1)ζ_j) dt,    Q₁ = nQ, else Q

    by (chain, h/2) B A B (chain, h/2), velocity Verlet between two halves of the chain.
    length: of the chain. parts: 1, 3 or 5, Suzuki-Yoshida parts of each half of the chain. step_size: h, time.
    temperature: T, energy. mass: m, a scalar, a diagonal or a matrix. inertia: Q, energy·time²; the
    thermostat's time is √(Q/T), best near that of the slowest vibration. n counts the coordinates of the whole particle.
    Samples exp(-H/T - Σ Q_j ζ_j²/2T) if ergodic, which one harmonic oscillator with length 1 is not, with a bias of second
    order. `conserved` is constant up to h². No noise but that of the first momenta. Cost: 1 gradient. Weak order 2.
    Martyna, Klein and Tuckerman, J. Chem. Phys. 97 (1992), 2635; Martyna, Tuckerman, Tobias and Klein, Mol. Phys. 87 (1996),
    1117, for the splitting. Raises ValueError for a length below 1 or other parts.
    """

    length: int = static(default=3)
    parts: int = static(default=1)
    step_size: Any = number("positive")
    temperature: Any = number("non-negative", default=1.0)
    mass: Any = number("positive definite", default=1.0)
    inertia: Any = number("positive", default=1.0)
    weak_order = 2
    stationary_order = 2

    def __post_init__(self) -> None:
        if not isinstance(self.length, int) or isinstance(self.length, bool) or self.length < 1:
            raise ValueError(f"length must be a whole number of thermostats, at least 1; got {self.length!r}")
        if self.parts not in SUZUKI_YOSHIDA:
            raise ValueError(f"parts must be one of {(*SUZUKI_YOSHIDA,)}; got {self.parts!r}")

    def init(self, potential: Potential, position: Any, noise: Noise) -> Chained:
        momentum = self.thermal(noise)
        dtype = jnp.result_type(*jax.tree.leaves(momentum))
        chain, heat = jnp.zeros(self.length, dtype), jnp.zeros((), dtype)
        return Chained(position, momentum, chain, heat, potential.gradient(position))

    def refresh(self, potential: Potential, state: Chained) -> Chained:
        return state._replace(gradient=potential.gradient(state.position))

    def step(self, potential: Potential, state: Chained, noise: Noise) -> Chained:
        h, state = self.step_size, _half(self, state)
        p = optax.tree.add_scale(state.momentum, -h / 2, state.gradient)
        x = optax.tree.add_scale(state.position, h, self.velocity(p))
        g = potential.gradient(x)
        p = optax.tree.add_scale(p, -h / 2, g)
        return _half(self, state._replace(position=x, momentum=p, gradient=g))

    def conserved(self, potential: Potential, state: Chained) -> jax.Array:
        """U + p·M⁻¹p/2 + Σ Q_j ζ_j²/2 + heat: constant along the exact dynamics, so its drift is the step's error."""
        chain = jnp.sum(jnp.stack(_inertias(self, state.momentum)) * state.chain**2) / 2
        return potential(state.position) + self.kinetic_energy(state) + chain + state.heat


def _inertias(bath: NoseHooverChain, p: Any) -> list:
    return [size_of(p) * bath.inertia] + [bath.inertia] * (bath.length - 1)


def _half(bath: NoseHooverChain, state: Chained) -> Chained:
    """The state after h/2 of the chain alone: momenta shrink or grow, positions rest."""
    n, q, temperature = size_of(state.momentum), _inertias(bath, state.momentum), bath.temperature
    zeta, heat, twice_kinetic, travelled = list(state.chain), state.heat, 2 * bath.kinetic_energy(state), 0.0
    for part in SUZUKI_YOSHIDA[bath.parts]:
        h = part * bath.step_size / 2
        for j in reversed(range(bath.length)):
            zeta[j] = _drive(zeta, j, h / 2, q, twice_kinetic - n * temperature, temperature)
        twice_kinetic = twice_kinetic * jnp.exp(-2 * h * zeta[0])
        travelled = travelled + h * zeta[0]
        heat = heat + h * temperature * (n * zeta[0] + sum(zeta[1:], start=0.0))
        for j in range(bath.length):
            zeta[j] = _drive(zeta, j, h / 2, q, twice_kinetic - n * temperature, temperature)
    p = optax.tree.add_scale(state.momentum, jnp.expm1(-travelled), state.momentum)
    return state._replace(momentum=p, chain=jnp.stack(zeta), heat=heat)


def _drive(zeta: list, j: int, h: Any, q: list, excess: Any, temperature: Any) -> Any:
    """ζ_j after a time h, driven by the thermostat before it (or the excess of the particle), damped by the one behind."""
    drive = (excess if j == 0 else q[j - 1] * zeta[j - 1] ** 2 - temperature) / q[j]
    loss = jnp.expm1(-h / 2 * zeta[j + 1]) if j + 1 < len(zeta) else 0.0
    damped = zeta[j] + loss * zeta[j] + h * drive
    return damped + loss * damped
