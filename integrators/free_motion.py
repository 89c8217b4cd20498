"""Langevin dynamics without a force, or under one that stays: position and momentum together, exactly."""

from typing import Any, NamedTuple

import jax.numpy as jnp

DEPTH = 17  # of the continued fraction: float64's accuracy below y = 1


class FreeMotion(NamedTuple):
    """The coefficients of dx = v dt, dv = (a - γv) dt + √(2γT/m) dW over a time t, with c = exp(-γt).

    x' = x + reach v + pull a + √(T/m) (reach lean ξ + stray η),     v' = v + loss v + reach a + √(T/m) spread ξ
    """

    loss: Any  # c - 1
    reach: Any  # (1 - c)/γ
    pull: Any  # (γt - 1 + c)/γ²
    spread: Any  # √(1 - c²)
    lean: Any  # √((1 - c)/(1 + c))
    stray: Any  # of the position's own normal: √(2γt - 4(1 - c)/(1 + c))/γ


def free_motion(friction: Any, time: Any) -> FreeMotion:
    """The coefficients for γ ≥ 0 and t ≥ 0, without cancellation for small γt and without a division by γ.

    All follow from tanh y with y = γt/2, by way of τ = tanh(y)/y and e = (1 - τ)/y², which Lambert's continued fraction
    gives below 1 to all digits: c = (1 - yτ)/(1 + yτ).
    """
    y = friction * time / 2
    rest = 0.0 * y
    for odd in range(2 * DEPTH + 1, 1, -2):  # y²/(3 + y²/(5 + …)) = y/tanh(y) - 1, over y²
        rest = 1 / (odd + y * y * rest)
    small, large = 1 / (1 + y * y * rest), jnp.maximum(y, 1.0)
    tau = jnp.where(y < 1, small, jnp.tanh(large) / large)
    excess = jnp.where(y < 1, rest * small, (1 - tau) / large**2)
    tanh = y * tau
    return FreeMotion(
        loss=-2 * tanh / (1 + tanh),
        reach=time * tau / (1 + tanh),
        pull=time**2 * (y * excess + tau) / (2 * (1 + tanh)),
        spread=2 * jnp.sqrt(tanh) / (1 + tanh),
        lean=jnp.sqrt(tanh),
        stray=time * jnp.sqrt(y * excess),
    )
