"""From what the user gave to what the loop runs: a checked `Run` at its first step, and a `Plan` of how to go on."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from .block import Batch, Carry, Program, Window, window
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
from .configuration import SHARED, STEP, Configuration, Recipe, configure, evaluate, evaluate_first
from .layout import choose
from .marks import is_mark
from .noise import Stream, counter, key_words, normals, stream_key, stream_keys, threefry
from .observables import Observable
from .observables.observable import is_observable
from .observables.record import MOST, MOST_MERGED, Record, cut, fold, level_of, widen
from .observables.standard import standard
from .observables.statistics import Setting
from .protocols import Draw, Integrator, Noise, Potential, as_potential
from .pytree import named_leaves
from .run import Run

ROW_BYTES = 2**21  # of observations that a block may hold
GROUPED_BYTES = 2**19  # where a row takes many of them
MOST_ROWS = 256
MOST_STEPS = 1 << 20  # in a block without schedules
LARGE = 2**20  # coordinates of a population
SCHEDULED_STEPS = 4096  # in a block with schedules, whose values are passed as arrays


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
        state=initialise(config, positions, n, _leg_key(key, leg), scheduled, ladder),
    )  # fmt: skip


def _abstract_step(integrator: Integrator, kernel: Integrator, potential: Potential, position: Any, state: Any) -> Any:
    """The shapes that a step returns, on a potential with its draws made."""
    spec, dtype = integrator.noise, jnp.result_type(jnp.float32, *jax.tree.leaves(position))
    noise = Noise(
        tuple(position for _ in range(spec.normals)),
        jnp.zeros(spec.scalars, dtype),
        jnp.zeros(spec.uniforms, dtype),
        jnp.zeros(spec.words, jnp.uint32),
    )
    draws = tuple(Draw(jnp.zeros(chance.words, jnp.uint32), jnp.int32(0)) for chance in potential.chance)
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


def _leg_key(key: np.ndarray, leg: int) -> np.ndarray:
    """The key of a leg: a change of integrator draws new noise, whatever step numbers it goes on with."""
    if leg == 0:
        return key
    return np.concatenate(threefry(key[:1], key[1:], np.full(1, Stream.LEG, np.uint32), np.full(1, leg, np.uint32)))


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


class Plan(NamedTuple):
    """How a run goes on: the program that is compiled, and its ingredients on the device."""

    program: Program
    shared: list
    particle: tuple  # a part for each device
    schedules: list
    keys: dict  # of the streams
    most: int  # steps that a block may take
    parts: tuple[tuple[int, int, int], ...]  # of each observable: its batch, and its components there
    firsts: tuple[int, ...]  # of each batch: the step of its first observation
    label: str

    @classmethod
    def of(cls, run: Run) -> "Plan":
        """The plan for a run."""
        observables = tuple(jax.tree.leaves(run.measured, is_leaf=is_observable))
        leaves, treedef = jax.tree.flatten(run.position)
        dtype = jnp.result_type(jnp.float32, *(leaf.dtype for leaf in leaves))
        config = configure((run.potential, run.integrator, observables), run.position, run.particles, dtype, run.rungs)
        ends = np.cumsum([len(jax.tree.leaves(part, is_leaf=is_mark)) for part in (run.potential, run.integrator)])
        if set(config.recipe.kinds[ends[1] :]) - {SHARED}:
            raise TypeError("observables take plain numbers: no each, sweep or schedule")
        on_cpu = jax.default_backend() == "cpu"
        layout = choose(
            particles=run.particles, rungs=config.rungs, shared_noise=config.shared_noise,
            position=run.position, normals=run.integrator.noise.normals, heavy=config.is_heavy(run.position),
            devices=jax.local_device_count() if on_cpu else 1, accelerator=not on_cpu,
        )  # fmt: skip
        program = Program(
            recipe=config.recipe, layout=layout, position=(treedef, tuple(leaves)), noise=run.integrator.noise,
            chance=run.potential.chance, driven=STEP in config.recipe.kinds[: ends[0]], batches=(),
        )  # fmt: skip
        scheme = getattr(run.integrator, "scheme", type(run.integrator).__name__)
        plan = cls(
            program=program, shared=config.shared, particle=layout.spread(layout.pack(config.particle)),
            schedules=config.schedules,
            keys=stream_keys(_leg_key(run.key, run.leg)), parts=(), firsts=(),
            most=SCHEDULED_STEPS if config.schedules else MOST_STEPS,
            label=f"{scheme} · {layout.particles * layout.rungs:,} particles",
        )  # fmt: skip
        return plan._with_batches(run) if observables else plan

    def _with_batches(self, run: Run) -> "Plan":
        """Sort the observables into batches with room for as many rows as `ROW_BYTES` allow."""
        state = jax.tree.map(lambda a: a[0, 0] if run.ladder else a[0], run.state)
        potential, integrator, observables = self.first()
        sizes = [o.shape(potential, integrator, state) for o in observables]
        keys = [
            (o.every, run.records[i].first, o.keeps_time, o.alike if o.alike is not None else i)
            for i, o in enumerate(observables)
        ]
        layout, batches, parts = self.program.layout, [], {}
        for number, key in enumerate(dict.fromkeys(keys)):
            members = tuple(i for i, k in enumerate(keys) if k == key)
            ends = np.cumsum([sizes[i].size for i in members])
            parts |= {i: (number, int(end - sizes[i].size), int(end)) for i, end in zip(members, ends, strict=True)}
            first, size, room_for_rows = observables[members[0]], int(ends[-1]) * layout.tile, ROW_BYTES
            exact = False
            if not first.keeps_particles:
                values = jax.ShapeDtypeStruct((int(ends[-1]), layout.tile), sizes[0].dtype)
                memory = first.memory(sizes[members[0]])
                memory = jax.tree.map(lambda a: jax.ShapeDtypeStruct((*a.shape, layout.tile), a.dtype), memory)
                valid = layout.grouped(np.ones(layout.tile, bool))
                follow = lambda v, m, o=first, ok=valid: o.follow(v, m, ok, np.int32(0), layout.grouped)[0]  # noqa: E731
                sums = jax.tree.leaves(jax.eval_shape(follow, values, memory))
                size, exact = sum(leaf.size for leaf in sums), all(leaf.dtype.kind in "iu" for leaf in sums)
                # a memory is copied at every block, so its rows may take half as much
                room_for_rows = GROUPED_BYTES if exact else ROW_BYTES
                room_for_rows = max(
                    room_for_rows, 2 * layout.tiles * sum(leaf.size for leaf in jax.tree.leaves(memory))
                )
            capacity = int(np.clip(room_for_rows // (4 * size * layout.tiles), 1, MOST_ROWS))
            grouped = exact and not first.keeps_time
            batches.append(Batch(members, first.every, capacity, first.keeps_particles, grouped))
        program = self.program._replace(batches=tuple(batches))
        return self._replace(
            program=program, parts=tuple(parts[i] for i in range(len(observables))),
            firsts=tuple(run.records[batch.members[0]].first for batch in batches),
        )  # fmt: skip

    @property
    def large(self) -> bool:
        """Whether the population's memory matters beside the compiler's."""
        return self.program.layout.padded * self.program.size >= LARGE

    def first(self) -> tuple:
        """The potential, integrator and observables as the first particle sees them at step 0; shapes matter only."""
        particle = [values[0, ..., 0] if self.program.layout.last else values[0, 0] for values in self.particle[0]]
        dtype = self.program.dtype
        values = evaluate(self.schedules, 0, 1, 1, dtype, self.program.position[1])
        return self.program.recipe.build(self.shared, particle, [v[0] for v in values])

    def pack(self, run: Run) -> tuple:
        """What a run carries in the layout of the blocks, a part for each device."""
        layout = self.program.layout
        memories = tuple(run.memories[batch.members[0]] for batch in self.program.batches)
        return layout.spread(Carry(layout.pack(run.state), layout._replace(last=True).pack(memories)))

    def unpack(self, carry: tuple) -> dict[str, Any]:
        """The inverse of `pack`: the fields of the run."""
        layout = self.program.layout
        state, memories = layout.gather(carry)
        memories = jax.tree.map(np.asarray, layout._replace(last=True).unpack(memories))
        return {"state": layout.unpack(state), "memories": tuple(memories[number] for number, _, _ in self.parts)}

    def _numbers(self, start: int) -> list[tuple[int, int]]:
        """For each batch: the number of its first observation after a step, and the level of the rows from there on."""
        numbers = [
            (start // b.every - first // b.every) + 1
            for b, first in zip(self.program.batches, self.firsts, strict=True)
        ]
        return [(k, level_of(k) if b.grouped else 0) for k, b in zip(numbers, self.program.batches, strict=True)]

    def room(self, start: int) -> int:
        """Steps that a block may take from a step on: its rows must find place, and be of one level."""
        room = self.most
        for (k, level), batch, first in zip(self._numbers(start), self.program.batches, self.firsts, strict=True):
            most = ((k >> level) + batch.capacity) << level
            if batch.grouped and level < MOST_MERGED:
                most = min(most, MOST << level)
            room = min(room, first + most * batch.every - 1 - start)
        return room

    def window(self, start: int, count: int) -> Window:
        """The window of a block."""
        return window(self.program, start, count, self.firsts, tuple(level for _, level in self._numbers(start)))

    def scheduled(self, start: int, count: int) -> list:
        """The values of all schedules for the steps of a block."""
        return evaluate(self.schedules, start, count, SCHEDULED_STEPS, self.program.dtype, self.program.position[1])

    def collect(self, run: Run, records: tuple[Record, ...], start: int, count: int, rows: tuple) -> tuple[Record, ...]:
        """The records with a block's rows of observations pushed into copies of them, in float64."""
        observables = [o for _, o in run.named_observables()]
        records = tuple(record.copy() for record in records)
        for (k, level), batch, *parts in zip(self._numbers(start), self.program.batches, *rows, strict=True):
            end = k + (start + count) // batch.every - start // batch.every  # one past the last observation's number
            if end <= max(k, 0):  # nothing, or all of it is burn-in
                continue
            origin, n = k >> level, (end - 1 >> level) - (k >> level) + 1
            row = jax.tree.map(lambda *a, n=n: np.concatenate([np.asarray(part)[:, :n] for part in a]), *parts)
            if batch.particles:
                public = self.program.layout.unpack_recorded(row)
            else:
                public = self._merged(observables[batch.members[0]], widen(row))
            # groups of observations before number 0 belong to the burn-in
            begun = end - (end >> level << level)
            for i in batch.members:
                mine = observables[i].part(public, *self.parts[i][1:])
                records[i].push(cut(mine, max(0, -origin), n), level, begun)
        return records

    def _merged(self, observable: Observable, rows: Any) -> Any:
        """Rows of tiles (or devices) as (rows, component, rung, group), the parts of a rung merged in order."""
        layout = self.program.layout
        parts = layout.padded // layout.tile if layout.ladder else layout.devices
        parts = max(1, parts)

        def split(a: np.ndarray) -> np.ndarray:
            a = a[: len(a) // parts * parts]
            return np.moveaxis(a.reshape(len(a) // parts, parts, *a.shape[1:]), 1, 0)

        merged = fold(observable.merge, jax.tree.map(split, rows))  # (rungs / r, rows, component, r, group)

        def gather(a: np.ndarray) -> np.ndarray:
            a = np.moveaxis(a, 0, -3)
            return a.reshape(*a.shape[:-3], -1, a.shape[-1])[..., : layout.rungs, :]

        return jax.tree.map(gather, merged)
