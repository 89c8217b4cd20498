"""What a run is made of, sorted for the compiled block: shared numbers, one value a particle, one value a step."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .layout import is_heavy
from .marks import Each, Sweep, is_mark
from .pytree import check_matrix, check_number, is_matrix, named_leaves, size_of

MATRIX = "positive definite"  # the rule of fields that may be matrices
SHARED, PARTICLE, STEP = "shared", "particle", "step"


class Recipe(NamedTuple):
    """How to put a tree of configuration together again; hashable, so it is what a compiled block is specialised on."""

    treedef: Any
    kinds: tuple[str, ...]

    def build(self, shared: list, particle: list, step: list) -> Any:
        """The tree with plain numbers: for one particle and one step when the lists are."""
        sources = {SHARED: iter(shared), PARTICLE: iter(particle), STEP: iter(step)}
        return jax.tree.unflatten(self.treedef, [next(sources[kind]) for kind in self.kinds])


class Configuration(NamedTuple):
    """A checked configuration: the recipe and its ingredients."""

    recipe: Recipe
    shared: list  # arrays as they are
    particle: list  # arrays with a leading (n,), or (rungs, n) in a ladder
    schedules: list[tuple[str, str, Callable]]  # (name, rule, function of the step)
    rungs: int | None  # None without a ladder
    shared_noise: bool

    def is_heavy(self, position: Any) -> bool:
        """Whether the potential, first in the tree, draws minibatches or computes large arrays for one particle."""

        def energy(shared: list, particle: list, step: list, position: Any) -> jax.Array:
            return self.recipe.build(shared, particle, step)[0](position)

        first = [jax.ShapeDtypeStruct(a.shape[1 if self.rungs is None else 2 :], a.dtype) for a in self.particle]
        values = [jnp.asarray(schedule(0), jnp.float32) for _, _, schedule in self.schedules]
        draws = self.recipe.build(self.shared, first, values)[0].chance
        return bool(draws) or is_heavy(energy, self.shared, first, values, position)


def configure(tree: Any, position: Any, particles: int, dtype: Any, rungs: int | None = None) -> Configuration:
    """Check a tree of potentials, integrators and observables, and sort its leaves.

    position: one particle's position (shapes), against which unmarked arrays are checked. rungs: of the ladder that the
    population already is. Raises ValueError or
    TypeError that name the field.
    """
    treedef = jax.tree.structure(tree, is_leaf=is_mark)
    named = list(named_leaves(tree, is_mark))
    sweeps = [(name, leaf) for name, _, leaf in named if isinstance(leaf, Sweep)]
    lengths = {name: len(leaf.values) for name, leaf in sweeps}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"sweeps of one call move together and need one length; got {lengths}")
    if rungs is not None and sweeps and len(sweeps[0][1].values) != rungs:
        raise ValueError(f"the run is a ladder of {rungs} rungs; got sweeps of lengths {lengths}")
    rungs = len(sweeps[0][1].values) if sweeps else rungs
    lead = (particles,) if rungs is None else (rungs, particles)
    kinds, shared, per_particle, schedules = [], [], [], []
    for name, rule, leaf in named:
        if isinstance(leaf, Each | Sweep):
            values = np.asarray(leaf.values)
            if isinstance(leaf, Each):
                if len(values) != particles:
                    raise ValueError(f"{name}: each(...) needs one row a particle ({particles}); got {values.shape}")
                values = np.broadcast_to(values, lead + values.shape[1:])
            else:
                rows = values.reshape(values.shape[:1] + (1,) + values.shape[1:])
                values = np.broadcast_to(rows, lead + values.shape[1:])
            _check_shape(name, rule, values.shape[len(lead) :], position, leaf)
            _check_value(name, rule, np.asarray(leaf.values), values.shape[len(lead) :], position)
            kinds.append(PARTICLE)
            per_particle.append(jnp.asarray(values, dtype))
        elif callable(leaf):
            _check_schedule(name, leaf)
            kinds.append(STEP)
            schedules.append((name, rule or "", leaf))
        else:
            if rule is not None:
                _check_shape(name, rule, np.shape(leaf), position, leaf)
            if not isinstance(leaf, Tracer):
                _check_value(name, rule, leaf, np.shape(leaf), position)
            kinds.append(SHARED)
            as_float = rule is not None or isinstance(leaf, int | float)
            shared.append(jnp.asarray(leaf, dtype) if as_float else jnp.asarray(leaf))
    noise = {leaf.shared_noise for _, leaf in sweeps}
    return Configuration(Recipe(treedef, tuple(kinds)), shared, per_particle, schedules, rungs, noise == {True})


def evaluate_first(schedules: list[tuple[str, str, Callable]], start: int, position: Any, dtype: Any) -> list:
    """The values of schedules at one step, their shapes checked against one particle's position."""
    values = [rows[0] for rows in evaluate(schedules, start, 1, 1, dtype, position)]
    for (name, rule, schedule), value in zip(schedules, values, strict=True):
        _check_shape(name, rule, value.shape, position, schedule)
    return values


