"""The triple well."""

from typing import Any

import numpy as np

from ..engine.pytree import number, pytree
from .coordinatewise import Coordinatewise
from .sized import NEGLIGIBLE


@pytree
class TripleWell(Coordinatewise):
    """Three wells of equal depth in every coordinate, the middle one wider: which one holds the weight is entropy.

        U(x) = Σᵢ (27/4) barrier xᵢ² (xᵢ² - 1)² + tilt xᵢ

    Without tilt the wells at -1, 0 and 1 have depth 0, curvatures 54, 13.5 and 54 times the barrier, and are parted by
    maxima of height `barrier` at x² = 1/3; at low temperatures the middle holds half of the weight. The φ⁶ energy of
    Landau's first-order transitions, at coexistence. barrier: > 0. tilt: lifts the well at +1 by about 2 tilt over the
    one at -1. Z is a quadrature, to 1e-13. The position may have any shape.
    """

    barrier: Any = number("positive", default=1.0)
    tilt: Any = number(default=0.0)

    def one(self, x: Any) -> Any:
        square = x * x
        return 6.75 * self.barrier * square * (square - 1) ** 2 + self.tilt * x

    def support(self, temperature: Any, xp: Any = np) -> tuple[Any, Any]:
        """By the root of a quadratic: with x² = 1 + s it asks 6.75 barrier s² ≥ margin + |tilt| (1 + s/2), U(0) being 0."""
        tilt, barrier = abs(self.tilt), 6.75 * self.barrier
        margin = NEGLIGIBLE * temperature + tilt
        s = (tilt / 2 + xp.sqrt(tilt**2 / 4 + 4 * barrier * margin)) / (2 * barrier)
        width = xp.sqrt(1 + s)
        return -width, width
