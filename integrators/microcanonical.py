"""Microcanonical Langevin dynamics: motion at unit speed, turned by the force."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ..engine.protocols import Integrator, Noise, NoiseSpec, Potential
from ..engine.pytree import dot, number, pytree, size_of


class Isokinetic(NamedTuple):
    """State of a particle that moves at unit speed."""

    position: Any
    velocity: Any  # of norm 1 over the whole tree
    gradient: Any
    energy: Any  # (): U at the position
    energy_error: Any  # (): of the last step; the exact dynamics makes none


@pytree
class MCLMC(Integrator):
    """Microcanonical Langevin Monte Carlo: long strides in high dimension, no rejection, a bias that falls with the step.

        dx = u dt,    du = -(1 - uuᵀ) ∇U/((d - 1)T) dt + noise on the sphere,    |u| = 1

        B: u ← (u + e (sinh δ + e·u (cosh δ - 1)))/(cosh δ + e·u sinh δ),    e = -∇U/|∇U|,    δ = h|∇U|/((d - 1)T)
        A: x ← x + hu        O: u ← (u + νξ)/|u + νξ|,    ν² = (e^(2h/L) - 1)/d

    a step is B A B with h/2 in each B, then O. step_size: h, a length, as is persistence_length: L, the way on which
    direction is forgotten; √d times the width of the target is a good one. temperature: T, energy. d counts the coordinates
    of the whole particle, at least 2.
    Samples exp(-U/T) as h → 0, with directions uniform. The bias is of second order and is not corrected; it shows in the
    state's `energy_error`, ΔE = ΔU + (d - 1)T Σ ln(cosh δ + e·u sinh δ) of the step, exactly -T ln of its Metropolis ratio:
    aim at a variance of ΔE below 5e-4 dT². Cost: 1 gradient. Weak order 1, stationary order 2. u is no momentum: kinetic
    temperatures have no meaning here. A particle of one coordinate is refused: it has no direction to turn.
    Robnik, De Luca, Silverstein and Seljak, JMLR 24 (2023), 311, sections 2 and 3.
    """

    step_size: Any = number("positive")
    persistence_length: Any = number("positive")
    temperature: Any = number("positive", default=1.0)
    weak_order = 1
    stationary_order = 2
    least_coordinates = 2
    noise = NoiseSpec(normals=1)
    init_noise = NoiseSpec(normals=1)

    def init(self, potential: Potential, position: Any, noise: Noise) -> Isokinetic:
        energy, gradient = potential.value_and_gradient(position)
        return Isokinetic(position, _unit(noise.normals[0]), gradient, energy, jnp.zeros_like(energy))

    def refresh(self, potential: Potential, state: Isokinetic) -> Isokinetic:
        energy, gradient = potential.value_and_gradient(state.position)
        return state._replace(energy=energy, gradient=gradient)

    def step(self, potential: Potential, state: Isokinetic, noise: Noise) -> Isokinetic:
        h, d = self.step_size, size_of(state.position)
        u, before = self._turned(state.velocity, state.gradient)
        x = optax.tree.add_scale(state.position, h, u)
        energy, gradient = potential.value_and_gradient(x)
        u, after = self._turned(u, gradient)
        error = energy - state.energy + (d - 1) * self.temperature * (before + after)
        u = _unit(optax.tree.add_scale(u, jnp.sqrt(jnp.expm1(2 * h / self.persistence_length) / d), noise.normals[0]))
        return Isokinetic(x, u, gradient, energy, error)

    def _turned(self, u: Any, gradient: Any) -> tuple[Any, jax.Array]:
        """B for h/2, with ln(cosh δ + e·u sinh δ); written in e^-δ, as cosh δ overflows where the force is large."""
        norm = jnp.sqrt(dot(gradient, gradient))
        e = optax.tree.scale(-1 / jnp.where(norm == 0, 1.0, norm), gradient)
        delta = self.step_size / 2 * norm / ((size_of(u) - 1) * self.temperature)
        c, zeta = jnp.clip(dot(e, u), -1.0, 1.0), jnp.exp(-delta)
        growth = (1 + c + (1 - c) * zeta**2) / 2  # e^-δ (cosh δ + c sinh δ)
        turn = (1 - zeta) * (1 + zeta + c * (1 - zeta)) / 2
        u = optax.tree.add_scale(optax.tree.add_scale(u, zeta / growth - 1, u), turn / growth, e)
        return u, delta + jnp.log(growth)


def _unit(tree: Any) -> Any:
    return optax.tree.scale(1 / jnp.sqrt(dot(tree, tree)), tree)
