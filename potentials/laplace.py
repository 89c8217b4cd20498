"""The Laplace density's energy."""

from typing import Any

from ..engine.pytree import number, pytree
from .homogeneous import Homogeneous


@pytree
class Laplace(Homogeneous):
    """The distance itself: a force of constant size and a corner at 0, where it is taken to be 0.

        U(x) = Σᵢ |xᵢ|/scale,   Z = (2 T scale)ᵈ,   <U> = dT,   Var x = 2 (T scale)²,   U/T ~ Gamma(d)

    scale: a length over an energy, > 0. Minus the log of a Laplace prior. No configurational temperature: the corner
    carries curvature that no derivative sees. The position may have any shape.
    """

    scale: Any = number("positive", default=1.0)
    exponent = 1.0

    @property
    def strength(self) -> Any:
        return 1 / self.scale
