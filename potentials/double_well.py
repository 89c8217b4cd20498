"""The double well."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..engine.equilibrium import Solvable
from ..engine.pytree import number, pytree, ravel
from . import quadrature


@pytree
class DoubleWell(Solvable):
    """Two wells in every coordinate, one deeper by a tilt: barriers, trapping, metastability.

        U(x) = Σᵢ barrier (xᵢ² - 1)² + tilt xᵢ

    barrier: height of the barrier at x = 0 without tilt, > 0. tilt: lifts the well at +1 by about 2 tilt over the one
    at -1. The position may have any shape; coordinates are independent. Without tilt
    Z = (π/2) exp(-b/2) [I₋¼(b/2) + I¼(b/2)] per coordinate, b = barrier/T; with it Z is a quadrature, to 1e-13.
    """

    barrier: Any = number("positive", default=1.0)
    tilt: Any = number(default=0.0)
    separable = True

    def __call__(self, position: Any) -> jax.Array:
        x = ravel(position)
        return jnp.sum(self.one(x))

    def one(self, x: Any) -> Any:
        """Energy of one coordinate."""
        return self.barrier * (x * x - 1) ** 2 + self.tilt * x

    def half_width(self, temperature: Any, xp: Any = np) -> Any:
        """A width beyond which U exceeds its minimum by more than `quadrature.NEGLIGIBLE` T: a root of a quadratic.

        With x² = 1 + s it asks barrier s² ≥ margin + |tilt| s/2, since |x| ≤ 1 + s/2 and U's minimum is ≥ -1.5 |tilt|.
        """
        tilt = abs(self.tilt)
        margin = quadrature.NEGLIGIBLE * temperature + 3 * tilt
        s = (tilt / 2 + xp.sqrt(tilt**2 / 4 + 4 * self.barrier * margin)) / (2 * self.barrier)
        return xp.sqrt(1 + s)

    def log_partition(self, temperature: Any, like: Any) -> jax.Array:
        width = jax.lax.stop_gradient(self.half_width(temperature, jnp))
        return quadrature.log_partition(self.one, width, temperature, like)

    def moments(self, temperature: float, like: Any) -> tuple[np.ndarray, np.ndarray]:
        return quadrature.moments(self.one, float(self.half_width(temperature)), temperature, like)

    def draw(self, temperature: float, like: Any, key: Any, n: int) -> Any:
        return quadrature.draw(self.one, float(self.half_width(temperature)), temperature, like, key, n)
