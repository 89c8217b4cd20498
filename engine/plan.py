"""How a run goes on: the program that is compiled, its ingredients on the device, and the way of its rows to the records."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .configuration import SHARED, STEP, configure, evaluate
from .layout import Layout, choose
from .marks import is_mark
from .noise import leg_key, stream_keys
from .observables import Observable
from .observables.observable import is_observable
from .observables.record import MOST, MOST_MERGED, Record, fold, level_of, widen
from .program import Batch, Carry, Program, Window, window
from .run import Run

ROW_BYTES = 2**22  # of observations that a device's block may hold
GROUPED_BYTES = 2**20  # of whole numbers, where a row takes many of them
MOST_ROWS = 1024
MOST_STEPS = 1 << 20  # in a block without schedules
SCHEDULED_STEPS = 4096  # in a block with schedules, whose values are passed as arrays


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
            keys=stream_keys(leg_key(run.key, run.leg)), parts=(), firsts=(),
            most=SCHEDULED_STEPS if config.schedules else MOST_STEPS,
            label=f"{scheme} · {layout.particles * layout.rungs:,} particles",
        )  # fmt: skip
        return plan._with_batches(run) if observables else plan

    def _with_batches(self, run: Run) -> "Plan":
        """Sort the observables into batches."""
        lead = 2 if run.ladder else 1
        state = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[lead:], a.dtype), run.state)
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
            value = jax.ShapeDtypeStruct((int(ends[-1]),), jnp.result_type(*(sizes[i] for i in members)))
            batches.append(batch_of(members, observables[members[0]], value, layout))
        program = self.program._replace(batches=tuple(batches))
        return self._replace(
            program=program, parts=tuple(parts[i] for i in range(len(observables))),
            firsts=tuple(run.records[batch.members[0]].first for batch in batches),
        )  # fmt: skip

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
        begun = tuple(self._begun(run, batch) for batch in self.program.batches)
        # both as what has run comes back: compiled once
        begun = jax.device_put(begun)
        state = jax.device_put(run.state, jax.local_devices()[0]) if layout.devices > 1 else run.state
        return layout.spread(Carry(layout.pack(state), layout._replace(last=True).pack(memories), begun))

    def _begun(self, run: Run, batch: Batch) -> Any:
        """The rows (tiles, ...) that a batch goes on with: as they were left, or their sums where tiles have changed."""
        if not batch.continued:
            return ()
        layout, records = self.program.layout, [run.records[i] for i in batch.members]
        rows = np.zeros((layout.tiles, *batch.row.shape), batch.row.dtype)
        if records[0].tail is None:
            return rows
        first = run.named_observables()[batch.members[0]][1]
        begun = [first.begin(r.tail, layout.tiles_of_rung) for r in records]  # (component, rung, group)
        around = lambda a: (len(a), *a.shape[-2:])  # all but the components  # noqa: E731
        if all(r.open and all(around(a) == around(rows) for a in r.open or ()) for r in records):
            return first.pack([type(row)(*(r.open or ())) for r, row in zip(records, begun, strict=True)])
        for rung, sums in enumerate(np.moveaxis(first.pack(begun), -2, 0)):
            tiles, within = layout.place(rung)
            rows[tiles, :, within] = sums
        return rows

    def unpack(self, carry: tuple) -> dict[str, Any]:
        """The inverse of `pack`: the fields of the run."""
        layout = self.program.layout
        states, memories, _ = zip(*carry, strict=True)
        # one after the other: of a large population no second copy is made
        state = jax.tree.map(lambda *leaf: layout.unpack(layout.gather(leaf)), *states)
        last = layout._replace(last=True)
        found = jax.tree.map(lambda *leaf: np.asarray(last.unpack(layout.gather(leaf))), *memories)
        return {"state": state, "memories": tuple(found[number] for number, _, _ in self.parts)}

    def _numbers(self, start: int) -> list[tuple[int, int]]:
        """For each batch: the number of its first observation after a step, and the level at which it arrives."""
        numbers = [
            (start // b.every - first // b.every) + 1
            for b, first in zip(self.program.batches, self.firsts, strict=True)
        ]
        return [(k, level_of(k) if b.grouped else 0) for k, b in zip(numbers, self.program.batches, strict=True)]

    def room(self, start: int) -> int:
        """Steps that a block may take from a step on: its rows must find place, and be of one level."""
        room = self.most
        for (k, level), batch, first in zip(self._numbers(start), self.program.batches, self.firsts, strict=True):
            # blocks end where their rows are merged, as far as they can; rows of the burn-in are not needed
            most = ((k >> level) // batch.capacity + 1) * batch.capacity << level if k >= 0 else 0
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
            observable = observables[batch.members[0]]
            origin, stop = k >> level, (end - 1 >> level) + 1
            begin = max(origin, 0)  # groups of observations before number 0 belong to the burn-in
            kept = slice(*(observable.before(number) - observable.before(origin) for number in (begin, stop)))
            row = jax.tree.map(lambda *a, s=kept: np.concatenate([np.asarray(part)[:, s] for part in a]), *parts)
            if batch.continued:
                times = np.full((stop - begin, 1, 1, 1), 1 << level, np.int32)
                times[-1] = (end - 1 & (1 << level) - 1) + 1
                row = observable.unpack(row, self.program.layout.members()[:, None, None] * times)
            if batch.particles:
                public = self.program.layout.unpack_recorded(row)
            else:
                public = fold(observable.merge, observable.settle(widen(self._abreast(row))))
            if batch.grouped:
                begun = end - (end >> level << level)
                for i in batch.members:
                    part = functools.partial(observables[i].part, start=self.parts[i][1], stop=self.parts[i][2])
                    opened = (
                        [a[:, -1].copy() for a in jax.tree.leaves(part(row))] if begun and batch.continued else None
                    )
                    records[i].push(part(public), level, begun, whole=batch.continued, opened=opened)
                continue
            # what all members have in common is merged once
            most = records[batch.members[0]].level
            for height, mine in observable.unroll(public, begin, stop, most):
                for i in batch.members:
                    records[i].push(observables[i].part(mine, *self.parts[i][1:]), height)
        return records

    def _abreast(self, rows: Any) -> Any:
        """Rows of tiles (or devices) as (parts of a rung, rows, component, rung, group)."""
        layout = self.program.layout

        def leaf(a: np.ndarray) -> np.ndarray:
            parts = layout.tiles_of_rung if layout.ladder else len(a)
            a = a[: len(a) // parts * parts]
            a = np.moveaxis(a.reshape(len(a) // parts, parts, *a.shape[1:]), 0, -3)
            return a.reshape(*a.shape[:-3], -1, a.shape[-1])[..., : layout.rungs, :]

        return jax.tree.map(leaf, rows)


def shape_of_row(first: Observable, value: jax.ShapeDtypeStruct, layout: Layout) -> Any:
    """The shapes of a row of a tile, of observables that all reduce like `first`; value: as for `batch_of`."""
    of_tile = lambda a: jax.ShapeDtypeStruct((*a.shape, layout.tile), a.dtype)  # noqa: E731
    if first.keeps_particles:
        return of_tile(value)
    valid, memory = of_tile(jax.ShapeDtypeStruct((), jnp.bool_)), jax.tree.map(of_tile, first.memory(value))
    return jax.eval_shape(functools.partial(_row, layout=layout), first, of_tile(value), memory, valid)


@functools.partial(jax.jit, static_argnames="layout")
def _row(first: Observable, values: Any, memory: Any, valid: Any, *, layout: Layout) -> Any:
    """A row of a tile, under `jit` for its memory alone: at the next call for the same shapes nothing is traced."""
    memory = first.open(memory, valid, layout.grouped)
    found = first.follow((values,), memory, valid, np.int32(0), layout.grouped)
    return first.restart(*found, layout.grouped) if first.continued else first.row(*found, np.int32(0), layout.grouped)


def batch_of(members: tuple[int, ...], first: Observable, value: jax.ShapeDtypeStruct, layout: Layout) -> Batch:
    """The batch of observables that all reduce like `first`; value: the shape (k,) of their components side by side."""
    capacity = lambda room, size: int(np.clip(room // (4 * size), 1, MOST_ROWS))  # noqa: E731
    row = shape_of_row(first, value, layout)
    plain = Batch(members, first.every, 1, particles=True, grouped=False, continued=False, merged=False, row=row)
    if first.keeps_particles:
        return plain._replace(capacity=capacity(ROW_BYTES, value.size * layout.tile * layout.tiles))
    sums = jax.tree.leaves(row)
    exact = all(leaf.dtype.kind in "iu" for leaf in sums)
    grouped = (exact and not first.keeps_time) or first.continued
    merged = not layout.ladder and layout.tiles > layout.devices and ((exact and grouped) or first.in_turn)
    # a memory is copied at every block, so that rows of half its size cost little beside it; not if tiles share them
    tiles = layout.tiles // layout.devices
    copied = 4 * tiles * layout.tile * sum(leaf.size for leaf in jax.tree.leaves(first.memory(value)))
    room = GROUPED_BYTES if exact else ROW_BYTES if merged else max(ROW_BYTES, copied // 2)
    size = first.before(MOST_ROWS) * sum(leaf.size for leaf in sums) // MOST_ROWS  # of an observation's rows
    rows = 1 << capacity(room, size * (1 if merged else tiles)).bit_length() - 1  # to be merged in pairs
    rows = min(rows, MOST) if first.continued else rows  # no block takes more
    return plain._replace(capacity=rows, particles=False, grouped=grouped, continued=first.continued, merged=merged)
