"""A narrow deep well against a wide shallow one."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..engine.pytree import check_count, number, pytree, static
from .cubature import normal_density, normal_nodes
from .double_well import DoubleWell
from .draws import Source
from .sized import NEGLIGIBLE, Sized, as_particles

NODES = 2001
SECOND = 1 << 32  # attempts from here on are numbers that the draws of x never take


@pytree
class EntropicWell(Sized):
    """Energy against entropy: cold particles choose the deep, narrow well at x = -1, hot ones the wide one at +1.

        U(x, y) = barrier (x² - 1)² + offset (x + 1)/2 + stiffness exp(-softening x) |y|²/2,   n = transverse

    Integrated over y, it is a double well in x whose tilt depends on the temperature:

        F(x) = barrier (x² - 1)² + (offset - n T softening) x/2 + const,    crossover T* = offset / (n softening)

    where both wells weigh the same, P(x > 0) = 1/2. The entropic force n T softening/2 does not depend on the stiffness.

    barrier, stiffness: > 0. offset: energy of the well at +1 above that at -1. softening: how fast the n modes y
    soften along x; 0 for a double well with harmonic modes across. Position: 1 + n coordinates, x first. Draws are exact.
    """

    barrier: Any = number("positive", default=4.0)
    offset: Any = number(default=0.5)
    stiffness: Any = number("positive", default=1.0)
    softening: Any = number(default=1.0)
    transverse: int = static(default=2)

    def __post_init__(self) -> None:
        check_count("transverse", self.transverse, 1)

    def __call__(self, position: Any) -> jax.Array:
        x, y = jnp.split(self.ravelled(position), [1])
        return self._along(x[0]) + self._stiffness_at(x[0], jnp) * jnp.sum(y * y) / 2

    def _along(self, x: Any) -> Any:
        return self.barrier * (x * x - 1) ** 2 + self.offset * (x + 1) / 2

    def _stiffness_at(self, x: Any, xp: Any = np) -> Any:
        return self.stiffness * xp.exp(-self.softening * x)

    @property
    def coordinates(self) -> int:
        return 1 + self.transverse

    @property
    def crossover(self) -> Any:
        """The temperature T* at which both wells weigh the same, if it is positive. Without softening there is none."""
        if self.softening == 0:
            raise ValueError("softening is 0: the wells are equally wide, and no temperature exchanges them")
        return self.offset / (self.transverse * self.softening)

    def _well(self, temperature: Any, softer: float = 0.0) -> DoubleWell:
        """The double well of x, once y is integrated over; weighted by exp(softer × softening × x) besides."""
        tilt = self.offset / 2 - temperature * self.softening * (self.transverse / 2 + softer)
        return DoubleWell(barrier=self.barrier, tilt=tilt)

    def log_partition(self, temperature: Any, like: Any) -> jax.Array:
        across = self.transverse / 2 * jnp.log(2 * np.pi * temperature / self.stiffness)
        well = self._well(temperature)
        return across - self.offset / (2 * temperature) + well.log_partition(temperature, well.like)

    def moments(self, temperature: float, like: Any) -> tuple[np.ndarray, np.ndarray]:
        well, softer = self._well(temperature), self._well(temperature, 1.0)
        (mean,), ((variance,),) = well.moments(temperature, well.like)
        # Var y = (T/stiffness) <exp(softening x)>, a ratio of partition functions
        log_ratio = softer.log_partition(temperature, well.like) - well.log_partition(temperature, well.like)
        square = temperature / self.stiffness * float(jnp.exp(log_ratio))
        return np.append(mean, np.zeros(self.transverse)), np.diag([variance, *[square] * self.transverse])

    def _of_x(self, temperature: float, x: np.ndarray) -> np.ndarray:
        """The density of x."""
        log_z = float(self.log_partition(temperature, self.like))
        across = self.transverse / 2 * np.log(2 * np.pi * temperature / self._stiffness_at(x))
        return np.exp(across - self._along(x) / temperature - log_z)

    def _line(self, temperature: float) -> tuple[np.ndarray, np.ndarray]:
        """Nodes and weights over x: a uniform grid between the outermost roots of F = (a bound of its minimum) + 60 T."""
        tilt = float(self._well(temperature).tilt)
        level = NEGLIGIBLE * temperature + abs(tilt)
        roots = np.roots([self.barrier, 0, -2 * self.barrier, tilt, self.barrier - level])
        x = np.linspace(-np.abs(roots.real).max(), np.abs(roots.real).max(), NODES)
        weights = self._of_x(temperature, x)
        return x, weights / weights.sum()

    def quadrature(self, temperature: float, like: Any) -> tuple[np.ndarray, np.ndarray]:
        (x, weights), (xi, normal) = self._line(temperature), normal_nodes(self.transverse)
        count = weights > np.exp(-NEGLIGIBLE)
        x, weights = x[count], weights[count]
        y = np.sqrt(temperature / self._stiffness_at(x))[:, None, None] * xi
        points = np.concatenate([np.broadcast_to(x[:, None, None], (*y.shape[:2], 1)), y], axis=2)
        return points.reshape(-1, self.coordinates), np.outer(weights, normal).ravel()

    def marginal(self, temperature: float, like: Any, coordinate: int, x: np.ndarray) -> np.ndarray:
        if coordinate == 0:
            return self._of_x(temperature, x)
        along, weights = self._line(temperature)
        return normal_density(x[:, None], 0.0, temperature / self._stiffness_at(along)) @ weights

    def draw(self, temperature: float, like: Any, key: Any, n: int) -> Any:
        well = self._well(temperature)
        x = np.asarray(well.draw(temperature, well.like, key, n))
        numbers = Source(key, np.arange(n, dtype=np.uint32), SECOND)
        y = np.sqrt(temperature / self._stiffness_at(x)) * numbers.normals(self.transverse)
        return as_particles(np.hstack([x, y]), like)
