"""Landscapes that know their Gibbs state. Every thermodynamic quantity follows from one function, log Z(T)."""

import abc
import contextlib
import functools
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.flatten_util import ravel_pytree

from .hardware import ONCE, jit
from .protocols import Potential
from .pytree import check_count, size_of, upcast

IN_A_BIN = 24  # points of Gauss and Legendre
HALVINGS, SETTLED = 30, 1e-10
REACH = np.array([0.25, 1.0, 3.0, 9.0])  # standard deviations from the mean at which wide bins are cut too
HINTS, CUTS = 512, 32  # draws, and quantiles at which bins are cut


class NotKnown(ValueError):
    """What was asked of an equilibrium has no exact answer here, in this dimension or at this temperature."""


class Solvable(Potential):
    """A potential whose equilibrium is known at every temperature where it exists.

    A landscape supplies `log_partition`, `moments` and `draw`; free energy, mean energy, entropy and heat capacity are
    derived from the first by automatic differentiation in the temperature, in `Equilibrium`. It supplies `marginal` and
    `quadrature` where they can be computed, and `check_temperature` where some temperatures have no equilibrium.

    Where `period` is set every coordinate is an angle with that period: its moments are those of (cos, sin) of
    2π x/period, all cosines first, and the virial temperature does not exist.
    """

    separable: ClassVar[bool] = False  # U is the same function summed over coordinates: one coordinate tells all
    period: ClassVar[float | None] = None
    degree: ClassVar[float | None] = None  # U is homogeneous of this degree around its minimum: U/T has a Gamma law

    @abc.abstractmethod
    def log_partition(self, temperature: Any, like: Any) -> jax.Array:
        """log ∫ exp(-U/T) dx for a particle shaped `like`; traceable in all numbers, in float64."""

    @abc.abstractmethod
    def moments(self, temperature: float, like: Any) -> tuple[np.ndarray, np.ndarray]:
        """Mean (d,) and covariance (d, d) of the ravelled position; (2d,) and (2d, 2d) of angles."""

    @abc.abstractmethod
    def draw(self, temperature: float, like: Any, key: Any, n: int) -> Any:
        """n exact draws: the position's tree with a leading axis n."""

    def marginal(self, temperature: float, like: Any, coordinate: int, x: np.ndarray) -> np.ndarray:
        """Density (m,) of one ravelled coordinate at points x (m,). Raises `NotKnown` by default."""
        raise NotKnown(f"{type(self).__name__} knows no exact marginal density: draw samples from its equilibrium")

    def log_partition_alone(self, temperature: float, like: Any) -> float | None:
        """ln Z where `log_partition` raises `NotKnown`: without derivatives, so without mean energy. None by default."""
        del temperature, like

    def quadrature(self, temperature: float, like: Any) -> tuple[np.ndarray, np.ndarray]:
        """Ravelled points (m, d) and weights (m,), of sum 1, for averages. Raises `NotKnown` by default."""
        raise NotKnown(f"{type(self).__name__} has no quadrature for {size_of(like)} coordinates: average over samples")

    def check_temperature(self, temperature: float, like: Any) -> None:
        """Raise ValueError where exp(-U/T) has no finite integral, or a number of it would overflow."""

    @property
    def like(self) -> Any:
        """A particle's position where none is given; one coordinate for landscapes with no dimension of their own."""
        return jnp.zeros(1)

    def equilibrium(self, temperature: float, like: Any = None) -> "Equilibrium":
        """The Gibbs state at a temperature > 0; `like` is one particle's position (shape only)."""
        value = np.asarray(temperature)
        if value.shape != () or value.dtype.kind not in "iuf" or not np.isfinite(value) or value <= 0:
            raise ValueError(
                f"temperature must be one positive number; got {temperature!r}: an equilibrium needs T > 0"
            )
        like = self.like if like is None else like
        self.check_temperature(float(value), like)
        return Equilibrium(potential=self, temperature=float(value), like=like)


