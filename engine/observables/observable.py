"""An observable is a measurement and a reducer: sums over particles in groups on the device, over time on the host."""

import abc
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from ..protocols import Integrator, Potential
from .measurements import Measurement, as_measurement
from .record import Record
from .statistics import Setting


class Observable(abc.ABC):
    """Base of the reducers. Fields of every subclass: `measure`, `every` (steps), `burn_in` (steps left out first).

    On the device, `reduce` turns the values of a tile's particles into sums over groups; `merge` adds such sums, for
    tiles, devices, times and restarts alike. Sums have the trailing axes (component, rung, group).
    """

    measure: Any
    every: int
    burn_in: int
    keeps_particles = False  # `reduce` returns the values themselves, and tiles are joined, not merged
    keeps_time = False  # every row is kept apart
    in_turn = False  # tiles are merged one after the other, not in pairs: a row is larger than the values of a tile
    ragged = False  # an observation is several rows, how many by its number
    componentwise = False  # components are reduced one by one, and `join` puts their sums together
    sums: type | None = None  # the NamedTuple of its sums; None for a bare array

    def values(self, potential: Potential, integrator: Integrator, state: Any) -> tuple[jax.Array, ...]:
        """The measured value of one particle: its leaves, ravelled and floating; k components in all."""
        leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(self.measure(potential, integrator, state))]
        if not sum(leaf.size for leaf in leaves) or any(leaf.dtype.kind == "c" for leaf in leaves):
            found = [f"{leaf.dtype}{list(leaf.shape)}" for leaf in leaves]
            raise TypeError(f"{type(self).__name__}: a measurement must return real numbers; it returns {found}")
        return tuple(leaf.ravel().astype(jnp.result_type(float, leaf.dtype)) for leaf in leaves)

    def shape(self, potential: Potential, integrator: Integrator, state: Any) -> jax.ShapeDtypeStruct:
        """The shape (k,) and dtype of one particle's components, side by side."""
        parts = jax.eval_shape(self.values, potential, integrator, state)
        return jax.ShapeDtypeStruct((sum(part.size for part in parts),), jnp.result_type(*parts))

    @property
    def alike(self) -> Hashable:
        """Observables of equal value here may be reduced as one, their components joined; None keeps this one apart."""
        return None

    def part(self, sums: Any, start: int, stop: int) -> Any:
        """The sums of some of the components that were reduced together, on the host; axis -3 is the component."""
        del start, stop
        return sums

    def join(self, sums: list) -> Any:
        """The sums of components that were reduced apart, one below the other: the inverse of `part`."""
        raise NotImplementedError(f"{type(self).__name__} declares componentwise and must offer join")

    def check(self, potential: Potential, integrator: Integrator, state: Any) -> None:
        """Raise or warn, before anything compiles, where it has no meaning."""
        measure = self.measure.measure if isinstance(self.measure, Observable) else self.measure
        measure.check(potential, integrator, state)

    def memory(self, value: jax.ShapeDtypeStruct) -> Any:
        """What is remembered of a particle from one observation to the next: the shapes of a tree; nothing by default.

        value: the shape of `values`. It begins as zeros, and is carried, cut, saved and loaded like the state.
        """
        del value
        return ()

    def open(self, memory: Any, valid: jax.Array, group: Callable) -> Any:
        """The memory of a tile as `follow` takes it: with what can be computed from it, once a block of steps."""
        del valid, group
        return memory

    def close(self, memory: Any) -> Any:
        """The inverse of `open`."""
        return memory

    def follow(self, values: jax.Array, memory: Any, valid: jax.Array, number: Any, group: Callable) -> tuple[Any, Any]:
        """The sums of one observation of a tile, or what `row` needs for them, and its memory afterwards.

        values (k, tile); memory: from `open`; valid (tile). group: (..., tile) -> (..., rung, member, group).
        number: of the observation, counted from 0; negative before the burn-in is over.
        """
        del number
        return self.reduce(group(values), group(valid)), memory

    def before(self, number: Any) -> Any:
        """Rows of all observations before this one; none in the burn-in if it is ragged."""
        return number

    def row(self, found: Any, memory: Any, nth: Any, group: Callable) -> Any:
        """The nth row of an observation, from what `follow` has found."""
        del memory, nth, group
        return found

    def unroll(self, rows: Any, start: int, stop: int, most: int) -> Iterator[tuple[int, Any]]:
        """Ragged rows of the observations start … stop - 1, on the host, as (level, rows) that a record takes in order.

        most: the highest level that it takes.
        """
        raise NotImplementedError(f"{type(self).__name__} declares ragged and must offer unroll")

    def reduce(self, values: jax.Array, valid: jax.Array) -> Any:
        """Sums over members: values (k, rung, member, group), valid (rung, member, group) -> (component, rung, group)."""
        raise NotImplementedError(f"{type(self).__name__} must offer reduce, or follow")

    @abc.abstractmethod
    def merge(self, a: Any, b: Any) -> Any:
        """The sums of both."""

    @abc.abstractmethod
    def result(self, record: Record, setting: Setting, *, after: int = 0) -> Any:
        """What the user reads, from the observations after a step."""

    def _check(self, *, of_observables: bool = False) -> None:
        """For `__post_init__` of the subclasses."""
        name = type(self).__name__
        for field, least in (("every", 1), ("burn_in", 0)):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name}: {field} must be an integer of at least {least} steps; got {value!r}")
        if isinstance(self.measure, Observable):
            if not of_observables:
                raise TypeError(
                    f"{name} takes a function of the position or one of `observables`; got {self.measure!r}"
                )
        elif callable(self.measure):
            object.__setattr__(self, "measure", as_measurement(self.measure))  # once, before anything is traced
        else:
            raise TypeError(f"{name} takes a function of the position or one of `observables`; got {self.measure!r}")


SHORT = 32  # members that XLA sums in one loop


def sum_members(values: jax.Array) -> jax.Array:
    """The sum over axis -2: (..., member, group) as (..., group).

    In pieces of at most 32: XLA cuts longer sums into windows, whose loops take five times as long.
    """
    *lead, members, groups = values.shape
    if members <= SHORT:
        return jnp.sum(values, axis=-2)
    pieces = -(-members // SHORT)
    each = -(-members // pieces)
    values = jnp.pad(values, [(0, 0)] * len(lead) + [(0, pieces * each - members), (0, 0)])
    return sum_members(jnp.sum(values.reshape(*lead, pieces, each, groups), axis=-2))


def is_observable(node: Any) -> bool:
    """For `is_leaf` when mapping over a tree of observables; neither None nor a bare measurement may vanish."""
    return node is None or isinstance(node, Observable | Measurement)
