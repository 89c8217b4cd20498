"""From what the user gave to a `Run` that can go on: everything checked, the state initialised."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from .checks import (
    UNTRACEABLE,
    check_energy,
    check_fit,
    check_integrator,
    check_positions,
    check_stability,
    check_step,
    untraceable,
)
from .configuration import Configuration, Recipe, configure, evaluate_first
from .marks import is_mark
from .noise import Stream, counter, key_words, leg_key, normals, stream_key
from .observables import Observable
from .observables.observable import is_observable
from .observables.record import Record
from .observables.standard import standard
from .observables.statistics import Setting
from .plan import Plan
from .protocols import Draw, Integrator, Noise, Potential, as_potential
from .pytree import named_leaves
from .run import Run


def prepare(potential: Any, integrator: Any, positions: Any, *, key: Any, observables: Any) -> Run:
    """A run at step 0: everything checked, the integrator's state initialised."""
    if positions is None or integrator is None:
        raise TypeError("simulate takes (potential, integrator, positions, steps=...), or (run, steps=...)")
    potential = as_potential(potential)
    check_integrator(integrator)
    words = np.asarray(key_words(key))
    positions, n = check_positions(positions)
    return _begin(potential, integrator, positions, n, words, observables, leg=0, ladder=False)


def resume(run: Run, *, integrator: Any, positions: Any, key: Any, observables: Any) -> Run:
    """A run that goes on: as it was, or with another integrator or new observables from here on."""
    if positions is not None:
        raise TypeError("simulate(run, ...) goes on from the run's own positions; positions cannot be given")
    if key is not None:
        raise TypeError("simulate(run, ...) goes on with the run's own key; key cannot be given")
    if integrator is not None and integrator is not run.integrator:
        check_integrator(integrator)
        run = _change(run, integrator)
    if observables is not None:
        run = _observe(run, observables)
    return run


def _begin(
    potential: Potential, integrator: Integrator, positions: Any, n: int, key: np.ndarray, observables: Any, *, leg: int,
    ladder: bool, step: int = 0, time: Any = 0.0,
) -> Run:  # fmt: skip
    drop = 2 if ladder else 1
    position = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[drop:], a.dtype), positions)
    check_fit(integrator, potential, position)
    dtype = jnp.result_type(jnp.float32, *jax.tree.leaves(positions))
    rungs = jax.tree.leaves(positions)[0].shape[0] if ladder else None
    config = configure((potential, integrator), position, n, dtype, rungs)
    if config.rungs is not None and not ladder:
        positions = jax.tree.map(lambda a: jnp.broadcast_to(a, (config.rungs, *a.shape)), positions)
        ladder = True
    scheduled = evaluate_first(config.schedules, step, position, dtype)
    first = [values[0] if config.rungs is None else values[0, 0] for values in config.particle]
    realised, kernel = config.recipe.build(config.shared, first, scheduled)
    check_energy(realised, position)
    spec = integrator.init_noise
    shape = lambda count: tuple(position for _ in range(count))  # noqa: E731
    state = jax.eval_shape(kernel.init, realised, position, Noise(shape(spec.normals)))
    check_step(kernel, state, _abstract_step(integrator, kernel, realised, position, state))
    check_stability(integrator, potential, position)
    if observables is None:
        observables = standard(potential, integrator, position)
    lead = (config.rungs, n) if config.rungs is not None else (n,)
    measured = _measure(observables, realised, kernel, state, lead, step, _plain_step(integrator))
    return Run(
        potential=potential, integrator=integrator, measured=observables, key=key, ladder=ladder, step=step, leg=leg,
        leg_step=step, leg_time=time, **measured,
        state=initialise(config, positions, n, leg_key(key, leg), scheduled, ladder),
    )  # fmt: skip


def _abstract_step(integrator: Integrator, kernel: Integrator, potential: Potential, position: Any, state: Any) -> Any:
    """The shapes that a step returns, on a potential with its draws made."""
    spec, array = integrator.noise, jax.ShapeDtypeStruct
    dtype = jnp.result_type(jnp.float32, *jax.tree.leaves(position))
    noise = Noise(
        tuple(position for _ in range(spec.normals)),
        array((spec.scalars,), dtype),
        array((spec.uniforms,), dtype),
        array((spec.words,), jnp.uint32),
    )
    draws = tuple(Draw(array((chance.words,), jnp.uint32), array((), jnp.int32)) for chance in potential.chance)
    check_energy(potential, position, draws)
    try:
        return jax.eval_shape(_stepped, kernel, potential, draws, state, noise)
    except UNTRACEABLE as error:
        raise untraceable(f"{type(integrator).__name__}.step", error) from error
    except IndexError as error:
        raise IndexError(
            f"{type(integrator).__name__}.step takes more noise than it declares, {spec}: raise the count in `noise`"
        ) from error


def _stepped(kernel: Integrator, potential: Potential, draws: tuple[Draw, ...], state: Any, noise: Noise) -> Any:
    # a function of the module and trees: the next run of their kind finds the trace
    return kernel.step(potential.at(draws), state, noise)


