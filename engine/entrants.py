"""What a benchmark is asked for: integrators and potentials by name, checked before anything runs."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from .checks import check_integrator
from .marks import is_mark, with_number
from .protocols import Integrator
from .pytree import named_leaves
from .target import Target


class Scheme(NamedTuple):
    """A name, and how to make the integrator at a step size and a temperature."""

    name: str
    make: Callable[[float, float], Integrator]


def schemes_of(integrators: Any) -> list[Scheme]:
    """Schemes with names of their own."""
    named = list(integrators.items()) if isinstance(integrators, Mapping) else [(None, i) for i in _listed(integrators)]
    found = [Scheme(name or _name(i), _maker(i)) for name, i in named]
    names = [scheme.name for scheme in found]
    if not found:
        raise ValueError("integrators must hold at least one; got none")
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"integrators of the same name {twice}: give a dict of names, {{'BAOAB, γ = 2': ...}}")
    return found


def _listed(integrators: Any) -> list:
    if isinstance(integrators, Integrator) or callable(integrators):
        raise TypeError(f"integrators must be a list, or a dict by name; got {_name(integrators)} itself: write [...]")
    return list(integrators)


def _maker(integrator: Any) -> Callable[[float, float], Integrator]:
    """From a class, a function or an instance to integrators of any step size and temperature."""
    if isinstance(integrator, Integrator):
        instance: Any = integrator
        if instance.step_size is None:
            raise ValueError(f"{_name(instance)} has no step size: an optimiser samples nothing, and is not ranked")
        for field, _, leaf in named_leaves(instance, is_mark):
            if is_mark(leaf) or callable(leaf):
                raise ValueError(f"benchmark takes integrators of plain numbers; {field} is {leaf!r}")
        return lambda h, t: with_number(with_number(instance, "step_size", h), "temperature", t)
    if not callable(integrator):
        raise TypeError(
            "integrators must be classes or functions that take step_size and temperature, or instances; got "
            f"{integrator!r}"
        )

    def make(h: float, t: float) -> Integrator:
        try:
            made = integrator(step_size=h, temperature=t)
        except TypeError as error:
            raise TypeError(f"{_name(integrator)} must take step_size and temperature by name: {error}") from None
        check_integrator(made)
        return made  # pyright: ignore[reportReturnType]

    return make


def _name(integrator: Any) -> str:
    name = getattr(integrator, "scheme", None) if isinstance(integrator, Integrator) else None
    return name or getattr(integrator, "__name__", type(integrator).__name__)


def targets_of(potentials: Any) -> list:
    """Landscapes and targets, named where the user did."""
    if isinstance(potentials, Mapping):
        whole = lambda v: v if isinstance(v, Target) else Target(v)  # noqa: E731
        return [dataclasses.replace(whole(v), name=str(k)) for k, v in potentials.items()]
    if callable(potentials) or isinstance(potentials, Target):
        raise TypeError(
            f"potentials must be a list, or a dict by name; got {type(potentials).__name__} itself: write [...]"
        )
    return list(potentials)


def step_sizes_of(step_sizes: Any) -> np.ndarray:
    """Positive numbers, the largest first."""
    h = np.ravel(np.asarray(step_sizes, float))
    if h.size == 0 or not np.all(np.isfinite(h) & (h > 0)):
        raise ValueError(f"step_sizes must be positive numbers, at least one; got {step_sizes!r}")
    return np.sort(h)[::-1]


def check_counts(**counts: Any) -> None:
    """Whole numbers that are enough for error bars."""
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 64:
            raise ValueError(f"{name} must be a whole number, at least 64; got {value!r}")