@jit(ONCE)
def _derivatives(landscape: Solvable, temperature: Any, like: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    """log Z and its first two derivatives in the temperature."""
    log_z = lambda t: landscape.log_partition(t, like)  # noqa: E731
    # forward twice: half of the compile time of gradients of gradients
    slope = lambda t: jax.jvp(log_z, (t,), (jnp.ones_like(t),))  # noqa: E731
    (value, first), (_, second) = jax.jvp(slope, (temperature,), (jnp.ones_like(temperature),))
    return value, first, second


def integrate(density: Callable, edges: np.ndarray) -> np.ndarray:
    """Integrals (bins,) of a density, a function of an array, between edges (bins + 1,), by Gauss and Legendre.

    Bins are halved until that changes nothing by more than 1e-10. Raises `NotKnown`, with the estimate.
    """
    nodes, weights = np.polynomial.legendre.leggauss(IN_A_BIN)

    def rule(low: np.ndarray, high: np.ndarray) -> np.ndarray:
        half = (high - low)[:, None] / 2
        return np.sum(half * weights * density(low[:, None] + half * (1 + nodes)), axis=1)

    low, high, owner, total = edges[:-1], edges[1:], np.arange(len(edges) - 1), np.zeros(len(edges) - 1)
    whole = rule(low, high)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        halves = rule(np.concatenate([low, middle]), np.concatenate([middle, high])).reshape(2, -1)
        settled = np.abs(halves.sum(0) - whole) <= SETTLED
        total += np.bincount(owner[settled], halves.sum(0)[settled], minlength=len(total))
        if settled.all():
            return total
        left = ~settled
        low, high = np.concatenate([low[left], middle[left]]), np.concatenate([middle[left], high[left]])
        owner, whole = np.tile(owner[left], 2), halves[:, left].ravel()
    raise NotKnown(
        f"bin probabilities do not settle in {HALVINGS} halvings: what is left is about {whole.sum():.3g}; the density is "
        "singular within a bin"
    )


class Equilibrium:
    """The Gibbs state exp(-U/T)/Z of a `Solvable` potential; all numbers are float64, k_B = 1.

    The thermodynamic properties are configurational: momenta add T/2 to the energy of each coordinate. What a landscape
    does not know raises `NotKnown` when it is asked for.
    """

    def __init__(self, *, potential: Solvable, temperature: float, like: Any) -> None:
        self.potential, self.temperature = potential, temperature
        self.like = jax.tree.map(lambda leaf: np.zeros(np.shape(leaf)), like)
        self._known_cuts: dict[int, np.ndarray] = {}
        for known in ("_moments", "_log_partition"):
            with contextlib.suppress(NotKnown):  # said when it is asked for: the rest is good without it
                getattr(self, known)

    @functools.cached_property
    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        with jax.enable_x64(True):
            mean, covariance = upcast(self.potential).moments(self.temperature, self.like)
            return np.asarray(mean), np.asarray(covariance)

    @functools.cached_property
    def _log_partition(self) -> tuple[float, float, float]:
        with jax.enable_x64(True):
            values = _derivatives(upcast(self.potential), np.float64(self.temperature), self.like)
            value, slope, curvature = map(float, values)
        if not np.isfinite([value, slope, curvature]).all():
            raise ValueError(
                f"{type(self.potential).__name__} has no partition function at temperature {self.temperature:g}: ln Z and "
                f"two derivatives come out as {value:g}, {slope:g}, {curvature:g}; exp(-U/T) must have a finite integral"
            )
        return value, slope, curvature

    @functools.cached_property
    def log_partition(self) -> float:
        """ln Z."""
        try:
            return self._log_partition[0]
        except NotKnown:
            with jax.enable_x64(True):
                value = upcast(self.potential).log_partition_alone(self.temperature, self.like)
            if value is None:
                raise
            return float(value)

    @property
    def mean_energy(self) -> float:
        """<U> = T² d(ln Z)/dT."""
        return self.temperature**2 * self._log_partition[1]

    @property
    def heat_capacity(self) -> float:
        """d<U>/dT, which is Var U/T²."""
        _, slope, curvature = self._log_partition
        return 2 * self.temperature * slope + self.temperature**2 * curvature

    @property
    def free_energy(self) -> float:
        """F = -T ln Z."""
        return -self.temperature * self.log_partition

    @property
    def entropy(self) -> float:
        """S = (<U> - F)/T."""
        return (self.mean_energy - self.free_energy) / self.temperature

    @property
    def mean(self) -> np.ndarray:
        """Of the ravelled position (d,)."""
        return self._moments[0]

    @property
    def covariance(self) -> np.ndarray:
        """Of the ravelled position (d, d)."""
        return self._moments[1]

    @property
    def dimension(self) -> int:
        """Number of coordinates."""
        return size_of(self.like)

    def sample(self, key: Any, n: int) -> Any:
        """n exact draws: the position's tree with a leading axis n, in the default floating dtype."""
        check_count("n", n, 1)
        with jax.enable_x64(True):
            draws = upcast(self.potential).draw(self.temperature, self.like, key, n)
            draws = jax.tree.map(np.asarray, draws)
        dtype = jnp.result_type(float)
        if any(np.any(np.abs(leaf) > jnp.finfo(dtype).max) for leaf in jax.tree.leaves(draws)):
            raise ValueError(
                f"draws at temperature {self.temperature:g} overflow {dtype}: with jax_enable_x64 they may be finite"
            )
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), draws)

    def expectation(self, function: Callable) -> Any:
        """The average of a function of the position, in float64: any tree of arrays. Raises `NotKnown`.

        By the landscape's quadrature, so its digits are those of a smooth function.
        """
        if not callable(function):
            raise TypeError(f"expectation takes a function of the position; got {function!r}")
        with jax.enable_x64(True):
            points, weights = upcast(self.potential).quadrature(self.temperature, self.like)
            unravel = ravel_pytree(self.like)[1]
            values = jax.jit(jax.vmap(lambda x: function(unravel(x))))(points)
            return jax.tree.map(lambda a: np.tensordot(weights, np.asarray(a, float), 1), values)

    def density(self, x: Any, *, coordinate: int = 0) -> np.ndarray:
        """Marginal density of one ravelled coordinate at points of any shape. Raises `NotKnown`."""
        self._check_coordinate(coordinate)
        x = np.asarray(x, float)
        with jax.enable_x64(True):
            potential = upcast(self.potential)
            return np.asarray(potential.marginal(self.temperature, self.like, coordinate, x.ravel())).reshape(x.shape)

    def bin_probabilities(self, edges: Any, *, coordinate: int = 0) -> np.ndarray:
        """Probability (bins,) of each bin between increasing edges (bins + 1,) of one ravelled coordinate.

        By Gauss and Legendre, halving until 1e-10 is reached. What lies outside is what is missing from 1. Raises
        `NotKnown`, also where halving does not settle, with the estimate.
        """
        edges = np.asarray(edges, float)
        if edges.ndim != 1 or len(edges) < 2 or not np.all(np.diff(edges) > 0) or not np.all(np.isfinite(edges)):
            raise ValueError(f"edges must be finite increasing numbers, at least two; got {edges}")
        self._check_coordinate(coordinate)
        # a narrow peak far inside a wide bin is seen from where the mass is
        cuts = self._cuts(int(coordinate))
        if (period := self.potential.period) is not None:
            turns = np.arange(np.floor(edges[0] / period) - 1, np.ceil(edges[-1] / period) + 2)
            cuts = np.add.outer(turns * period, cuts).ravel()
        parts = np.union1d(edges, cuts[(cuts > edges[0]) & (cuts < edges[-1])])
        owner = np.searchsorted(edges, (parts[1:] + parts[:-1]) / 2) - 1
        found = integrate(lambda x: self.density(x, coordinate=coordinate), parts)
        return np.bincount(owner, found, minlength=len(edges) - 1)

    def _check_coordinate(self, coordinate: Any) -> None:
        if isinstance(coordinate, bool) or coordinate not in range(self.dimension):
            raise ValueError(f"coordinate must be a whole number from 0 to {self.dimension - 1}; got {coordinate}")

    def _cuts(self, coordinate: int) -> np.ndarray:
        """Quantiles of a coordinate, from the quadrature or from draws, and points about its mean."""
        if coordinate in self._known_cuts:
            return self._known_cuts[coordinate]
        separable = self.potential.separable
        like, c = (np.zeros(1), 0) if separable else (self.like, coordinate)
        x = weights = np.empty(0)
        if size_of(like) <= 2:  # products of more have millions of points
            with contextlib.suppress(ValueError), jax.enable_x64(True):  # not known, or narrower than its grid
                points, weights = upcast(self.potential).quadrature(self.temperature, like)
                x = points[:, c]
        if not x.size:
            draws = [np.asarray(leaf).reshape(HINTS, -1) for leaf in jax.tree.leaves(self.sample(0, HINTS))]
            x, weights = np.concatenate(draws, axis=1)[:, coordinate].astype(float), np.full(HINTS, 1 / HINTS)
        order = np.argsort(x)
        below = np.cumsum(weights[order])
        cuts = x[order][np.minimum(np.searchsorted(below, (np.arange(CUTS) + 0.5) / CUTS), len(x) - 1)]
        if self.potential.period is None:
            mean, deviation = self.mean[coordinate], np.sqrt(self.covariance[coordinate, coordinate])
            cuts = np.append(cuts, mean + deviation * np.concatenate([-REACH[::-1], [0.0], REACH]))
        self._known_cuts[coordinate] = np.unique(cuts)
        return self._known_cuts[coordinate]

    def log_density(self, position: Any) -> jax.Array:
        """Log density at one position, in float64; under `vmap` and other transformations in the default dtype."""
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(position)):
            return -self.potential(position) / self.temperature - self.log_partition
        with jax.enable_x64(True):
            return -upcast(self.potential)(upcast(position)) / self.temperature - self.log_partition

    def __repr__(self) -> str:
        title = f"{type(self.potential).__name__} at T = {self.temperature:g}, {self.dimension} coordinate(s): "
        try:
            return title + (
                f"F = {self.free_energy:.6g}, <U> = {self.mean_energy:.6g}, S = {self.entropy:.6g}, "
                f"C = {self.heat_capacity:.6g}"
            )
        except NotKnown:
            pass
        try:
            return title + f"F = {self.free_energy:.6g}, mean energy not known"
        except NotKnown:
            return title + "free energy not known"
