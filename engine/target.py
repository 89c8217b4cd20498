"""What schemes are benchmarked on: an energy at a temperature, what is exact there, and where particles start."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .equilibrium import Equilibrium, NotKnown, Solvable
from .law import Law
from .observables import Mean, potential_energy
from .protocols import Potential, as_potential
from .pytree import ravel
from .snapshot import bin_edges, bin_probabilities

DRAWS = 1 << 15  # for averages that no quadrature knows
MOST_HISTOGRAMS = 4  # coordinates whose histograms are looked at
IN_A_BIN, MOST_BINS = 16, 32  # particles, of a histogram's bin


class Exact(NamedTuple):
    """The equilibrium average of an observable, its standard error, and the observable's variance (NaN: as measured)."""

    mean: float
    error: float = 0.0
    variance: float = np.nan


class Bins(NamedTuple):
    """A coordinate's histogram with its exact probabilities."""

    coordinate: int
    edges: np.ndarray
    probabilities: np.ndarray


class Quantity(NamedTuple):
    """An observable (a number a particle), what is exact of it, and the same under a scheme's own law."""

    measure: Any
    exact: Exact
    of_law: Callable[[Law], float] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Target:
    """An energy to benchmark schemes on, where a landscape alone does not say all.

    potential: an energy. temperature: T > 0; the benchmark's if not given. name: in tables; the potential's class if not
    given.
    observables: names to functions of the position that return a number; beside the energy, always there as "energy".
    exact: names to equilibrium averages: a number, or (number, its own standard error). Needed for every observable, the
    energy too, where the potential is not `Solvable`; else what is missing comes from its quadrature, or from exact draws.
    start: positions (n, ...) to start from, best draws of the equilibrium; by default exact draws of a `Solvable`.
    """

    potential: Any = dataclasses.field(kw_only=False)
    temperature: float | None = None
    name: str | None = None
    observables: dict[str, Callable] | None = None
    exact: dict[str, Any] | None = None
    start: Any = None


class Problem(NamedTuple):
    """A target with everything known of it computed: what a benchmark runs on."""

    name: str
    potential: Potential
    temperature: float
    start: Any
    quantities: dict[str, Quantity]
    bins: tuple[Bins, ...]

    @property
    def like(self) -> Any:
        """One particle's position."""
        return jax.tree.map(lambda a: np.zeros(a.shape[1:]), self.start)


def problem(target: Any, *, temperature: float, particles: int, key: Any) -> Problem:
    """From a landscape or a `Target` to what runs; raises ValueError where nothing exact is known."""
    target = target if isinstance(target, Target) else Target(target)
    temperature = temperature if target.temperature is None else float(target.temperature)
    potential = as_potential(target.potential)
    name = target.name or type(potential).__name__
    given = {name: _exact(value) for name, value in (target.exact or {}).items()}
    state, start = None, target.start
    if isinstance(potential, Solvable):
        like = None if start is None else jax.tree.map(lambda a: np.zeros(a.shape[1:]), start)
        state = potential.equilibrium(temperature, like=like)
        start = state.sample(key, particles) if start is None else start
    if start is None:
        raise ValueError(f"{name} knows no equilibrium to draw from: give positions, Target(potential, start=...)")
    quantities = _standard(state, given) if state is not None else {"energy": Quantity(potential_energy, Exact(np.nan))}
    for known, function in (target.observables or {}).items():
        quantities[known] = Quantity(
            function, Exact(np.nan) if known in given or state is None else _average(state, function)
        )
    quantities = {k: q._replace(exact=given[k], of_law=q.of_law) if k in given else q for k, q in quantities.items()}
    missing = [k for k, q in quantities.items() if not np.isfinite(q.exact.mean)]
    if missing:
        raise ValueError(
            f"{name} knows no exact average of {', '.join(missing)}: give it, "
            f"Target(potential, exact={{{missing[0]!r}: ...}})"
        )
    bins = _bins(state, len(jax.tree.leaves(start)[0])) if state is not None else ()
    return Problem(name, potential, temperature, start, quantities, bins)


def _exact(value: Any) -> Exact:
    return value if isinstance(value, Exact) else Exact(*map(float, np.ravel(value)))


def _standard(state: Equilibrium, given: dict[str, Exact]) -> dict[str, Quantity]:
    """The energy, and the averages over coordinates of x and its squared deviation, or of cos x for angles."""
    t, d = state.temperature, state.dimension
    energy = Exact(np.nan) if "energy" in given else Exact(state.mean_energy, 0.0, state.heat_capacity * t * t)
    found = {"energy": Quantity(potential_energy, energy, lambda law: law.energy)}
    if state.potential.period is not None:
        turn = 2 * np.pi / state.potential.period
        cosine = Exact(float(state.mean[:d].mean()), 0.0, float(state.covariance[:d, :d].sum()) / d**2)
        found["cosine"] = Quantity(
            lambda x: jnp.mean(jnp.cos(turn * ravel(x))), cosine, lambda law: law.position[:d].mean()
        )
        return found
    mean = state.mean
    center = jnp.asarray(mean, jnp.result_type(float))
    moved = lambda law: law.position_variance.mean() + np.mean((law.position - mean) ** 2)  # noqa: E731
    found["position"] = Quantity(
        lambda x: jnp.mean(ravel(x)), Exact(float(mean.mean()), 0.0, float(state.covariance.sum()) / d**2),
        lambda law: law.position.mean(),
    )  # fmt: skip
    found["square"] = Quantity(
        lambda x: jnp.mean((ravel(x) - center) ** 2), Exact(float(np.trace(state.covariance)) / d), moved
    )
    return found


def _average(state: Equilibrium, function: Callable) -> Exact:
    """By the landscape's quadrature, else over exact draws."""
    try:
        first, second = state.expectation(lambda x: (function(x), function(x) ** 2))
        return Exact(float(first), 0.0, float(second - first**2))
    except NotKnown:
        values = np.asarray(jax.jit(jax.vmap(function))(state.sample(2**32 - 1, DRAWS)), float)
        return Exact(float(values.mean()), float(values.std() / np.sqrt(len(values))), float(values.var()))


def _bins(state: Equilibrium, particles: int) -> tuple[Bins, ...]:
    """Histograms of the first coordinates, where marginals are exact and particles enough."""
    bins, found = min(MOST_BINS, particles // IN_A_BIN), []
    try:
        for i in range(min(state.dimension, MOST_HISTOGRAMS) if bins > 1 else 0):
            edges = bin_edges(state, i, bins)
            p = bin_probabilities(lambda e, i=i: state.bin_probabilities(e, coordinate=i), edges, state)
            found.append(Bins(i, edges, p))
    except NotKnown:
        pass
    return tuple(found)


def measured(problem: Problem, every: int) -> dict[str, Mean]:
    """The observables of a run."""
    return {name: Mean(quantity.measure, every=every) for name, quantity in problem.quantities.items()}
