"""Exact stationary averages of a scheme at finite step in one nonlinear coordinate, by its transfer matrix.

The step's Markov operator P is projected on functions of x, orthonormal under the Gibbs density (polynomials on the line,
harmonics on the circle), times Hermite polynomials in the one Gaussian that the step reads besides the position (a
momentum in units of √(mT), a stored normal, a combination of both). Noise is integrated by
Gauss and Hermite, positions by the trapezoid rule. The left null vector of P - 1 holds the stationary averages of the
basis, hence of everything. Two resolutions give the error. Deterministic, float64.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from .hardware import ONCE, jit
from .protocols import Integrator, Noise, Potential
from .pytree import upcast

WIDE = 16001  # energies are always computed at this many places, so that they compile once
NODES, NODES_ROUND, NODES_XI = 200, 96, 18  # of x on the line and on a circle, of the Gaussian
DEEPEST = 36.0  # nodes with energies this many T above the minimum are left out: their weight is 2e-16
LADDER = ((16, 6), (24, 8), (32, 10), (44, 12))  # polynomials in x and in the Gaussian, until two agree
REACH = (-1e100, 1e100)  # positions of steps that ran away
HERMITE = {1: 14, 2: 8}  # nodes for each normal of a step
HERMITE_ROUND = {1: 60, 2: 24}  # on a circle: harmonics turn fast along a normal
VISIBLE = 1e-8  # Gibbs weight, of the largest, below which polynomials do not resolve the ratio of two densities


class NoTransfer(ValueError):
    """The scheme or the energy is not of the kind that a transfer matrix in one coordinate describes."""


class Escape(NamedTuple):
    """Where steps lead further and further away, as forces do that grow faster than x, and how rare it is to be there."""

    mean: float
    distance: float  # from the mean, beyond which a step without noise leads further away
    log10_density: float  # of the Gibbs state there

    def __str__(self) -> str:
        place = f"{self.distance:.3g} from {round(self.mean, 3) + 0.0:.3g}"
        return f"quasi-stationary: steps run away {place}, where the density is 1e{self.log10_density:.0f}"


class Stationary(NamedTuple):
    """Stationary averages: values in the order of the functions asked for, and the change at the last refinement."""

    values: np.ndarray
    error: float
    ratio: Callable  # of the position's stationary density to the Gibbs density, a function of arrays
    escape: Escape | None  # of a law that is only quasi-stationary
    operator: np.ndarray  # the step on the basis, P φ_l = Σ_k φ_k operator[k, l]; the first φ is 1
    coefficients: np.ndarray  # of the functions in the basis, (basis, k)
    at: Callable  # x -> (basis,) averaged over the Gaussian that `init` takes

    @property
    def radius(self) -> float:
        """The second largest eigenvalue of a step, in absolute value; the rate of relaxation is -ln(radius)/h."""
        from scipy.sparse.linalg import eigs

        rest = self.operator[1:, 1:]
        return float(np.abs(eigs(rest, k=1, v0=np.ones(len(rest)), return_eigenvectors=False))[0])

    def after(self, start: float, steps: int) -> np.ndarray:
        """Averages of the functions after some steps from `init` at a place: (k,)."""
        row = self.at(start)
        for _ in range(steps):
            row = row @ self.operator
        return row @ self.coefficients


def stationary_averages(
    integrator: Integrator, potential: Potential, functions: Callable, *, mean: float, deviation: float, accuracy: float,
    accept: float = 0.0,
) -> Stationary:  # fmt: skip
    """Stationary averages of `functions(potential, integrator, state) -> (k,)` for a particle of one coordinate.

    mean, deviation: of the Gibbs density, to place the nodes; of no use on a circle, where the potential has a `period`.
    accuracy: relative, at which refinement stops. accept: relative, that is taken where refinement ends.
    Raises `NoTransfer` if the averages do not settle, the scheme takes more than two normals a step, or reads more of its
    state than the position and one Gaussian.
    """
    spec, first = integrator.noise, integrator.init_noise
    if spec.normals not in HERMITE or spec[1:] != (0, 0, 0) or first.normals > 2 or first[1:] != (0, 0, 0):
        raise NoTransfer(f"{type(integrator).__name__} needs {spec} a step; a transfer matrix takes one or two normals")
    if integrator.least_coordinates > 1:
        raise NoTransfer(f"{type(integrator).__name__} has no dynamics in one coordinate")
    with jax.enable_x64(True):
        integrator, potential = upcast(integrator), upcast(potential)
        temperature = float(integrator.temperature)
        period = getattr(potential, "period", None)
        x, weight = _gibbs_nodes(potential, temperature, mean, deviation, period)
        xi, xi_weight = _gauss_hermite(NODES_XI if first.normals else 1)
        noise, noise_weight = _grid((HERMITE if period is None else HERMITE_ROUND)[spec.normals], spec.normals)
        starts = tuple(a.ravel() for a in np.meshgrid(x, xi, indexing="ij"))
        moved = functools.partial(_map, integrator, potential, _memory(integrator, potential, mean))
        stepped, stepped_xi, measured = (np.asarray(a) for a in moved(*starts, noise, noise_weight, functions))
        most, most_xi = LADDER[-1]
        # polynomials in a coordinate that grows like a logarithm converge under exponential tails too
        bend = lambda y: np.arcsinh((np.clip(y, *REACH) - mean) / (2 * deviation))  # noqa: E731
        recurrence = _recurrence(bend(x), weight, most) if period is None else []
        of_x = (lambda y: _evaluate(recurrence, bend(y))) if period is None else _harmonics(x, weight, most, period)
        of_xi = [(0.0, float(np.sqrt(k)), float(np.sqrt(k + 1))) for k in range(most_xi)]
        before = of_x(starts[0]), _evaluate(of_xi, starts[1])  # (basis, start)
        after = of_x(stepped) * noise_weight, _evaluate(of_xi, stepped_xi)  # (basis, start, noise)
        weights = np.outer(weight, xi_weight).ravel()
        still = np.zeros_like(noise), noise_weight, functions
        old: np.ndarray | None = None
        for size, size_xi in LADDER:
            size_xi = size_xi if first.normals else 1
            law, basis, operator = _law([b[:n] for b, n in zip(before, (size, size_xi), strict=True)],
                              [a[:n] for a, n in zip(after, (size, size_xi), strict=True)], weights)  # fmt: skip
            new = law @ (basis @ measured)
            if old is not None:
                change = float(np.max(np.abs(new - old) / (np.abs(new) + np.abs(new).mean())))
                if change < (accuracy if size < LADDER[-1][0] else max(accuracy, accept)):
                    ends = None if period is not None else tuple(x[weight > VISIBLE * weight.max()][[0, -1]])
                    ratio = functools.partial(_ratio, law.reshape(-1, size_xi)[:, 0], of_x, ends)
                    away = lambda x: moved(x, np.zeros_like(x), *still)[0]  # noqa: E731
                    distance = None if period is not None else _runaway(away, len(starts[0]), mean, deviation)
                    at = functools.partial(_at, of_x, size, size_xi)
                    found = Stationary(new, change, ratio, None, operator, basis @ measured, at)
                    if distance is None:
                        return found
                    rare = _log10_density(potential, temperature, x, weight, mean + distance * np.array([-1, 1]))
                    return found._replace(escape=Escape(mean, distance, rare))
            old = new
    raise NoTransfer(f"the averages of {type(integrator).__name__} did not settle: the step may be too large for a law")


def _law(before: list, after: list, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Averages of a basis of products, the first of which is 1; that basis at the starts, weighted; a step on it."""
    basis = (before[0][:, None] * before[1][None]).reshape(-1, len(weights)) * weights
    moved = np.matmul(after[0].transpose(1, 0, 2), after[1].transpose(1, 2, 0))  # (start, in x, in the Gaussian)
    transfer = basis @ moved.reshape(len(weights), -1)  # <basis_k, P basis_l>
    # in the smallest basis a chain that has a law contracts; larger ones see the roundings of far tails
    if len(transfer) <= LADDER[0][0] * LADDER[0][1] and np.abs(np.linalg.eigvals(transfer[1:, 1:])).max() >= 1:
        raise NoTransfer("the step is too large for a stationary law")
    law = np.linalg.solve(transfer[1:, 1:].T - np.eye(len(transfer) - 1), -transfer[0, 1:])
    return np.concatenate([[1.0], law]), basis, transfer


