"""Which integrator is best? All of them on all energies with the same noise, held against what is exact."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from .checks import NonFiniteError
from .divergence import A_BIN, Divergence, kl_from_counts
from .entrants import Scheme, check_counts, schemes_of, step_sizes_of, targets_of
from .equilibrium import Solvable
from .law import Law, NoLaw, predict
from .noise import key_words
from .progress import Progress
from .protocols import Integrator, Noise
from .pytree import ravel
from .reach import largest_step, seconds_a_step
from .run import Run
from .scores import FIELDS, Benchmark
from .simulate import simulate
from .snapshot import wrapped
from .target import Problem, measured, problem

FRACTIONS = (0.8, 0.5, 0.32, 0.2, 0.125, 0.08)  # of the largest step, that are looked at unless steps are given
BURN_IN = 0.2  # of a run
OBSERVATIONS = 1_000  # of a run, at most


def benchmark(
    integrators: Iterable | Mapping,
    potentials: Iterable | Mapping,
    *,
    step_sizes: Any = None,
    temperature: float = 1.0,
    particles: int = 256,
    gradients: int = 2_000,
    precision: float = 0.1,
    key: Any = 0,
    progress: bool = True,
) -> Benchmark:
    """Rank integrators on energies: bias, efficiency and work, against exact averages.

    integrators: classes or functions that take `step_size` and `temperature`, or instances, of which both are replaced; a
    list, or a dict by name. potentials: `Solvable` landscapes, or `Target`s, which carry a temperature, observables and
    exact averages of their own; a list, or a dict by name.
    step_sizes: tried for all; by default six fractions, from 0.8 to 0.08, of the largest step each scheme bears on each
    energy, which is exact for linear schemes on quadratic energies and searched elsewhere.
    temperature: of landscapes. particles: independent ones, which start in equilibrium. gradients: of each particle in a
    run, so that all schemes do the same work. precision: the root mean square error, in standard deviations of the
    observable, that the ranking asks for. key: one for all runs, so schemes that take the same noise get the same.

    A row is one scheme, energy, step size and observable; see `Benchmark`. A bias is exact where the law of the scheme is
    known (linear schemes on quadratic energies; separable landscapes by transfer matrix), else measured.
    Raises TypeError and ValueError for bad input before anything runs. A scheme that leaves the finite numbers is a row.
    """
    schemes = schemes_of(integrators)
    key_words(key)
    check_counts(particles=particles, gradients=gradients)
    if not 0 < precision < np.inf:
        raise ValueError(f"precision must be positive; got {precision!r}")
    steps = None if step_sizes is None else step_sizes_of(step_sizes)
    problems = [problem(t, temperature=temperature, particles=particles, key=key) for t in targets_of(potentials)]
    for scheme in schemes:  # what is wrong with one is raised before anything runs
        for p in problems:
            integrator = scheme.make(1.0, p.temperature)
            noise = Noise(tuple(p.like for _ in range(integrator.init_noise.normals)))
            jax.eval_shape(integrator.init, p.potential, p.like, noise)
    rows: list[tuple] = []
    each = gradients * len(FRACTIONS if steps is None else steps)
    with Progress(total=each * len(schemes) * len(problems), label="benchmark", enabled=progress) as bar:
        for p in problems:
            for scheme in schemes:
                rows += _race(scheme, p, steps, gradients, key, bar)
    return Benchmark(rows=np.array(rows, FIELDS), precision=float(precision))


def _race(scheme: Scheme, p: Problem, steps: Any, gradients: int, key: Any, bar: Progress) -> list[tuple]:
    """The rows of one scheme on one energy."""
    make = lambda h: scheme.make(float(h), p.temperature)  # noqa: E731
    largest, method = largest_step(make, p, key)
    if steps is None:
        # where nothing rejects or diverges there is no largest step: the time scale of a unit energy
        steps = np.array(FRACTIONS) * (largest if 0 < largest < np.inf else 1.0)
    seconds = seconds_a_step(make(min(steps)), p, key) if largest > 0 else np.nan
    rows = []
    for h in steps:
        rows += _rows(scheme.name, make(h), p, gradients, key, (largest, method, seconds))
        bar.advance(gradients)
    return rows


def _rows(name: str, integrator: Integrator, p: Problem, gradients: int, key: Any, reach: tuple) -> list[tuple]:
    steps = max(10, gradients // integrator.gradients)
    burn_in = int(BURN_IN * steps)
    every = max(1, steps // OBSERVATIONS)
    run, law = None, _law(integrator, p)
    try:
        run = simulate(
            p.potential, integrator, p.start, steps=steps, key=key, observables=measured(p, every), progress=False
        )
    except NonFiniteError:
        pass
    distance = Divergence(np.nan, np.nan, np.nan) if run is None else _distance(run, p)
    window = (steps - burn_in) * integrator.gradients
    results, rows = None if run is None else run.results(burn_in), []
    for observable, quantity in p.quantities.items():
        exact = quantity.exact
        value = error = variance = np.nan
        if results is not None:
            found = results[observable]
            value, error, variance = (float(np.ravel(a)[0]) for a in (found.mean, found.error, found.variance))
        spread = exact.variance if np.isfinite(exact.variance) else variance
        samples = spread / error**2 / (particles_of(p) * window) if error > 0 else np.nan
        predicted = np.nan if law is None or quantity.of_law is None else quantity.of_law(law) - exact.mean
        rows.append((
            p.name, name, observable, float(np.asarray(integrator.step_size)), exact.mean, value - exact.mean,
            np.hypot(error, exact.error), predicted, "" if law is None else law.method, spread, samples,
            integrator.gradients, window, reach[2], distance.value, distance.error, *reach[:2],
            np.nan if integrator.stationary_order is None else integrator.stationary_order,
        ))  # fmt: skip
    return rows


def particles_of(p: Problem) -> int:
    """How many particles start."""
    return len(jax.tree.leaves(p.start)[0])


def _law(integrator: Integrator, p: Problem) -> Law | None:
    """The scheme's own law, where it is known exactly."""
    if not isinstance(p.potential, Solvable):
        return None
    try:
        return predict(integrator, p.potential, p.like)
    except NoLaw:
        return None


def _distance(run: Run, p: Problem) -> Divergence:
    """The KL of the last snapshot to the Gibbs state, averaged over the histograms of the first coordinates."""
    x = np.asarray(jax.vmap(ravel)(run.positions), float)
    found, period = [], getattr(p.potential, "period", None)
    for coordinate, edges, probabilities in p.bins:
        place = np.searchsorted(edges, wrapped(x[:, coordinate], period), side="right") - 1
        counts = np.bincount(np.clip(place, 0, len(probabilities) - 1), minlength=len(probabilities))
        if len(x) >= A_BIN * len(probabilities):
            found.append(kl_from_counts(counts, probabilities))
    if not found:
        return Divergence(np.nan, np.nan, np.nan)
    value, error, floor = np.mean(found, axis=0)
    return Divergence(float(value), float(max(error, floor)), float(floor))
