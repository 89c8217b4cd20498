"""Overdamped Langevin dynamics with a mobility that depends on the position."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from ..engine.protocols import Integrator, Noise, NoiseSpec, Potential
from ..engine.pytree import number, pytree, ravel, root_times, static, times
from .overdamped import Position


@pytree
class Preconditioned(Integrator):
    """Langevin dynamics that steps further where the energy is flat: a mobility G(x) of your own, or RMSprop's.

        x' = x - h (G ∇U - T Γ) + √(2hTG) ξ,    Γᵢ = Σⱼ ∂Gᵢⱼ/∂xⱼ

    metric: a function of the position that returns G(x) as a scalar, a diagonal shaped like the position, or a symmetric
    positive definite matrix (d, d). None takes G = 1/√(λ² + (∂ᵢU)²) on the diagonal: RMSprop's scaling by the gradient at
    hand, without its memory, because a G that remembers is no function of x and has no Gibbs law.
    damping: λ of that, an energy over a length. step_size: h, which times G is a time. temperature: T, energy.
    divergence: whether Γ is added, by automatic differentiation. Without it, as in the literature of preconditioned SGLD
    (Li et al., AAAI 2016, who drop Γ), the law is exp(-U/T)/G for a scalar G: for U = x²/2 and G = 1/(1 + x²) at T = 1,
    <x²> = 2 instead of 1. Then no stationary order is declared.
    Cost: 1 gradient; with Γ d derivatives of G, which for RMSprop's take one gradient more and d of its derivatives.
    Weak order 1, stationary order 1. Ma, Chen and Fox, NeurIPS 2015, eq. (3).
    Raises TypeError for a metric that is not callable.
    """

    step_size: Any = number("positive")
    temperature: Any = number("non-negative", default=1.0)
    metric: Callable | None = static(default=None)
    damping: Any = number("positive", default=1.0)
    divergence: bool = static(default=True)
    weak_order = 1
    noise = NoiseSpec(normals=1)

    def __post_init__(self) -> None:
        if self.metric is not None and not callable(self.metric):
            raise TypeError(f"metric must be a function of the position, or None for RMSprop's; got {self.metric!r}")

    @property
    def stationary_order(self) -> int | None:
        return 1 if self.divergence else None

    @property
    def gradients(self) -> int:
        return 2 if self.metric is None and self.divergence else 1

    def init(self, potential: Potential, position: Any, noise: Noise) -> Position:
        return Position(position)

    def step(self, potential: Potential, state: Position, noise: Noise) -> Position:
        x, h, (xi,) = state.position, self.step_size, noise.normals
        g = potential.gradient(x)
        metric = self._rms(g) if self.metric is None else self.metric(x)
        drift = times(metric, g)
        if self.divergence:
            of = self.metric or (lambda x: self._rms(potential.gradient(x)))
            drift = optax.tree.add_scale(drift, -self.temperature, _divergence(of, x))
        moved = optax.tree.add_scale(x, -h, drift)
        return Position(optax.tree.add_scale(moved, jnp.sqrt(2 * h * self.temperature), root_times(metric, xi)))

    def _rms(self, gradient: Any) -> Any:
        return jax.tree.map(lambda g: 1 / jnp.sqrt(self.damping**2 + g**2), gradient)


def _divergence(metric: Callable, position: Any) -> Any:
    """Γ: the sum over coordinates j of the derivative along j of the column G eⱼ, whatever the shape of G."""
    x, unravel = ravel_pytree(position)

    def along(e: jax.Array) -> jax.Array:
        return jax.jvp(lambda x: ravel(times(metric(unravel(x)), unravel(e))), (x,), (e,))[1]

    return unravel(jnp.sum(jax.vmap(along)(jnp.eye(x.size, dtype=x.dtype)), axis=0))