def initialise(
    config: Configuration, positions: Any, n: int, key: Any, scheduled: list, ladder: bool, stream: Stream = Stream.INIT
) -> Any:
    """The integrator's state for every particle, public layout."""
    flat = lambda tree: jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), tree) if ladder else tree  # noqa: E731
    count = n * (config.rungs or 1) if ladder else n
    ids = np.arange(count, dtype=np.uint32) % np.uint32(n if config.shared_noise else count)
    state = _init(
        config.recipe,
        config.shared,
        flat(config.particle),
        scheduled,
        flat(positions),
        stream_key(key, stream),
        ids,
    )
    return jax.tree.map(lambda a: a.reshape(-1, n, *a.shape[1:]), state) if ladder else state


@functools.partial(jax.jit, static_argnames=("recipe",))
def _init(recipe: Recipe, shared: list, particle: list, step: list, positions: Any, key: Any, ids: Any) -> Any:
    """`integrator.init` for every particle; its noise has a stream of its own."""

    def one(particle: list, position: Any, number: Any) -> Any:
        potential, integrator = recipe.build(shared, particle, step)
        flat, unravel = ravel_pytree(position)
        coordinates = jnp.arange(flat.size, dtype=jnp.uint32)
        dtype = jnp.result_type(jnp.float32, flat.dtype)
        count = integrator.init_noise.normals
        pairs = normals(key, counter(0), (count + 1) // 2, number, coordinates, dtype) if count else ()
        drawn = [(pairs[slot // 2].real, pairs[slot // 2].imag)[slot % 2] for slot in range(count)]
        return integrator.init(potential, position, Noise(tuple(unravel(xi.astype(flat.dtype)) for xi in drawn)))

    return jax.vmap(one)(particle, positions, ids)


def _change(run: Run, integrator: Integrator) -> Run:
    """The run under another integrator, from the same positions, and the same momenta if both have them."""
    changed = _begin(
        run.potential, integrator, run.positions, run.particles, run.key, run.measured,
        leg=run.leg + 1, ladder=run.ladder, step=run.step, time=run.time if run.time is not None else 0.0,
    )  # fmt: skip
    if type(changed.state) is type(run.state) and run.momenta is not None and "momentum" in run.state._fields:
        changed = dataclasses.replace(changed, state=changed.state._replace(momentum=run.momenta))
    return changed


def _observe(run: Run, observables: Any) -> Run:
    """The run with new observables that begin at its step."""
    bare = Plan.of(dataclasses.replace(run, measured=(), records=(), settings=(), memories=()))
    potential, integrator, _ = bare.first()
    drop = 2 if run.ladder else 1
    state = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[drop:], a.dtype), run.state)
    lead = (run.rungs, run.particles) if run.rungs is not None else (run.particles,)
    measured = _measure(observables, potential, integrator, state, lead, run.step, _plain_step(run.integrator))
    return dataclasses.replace(run, measured=observables, **measured)


def _plain_step(integrator: Integrator) -> float | None:
    """The time of a step, if it is one number."""
    h = integrator.step_size
    return None if h is None or callable(h) or is_mark(h) or np.ndim(h) else float(h) * integrator.substeps


def _measure(
    observables: Any, potential: Potential, integrator: Integrator, state: Any, lead: tuple[int, ...], step: int,
    step_size: float | None,
) -> dict[str, tuple]:  # fmt: skip
    """Empty records and memories for a tree of observables from a step on, and what their results must know of the run.

    Everything is checked on the shapes of one state; lead: the leading axes of a population.
    """
    records, settings, memories = [], [], []
    independent = not any(chance.shared for chance in potential.chance)
    for observable in jax.tree.leaves(observables, is_leaf=is_observable):
        if not isinstance(observable, Observable):
            raise TypeError(
                "observables must be a tree of observables, such as "
                "{'energy': observables.Mean(observables.potential_energy)}; it holds a "
                f"{type(observable).__name__}, {observable!r}: wrap a measurement or function in Mean(...)"
            )
        if any(is_mark(leaf) for _, _, leaf in named_leaves(observable, is_mark)):
            raise TypeError(f"observables take plain numbers: no each, sweep or schedule; got {observable!r}")
        measure = observable.measure.measure if isinstance(observable.measure, Observable) else observable.measure
        observable.check(potential, integrator, state)
        try:
            value = jax.eval_shape(measure, potential, integrator, state)
        except UNTRACEABLE as error:
            raise untraceable(f"the measurement of {type(observable).__name__}", error) from error
        first = ((step + observable.burn_in) // observable.every + 1) * observable.every
        records.append(Record(first=first, every=observable.every, merge=observable.merge, keep=observable.keeps_time))
        settings.append(Setting(lead[-1], independent, len(lead) == 2, _restorer(value), step, step_size))
        memory = observable.memory(observable.shape(potential, integrator, state))
        memories.append(jax.tree.map(lambda a: np.zeros((*lead, *a.shape), a.dtype), memory))
    return {"records": tuple(records), "settings": tuple(settings), "memories": tuple(memories)}


def _restorer(value: Any) -> Any:
    """Ravelled components (..., k) as the measured tree."""
    leaves, treedef = jax.tree.flatten(value)
    ends = np.cumsum([int(np.prod(leaf.shape)) for leaf in leaves])

    def restore(array: np.ndarray) -> Any:
        parts = np.split(array, ends[:-1], axis=-1)
        shaped = [part.reshape((*array.shape[:-1], *leaf.shape)) for part, leaf in zip(parts, leaves, strict=True)]
        return jax.tree.unflatten(treedef, shaped)

    return restore
