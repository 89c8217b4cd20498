"""The cosine on the circle, at rest or tilted."""

from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from ..engine.pytree import number, pytree
from .coordinatewise import Coordinatewise
from .steady_state import SteadyState, steady_state


@pytree
class Cosine(Coordinatewise):
    """A pendulum or a washboard: the periodic landscape, which a tilt drives out of equilibrium.

        U(x) = Σᵢ -amplitude cos xᵢ - tilt xᵢ,   every coordinate an angle of period 2π

    Without tilt Z = 2π I₀(b) per coordinate, <cos x> = I₁(b)/I₀(b), b = amplitude/T. With one, a force that pushes for
    ever, there is no equilibrium: `equilibrium` raises ValueError, and `steady_state` tells what there is instead.
    The position may have any shape and is never wrapped, so displacements count turns.
    """

    amplitude: Any = number(default=1.0)
    tilt: Any = number(default=0.0)
    period: ClassVar[float] = 2 * np.pi

    def one(self, x: Any) -> Any:
        return -self.amplitude * jnp.cos(x) - self.tilt * x

    def support(self, temperature: Any, xp: Any = np) -> tuple[Any, Any]:
        return -np.pi, np.pi

    def check_temperature(self, temperature: float, like: Any) -> None:
        self.check_fields()
        if self.tilt != 0:
            raise ValueError(
                f"tilt must be 0 for an equilibrium; got {float(self.tilt):g}: a tilted circle carries a current for ever. "
                "steady_state(temperature) gives its density, velocity and diffusion"
            )
        super().check_temperature(temperature, like)

    def steady_state(self, temperature: float, *, mobility: float = 1.0) -> SteadyState:
        """What overdamped motion, dx = -μ U' dt + √(2μT) dW, comes to in each coordinate: density, drift and spread."""
        self.check_fields()
        amplitude, force = float(self.amplitude), float(self.tilt)
        return steady_state(
            lambda x: -amplitude * np.cos(x),
            period=self.period,
            force=force,
            temperature=temperature,
            mobility=mobility,
        )
