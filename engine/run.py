"""What a simulation returns: the population, what was measured, and all that is needed to go on."""

import dataclasses
from collections.abc import Callable
from functools import cached_property
from typing import Any

import jax
import numpy as np

from .configuration import evaluate
from .observables import Average, Observable
from .observables.observable import is_observable
from .observables.record import Record
from .observables.statistics import Result, Setting
from .protocols import Integrator, Potential


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """A population after some steps; `simulate(run, steps=...)` goes on from it.

    potential, integrator: as they were given. state: the integrator's, with leading axes (n,), or (rungs, n) in a
    ladder. step: steps done in all. key: two words. leg: how often the integrator was changed.
    """

    potential: Potential
    integrator: Integrator
    measured: Any  # the tree of observables
    state: Any
    key: np.ndarray
    step: int = 0
    leg: int = 0
    leg_step: int = 0  # the step and the time at which this leg began
    leg_time: Any = 0.0
    records: tuple[Record, ...] = ()
    settings: tuple[Setting, ...] = ()
    memories: tuple[Any, ...] = ()  # what each observable remembers of every particle, leading axes as the state's
    ladder: bool = False

    @property
    def positions(self) -> Any:
        """Positions (n, ...), or (rungs, n, ...) in a ladder."""
        return self.state.position

    @property
    def momenta(self) -> Any:
        """Momenta like `positions`; None when the dynamics is overdamped."""
        return self.integrator.momentum(self.state) if self.integrator.has_momentum else None

    @property
    def particles(self) -> int:
        """Number of particles (of each rung)."""
        return jax.tree.leaves(self.positions)[0].shape[1 if self.ladder else 0]

    @property
    def rungs(self) -> int | None:
        """Number of rungs; None without a ladder."""
        return jax.tree.leaves(self.positions)[0].shape[0] if self.ladder else None

    @property
    def position(self) -> Any:
        """The shapes of one particle's position."""
        drop = 2 if self.ladder else 1
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[drop:], a.dtype), self.positions)

    @property
    def time(self) -> Any:
        """Physical time, the float64 sum of all steps; None for an optimiser. One value a rung or particle if swept."""
        h = self.integrator.step_size
        if h is None:
            return None
        steps = (self.step - self.leg_step) * self.integrator.substeps
        if callable(h):
            values = values_of(h, self.leg_step, self.step - self.leg_step)
            return self.leg_time + float(np.sum(values)) * self.integrator.substeps
        h = h.values if hasattr(h, "values") else h
        return self.leg_time + np.asarray(h, np.float64) * steps if np.ndim(h) else self.leg_time + float(h) * steps

    @cached_property
    def observables(self) -> Any:
        """What was measured: the tree of observables with their results in place."""
        return self.results()

    def results(self, after: int = 0) -> Any:
        """The results from the observations after a step; None where there were none, or too few to compare."""
        trees = jax.tree.structure(self.measured, is_leaf=is_observable)
        observables: list[Observable] = jax.tree.leaves(self.measured, is_leaf=is_observable)
        values = [o.result(r, s, after=after) if r.after(after)[1] is not None else None
                  for o, r, s in zip(observables, self.records, self.settings, strict=True)]  # fmt: skip
        return jax.tree.unflatten(trees, values)

    def named_observables(self) -> list[tuple[str, Observable]]:
        """The observables in order, by their place in the tree."""
        paths = jax.tree_util.tree_flatten_with_path(self.measured, is_leaf=is_observable)[0]
        return [(jax.tree_util.keystr(path, simple=True, separator=".") or "value", o) for path, o in paths]

    def named_results(self, after: int = 0) -> list[tuple[str, Any]]:
        """The results in order, by their place in the tree."""
        results = self.observables if after == 0 else self.results(after)
        leaves = jax.tree.structure(self.measured, is_leaf=is_observable).flatten_up_to(results)
        return [(name, result) for (name, _), result in zip(self.named_observables(), leaves, strict=True)]

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What no error bar of `observables` sees: drift, trapping, a temperature not the bath's, nothing measured."""
        from .thermometers import disagreements

        found = []
        for (name, result), setting in zip(self.named_results(), self.settings, strict=True):
            if result is None and self.step > setting.since:
                found.append(f"{name}: nothing measured yet: the run is too short for its burn-in and `every`")
            if isinstance(result, Result):
                found += [f"{name}: {flag}" for flag in result.flags]
            if isinstance(result, Average):
                if not all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(result.mean)):
                    found.append(f"{name}: the average is not finite although all particles are")
        return (*found, *disagreements(self))

    def second_half(self) -> int:
        """The step after which the second half of the observations begins: the default window of every verdict."""
        first = min((record.first for record in self.records), default=self.step)
        return (first + self.step) // 2

    def save(self, path: Any) -> None:
        """Write everything but the functions into one `.npz`; `engine.load` reads it."""
        from .storage import save

        save(self, path)

    def __repr__(self) -> str:
        from .report import describe

        return describe(self)


def values_of(schedule: Callable, start: int, count: int) -> np.ndarray:
    """A schedule's values in float64."""
    if count == 0:
        return np.zeros(0)
    with jax.enable_x64(True):
        return np.asarray(evaluate([("step_size", "positive", schedule)], start, count, count, np.float64)[0])
