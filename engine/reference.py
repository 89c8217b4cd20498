"""The law that a population is held against, and the estimator of its divergence: chosen by what the potential knows."""

import abc
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from .divergence import A_BIN, Divergence, kl_from_counts, kl_gaussian, kl_nearest, need_particles
from .equilibrium import Equilibrium, NotKnown, Solvable
from .linear import linear_map
from .ornstein_uhlenbeck import Gaussian
from .plane import integrate_plane
from .protocols import Integrator, Noise
from .pytree import upcast
from .run import Run

IN_A_CELL = 50  # particles, on average; from `FEWEST` to `MOST_CELLS` cells
FEWEST = 4
MOST_CELLS = 400
MOST_BINS = 64  # in one dimension
DRAWS = 4096  # from which edges of bins are taken
HELD = 0.98  # of the probability, by the cells between the outermost of so many draws, at least


class Reference(abc.ABC):
    """A law of the ravelled positions, followed by momenta where there are any."""

    name: str  # of the law
    estimator: str

    @abc.abstractmethod
    def divergence(self, z: np.ndarray) -> Divergence:
        """The KL of particles z (n, s) to the law."""


def reference_of(run: Run, potential: Solvable, integrator: Integrator, law: str, key: int) -> Reference:
    """The reference for a run of plain numbers; law: "equilibrium", or "scheme" for the scheme's own at its step."""
    temperature = float(integrator.temperature)
    state = equilibrium_of(run, potential, integrator)
    if law == "scheme":
        return Moments(_scheme_law(integrator, potential, run.position), "the scheme's own stationary law")
    variance = temperature * _mass(integrator, potential, run.position) if integrator.has_momentum else np.zeros((0, 0))
    if potential.quadratic:
        d, k = state.dimension, len(variance)
        covariance = np.block([[state.covariance, np.zeros((d, k))], [np.zeros((k, d)), variance]])
        return Moments(Gaussian(np.concatenate([state.mean, np.zeros(k)]), covariance))
    if state.dimension + len(variance) <= 2:
        return Cells(state, variance, run.particles, key)
    return Neighbours(state, variance, run.particles, key)


def equilibrium_of(run: Run, potential: Solvable, integrator: Integrator) -> Equilibrium:
    """The Gibbs state for a run's particles."""
    like = jax.tree.map(lambda a: np.zeros(a.shape), run.position)
    return potential.equilibrium(float(integrator.temperature), like=like)


class Moments(Reference):
    """A normal law."""

    estimator = "means and covariances"

    def __init__(self, law: Gaussian, name: str = "Gibbs state") -> None:
        self.law, self.name = law, name

    def divergence(self, z: np.ndarray) -> Divergence:
        return kl_gaussian(z, self.law)


class Cells(Reference):
    """Exact probabilities of about equally probable cells in one or two dimensions; sparse ones are pooled."""

    name = "Gibbs state"

    def __init__(self, state: Equilibrium, variance: np.ndarray, particles: int, key: int) -> None:
        from scipy.special import ndtri

        self.period = state.potential.period
        x = self.wrap(_ravelled(state.sample(key, DRAWS)))
        both = state.dimension + len(variance) == 2
        need_particles(particles, FEWEST * IN_A_CELL, f"a histogram of {FEWEST} cells")
        cells = particles // IN_A_CELL
        bins = max(2, int(np.sqrt(min(cells, MOST_CELLS))) if both else min(cells, MOST_BINS))
        self.edges = [np.quantile(column, np.linspace(0, 1, bins + 1)) for column in x.T]
        if self.period is not None:
            for edge in self.edges:
                edge[[0, -1]] = -self.period / 2, self.period / 2
        p = _probabilities(state, self.edges)
        if p.sum() < HELD:
            raise NotKnown(
                f"cells hold {p.sum():.4g} of the probability and all of {DRAWS} draws: the density of "
                f"{type(state.potential).__name__} is too narrow to be integrated"
            )
        if len(variance):  # bins of the momentum that are equally probable, tails included
            self.edges.append(np.sqrt(variance[0, 0]) * np.concatenate([[-np.inf], ndtri(np.linspace(0, 1, bins + 1)[1:-1]),
                                                                        [np.inf]]))  # fmt: skip
            p = np.repeat(p[:, None] / bins, bins, axis=1)
        kept = particles * p.ravel() >= A_BIN
        self.label = np.where(kept, np.cumsum(kept) - 1, kept.sum())
        self.probabilities = np.append(p.ravel()[kept], max(1 - p.ravel()[kept].sum(), 0.0))
        shape = " × ".join(str(len(edge) - 1) for edge in self.edges)
        self.estimator = f"histogram of {shape} bins"

    def wrap(self, x: np.ndarray) -> np.ndarray:
        """Angles into one period."""
        return x if self.period is None else x - self.period * np.floor(x / self.period + 0.5)

    def divergence(self, z: np.ndarray) -> Divergence:
        return kl_from_counts(self.counts(z), self.probabilities)

    def counts(self, z: np.ndarray) -> np.ndarray:
        """How many of the particles z (n, s) are in each cell; those in sparse ones and outside are last."""
        place, outside = np.zeros(len(z), int), np.zeros(len(z), bool)
        for i, edges in enumerate(self.edges):
            column = np.searchsorted(edges, self.wrap(z[:, i]) if i < self.coordinates else z[:, i], side="right") - 1
            outside |= (column < 0) | (column >= len(edges) - 1)
            place = place * (len(edges) - 1) + np.clip(column, 0, len(edges) - 2)
        label = np.where(outside, len(self.probabilities) - 1, self.label[place])
        return np.bincount(label, minlength=len(self.probabilities))

    @cached_property
    def coordinates(self) -> int:
        """How many of the axes are positions."""
        return sum(bool(np.all(np.isfinite(edges))) for edges in self.edges)


