"""Langevin dynamics by symplectic Euler, the scheme of stochastic-gradient Hamiltonian Monte Carlo."""

from typing import Any

import jax
import numpy as np
import optax

from ..engine.protocols import Noise, NoiseSpec, Potential
from ..engine.pytree import like, number, pytree, root, times
from .massive import Massive
from .splitting import Phase


@pytree
class SymplecticEuler(Massive):
    """The cheapest underdamped step, momentum first: what momentum SGD with noise is. For noisy gradients see `SGHMC`.

        p' = p - h ∇U(x) - hγ p + √(2γmTh - h²V) ξ,    x' = x + h p'/m

    step_size: h, time. friction: γ, a rate. temperature: T, energy. mass: m, a scalar or a diagonal shaped like the
    position. gradient_variance: V, of each component of the gradient's estimate, (energy/length)²; a scalar or a diagonal.
    Cost: 1 gradient. Weak order 1, stationary order 2 for positions and 1 for momenta; on U = kx²/2 with w = h²k/m it
    samples k<x²>/T = 2(2 - hγ)/(4 - 2hγ - w) and <p²>/mT = 4/(4 - 2hγ - w), and is stable for w + 2hγ < 4.
    Raises ValueError where 2γmT < hV: the gradient is noisier than the bath, and no added noise makes up for it.
    """

    step_size: Any = number("positive")
    friction: Any = number("non-negative", default=1.0)
    temperature: Any = number("non-negative", default=1.0)
    mass: Any = number("positive", default=1.0)
    gradient_variance: Any = number("non-negative", default=0.0)
    weak_order = 1
    stationary_order = 2
    noise = NoiseSpec(normals=1)

    def __post_init__(self) -> None:
        if all(isinstance(leaf, int | float) for leaf in jax.tree.leaves(self)):
            self._check(0.0)

    def init(self, potential: Potential, position: Any, noise: Noise) -> Phase:
        self._check(position)
        return Phase(position, self.thermal(noise), None)

    def step(self, potential: Potential, state: Phase, noise: Noise) -> Phase:
        x, p, h = state.position, state.momentum, self.step_size
        g = potential.gradient(x)
        p = optax.tree.add_scale(optax.tree.add_scale(p, -h * self.friction, p), -h, g)
        p = optax.tree.add(p, times(root(self._variance(p)), noise.normals[0]))
        return Phase(optax.tree.add_scale(x, h, self.velocity(p)), p, None)

    def _variance(self, position: Any) -> Any:
        """Of the noise to be added to each component of the momentum."""
        h = self.step_size
        bath = lambda m, v: 2 * self.friction * self.temperature * h * m - h * h * v  # noqa: E731
        return jax.tree.map(bath, like(self.mass, position), like(self.gradient_variance, position))

    def _check(self, position: Any) -> None:
        """Refuse a noise of negative variance, as far as numbers are there yet to look at."""
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(self)):
            return
        numbers = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), self)
        lowest = min(float(np.min(leaf)) for leaf in jax.tree.leaves(numbers._variance(position)))
        if lowest < 0:
            raise ValueError(
                "gradient_variance must not exceed 2·friction·mass·temperature/step_size, or the noise to be added would "
                f"have a negative variance; got {lowest:.6g} for that, with step_size {self.step_size}, friction "
                f"{self.friction}, temperature {self.temperature}, mass {self.mass} and gradient_variance "
                f"{self.gradient_variance}: take a smaller step_size, a larger friction or a larger batch"
            )


def SGHMC(
    *, step_size: Any, friction: Any = 1.0, temperature: Any = 1.0, mass: Any = 1.0, gradient_variance: Any = 0.0
) -> SymplecticEuler:
    """Symplectic Euler for minibatches: the bath gives only the noise that the gradient has not brought along.

        p' = p - h ∇Ũ(x) - hγ p + √(2γmTh - h²V) ξ,    x' = x + h p'/m,    V an estimate of Var ∇Ũ

    Samples exp(-U/T) as h → 0. Where V is the variance σ² of a Gaussian estimate, the law at any step is that of
    `SymplecticEuler` with the exact gradient; where it is not, it is that at the temperature T + h(σ² - V)/2γm.

        Chen, Fox, Guestrin | here          their velocity is v = h p/m:
        η, learning rate    | h²/m          v' = (1 - α) v - η ∇Ũ(x) + √(2(αT - β)η) ξ
        α, 1 - momentum     | hγ            x' = x + v'
        β, at T = 1         | h²V/2m        αT ≥ β, or ValueError is raised, as in `SymplecticEuler`

    Chen, Fox and Guestrin, "Stochastic Gradient Hamiltonian Monte Carlo", ICML 2014, eq. (13) to (15).
    """
    return SymplecticEuler(
        step_size=step_size, friction=friction, temperature=temperature, mass=mass, gradient_variance=gradient_variance
    )
