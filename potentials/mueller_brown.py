"""The Müller and Brown surface."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..engine.pytree import pytree
from .cubature import Boxed
from .sized import NEGLIGIBLE

HEIGHT = np.array([-200.0, -100.0, -170.0, 15.0])
XX, XY, YY = np.array([[-1.0, -1.0, -6.5, 0.7], [0.0, 0.0, 11.0, 0.6], [-10.0, -10.0, -6.5, 0.7]])
X0, Y0 = np.array([[1.0, 0.0, -0.5, -1.0], [0.0, 0.5, 1.5, 1.0]])
MINIMUM = -146.7
STEEPEST = 4068.2  # curvature, there


@pytree
class MuellerBrown(Boxed):
    """Three wells joined by a bent valley in the plane: the test of reaction paths.

        U(x, y) = Σₖ Aₖ exp(aₖ(x - xₖ)² + bₖ(x - xₖ)(y - yₖ) + cₖ(y - yₖ)²)

    Minima of -146.70 at (-0.558, 1.442), -108.17 at (0.623, 0.028), -80.77 at (-0.050, 0.467); saddles of -40.66 at
    (-0.822, 0.624), -72.25 at (0.212, 0.293). Wells are 10 to 40 T deep at T = 10. Position: two coordinates x, y.

    log Z, moments, the marginals of x and y and averages are sums over 801² nodes; draws are exact by rejection. The
    box of the sums widens with the temperature: [-2.5, 2] × [-1.5, 3], often seen, misses 5e-5 of log Z at T = 20.
    Raises ValueError where T is too low for the grid, below about 0.2. Müller and Brown (Theor. Chim. Acta 53, 1979).
    """

    def __call__(self, position: Any) -> jax.Array:
        x, y = self.ravelled(position)
        dx, dy = x - X0.astype(x.dtype), y - Y0.astype(y.dtype)
        form = XX.astype(x.dtype) * dx * dx + XY.astype(x.dtype) * dx * dy + YY.astype(x.dtype) * dy * dy
        return jnp.sum(HEIGHT.astype(x.dtype) * jnp.exp(form))

    @property
    def coordinates(self) -> int:
        return 2

    def box(self, temperature: Any, xp: Any = np) -> tuple[Any, Any]:
        """From a bound: the last term alone grows, and the three others are never below the sum of their heights.

        Over all y the exponent of the last is at least (a - b²/4c)(x - x₄)², and the same with x and y exchanged.
        """
        margin = MINIMUM + NEGLIGIBLE * temperature - HEIGHT[:3].sum()
        half = xp.sqrt(xp.log(margin / HEIGHT[3]) / (XX[3] - XY[3] ** 2 / (4 * YY[3])))
        center = np.array([X0[3], Y0[3]])
        return center - half, center + half

    def narrowest(self, temperature: float) -> float:
        return np.sqrt(temperature / STEEPEST)
