"""Landscapes that know their Gibbs state. Every thermodynamic quantity follows from one function, log Z(T)."""

import abc
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from .protocols import Potential
from .pytree import size_of, upcast


class Solvable(Potential):
    """A potential whose equilibrium is known at every temperature where it exists.

    A landscape supplies `log_partition`, `moments` and `draw`; free energy, mean energy, entropy and heat capacity are
    derived from the first by automatic differentiation in the temperature, in `Equilibrium`.
    """

    quadratic: ClassVar[bool] = False  # U is a quadratic form: stationary laws of linear schemes are exact
    separable: ClassVar[bool] = False  # U is the same function summed over coordinates: one coordinate tells all

    @abc.abstractmethod
    def log_partition(self, temperature: Any, like: Any) -> jax.Array:
        """log ∫ exp(-U/T) dx for a particle shaped `like`; traceable in all numbers, in float64."""

    @abc.abstractmethod
    def moments(self, temperature: float, like: Any) -> tuple[np.ndarray, np.ndarray]:
        """Mean (d,) and covariance (d, d) of the ravelled position."""

    @abc.abstractmethod
    def draw(self, temperature: float, like: Any, key: Any, n: int) -> Any:
        """n exact draws: the position's tree with a leading axis n."""

    @property
    def like(self) -> Any:
        """A particle's position where none is given; one coordinate for landscapes with no dimension of their own."""
        return jnp.zeros(1)

    def equilibrium(self, temperature: float, like: Any = None) -> "Equilibrium":
        """The Gibbs state at a temperature > 0; `like` is one particle's position (shape only)."""
        value = np.asarray(temperature)
        if value.shape != () or not np.isfinite(value) or value <= 0:
            raise ValueError(
                f"temperature must be one positive number; got {temperature!r}: an equilibrium needs T > 0"
            )
        return Equilibrium(potential=self, temperature=float(value), like=self.like if like is None else like)


@jax.jit
def _derivatives(landscape: Solvable, temperature: Any, like: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    """log Z and its first two derivatives in the temperature."""
    log_z = lambda t: landscape.log_partition(t, like)  # noqa: E731
    # forward twice: half of the compile time of gradients of gradients
    slope = lambda t: jax.jvp(log_z, (t,), (jnp.ones_like(t),))  # noqa: E731
    (value, first), (_, second) = jax.jvp(slope, (temperature,), (jnp.ones_like(temperature),))
    return value, first, second


class Equilibrium:
    """The Gibbs state exp(-U/T)/Z of a `Solvable` potential; all numbers are float64, k_B = 1.

    The thermodynamic properties are configurational: momenta add T/2 to the energy of each coordinate.
    """

    def __init__(self, *, potential: Solvable, temperature: float, like: Any) -> None:
        self.potential, self.temperature, self.like = potential, temperature, like
        with jax.enable_x64(True):
            landscape, shape = upcast(potential), jax.tree.map(lambda leaf: np.zeros(np.shape(leaf)), like)
            mean, covariance = landscape.moments(temperature, shape)
            self.log_partition, slope, curvature = (
                float(a) for a in _derivatives(landscape, np.float64(temperature), shape)
            )
        self.mean_energy = temperature**2 * slope  # <U> = T² d(log Z)/dT
        self.heat_capacity = 2 * temperature * slope + temperature**2 * curvature  # d<U>/dT
        self.free_energy = -temperature * self.log_partition
        self.entropy = (self.mean_energy - self.free_energy) / temperature
        self.mean, self.covariance = np.asarray(mean), np.asarray(covariance)

    @property
    def dimension(self) -> int:
        """Number of coordinates."""
        return size_of(self.like)

    def sample(self, key: Any, n: int) -> Any:
        """n exact draws: the position's tree with a leading axis n, in the default floating dtype."""
        if n < 1:
            raise ValueError(f"n must be at least 1; got {n}")
        with jax.enable_x64(True):
            draws = upcast(self.potential).draw(self.temperature, self.like, key, n)
            draws = jax.tree.map(np.asarray, draws)
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(float)), draws)

    def log_density(self, position: Any) -> jax.Array:
        """Log density at one position; vmap it for many."""
        return -self.potential(position) / self.temperature - self.log_partition

    def __repr__(self) -> str:
        return (
            f"{type(self.potential).__name__} at T = {self.temperature:g}, {self.dimension} coordinate(s): "
            f"F = {self.free_energy:.6g}, <U> = {self.mean_energy:.6g}, S = {self.entropy:.6g}, "
            f"C = {self.heat_capacity:.6g}"
        )
