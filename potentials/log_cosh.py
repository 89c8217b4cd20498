"""The log-cosh well."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..engine.pytree import number, pytree, size_of
from .coordinatewise import NODES, Coordinatewise
from .sized import NEGLIGIBLE


@pytree
class LogCosh(Coordinatewise):
    """A smooth well with linear flanks: harmonic near by, a constant force far away.

        U(x) = amplitude Σᵢ log cosh xᵢ,   Z = √π Γ(b/2)/Γ((b + 1)/2) per coordinate,   Var x = ψ′(b/2)/2

    with b = amplitude/T. amplitude: the largest force, > 0. Nothing overflows. The position may have any shape.
    """

    amplitude: Any = number("positive", default=1.0)

    def one(self, x: Any) -> Any:
        return self.amplitude * (jnp.logaddexp(x, -x) - math.log(2))

    def support(self, temperature: Any, xp: Any = np) -> tuple[Any, Any]:
        width = NEGLIGIBLE * temperature / self.amplitude + math.log(2)  # log cosh x ≥ |x| - log 2
        return -width, width

    def nodes(self, temperature: Any, count: int = NODES, xp: Any = np) -> tuple[Any, Any]:
        return self.stretched(temperature, count, xp)

    def log_partition(self, temperature: Any, like: Any) -> jax.Array:
        half = self.amplitude / temperature / 2
        upper, lower = jax.lax.lgamma(jnp.stack([half, half + 0.5]))  # one call, which halves the time to compile
        return size_of(like) * (math.log(math.pi) / 2 + upper - lower)

    def moments(self, temperature: float, like: Any) -> tuple[np.ndarray, np.ndarray]:
        d = size_of(like)
        variance = jax.lax.polygamma(np.float64(1), np.float64(self.amplitude / temperature / 2)) / 2
        return np.zeros(d), np.eye(d) * float(variance)
