"""The Fokker-Planck equation of one overdamped coordinate, to spectral accuracy: what an ensemble must do in time."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .equilibrium import Solvable
from .observables.measurements import laplacian
from .protocols import Potential, as_potential
from .pytree import check_number, size_of, upcast
from .spectral import Grid, circle, line

DEEP = 45.0  # the line ends where U exceeds its minimum by so many T: what is cut off changes rates by about exp(-45)
WIDEST = 1e6  # how far from the origin the ends of a confining energy are looked for
STATIONARY = 1e-6  # of the gap, that the rate of the equilibrium may differ from zero by
ROUNDED = 1e-6  # error of a density, relative to its maximum, that rounding may make
DEGREE = 600  # of the Chebyshev polynomials in first-passage times


class FokkerPlanck:
    """The exact density, relaxation rates and first-passage times of one overdamped coordinate.

        ∂p/∂t = ∂/∂x [μ U' p + μT ∂p/∂x],    p(x, t) = √p_eq Σₖ cₖ φₖ(x) exp(-λₖ t)

    In p/√p_eq the generator is symmetric: -H, H = μT [-∂² + (U'/2T)² - U''/2T]. H is diagonalised on sinc functions (the
    line) or trigonometric polynomials (the circle), so that errors fall faster than any power of the number of nodes and
    everything after is exact in time. λₖ carry an absolute error of about 1e-16 × the largest of them: 1e-11.

    potential: an energy of one coordinate, position shape (1,), twice differentiable; confining on the line, periodic on
    the circle. temperature: T > 0. mobility: μ > 0. low, high: the line, by default as far as the density is not
    negligible, or one period. nodes: of the grid; the cost is one eigenproblem, O(nodes³). periodic: whether `high` is
    `low` again; by default as the landscape declares.

    `start` of the methods is a number (all released at that point), a function of x, or values at the nodes `x`; it is
    normalised. Fields: x (nodes,), equilibrium (nodes,), the Gibbs density. Rates and densities raise ValueError where the
    nodes do not resolve the equilibrium. Risken, "The Fokker-Planck Equation" (1989), sections 5.4 and 5.7.
    """

    def __init__(
        self,
        potential: Callable,
        *,
        temperature: float,
        mobility: float = 1.0,
        low: float | None = None,
        high: float | None = None,
        nodes: int = 256,
        periodic: bool | None = None,
    ) -> None:
        for name, value in (("temperature", temperature), ("mobility", mobility)):
            check_number(name, "positive", value)
        if isinstance(potential, Solvable) and size_of(potential.like) != 1:
            raise ValueError(
                f"{type(self).__name__} takes an energy of one coordinate; {type(potential).__name__} has "
                f"{size_of(potential.like)}"
            )
        if isinstance(nodes, bool) or not isinstance(nodes, int) or nodes < 16:
            raise ValueError(f"nodes must be a whole number, at least 16; got {nodes!r}")
        self.potential, self.temperature, self.mobility = as_potential(potential), float(temperature), float(mobility)
        period = self.potential.period if isinstance(self.potential, Solvable) else None
        self.periodic = period is not None if periodic is None else periodic
        if low is None or high is None:
            ends = self._period(period or 2 * np.pi) if self.periodic else self._ends()
            low, high = ends[0] if low is None else low, ends[1] if high is None else high
        if not np.isfinite([low, high]).all() or not low < high:
            raise ValueError(f"low must be below high, both finite; got {low} and {high}")
        self.grid: Grid = (circle if self.periodic else line)(float(low), float(high), nodes)
        self._look(float(low), float(high))

    def _ends(self) -> tuple[float, float]:
        """Where U exceeds its minimum by `DEEP` T on either side for good."""
        wide = np.sinh(np.linspace(-1, 1, 20_001) * np.arcsinh(WIDEST))
        with np.errstate(over="ignore"):
            energy = self.energy(wide)
        inside = np.flatnonzero(~(energy - np.nanmin(energy) >= DEEP * self.temperature))  # also what is no number
        if inside[0] == 0 or inside[-1] == len(wide) - 1:
            raise ValueError(
                f"{type(self.potential).__name__} does not confine a particle at temperature {self.temperature:g} "
                "(its energy has not risen enough anywhere): give low and high, or periodic=True"
            )
        return wide[inside[0] - 1], wide[inside[-1] + 1]

    def _period(self, period: float) -> tuple[float, float]:
        return -period / 2, period / 2

    def _look(self, low: float, high: float) -> None:
        """The energy and the Gibbs density at the nodes."""
        ends = self.energy(np.array([low, high]))
        energy, self.gradient, self.curvature = (np.asarray(a) for a in self._derivatives(self.x))
        if not np.isfinite(np.stack([energy, self.gradient, self.curvature])).all():
            raise ValueError(f"the energy and two derivatives must be finite on [{low:g}, {high:g}]")
        t = self.temperature
        self.lowest = float(energy.min())
        if self.periodic and abs(ends[1] - ends[0]) > 1e-9 * (np.ptp(energy) + t):
            raise ValueError(
                f"a periodic energy must be the same at low and high; it rises by {ends[1] - ends[0]:.4g} from {low:g} to "
                f"{high:g}: with a tilt there is a current and no equilibrium"
            )
        weight = np.exp(-(energy - self.lowest) / t)
        self.equilibrium = weight / (weight.sum() * self.grid.spacing)
        self.root = np.sqrt(self.equilibrium)

    @cached_property
    def _modes(self) -> tuple[np.ndarray, np.ndarray]:
        """λₖ (nodes,), and the φₖ as columns."""
        t = self.temperature
        h = -self.grid.second + np.diag((self.gradient / (2 * t)) ** 2 - self.curvature / (2 * t))
        values, functions = np.linalg.eigh(self.mobility * t * h)
        if not abs(values[0]) <= STATIONARY * values[1]:
            raise ValueError(
                f"the equilibrium does not come out stationary: its rate is {values[0]:.2g}, the gap {values[1]:.2g}. "
                f"Use more nodes than {len(self.x)}, or let low and high (now {self.x[0]:.4g} and {self.x[-1]:.4g}) enclose "
                "all that is not negligible and no more; a gap below 1e-5 μT is lost in rounding, but "
                "first_passage is not: between two equal deep wells the gap is near 2/first_passage"
            )
        functions[:, 0] = self.root * np.sqrt(self.grid.spacing)
        return np.concatenate([[0.0], values[1:]]), functions

    @property
    def values(self) -> np.ndarray:
        """The rates λₖ (nodes,), λ₀ = 0 first."""
        return self._modes[0]

    @property
    def functions(self) -> np.ndarray:
        """The φₖ at the nodes, orthonormal columns (nodes, nodes)."""
        return self._modes[1]

    @property
    def x(self) -> np.ndarray:
        """The nodes, (nodes,)."""
        return self.grid.x

    def energy(self, x: Any) -> np.ndarray:
        """U at points of shape (m,), in float64."""
        return np.asarray(self._derivatives(np.asarray(x, float))[0])

    def _derivatives(self, x: np.ndarray) -> tuple:
        with jax.enable_x64(True):
            return _derivatives(upcast(self.potential), x)

    @property
    def gap(self) -> float:
        """The slowest relaxation rate λ₁."""
        return float(self.values[1])

    def rates(self, count: int) -> np.ndarray:
        """The `count` slowest relaxation rates λ₁ ≤ λ₂ …"""
        if not 1 <= count < len(self.x) // 2:
            raise ValueError(f"count must be from 1 to {len(self.x) // 2 - 1}, half of the nodes; got {count}")
        return self.values[1 : count + 1]

    def coefficients(self, start: Any) -> np.ndarray:
        """cₖ (nodes,) of an initial density over the orthonormal functions φₖ; c₀ = 1."""
        if np.ndim(start) == 0 and not callable(start):
            if not self.x[0] <= start <= self.x[-1] + self.grid.spacing:
                raise ValueError(f"start must lie within [{self.x[0]:.4g}, {self.x[-1]:.4g}]; got {start}")
            weights = self.grid.at(float(start))
            root = np.exp(-(self.energy(np.array([float(start)]))[0] - self.energy_zero) / (2 * self.temperature))
            found = self.functions.T @ weights / root / np.sqrt(self.grid.spacing)
        else:
            p = np.asarray(start(self.x) if callable(start) else start, float)
            if p.shape != self.x.shape or not np.all(p >= 0) or not 0 < p.sum() < np.inf:
                raise ValueError(
                    f"start must be a point, or a finite non-negative density at the {len(self.x)} nodes; got {start!r}"
                )
            p = p / (p.sum() * self.grid.spacing)
            if 1e-16 * np.max(p / self.root) * self.root.max() > ROUNDED * p.max():
                raise ValueError(
                    "start reaches so far out, where the equilibrium has nothing, that rounding would decide: let low and "
                    "high enclose less"
                )
            found = self.functions.T @ (p / self.root) * np.sqrt(self.grid.spacing)
        found[0] = 1.0
        return found

    @cached_property
    def energy_zero(self) -> float:
        """-T log Z: the energy at which the Gibbs density would be 1."""
        return float(self.lowest + self.temperature * np.log(self.equilibrium.max()))

    def density(self, start: Any, times: Any) -> np.ndarray:
        """p(x, t) at the nodes, (times, nodes), at times ≥ 0; after a start at a point at times > 0.

        A start narrower than about three spacings of the nodes is resolved once it has spread to that.
        """
        times = check_times(times)
        if np.ndim(start) == 0 and not callable(start) and np.any(times == 0):
            raise ValueError("a start at a point has no density at time 0; ask for times > 0")
        decay = np.exp(-np.outer(times, self.values))
        return (decay * self.coefficients(start)) @ self.functions.T * self.root / np.sqrt(self.grid.spacing)

    def average(self, function: Callable, start: Any, times: Any) -> np.ndarray:
        """⟨f⟩ (times,) of a function of x, which takes and returns (nodes,)."""
        return self.density(start, times) @ np.asarray(function(self.x), float) * self.grid.spacing

    def divergence(self, start: Any, times: Any) -> np.ndarray:
        """KL(p ‖ p_eq) (times,): T times it is the free energy above that of equilibrium."""
        p = self.density(start, times)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.nansum(np.where(p > 0, p * np.log(p / self.equilibrium), 0.0), axis=1) * self.grid.spacing

    def entropy_production(self, start: Any, times: Any) -> np.ndarray:
        """μT ∫ p (∂ log(p/p_eq)/∂x)² dx (times,): the total entropy produced a time, and -d divergence/dt.

        Near time 0 the start must be negligible against √p_eq at both ends, or its slope is not resolved.
        """
        p = self.density(start, times)
        psi = p / self.root
        slope = psi @ self.grid.first.T + self.gradient / (2 * self.temperature) * psi
        with np.errstate(divide="ignore", invalid="ignore"):
            density = np.where(p > 1e-14 * p.max(), slope**2 * self.equilibrium / p, 0.0)
        return self.mobility * self.temperature * density.sum(axis=1) * self.grid.spacing

    def first_passage(self, start: float, level: float) -> float:
        """Mean time from `start` until `level` is first reached; on the line.

            τ = (μT)⁻¹ ∫ dy exp(U(y)/T) ∫ dz exp(-U(z)/T),   y from start to level, z from the far side up to y

        By Chebyshev polynomials, to about 1e-9 for barriers up to 15 T. Gardiner, "Stochastic Methods" (2009), 5.5.
        """
        from numpy.polynomial import Chebyshev

        if self.periodic:
            raise ValueError("on a circle a level is reached from two sides: first_passage is for the line")
        low, high = self.x[0], self.x[-1]
        if not (low <= start <= high and low <= level <= high):
            raise ValueError(f"start and level must lie within [{low:.4g}, {high:.4g}]; got {start} and {level}")
        if start == level:
            return 0.0
        boltzmann = lambda y, sign: np.exp(sign * (self.energy(y) - self.lowest) / self.temperature)  # noqa: E731
        behind = Chebyshev.interpolate(lambda z: boltzmann(z, -1), DEGREE, [low, high]).integ(
            lbnd=low if start < level else high
        )
        inner = lambda y: boltzmann(y, 1) * behind(y)  # noqa: E731
        path = Chebyshev.interpolate(inner, DEGREE, sorted((start, level))).integ(lbnd=start)
        return float(path(level)) / (self.mobility * self.temperature)

    def __repr__(self) -> str:
        kind = "circle" if self.periodic else "line"
        return (
            f"Fokker-Planck equation of {type(self.potential).__name__} on a {kind} from {self.x[0]:.4g} to "
            f"{self.x[-1]:.4g}, T = {self.temperature:g}, mobility {self.mobility:g}"
        )


@jax.jit
def _derivatives(potential: Potential, x: Any) -> tuple:
    """U, U' and U'' at points (m,)."""

    def at(point: Any) -> tuple:
        position = point[None]
        energy, gradient = potential.value_and_gradient(position)
        return energy, gradient[0], laplacian(potential, position)

    return jax.vmap(at)(jnp.asarray(x))


def check_times(times: Any) -> np.ndarray:
    """Times as an array (times,), finite and not negative."""
    found = np.atleast_1d(np.asarray(times, float))
    if found.ndim != 1 or not np.all(np.isfinite(found)) or np.any(found < 0):
        raise ValueError(f"times must be finite and not negative, in one dimension; got {times!r}")
    return found
