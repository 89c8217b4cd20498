"""The quartic well."""

from typing import Any

from ..engine.pytree import pytree
from .homogeneous import Homogeneous


@pytree
class Quartic(Homogeneous):
    """A well without a harmonic bottom: the plainest energy whose forces are not linear.

        U(x) = Σᵢ xᵢ⁴/4,   Z = (Γ(1/4) (4T)^(1/4)/2)ᵈ,   <x⁴> = T,   Var x = 2 √T Γ(3/4)/Γ(1/4),   U/T ~ Gamma(d/4)

    The position may have any shape.
    """

    exponent = 4.0
    strength = 1.0

    def one(self, x: Any) -> Any:
        square = x * x
        return square * square / 4
