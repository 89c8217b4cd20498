"""A power of the distance."""

from typing import Any

from ..engine.pytree import number, pytree
from .homogeneous import Homogeneous


@pytree
class Power(Homogeneous):
    """Any power of the distance, from cusps to boxes: one law of the energy for all temperatures.

        U(x) = Σᵢ |xᵢ|^p/p,   Z = (2 (pT)^(1/p) Γ(1 + 1/p))ᵈ,   <U> = dT/p,   U/T ~ Gamma(d/p)

    exponent: p > 0. For p ≤ 1 there is a corner at 0, where the force is taken to be 0 (for p < 1 it is unbounded near
    by); for p < 2 the curvature diverges there. The position may have any shape.
    """

    exponent: Any = number("positive")
    strength = 1.0
