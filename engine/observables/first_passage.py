"""First-passage times: when particles first cross a level, and at what rate the rest still do."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..protocols import Integrator, Potential
from ..pytree import number, pytree, static
from .members import join_parts
from .observable import Observable
from .record import Record
from .statistics import Result, Setting, as_units, jackknife, pool

OVERSHOOT = 0.5825971579390107  # -ζ(1/2)/√(2π), Broadie, Glasserman and Kou (1997)


@dataclass(frozen=True)
class Passage(Result):
    """What `FirstPassage` measured; a leading axis of rungs in a ladder, then the measured value's shape.

    mean, error: of the first-passage time, counted from the step at which measuring began (or `burn_in` later): the time
    that all particles waited over the passages seen. rate, rate_error: its inverse. Once all have crossed (waiting = 0)
    the mean is the plain average. While some wait they are censored, and it is the maximum-likelihood estimate for
    exponential times; `run.results(after=...)` takes only what came after a step, so that a tail which is exponential
    later is seen by a rate that settles. Times are in steps where the step size is no one number.
    crossed, waiting: particles. steps, survival: the fraction still waiting at the end of blocks of time (times, ...).
    unit, dof, flags: as in `Average`.
    """

    mean: Any
    error: Any
    rate: Any
    rate_error: Any
    crossed: Any
    waiting: Any
    steps: np.ndarray
    survival: Any
    unit: str
    dof: int
    flags: tuple[str, ...]

    def __repr__(self) -> str:
        mean, error, waiting = (
            np.concatenate([np.ravel(a) for a in jax.tree.leaves(t)]) for t in (self.mean, self.error, self.waiting)
        )
        shown = ", ".join(f"{m:.6g} ± {e:.2g}" for m, e in zip(mean[:4], error[:4], strict=True))
        return f"{shown}{', …' * (mean.size > 4)}, {int(waiting.sum())} still waiting"


@pytree
class FirstPassage(Observable):
    """The time after which a particle's measured number is first at a level or beyond; constant memory.

    measure: a function of the position, or one of `observables`; several numbers each have their passage. level: to be
    crossed. rising: passage is to values ≥ level, or else ≤ level. every: steps between looks, 1 by default. burn_in:
    steps before the clock starts. Its result is a `Passage`.

    Looking only at steps misses crossings in between, so times are too long, by O(√h) for overdamped dynamics at a level
    that is a barrier top: +14 % over a barrier of 5 T at h = 0.004, where the far minimum has an error of O(h) only. Count
    to the far minimum; or set `overshoot`, which moves the level towards the particles by 0.5826 √(2μTh·every) (Broadie,
    Glasserman and Kou 1997): for a measured coordinate x (or any number whose gradient has length 1 at the level), a
    mobility that is one number, and overdamped schemes alone.
    """

    measure: Any = field(kw_only=False)
    level: Any = number()
    rising: bool = static(default=True)
    overshoot: bool = static(default=False)
    every: int = static(default=1)
    burn_in: int = static(default=0)

    def __post_init__(self) -> None:
        self._check()

    def check(self, potential: Potential, integrator: Integrator, state: Any) -> None:
        super().check(potential, integrator, state)
        if np.ndim(self.level):
            raise ValueError(f"FirstPassage: level must be one number; got shape {np.shape(self.level)}")
        if self.overshoot and (integrator.mobility is None or jax.tree.map(np.shape, integrator.mobility) != ()):
            name = type(integrator).__name__
            raise ValueError(
                f"FirstPassage: overshoot corrects overdamped Langevin steps with a mobility that is one number; {name} "
                "has none: leave it out"
            )

    def values(self, potential: Potential, integrator: Integrator, state: Any) -> tuple[jax.Array, ...]:
        """How far beyond the level."""
        ahead = 0.0
        if self.overshoot:
            spread = 2 * integrator.mobility * integrator.temperature * integrator.step_size * self.every
            ahead = OVERSHOOT * jnp.sqrt(spread)
        values = super().values(potential, integrator, state)
        return tuple((v - self.level if self.rising else self.level - v) + ahead for v in values)

    def memory(self, value: jax.ShapeDtypeStruct) -> Any:
        return jax.ShapeDtypeStruct(value.shape, jnp.bool_)  # whether it has crossed

    def follow(self, parts: tuple, memory: Any, valid: jax.Array, number: Any, group: Callable) -> tuple[Any, Any]:
        values, waiting = join_parts(parts), ~memory & (number >= 0)
        crossing = waiting & (values >= 0)
        total = lambda truth: jnp.sum(group(truth & valid).astype(jnp.int32), axis=-2)  # noqa: E731
        return jnp.stack([total(waiting), total(crossing), total(waiting & jnp.isnan(values))]), memory | crossing

    def merge(self, a: Any, b: Any) -> Any:
        return a + b

    def result(self, record: Record, setting: Setting, *, after: int = 0) -> Passage:
        steps, sums = record.after(after)  # (times, 3, k, rung, group): waiting, crossing, no number
        if sums is None:
            raise ValueError(f"no observation after step {after}: the run is shorter than its burn-in, or than `every`")
        # a particle passes once: the times of few particles tell of each other's, those of blocks of time do not
        unit = "particles" if setting.independent else "blocks of time"
        units = as_units(self.merge, sums, unit)
        look = self.every * (setting.step_size or 1)
        members = np.bincount(np.arange(setting.particles) % units.shape[-1])[None, None].astype(float)
        count = lambda s: members if unit == "particles" else s[0].astype(float)  # noqa: E731
        mean_of, rate_of = (lambda s: look * s[0] / s[1]), (lambda s: s[1] / (look * s[0]))
        with np.errstate(divide="ignore", invalid="ignore"):
            mean, rate = (jackknife(self.merge, units, statistic, count) for statistic in (mean_of, rate_of))
            total = pool(self.merge, units)  # not corrected for bias: the mean is to be the plain average
            average, frequency = mean_of(total), rate_of(total)
        crossings = np.cumsum(record.after(0)[1][:, 1].sum(-1), axis=0)  # (times, k, rung)
        crossed = crossings[-1]
        survival = 1 - crossings[-len(steps) :] / setting.particles
        share = (setting.particles - crossed) / setting.particles
        flags = ()
        if share.max() > 0:
            flags = (f"{share.max():.1%} of the particles have not crossed: the mean assumes exponential times",)
        if total[2].sum() > 0:
            flags = (
                *flags,
                f"{total[2].sum() / total[0].sum():.3g} of the looks saw no number (NaN): taken as not crossed",
            )
        out = setting.outward
        return Passage(
            mean=out(average), error=out(mean.error), rate=out(frequency), rate_error=out(rate.error),
            crossed=out(crossed), waiting=out(setting.particles - crossed), steps=steps,
            survival=out(np.moveaxis(survival, 1, 0)), unit=unit, dof=mean.dof, flags=flags,
        )  # fmt: skip
