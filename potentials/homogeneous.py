"""Powers of the distance: energies that keep their shape at every temperature, in closed form."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..engine.pytree import size_of
from .coordinatewise import NODES, Coordinatewise
from .sized import NEGLIGIBLE


class Homogeneous(Coordinatewise):
    """U(x) = Σᵢ strength |xᵢ|^exponent/exponent; a subclass names the two numbers.

    With r = (pT/strength)^(1/p):   Z = (2 r Γ(1 + 1/p))ᵈ,   <U> = dT/p,   Var x = r² Γ(3/p)/Γ(1/p)

    and U/T has the Gamma law of shape d/p.
    """

    exponent: Any  # p > 0
    strength: Any  # > 0

    @property
    def degree(self) -> Any:
        return self.exponent

    def one(self, x: Any) -> Any:
        apart = jnp.where(x == 0, 1.0, jnp.abs(x))  # at 0 the derivatives are 0: those of |x|^p may be infinite there
        return self.strength / self.exponent * jnp.where(x == 0, 0.0, apart**self.exponent)

    def radius(self, temperature: Any) -> Any:
        """r: where U of one coordinate is T."""
        return (self.exponent * temperature / self.strength) ** (1 / self.exponent)

    def reach(self) -> Any:
        """Energies this many T do not count, not even where |x|² is large: a tail of Gamma(3/p)."""
        return NEGLIGIBLE + 10 / self.exponent

    def support(self, temperature: Any, xp: Any = np) -> tuple[Any, Any]:
        width = self.radius(temperature) * self.reach() ** (1 / self.exponent)
        return -width, width

    def nodes(self, temperature: Any, count: int = NODES, xp: Any = np) -> tuple[Any, Any]:
        """U/T = exp(s - exp(-s)) for uniform s on either side: whatever the corner at 0, both ends decay doubly."""
        p = self.exponent
        side = (count - 1) // 2
        s, step = xp.linspace(-xp.log(20 + 40 * p), xp.log(self.reach()), side, retstep=True)
        x = self.radius(temperature) * xp.exp((s - xp.exp(-s)) / p)
        weights = step * x * (1 + xp.exp(-s)) / p
        zero = xp.zeros(1)
        return xp.concatenate([-x[::-1], zero, x]), xp.concatenate([weights[::-1], zero, weights])

    def log_partition(self, temperature: Any, like: Any) -> jax.Array:
        log_radius = jnp.log(self.exponent * temperature / self.strength) / self.exponent
        return size_of(like) * (jnp.log(2.0) + log_radius + jax.lax.lgamma(1 + 1 / jnp.asarray(self.exponent, float)))

    def moments(self, temperature: float, like: Any) -> tuple[np.ndarray, np.ndarray]:
        d, p = size_of(like), float(self.exponent)
        ratio = math.exp(math.lgamma(3 / p) - math.lgamma(1 / p))
        return np.zeros(d), np.eye(d) * (float(self.radius(temperature)) ** 2 * ratio)