class Neighbours(Reference):
    """Exact draws, and the exact density."""

    name = "Gibbs state"
    estimator = "nearest neighbours, against exact draws"

    def __init__(self, state: Equilibrium, variance: np.ndarray, particles: int, key: int) -> None:
        self.state, self.dimension = state, state.dimension
        self.precision = np.linalg.inv(variance)
        self.log_norm = np.linalg.slogdet(2 * np.pi * variance)[1] / 2
        normals = np.random.default_rng(key).normal(size=(particles, len(variance)))
        momenta = normals @ np.linalg.cholesky(variance).T
        self.draws = np.concatenate([_ravelled(state.sample(key, particles)), momenta], axis=1)

    def log_density(self, z: np.ndarray) -> np.ndarray:
        """Of positions and momenta (n, s)."""
        p = z[:, self.dimension :]
        return _log_density(self.state, z[:, : self.dimension]) - self.log_norm - np.sum(p @ self.precision * p, 1) / 2

    def divergence(self, z: np.ndarray) -> Divergence:
        return kl_nearest(z, self.log_density, draws=self.draws[: len(z)])


def phase(run: Run) -> np.ndarray:
    """Every particle's ravelled position, and momentum where it has one: (n, s) in float64."""
    parts = [run.positions] if run.momenta is None else [run.positions, run.momenta]
    return np.concatenate([_ravelled(part) for part in parts], axis=1)


def _ravelled(tree: Any) -> np.ndarray:
    return np.concatenate([np.asarray(a, float).reshape(len(a), -1) for a in jax.tree.leaves(tree)], axis=1)


def _log_density(state: Equilibrium, x: np.ndarray) -> np.ndarray:
    """Log density of the Gibbs state at ravelled positions (m, d)."""
    with jax.enable_x64(True):
        unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(jnp.shape(leaf)), state.like))[1]
        energy = _energies(upcast(state.potential), jax.tree_util.Partial(unravel), jnp.asarray(x))
        return -np.asarray(energy) / state.temperature - state.log_partition


@jax.jit
def _energies(potential: Any, unravel: Any, x: Any) -> Any:
    return jax.vmap(lambda row: potential(unravel(row)))(x)


def _probabilities(state: Equilibrium, edges: list[np.ndarray]) -> np.ndarray:
    """Gibbs probabilities (bins, ...) of the cells between edges, in one or two dimensions."""
    if len(edges) == 1:
        return state.bin_probabilities(edges[0])
    found = integrate_plane(lambda points: np.exp(_log_density(state, points)), *edges)
    return found / max(found.sum(), 1.0)  # rounded


def _scheme_law(integrator: Integrator, potential: Solvable, like: Any) -> Gaussian:
    """The stationary law of positions and momenta at the scheme's own step."""
    step = linear_map(integrator, potential, like)
    mean, covariance = step.stationary()
    rows = step.position if step.momentum is None else np.concatenate([step.position, step.momentum])
    return Gaussian(rows @ mean, rows @ covariance @ rows.T)


def _mass(integrator: Integrator, potential: Solvable, like: Any) -> np.ndarray:
    """The mass matrix (d, d), from the integrator's own kinetic energy."""
    with jax.enable_x64(True):
        kernel, origin = upcast(integrator), jax.tree.map(lambda a: jnp.zeros(jnp.shape(a)), like)
        first = Noise(tuple(origin for _ in range(integrator.init_noise.normals)))
        flat, unravel = ravel_pytree(kernel.init(upcast(potential), origin, first))
        energy = lambda s: jnp.asarray(kernel.kinetic_energy(unravel(s)))  # noqa: E731
        rows = jax.jacfwd(lambda s: ravel_pytree(kernel.momentum(unravel(s)))[0])(flat)
        return np.linalg.inv(np.asarray(rows @ jax.hessian(energy)(flat) @ rows.T))