def _at(of_x: Callable, size: int, size_xi: int, x: float) -> np.ndarray:
    """The basis at a place, averaged over the Gaussian: its Hermite polynomials but the first vanish."""
    return np.outer(of_x(np.array([x]))[:size, 0], np.arange(size_xi) == 0).ravel()


def _ratio(averages: np.ndarray, of_x: Callable, ends: tuple | None, y: np.ndarray) -> np.ndarray:
    """The stationary density over the Gibbs density, from the averages of the basis; constant beyond the ends."""
    basis = of_x(y if ends is None else np.clip(y, *ends))[: len(averages)]
    return np.maximum(np.tensordot(averages, basis, 1), 0.0)


def _runaway(away: Callable, count: int, mean: float, deviation: float) -> float | None:
    """The distance from the mean beyond which steps without noise lead further away: forces that grow faster than x.

    A scheme whose force does so has a law only until a particle gets there: it is quasi-stationary.
    """
    distances = np.resize(deviation * np.geomspace(0.1, 1e3, count // 2), count)
    apart = distances * np.repeat([1, -1], -(-count // 2))[:count]
    reached = np.asarray(away(mean + apart))[:, 0]
    gone = np.where(np.isfinite(reached), np.abs(reached - mean), np.inf) > distances * (1 + 1e-9)
    near = np.max(distances[~gone], initial=0.0)
    return float(near) if gone.any() and near < distances.max() * 0.99 else None


def _log10_density(potential: Potential, temperature: float, x: np.ndarray, weight: np.ndarray, places: Any) -> float:
    """The largest Gibbs density at some places, from the weights of uniform nodes."""
    top = int(np.argmax(weight))
    lowest, *energies = np.asarray(_energies(potential, np.resize([x[top], *places], WIDE)))[: 1 + len(places)]
    return float(np.log10(weight[top] / (x[1] - x[0])) + (lowest - min(energies)) / temperature / np.log(10))


def _gibbs_nodes(potential: Potential, temperature: float, mean: float, deviation: float, period: Any) -> tuple:
    """Uniform nodes over the part of the line that matters, or over a period, and their Gibbs weights."""
    if period is not None:
        x = np.arange(NODES_ROUND) * (float(period) / NODES_ROUND)
    else:
        wide = np.linspace(mean - 40 * deviation, mean + 40 * deviation, WIDE)
        u = np.asarray(_energies(potential, wide))
        inside = wide[(u - u.min()) < DEEPEST * temperature]
        x = np.linspace(inside[0], inside[-1], NODES)
    u = np.asarray(_energies(potential, np.resize(x, WIDE)))[: len(x)]
    weight = np.exp(-(u - u.min()) / temperature)
    return x, weight / weight.sum()


@jit(ONCE)
def _energies(potential: Potential, x: Any) -> jax.Array:
    return jax.vmap(lambda x: potential(x[None]))(x)


def _recurrence(x: np.ndarray, weight: np.ndarray, count: int) -> list[tuple[float, float, float]]:
    """Coefficients of the three-term recurrence of the polynomials orthonormal on the nodes (Stieltjes)."""
    before, now, low, coefficients = np.zeros_like(x), np.ones_like(x), 0.0, []
    for _ in range(count):
        centre = float(np.sum(weight * x * now * now))
        after = (x - centre) * now - low * before
        high = float(np.sqrt(np.sum(weight * after * after)))
        coefficients.append((centre, low, high))
        before, now, low = now, after / high, high
    return coefficients


def _evaluate(coefficients: list, x: np.ndarray) -> np.ndarray:
    """All polynomials of a recurrence at points: (count, *x.shape)."""
    rows, before, now = [], np.zeros_like(x), np.ones_like(x)
    for centre, low, high in coefficients:
        rows.append(now)
        before, now = now, ((x - centre) * now - low * before) / high
    return np.stack(rows)


def _harmonics(x: np.ndarray, weight: np.ndarray, count: int, period: Any) -> Callable:
    """The first `count` of 1, sin, cos, sin 2, cos 2 … of 2πx/period, made orthonormal on the nodes, as a function of x."""

    def waves(y: np.ndarray) -> np.ndarray:
        turn = np.exp(2j * np.pi / float(period) * np.asarray(y))
        rows, now = [np.ones(np.shape(y))], turn
        while len(rows) < count:  # powers: one exponential for all harmonics
            rows, now = [*rows, np.imag(now), np.real(now)], now * turn
        return np.stack(rows[:count])

    triangle = np.linalg.qr((waves(x) * np.sqrt(weight)).T)[1]
    triangle *= np.sign(np.diag(triangle))[:, None]
    inverse = np.linalg.inv(triangle.T)
    return lambda y: np.tensordot(inverse, waves(y), 1)


class Memory(NamedTuple):
    """What of a state matters to the next step besides its position: one Gaussian."""

    read: np.ndarray  # (state,): the combination that the step reads
    made: np.ndarray  # (normals,): the unit vector over the normals of `init` along which it changes


def _memory(integrator: Integrator, potential: Potential, mean: float) -> Memory:
    """A state may hold more: a momentum that is only reported, a random force that acts together with the momentum."""
    if not integrator.init_noise.normals:
        start = jax.eval_shape(integrator.init, potential, np.full(1, mean), Noise())
        if len(jax.tree.leaves(start)) == 1:
            return Memory(np.zeros(1), np.zeros(0))
    step, made, position = map(np.asarray, _dependence(integrator, potential, np.float64(mean + 0.1)))
    rows = step * (position == 0)
    sizes, axes = np.linalg.svd(rows)[1:]
    if sizes[1:].sum() > 1e-9 * sizes[0] or (sizes[0] > 0 and not made.size):
        raise NoTransfer(f"a step of {type(integrator).__name__} reads more than the position and one Gaussian")
    read = axes[0] * (sizes[0] > 0) * made.any(axis=1)  # what follows from the position is left out
    along = read @ made
    if np.linalg.norm(along) < 1e-9:  # a step that forgets: any Gaussian does
        along = np.eye(1, made.shape[1])[0]
        read = made @ along
    return Memory(read, along / max(np.linalg.norm(along), 1.0 * (not made.size)))


@jit(ONCE)
def _dependence(integrator: Integrator, potential: Potential, x: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Derivatives of a step in the ravelled state, and of a state in the normals of `init`; where its position is."""
    spec, takes = integrator.noise, integrator.init_noise.normals
    start = lambda normals: integrator.init(potential, x[None], Noise(tuple(normals[:, None])))  # noqa: E731
    flat, unravel = ravel_pytree(start(0.3 + 0.2 * jnp.arange(1.0 * takes)))
    noise = Noise(tuple(0.7 + 0.1 * jnp.arange(1.0 * spec.normals)[:, None]))
    return (
        jax.jacfwd(lambda s: ravel_pytree(integrator.step(potential, unravel(s), noise))[0])(flat),
        jax.jacfwd(lambda normals: ravel_pytree(start(normals))[0])(jnp.zeros(takes)),
        jax.jacfwd(lambda s: unravel(s).position)(flat)[0],
    )


@jit(ONCE, static_argnames=("functions",))
def _map(
    integrator: Integrator, potential: Potential, memory: Memory, x: Any, xi: Any, grid: Any, weight: Any,
    functions: Callable,
) -> Any:  # fmt: skip
    """One step from every start under every noise, and what is measured at the starts.

    Where `init` takes two normals, a start has only the combination of them that matters: what is measured then is what
    a step leads to, which has the same stationary averages.
    """
    takes = integrator.init_noise.normals

    def state_at(x: Any, xi: Any) -> Any:
        return integrator.init(potential, x[None], Noise(tuple(memory.made[:, None] * xi)))

    def step(x: Any, xi: Any, noise: Any) -> Any:
        new = integrator.step(potential, state_at(x, xi), Noise(tuple(n[None] for n in noise)))
        y, measured = new.position[0], functions(potential, integrator, new) if takes > 1 else jnp.zeros(())
        if not takes:
            return y, jnp.zeros(()), measured
        # the state depends on the init's normal linearly: invert that
        flat, base, one = (ravel_pytree(s)[0] for s in (new, state_at(y, jnp.zeros(())), state_at(y, jnp.ones(()))))
        return y, jnp.vdot(memory.read, flat - base) / jnp.vdot(memory.read, one - base), measured

    everywhere = jax.vmap(jax.vmap(step, in_axes=(None, None, 0)), in_axes=(0, 0, None))
    *moved, measured = everywhere(x, xi, grid)
    if takes > 1:
        return *moved, jnp.einsum("n,snk->sk", weight, measured)
    return *moved, jax.vmap(lambda x, xi: functions(potential, integrator, state_at(x, xi)))(x, xi)


def _grid(count: int, normals: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes (points, normals) and weights (points,) for several standard normals."""
    nodes, weights = _gauss_hermite(count)
    mesh, masses = (np.meshgrid(*[a] * normals, indexing="ij") for a in (nodes, weights))
    return np.stack(mesh, -1).reshape(-1, normals), np.prod(np.stack(masses, -1).reshape(-1, normals), axis=-1)


def _gauss_hermite(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights for a standard normal."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    return nodes, weights / weights.sum()
