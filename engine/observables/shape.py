"""The shape of a distribution: skewness and kurtosis, by central moments that never cancel."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..pytree import pytree, static
from .observable import Observable
from .record import Record
from .statistics import Result, Setting, as_units, jackknife


class CentralMoments(NamedTuple):
    """Count, mean, and sums of the second to fourth powers of deviations: a monoid under `Shape.merge`."""

    count: Any  # (1, rung, unit)
    mean: Any  # (k, rung, unit)
    second: Any
    third: Any
    fourth: Any


@dataclass(frozen=True)
class Profile(Result):
    """What `Shape` measured, each with its error; arrays as in `Average`. kurtosis: the excess, 0 for a Gaussian.

    unit, dof, count, flags: as in `Average`.
    """

    mean: Any
    mean_error: Any
    variance: Any
    variance_error: Any
    skewness: Any
    skewness_error: Any
    kurtosis: Any
    kurtosis_error: Any
    unit: str
    dof: int
    count: int
    flags: tuple[str, ...] = ()

    def __repr__(self) -> str:
        first = lambda tree: float(np.ravel(jax.tree.leaves(tree)[0])[0])  # noqa: E731
        named = (("skewness", self.skewness, self.skewness_error), ("kurtosis", self.kurtosis, self.kurtosis_error))
        return ", ".join(f"{name} {first(value):.4g} ± {first(error):.2g}" for name, value, error in named)


@pytree
class Shape(Observable):
    """Skewness and excess kurtosis over particles and time, with the mean and variance; constant memory.

    measure: a function of the position, or one of `observables`. every, burn_in: as in `Mean`. Errors by the jackknife over
    groups. Merged pairwise, so a large mean costs no digits: Pébay, Sandia report SAND2008-6212, equations 2.1 and 3.1.
    Its result is a `Profile`.
    """

    measure: Any = field(kw_only=False)
    every: int = static(default=10)
    burn_in: int = static(default=0)
    sums = CentralMoments

    def __post_init__(self) -> None:
        self._check()

    def reduce(self, values: jax.Array, valid: jax.Array) -> CentralMoments:
        weight = valid.astype(values.dtype)[None]
        count = jnp.sum(weight, axis=-2)
        pivot = values[..., :1, :]
        shift = jnp.sum((values - pivot) * weight, axis=-2) / jnp.maximum(count, 1)
        apart = (values - pivot - shift[..., None, :]) * weight
        return CentralMoments(count, pivot[..., 0, :] + shift, *(jnp.sum(apart**n, axis=-2) for n in (2, 3, 4)))

    def merge(self, a: CentralMoments, b: CentralMoments) -> CentralMoments:
        n = a.count + b.count
        one = n + (n == 0)
        p, q, delta = a.count / one, b.count / one, b.mean - a.mean
        cross = n * p * q * delta**2
        return CentralMoments(
            n,
            a.mean + q * delta,
            a.second + b.second + cross,
            a.third + b.third + cross * delta * (p - q) + 3 * delta * (p * b.second - q * a.second),
            a.fourth + b.fourth + cross * delta**2 * (p * p - p * q + q * q)
            + 6 * delta**2 * (p * p * b.second + q * q * a.second) + 4 * delta * (p * b.third - q * a.third),
        )  # fmt: skip

    def result(self, record: Record, setting: Setting, *, after: int = 0) -> Profile:
        _, sums = record.after(after)
        if sums is None:
            raise ValueError(f"no observation after step {after}: the run is shorter than its burn-in, or than `every`")
        units = as_units(self.merge, sums, setting.unit)
        found = {}
        for name, statistic in {
            "mean": lambda s: s.mean,
            "variance": lambda s: s.second / s.count,
            "skewness": lambda s: np.sqrt(s.count) * s.third / s.second**1.5,
            "kurtosis": lambda s: s.count * s.fourth / s.second**2 - 3,
        }.items():
            with np.errstate(divide="ignore", invalid="ignore"):  # of a constant there is no shape
                estimate = jackknife(self.merge, units, statistic, lambda s: s.count)
            found |= {name: setting.outward(estimate.value), f"{name}_error": setting.outward(estimate.error)}
        return Profile(**found, unit=setting.unit, dof=units.count.shape[-1] - 1, count=int(sums.count.sum()))
