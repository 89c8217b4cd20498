"""An observable is a measurement and a reducer: sums over particles in groups on the device, over time on the host."""

import abc
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..protocols import Integrator, Potential
from .measurements import Measurement, as_measurement
from .members import join_parts
from .record import Record, climb, cut, pairs
from .statistics import Setting


class Observable(abc.ABC):
    """Base of the reducers. Fields of every subclass: `measure`, `every` (steps), `burn_in` (steps left out first).

    On the device, `reduce` turns the values of a tile's particles into sums over groups, or `follow` where values come in
    parts or are remembered; `extend` adds an observation to a row of several; `settle` makes sums of a row, and `merge` adds
    them, for tiles, devices, times and restarts alike. Sums have the trailing axes (component, rung, group).
    """

    measure: Any
    every: int
    burn_in: int
    keeps_particles = False  # the values themselves are kept, and tiles are joined, not merged
    keeps_time = False  # every row is kept apart
    in_turn = False  # tiles are merged one after the other, not in pairs: a row is larger than the values of a tile
    ragged = False  # an observation is several rows, how many by its number
    continued = False  # sums of several observations depend on their order: a row goes on where a block ends
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
        parts = jax.eval_shape(_values, self, potential, integrator, state)
        return jax.ShapeDtypeStruct((sum(part.size for part in parts),), jnp.result_type(*parts))

    @property
    def alike(self) -> Hashable:
        """Observables of equal value here may be reduced as one, their components joined; None keeps this one apart."""
        return None

    def part(self, sums: Any, start: int, stop: int) -> Any:
        """The sums of some of the components that were reduced together, on the host; axis -3 is the component."""
        del start, stop
        return sums

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

    def follow(self, parts: tuple, memory: Any, valid: jax.Array, number: Any, group: Callable) -> tuple[Any, Any]:
        """The sums of one observation of a tile, or what `row` needs for them, and its memory afterwards.

        parts: (k', tile) each, of all observables that are reduced as one. memory: from `open`; valid (tile).
        group: (..., tile) -> (..., rung, member, group). number: of the observation, counted from 0; negative before the
        burn-in is over.
        """
        del number
        return self.reduce(group(join_parts(parts)), group(valid)), memory

    def before(self, number: Any) -> Any:
        """Rows of all observations before this one; none in the burn-in if it is ragged."""
        return number

    def row(self, found: Any, memory: Any, nth: Any, group: Callable) -> Any:
        """The nth row of an observation, from what `follow` has found."""
        del memory, nth, group
        return found

    def restart(self, found: Any, memory: Any, group: Callable) -> Any:
        """A row without observations, as the first of them needs it: of sums that are whole numbers, or `continued`."""
        shapes = jax.eval_shape(lambda: self.row(found, memory, 0, group))
        return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    def extend(self, row: Any, found: Any, memory: Any, group: Callable) -> Any:
        """A row with an observation added."""
        return self.merge(row, self.row(found, memory, 0, group))

    def unroll(self, rows: Any, start: int, stop: int, most: int) -> Iterator[tuple[int, Any]]:
        """Rows of the observations start … stop - 1, on the host, as (level, rows) that a record takes in order.

        most: the level of the record, up to which they are merged as it would do it.
        """
        first = start  # the number of the first row that is still there

        def take(level: int, begin: int, end: int) -> Any:
            del level
            return cut(rows, begin - first, end - first)

        def pair(level: int, begin: int, end: int) -> None:
            nonlocal rows, first
            rows, first = pairs(self.merge, take(level - 1, 2 * begin, 2 * end)), begin

        return climb(start, stop, most, take, pair)

    def reduce(self, values: jax.Array, valid: jax.Array) -> Any:
        """Sums over members: values (k, rung, member, group), valid (rung, member, group) -> (component, rung, group)."""
        raise NotImplementedError(f"{type(self).__name__} must offer reduce, or follow")

    @abc.abstractmethod
    def merge(self, a: Any, b: Any) -> Any:
        """The sums of both."""

    def unpack(self, row: Any, count: Any) -> Any:
        """Rows as they come from the device, with how many values are in each, as a tree of numpy arrays; if `continued`."""
        raise NotImplementedError(f"{type(self).__name__} does not go on with rows")

    def pack(self, rows: Sequence[Any]) -> np.ndarray:
        """The inverse of `unpack`, for the rows of all observables that are reduced as one."""
        raise NotImplementedError(f"{type(self).__name__} does not go on with rows")

    def settle(self, row: Any) -> Any:
        """What `merge` adds, from rows on the host."""
        return row

    def begin(self, sums: Any, parts: int) -> Any:
        """The inverse of `settle`, for each of so many parts of the particles; if `continued`."""
        raise NotImplementedError(f"{type(self).__name__} does not go on with rows")

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


@jax.jit
def _values(observable: Observable, potential: Potential, integrator: Integrator, state: Any) -> tuple[jax.Array, ...]:
    """Under `jit` for its memory alone: at the next call for the same shapes nothing is traced."""
    return observable.values(potential, integrator, state)


def is_observable(node: Any) -> bool:
    """For `is_leaf` when mapping over a tree of observables; neither None nor a bare measurement may vanish."""
    return node is None or isinstance(node, Observable | Measurement)
