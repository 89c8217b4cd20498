"""The double well."""

from typing import Any

import numpy as np

from ..engine.pytree import number, pytree
from .coordinatewise import Coordinatewise
from .sized import NEGLIGIBLE


@pytree
class DoubleWell(Coordinatewise):
    """Two wells in every coordinate, one deeper by a tilt: barriers, trapping, metastability.

        U(x) = Σᵢ barrier (xᵢ² - 1)² + tilt xᵢ

    barrier: height of the barrier at x = 0 without tilt, > 0. tilt: lifts the well at +1 by about 2 tilt over the one
    at -1. The position may have any shape; coordinates are independent. Without tilt
    Z = (π/2) exp(-b/2) [I₋¼(b/2) + I¼(b/2)] per coordinate, b = barrier/T; with it Z is a quadrature, to 1e-13.
    """

    barrier: Any = number("positive", default=1.0)
    tilt: Any = number(default=0.0)

    def one(self, x: Any) -> Any:
        return self.barrier * (x * x - 1) ** 2 + self.tilt * x

    def support(self, temperature: Any, xp: Any = np) -> tuple[Any, Any]:
        """By the root of a quadratic: with x² = 1 + s it asks barrier s² ≥ margin + |tilt| s/2.

        For |x| ≤ 1 + s/2, and U's minimum is ≥ -1.5 |tilt|.
        """
        tilt = abs(self.tilt)
        margin = NEGLIGIBLE * temperature + 3 * tilt
        s = (tilt / 2 + xp.sqrt(tilt**2 / 4 + 4 * self.barrier * margin)) / (2 * self.barrier)
        width = xp.sqrt(1 + s)
        return -width, width