def evaluate(
    schedules: list[tuple[str, str, Callable]], start: int, count: int, length: int, dtype: Any, position: Any = ()
) -> list:
    """The values of schedules for the steps start … start + count - 1, the last repeated up to `length` rows.

    position: the shapes of one particle's, by which values that are matrices are known.
    """
    rows = []
    for name, rule, schedule in schedules:
        values = _evaluate(name, schedule, start, count, length)
        name = f"{name} (a schedule, within steps {start} to {start + count - 1})"
        _check_value(name, rule, values, values.shape[1:], position)
        rows.append(jnp.asarray(values, dtype))
    return rows


def _evaluate(name: str, schedule: Callable, start: int, count: int, length: int) -> np.ndarray:
    steps = start + np.minimum(np.arange(length), count - 1)  # always `length`, so that no count compiles anything
    try:
        values = np.asarray(jax.vmap(schedule)(jnp.asarray(steps, jnp.int32)), np.float64)
    except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError, TypeError, ValueError):
        rows = [schedule(int(step)) for step in steps[:count]]  # plain Python or numpy
        rows += rows[-1:] * (length - count)
        try:
            values = np.asarray(rows, np.float64)
        except (TypeError, ValueError):
            raise TypeError(f"{name}: a schedule must return numbers; at step {start} it gives {rows[0]!r}") from None
    if values.shape[0] != length:
        raise ValueError(
            f"{name}: a schedule must return one value a step; got shape {values.shape} for {length} steps"
        )
    return values


def _check_schedule(name: str, schedule: Callable) -> None:
    try:
        inspect.signature(schedule).bind(0)
    except TypeError as error:
        raise TypeError(f"{name}: a schedule is a function of the step alone; {schedule!r} is not ({error})") from None
    except ValueError:  # a builtin without a signature: calling it will tell
        pass


def _check_value(name: str, rule: str | None, values: Any, shape: tuple, position: Any) -> None:
    """Values, each of a shape, keep the rule of their field; where they are matrices, as matrices."""
    if rule == MATRIX and is_matrix(shape, position):
        check_matrix(name, values)
    elif rule is not None:
        check_number(name, rule, values)


def _check_shape(name: str, rule: str | None, shape: tuple, position: Any, value: Any) -> None:
    """Numbers under a rule are scalars or fit the position's coordinates; lists of values must be marked."""
    if rule is None or shape == ():
        return
    shapes, size = [np.shape(leaf) for leaf in jax.tree.leaves(position)], size_of(position)
    matrix = rule in ("", MATRIX)
    if shape in shapes or shape == (size,) or (matrix and shape == (size, size)):
        return
    choices = f"{shapes}, or a matrix {(size, size)}" if matrix else f"{shapes}"
    raise ValueError(
        f"{name} must be a scalar or shaped like one particle's position {choices}; got shape {shape} from "
        f"{type(value).__name__}. For one value a particle use engine.each(values), for a ladder engine.sweep(values)"
    )
