"""A run against what is exact: measured, exact, error, z, and the bias that this step size must have."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from .equilibrium import Equilibrium, NotKnown, Solvable
from .law import Law, NoLaw, laws, step_bias, thermometer, with_step
from .measured import plain, snapshot_energies, snapshots
from .observables import Equipartition, Mean, VirialTemperature
from .observables.statistics import normal_score
from .run import Run
from .simulate import simulate
from .snapshot import Shape, shapes
from .verdict import Line, Verdict

APART = 4  # numbers of a quantity that get lines of their own
P_VALUE = 1e-4  # of a table: one false alarm in 10,000 runs that are right


class Quantity(NamedTuple):
    """A number, or an array of numbers, that a run measured and theory knows."""

    name: str
    observable: int
    statistic: str  # "mean" or "variance" of what was measured
    exact: np.ndarray  # (component,)
    exact_error: np.ndarray | float = 0.0
    of_law: Callable[[Law], Any] | None = None  # the same quantity under the law at finite step
    scale: float = 1.0  # of the statistic
    local: bool = False  # a thermometer: it agrees wherever particles are in local equilibrium


class Theory(NamedTuple):
    """What is exact for a population, how the bias of a quantity (and its error) at this step is found, and the law."""

    quantities: list[Quantity]
    method: str
    bias_of: Callable[[Quantity], tuple[Any, Any]]
    state: Equilibrium | None = None
    law: Law | None = None
    unknown: tuple[str, ...] = ()  # what was measured and the equilibrium does not know, and why


def compare(
    run: Run,
    *,
    exact: dict[str, Any] | None = None,
    step_bias: dict[str, Any] | None = None,
    after: int | None = None,
    p_value: float = P_VALUE,
    tolerance: float = 0.0,
) -> Verdict:
    """Hold a run against its exact equilibrium, or against `exact` values of your own.

    A line passes when |measured - exact - step bias| is within `tolerance` plus what its error allows at `p_value`
    divided by how many numbers are compared (Student's t, Bonferroni): a run that is right fails with that probability in
    all. The step bias is what the scheme must show at this step: from its exact discrete law, a transfer
    matrix, or, where neither applies, a second run at half the step; it counts only where it shrinks with the step. Arrays
    of more than four numbers make one line, of the worst of them. A ladder gives every rung its lines.

    Where marginal densities are exact the last snapshot is compared too: χ² of each coordinate's histogram against the
    law at this step; its Kullback-Leibler divergence from the Gibbs state, free of the plug-in bias (bins - 1)/2n, whose
    step bias is that of the law; and for homogeneous energies Kolmogorov and Smirnov's distance of U/T to its Gamma law.
    They decide where the law at this step is known and no tolerance is given. A scheme whose force grows faster than x
    has a quasi-stationary law: the last line says where steps run away, and how rare it is to be there.

    exact: for any `Mean` in the run, by its name in the tree: the mean, or under "name.variance" the variance; a value,
    or a pair (value, its own standard error). step_bias: under the same names; 0 if not given. after: the step after
    which observations count; the second half of the run if not given.

    Raises ValueError where there is no equilibrium to compare with: no `Solvable` potential, temperature 0, a schedule
    that still changes, values that differ between particles.
    """
    if not isinstance(run, Run):
        raise TypeError(f"compare takes a Run, as engine.simulate returns it; got {type(run).__name__}")
    if not 0 < p_value < 1:
        raise ValueError(f"p_value must be between 0 and 1; got {p_value}")
    if not tolerance >= 0:
        raise ValueError(f"tolerance must not be negative; got {tolerance}")
    after = run.second_half() if after is None else after
    estimates, tables = Estimates(run, after), []
    known: dict[tuple, Theory] = {}  # rungs of equal numbers share their theory
    for rung in range(run.rungs or 1):
        if exact is not None:
            tables.append((f" [{rung}]" if run.ladder else "", _given(run, exact, step_bias or {}, rung)))
            continue
        potential, integrator = realised(run, rung, after)
        numbers = tuple(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves((potential, integrator)))
        if numbers not in known:
            known[numbers] = _theory(run, potential, integrator, rung, after)
        suffix = f" [T = {float(integrator.temperature):g}]" if run.ladder else ""
        if any(suffix == other for other, *_ in tables):
            suffix = suffix[:-1] + f", rung {rung}]"
        tables.append((suffix, known[numbers]))
    found = _shapes(run, [theory for _, theory in tables])
    # one p-value for the table: divided by all the numbers that are compared (Bonferroni)
    sizes = [estimates.of(q, rung)[0].size for rung, (_, theory) in enumerate(tables) for q in theory.quantities]
    each = p_value / max(1, sum(sizes) + sum(shape.decides for rung in found for shape in rung))
    lines: dict[str, Line] = {}
    flags = []
    for rung, (suffix, theory) in enumerate(tables):
        local, wrong = [], []
        for quantity in theory.quantities:
            bias, bias_error = theory.bias_of(quantity)
            new = lines_of(estimates, quantity, rung, bias, bias_error, each, tolerance)
            lines |= {name + suffix: line for name, line in new.items()}
            passed = [(name + suffix, line.passed) for name, line in new.items()]
            local += [ok for _, ok in passed if quantity.local]
            wrong += [name for name, ok in passed if not ok and not quantity.local]
        flags += theory.unknown
        for shape in found[rung]:
            decided = (shape.p_value >= each) if shape.decides and not tolerance else None
            lines[shape.name + suffix] = shape.line._replace(passed=decided)
            wrong += [shape.name + suffix] if decided is False else []
        if local and all(local) and wrong:
            flags.append(
                f"not in equilibrium though every thermometer agrees: {', '.join(wrong)}: trapped, or too short"
            )
    for name, result in run.named_results(after):
        flags += [f"{name}: {flag}" for flag in getattr(result, "flags", ())]
    method = " and ".join(dict.fromkeys(theory.method for _, theory in tables))
    escapes = [theory.law.escape for _, theory in tables if theory.law is not None and theory.law.escape is not None]
    if escapes:
        method += f", {max(escapes, key=lambda escape: escape.log10_density)}"
    rule = f" (steps {after + 1} to {run.step}; p-value {p_value:g} for all; step bias: {method})"
    return Verdict(_title(run), lines, tuple(dict.fromkeys(flags)), rule)


def realised(run: Run, rung: int, after: int, until: int | None = None) -> tuple[Solvable, Any]:
    """The potential and integrator of a rung with plain numbers, where they have an equilibrium."""
    potential, integrator = plain(run, rung, after, until)
    if not isinstance(potential, Solvable):
        raise ValueError(
            f"{type(potential).__name__} knows no equilibrium: this takes a Solvable potential (compare also takes "
            "exact={name: value})"
        )
    if integrator.temperature is None or not float(integrator.temperature) > 0:
        raise ValueError(f"{type(integrator).__name__} runs at temperature 0: there is no equilibrium to compare with")
    return potential, integrator


def means(run: Run) -> Iterator[tuple[int, str, Mean]]:
    """The averages among a run's observables: place, name, observable."""
    for i, (name, observable) in enumerate(run.named_observables()):
        if isinstance(observable, Mean):
            yield i, name, observable


def _known(run: Run, state: Equilibrium) -> tuple[list[Quantity], tuple[str, ...]]:
    """What the equilibrium knows of what was measured, and what it does not."""
    found, reasons = [], {}
    for i, name, observable in means(run):
        try:
            found += _of_mean(i, name, observable.measure, state)
        except NotKnown as reason:
            reasons[name] = reason
    if reasons and all(quantity.local for quantity in found):  # thermometers alone do not see where particles are
        raise next(iter(reasons.values()))
    if not found:
        raise ValueError(
            "the run measured nothing that an equilibrium knows; give no observables to measure the standard ones"
        )
    return found, tuple(f"{name} is not compared: {reason}" for name, reason in reasons.items())


def _of_mean(i: int, name: str, measure: Any, state: Equilibrium) -> Iterator[Quantity]:
    temperature = state.temperature
    if measure.exact_at == "potential_energy":
        energy, capacity = np.array([state.mean_energy]), np.array([state.heat_capacity])
        yield Quantity("mean_energy", i, "mean", energy, of_law=lambda l: l.energy)
        per = 1 / temperature**2
        law_of_capacity = lambda l: l.energy_variance * per  # noqa: E731
        yield Quantity("heat_capacity", i, "variance", capacity, of_law=law_of_capacity, scale=per)
    elif measure.is_thermometer:
        reading = lambda l: thermometer(l, measure)  # noqa: E731
        yield Quantity(name, i, "mean", np.array([temperature]), of_law=reading, local=True)
    elif measure.name == ("position" if state.potential.period is None else "angles"):
        spread = np.diag(state.covariance)
        yield Quantity(measure.name, i, "mean", state.mean, of_law=lambda l: l.position)
        yield Quantity(f"{measure.name}.variance", i, "variance", spread, of_law=lambda l: l.position_variance)


def _given(run: Run, exact: dict[str, Any], step_bias: dict[str, Any], rung: int) -> Theory:
    """What the user knows of what was measured."""
    biases = {name: np.ravel(value) for name, value in step_bias.items()}
    if unknown := set(biases) - set(exact):
        raise ValueError(f"step_bias names {sorted(unknown)}; exact has {sorted(exact)}")
    return Theory(list(_named(run, exact, rung)), "given", lambda q: (biases.get(q.name, np.zeros(1)), 0.0))


def _named(run: Run, exact: dict[str, Any], rung: int) -> Iterator[Quantity]:
    places = {name: i for i, name, _ in means(run)}
    for name, value in exact.items():
        base, _, what = name.rpartition(".") if name.endswith(".variance") and name not in places else (name, "", "")
        if base not in places:
            raise ValueError(
                f"exact names {name!r}; the run has means of {sorted(places)} (add .variance for variances)"
            )
        value, error = value if isinstance(value, tuple) else (value, 0.0)
        value, error = (np.asarray(a, float) for a in (value, error))
        if run.ladder and value.ndim and len(value) == run.rungs:
            value, error = value[rung], error[rung] if error.ndim else error
        errors = error.ravel() if error.ndim else float(error)
        yield Quantity(name, places[base], what or "mean", value.ravel(), errors)


def _theory(run: Run, potential: Solvable, integrator: Any, rung: int, after: int) -> Theory:
    """What is exact for a rung, and the bias by the best method there is."""
    state = potential.equilibrium(float(integrator.temperature), like=run.position)
    quantities, unknown = _known(run, state)
    try:
        pair = laws(integrator, potential, run.position, origin=origin_of(run))
        bias_of = lambda q: (step_bias(pair, q.of_law, q.exact), 0.0)  # noqa: E731
        return Theory(quantities, pair[0].method, bias_of, state, pair[0], unknown)
    except NoLaw:
        order = integrator.stationary_order
        if order is None:
            raise ValueError(f"{type(integrator).__name__} declares no stationary law to compare with") from None
    half = simulate(dataclasses.replace(run, records=run.records), integrator=with_step(run.integrator, 0.5), steps=0)
    half = simulate(half, steps=2 * (run.step - after), observables=run.measured, progress=False)
    factor = 2.0**order / (2.0**order - 1)
    coarse_run, fine_run = Estimates(run, after), Estimates(half, run.step)

    def bias(q: Quantity) -> tuple[np.ndarray, np.ndarray]:
        (coarse, _, _), (fine, error, _) = coarse_run.of(q, rung), fine_run.of(q, rung)
        return factor * (coarse - fine), factor * error

    return Theory(quantities, "a second run at half the step", bias, state, None, unknown)


def _shapes(run: Run, rungs: list[Theory]) -> list[list[Shape]]:
    """The last snapshot of every rung against the law of its positions."""
    if any(chance.shared for chance in run.potential.chance) or any(theory.state is None for theory in rungs):
        return [[] for _ in rungs]
    states, x = [theory.state for theory in rungs], snapshots(run)
    homogeneous = any(state.potential.degree is not None for state in states if state)
    u = snapshot_energies(run) if homogeneous else [None] * len(rungs)
    return [shapes(x[i], u[i], theory.state, theory.law) for i, theory in enumerate(rungs) if theory.state]


def origin_of(run: Run) -> Any:
    """The origin of the run's virial; 0 if it has none."""
    origins = [o.measure.origin for _, _, o in means(run) if isinstance(o.measure, VirialTemperature | Equipartition)]
    return origins[0] if origins else 0.0


class Estimates:
    """Values and errors of what a run measured after a step, for all rungs at once; computed when asked for."""

    def __init__(self, run: Run, after: int) -> None:
        self.run, self.after, self.known = run, after, {}

    def of(self, quantity: Quantity, rung: int) -> tuple[np.ndarray, np.ndarray, int]:
        """A quantity's value and error (component,), and degrees of freedom."""
        place = (quantity.observable, quantity.statistic)
        if place not in self.known:
            observable = self.run.named_observables()[quantity.observable][1]
            assert isinstance(observable, Mean)
            _, sums = self.run.records[quantity.observable].after(self.after)
            if sums is None:
                raise ValueError(
                    f"no observation after step {self.after} in a run of {self.run.step}: run longer, or give an earlier "
                    "`after`"
                )
            statistic = observable.mean_of if quantity.statistic == "mean" else observable.variance_of
            unit = self.run.settings[quantity.observable].unit
            self.known[place] = observable.estimate(statistic, sums, unit)
        estimate = self.known[place]
        return quantity.scale * estimate.value[:, rung], quantity.scale * estimate.error[:, rung], estimate.dof


def lines_of(
    estimates: Estimates, quantity: Quantity, rung: int, bias: Any, bias_error: Any, p_value: float, tolerance: float
) -> dict[str, Line]:
    """A line for each number of a quantity, or one for the worst of many."""
    from scipy import special

    value, error, dof = estimates.of(quantity, rung)
    if quantity.exact.shape not in (value.shape, (1,)):
        raise ValueError(f"{quantity.name}: exact has {quantity.exact.size} numbers, the run measured {value.size}")
    exact, bias, bias_error, exact_error = (
        np.broadcast_to(a, value.shape) for a in (quantity.exact, bias, bias_error, quantity.exact_error)
    )
    error = np.sqrt(error**2 + bias_error**2 + exact_error**2)
    t = _student(value, exact + bias, error, quantity.statistic == "variance")
    z = normal_score(t, dof)
    tests = value.size if value.size > APART else 1
    threshold = special.stdtrit(dof, 1 - p_value / 2 / tests) if dof > 0 else np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        passed = np.abs(t) <= threshold + np.where(tolerance > 0, tolerance / error, 0.0)
    undefined = quantity.local & np.isnan(value) & np.isnan(bias)  # a thermometer where there is no force
    decided = lambda i: None if undefined[i] else bool(passed[i])  # noqa: E731
    line = lambda i: Line(*(float(a[i]) for a in (value, exact, error, z, bias)), passed=decided(i))  # noqa: E731
    if value.size <= APART:
        return {quantity.name if value.size == 1 else f"{quantity.name}[{i}]": line(i) for i in range(value.size)}
    worst = int(np.argmax(np.where(np.isnan(z), np.inf, np.abs(z))))
    return {quantity.name: line(worst)._replace(passed=bool(passed.all()), note=f"worst of {value.size}: [{worst}]")}


def _student(value: np.ndarray, expected: np.ndarray, error: np.ndarray, positive: bool) -> np.ndarray:
    """(value - expected)/error; on the scale of the logarithm for variances.

    The error of a variance grows with its estimate, so on its own scale a low estimate looks too certain of itself.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        if positive and np.all(value > 0) and np.all(expected > 0):
            t = np.log(value / expected) / (error / value)
        else:
            t = (value - expected) / error
        return np.where(value == expected, 0.0, t)


def _title(run: Run) -> str:
    name = getattr(run.integrator, "scheme", type(run.integrator).__name__)
    unit = {setting.unit for setting in run.settings}
    return (
        f"{name} on {type(run.potential).__name__}, {run.particles:,} particles, errors from {', '.join(sorted(unit))}"
    )
