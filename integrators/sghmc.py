"""Stochastic-gradient Hamiltonian Monte Carlo: symplectic Euler that allows for the noise of the gradient."""

from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from ..engine.protocols import Noise, NoiseSpec, Potential
from ..engine.pytree import like, number, pytree, root_times
from .symplectic_euler import SymplecticEuler
from .underdamped import Phase, Underdamped


@pytree
class SGHMC(Underdamped):
    """Langevin dynamics on minibatches: the bath gives only the noise that the gradient has not brought along.

        p' = p - h ∇Ũ(x) - hγ p + √(2γmTh - h²V) ξ,    x' = x + h p'/m,    V an estimate of Var ∇Ũ

    step_size, friction, temperature, mass: as in `SymplecticEuler`, which this is at V = 0. gradient_variance: V, of each
    component of the gradient, (energy/length)², a scalar or a diagonal shaped like the position.
    Samples exp(-U/T) as h → 0. Where V is the variance σ² of a Gaussian estimate, the law at any step is that of
    `SymplecticEuler` with the exact gradient; where it is not, it is that at the temperature T + h(σ² - V)/2γm.
    Cost: 1 gradient. Raises ValueError where h²V exceeds 2γmTh, at construction for plain numbers, else in `init`.

        Chen, Fox, Guestrin | here          their velocity is v = h p/m:
        η, learning rate    | h²/m          v' = (1 - α) v - η ∇Ũ(x) + √(2(αT - β)η) ξ
        α, 1 - momentum     | hγ            x' = x + v'
        β, at T = 1         | h²V/2m        αT ≥ β, else refused

    Chen, Fox and Guestrin, "Stochastic Gradient Hamiltonian Monte Carlo", ICML 2014, eq. (13) to (15).
    """

    mass: Any = number("positive", default=1.0)  # no matrix: the gradient's variance is one of each coordinate
    gradient_variance: Any = number("non-negative", default=0.0)
    weak_order = 1
    stationary_order = 2  # with the V of the gradient
    noise = NoiseSpec(normals=1)

    def __post_init__(self) -> None:
        if all(isinstance(leaf, int | float) for leaf in jax.tree.leaves(self)):
            _check(self, 0.0)

    def init(self, potential: Potential, position: Any, noise: Noise) -> Phase:
        if not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(self)):
            _check(self, position)
        return self._bath().init(potential, position, noise)

    def step(self, potential: Potential, state: Phase, noise: Noise) -> Phase:
        rest = jax.tree.map(lambda brought: 1 - brought, self.brought(state.position))
        return self._bath().step(potential, state, Noise((root_times(rest, noise.normals[0]),)))

    def _bath(self) -> SymplecticEuler:
        return SymplecticEuler(
            step_size=self.step_size, friction=self.friction, temperature=self.temperature, mass=self.mass
        )

    def brought(self, position: Any) -> Any:
        """What part of the bath's noise comes with the gradient: h²V/2γmTh, and 0 where V is, with a bath or without."""
        h, bath = self.step_size, 2 * self.friction * self.temperature
        return jax.tree.map(
            lambda m, v: h * v / (bath * m + (v == 0)),
            like(self.mass, position),
            like(self.gradient_variance, position),
        )


def _check(bath: SGHMC, position: Any) -> None:
    """Refuse a noise whose variance would be negative somewhere."""
    numbers = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), bath)
    with np.errstate(divide="ignore"):
        most = max(float(np.max(brought)) for brought in jax.tree.leaves(numbers.brought(position)))
    if most > 1:
        raise ValueError(
            "gradient_variance must not exceed 2·friction·mass·temperature/step_size, or the noise to be added would have a "
            f"negative variance; got {most:.6g} times that: take a smaller step_size, more friction or a larger batch "
            f"(step_size {bath.step_size}, friction {bath.friction}, temperature {bath.temperature}, mass {bath.mass}, "
            f"gradient_variance {bath.gradient_variance})"
        )
