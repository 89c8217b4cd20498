"""A run as one `.npz`: arrays, and a JSON header that says what they are. Nothing is pickled."""

import dataclasses
import importlib
import itertools
import json
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .marks import Each, Sweep
from .noise import STREAM_VERSION
from .observables import Observable
from .observables.observable import is_observable
from .observables.record import Record, level_of
from .preparation import prepare
from .pytree import is_configuration
from .run import Run

SCHEMA = 5
HOME = __name__.partition(".")[0]  # only classes of this package are made from their names


def save(run: Run, path: Any) -> None:
    """Write a run; the file appears whole or not at all. Functions are not written: `load` takes them again."""
    path = pathlib.Path(path)
    arrays: dict[str, np.ndarray] = {}
    leaves, treedef = jax.tree.flatten(run.positions)
    header = {
        "schema": SCHEMA,
        "stream": STREAM_VERSION,
        "step": run.step,
        "leg": run.leg,
        "leg_step": run.leg_step,
        "ladder": run.ladder,
        "x64": bool(jax.config.read("jax_enable_x64")),
        "positions": _describe(jax.tree.unflatten(treedef, range(len(leaves))), arrays),
        "leaves": [[leaf.shape, str(leaf.dtype)] for leaf in leaves],
        "potential": _describe(run.potential, arrays),
        "integrator": _describe(run.integrator, arrays),
        "observables": _describe(run.measured, arrays),
        "records": [
            {
                "first": record.first,
                "rows": record.rows,
                "tail": record.tail_rows,
                "level": record.level,
                "pending": [row is not None for row in record.pending],
            }
            for record in run.records
        ],
    }
    arrays["key"], arrays["leg_time"] = np.asarray(run.key), np.asarray(run.leg_time)
    for i, leaf in enumerate(jax.tree.leaves(run.state)):
        arrays[f"state.{i}"] = np.asarray(leaf)
    for m, memory in enumerate(run.memories):
        for i, leaf in enumerate(jax.tree.leaves(memory)):
            arrays[f"memory.{m}.{i}"] = np.asarray(leaf)
    for r, record in enumerate(run.records):
        trees = {"blocks": record.blocks, "tail": record.tail, "begun": record.open}
        trees |= {f"pending{k}": row for k, row in enumerate(record.pending)}
        for name, tree in trees.items():
            for i, leaf in enumerate(jax.tree.leaves(tree)):
                arrays[f"record.{r}.{name}.{i}"] = leaf
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def load(
    path: Any, *, potential: Any = None, integrator: Any = None, observables: Any = None, positions: Any = None
) -> Run:
    """A saved run, ready to go on exactly.

    Landscapes, integrators and observables of heatbath come back from the file. What holds functions (your energy, an
    optax optimiser, a schedule, a measured function) is given again; an error says what is missing. So are positions
    (any of the same tree) whose tree is not made of dicts, lists and tuples. The same code on the same machine continues
    bit for bit. Raises ValueError for a file of another kind, stream or precision.
    """
    with np.load(pathlib.Path(path), allow_pickle=False) as file:
        if "header" not in file:
            raise ValueError(f"{path} is not a run saved by heatbath")
        header, arrays = json.loads(file["header"].tobytes()), {name: file[name] for name in file.files}
    if header["schema"] > SCHEMA or header["stream"] != STREAM_VERSION:
        raise ValueError(
            f"{path} has schema {header['schema']} and noise stream {header['stream']}; this heatbath reads schemas up to "
            f"{SCHEMA} and draws stream {STREAM_VERSION}, so it cannot go on exactly"
        )
    if header["x64"] != bool(jax.config.read("jax_enable_x64")):
        mode = "float64" if header["x64"] else "float32"
        raise ValueError(f"{path} was saved in {mode} mode; set jax.config.update('jax_enable_x64', {header['x64']})")
    given = {"potential": potential, "integrator": integrator, "observables": observables, "positions": positions}
    parts = {}
    for name, value in given.items():
        try:
            parts[name] = value if value is not None else _rebuild(header[name], arrays)
        except LookupError as error:
            raise ValueError(f"{path}: give {name}=... to load; it holds {error.args[0]}, which is not saved") from None
    if observables is not None and (apart := _apart(header["observables"], arrays, observables)):
        raise ValueError(f"{path}: give the observables that it holds, so that its sums can go on; {apart}")
    shapes = [(shape[1:] if header["ladder"] else shape, dtype) for shape, dtype in header["leaves"]]
    blank = prepare(
        parts["potential"],
        parts["integrator"],
        jax.tree.unflatten(jax.tree.structure(parts["positions"]), [jnp.zeros(*leaf) for leaf in shapes]),
        key=jax.random.wrap_key_data(jnp.asarray(arrays["key"]), impl="threefry2x32"),
        observables=parts["observables"],
    )
    leaves, treedef = jax.tree.flatten(blank.state)
    stored = [jnp.asarray(arrays[f"state.{i}"]) for i in range(len(leaves)) if f"state.{i}" in arrays]
    if [leaf.shape for leaf in stored] != [leaf.shape for leaf in leaves] or f"state.{len(leaves)}" in arrays:
        raise ValueError(f"{path}: its state does not fit this integrator: {[a.shape for a in stored]} were saved")
    names = jax.tree.leaves(blank.measured, is_leaf=is_observable)
    records = tuple(
        _restore(record, saved, arrays, r, observable, header["schema"])
        for r, (record, saved, observable) in enumerate(zip(blank.records, header["records"], names, strict=True))
    )
    memories = tuple(
        jax.tree.unflatten(
            jax.tree.structure(memory), [arrays[f"memory.{m}.{i}"] for i in range(len(jax.tree.leaves(memory)))]
        )
        for m, memory in enumerate(blank.memories)
    )
    time = arrays["leg_time"]
    return Run(
        potential=blank.potential, integrator=blank.integrator, measured=blank.measured, key=arrays["key"],
        state=jax.tree.unflatten(treedef, stored), step=header["step"], leg=header["leg"], leg_step=header["leg_step"],
        leg_time=float(time) if time.ndim == 0 else time, records=records, settings=blank.settings,
        memories=memories, ladder=header["ladder"],
    )  # fmt: skip


def _restore(record: Record, saved: dict, arrays: dict, r: int, observable: Observable, schema: int) -> Record:
    record.first, record.rows, record.level = saved["first"], saved["rows"], saved["level"]

    def leaves(name: str) -> list | None:
        places = (f"record.{r}.{name}.{i}" for i in itertools.count())
        return [arrays[place] for place in itertools.takewhile(arrays.__contains__, places)] or None

    def tree(name: str) -> Any:
        found = leaves(name)
        return found and (found[0] if observable.sums is None else observable.sums(*found))

    record.blocks = tree("blocks")
    record.tail, record.tail_rows, record.open = tree("tail"), saved.get("tail", 0), leaves("begun")
    record.pending = [tree(f"pending{k}") if present else None for k, present in enumerate(saved["pending"])]
    kinds = {leaf.dtype.kind for leaf in jax.tree.leaves(record.pending)}
    if schema < 5 and record.tail is None and (observable.continued or kinds <= {"i", "u"}):
        record.gather(level_of(record.rows))  # before, some observations arrived one by one
    return record


def _describe(node: Any, arrays: dict) -> Any:
    """A tree as JSON, its arrays set aside; what cannot be made again from its name is described as missing."""
    if node is None or isinstance(node, bool | int | float | str):
        return {"value": node}
    if isinstance(node, np.ndarray | np.generic | jax.Array):
        arrays[place := f"array.{len(arrays)}"] = np.asarray(node)
        return {"array": place}
    if isinstance(node, Each | Sweep):
        mark = {"mark": type(node).__name__, "values": _describe(np.asarray(node.values), arrays)}
        return mark | ({"shared_noise": node.shared_noise} if isinstance(node, Sweep) else {})
    if isinstance(node, dict):
        return {"dict": [[_describe(k, arrays), _describe(v, arrays)] for k, v in node.items()]}
    if type(node) in (list, tuple):
        return {type(node).__name__: [_describe(child, arrays) for child in node]}
    if is_configuration(node) and type(node).__module__.partition(".")[0] == HOME:
        fields = {name: _describe(getattr(node, name), arrays) for name in type(node).__dataclass_fields__}
        return {"class": [type(node).__module__, type(node).__qualname__], "fields": fields}
    return {"missing": "a function" if callable(node) and not is_configuration(node) else f"a {type(node).__name__}"}


def _apart(saved: Any, arrays: dict, given: Any) -> str:
    """Where a given tree differs from what is known of the saved one; functions, which are not saved, may be any."""
    own: dict = {}
    return _first_difference(saved, _describe(given, own), arrays, own, "observables")


def _first_difference(saved: Any, given: Any, arrays: dict, own: dict, place: str) -> str:
    if isinstance(saved, dict) and isinstance(given, dict):
        if "missing" in saved or "missing" in given:
            return ""
        if "array" in saved and "array" in given:
            saved, given = arrays[saved["array"]].tolist(), own[given["array"]].tolist()
        elif set(saved) == set(given):
            pairs = [
                (saved[k], given[k], place if k in ("fields", "class", "value") else f"{place}.{k}") for k in saved
            ]
            return next(filter(None, (_first_difference(a, b, arrays, own, p) for a, b, p in pairs)), "")
    elif isinstance(saved, list) and isinstance(given, list):
        if len(saved) != len(given):
            return f"{place}: the file has {len(saved)} entries, not {len(given)}"
        pairs = zip(saved, given, strict=True)
        return next(filter(None, (_first_difference(a, b, arrays, own, place) for a, b in pairs)), "")
    return "" if saved == given else f"{place}: the file has {saved}, not {given}"


def _rebuild(form: dict, arrays: dict) -> Any:
    """The inverse of `_describe`; LookupError for what is missing."""
    match form:
        case {"value": value}:
            return value
        case {"array": place}:
            return arrays[place]
        case {"mark": "Each", "values": values}:
            return Each(_rebuild(values, arrays))
        case {"mark": "Sweep", "values": values, "shared_noise": shared}:
            return Sweep(_rebuild(values, arrays), shared_noise=shared)
        case {"dict": pairs}:
            return {_rebuild(k, arrays): _rebuild(v, arrays) for k, v in pairs}
        case {"list": children}:
            return [_rebuild(child, arrays) for child in children]
        case {"tuple": children}:
            return tuple(_rebuild(child, arrays) for child in children)
        case {"class": [module, name], "fields": fields}:
            if module.partition(".")[0] != HOME:
                raise LookupError(f"an object of {module}")
            try:
                cls = getattr(importlib.import_module(module), name)
            except (ImportError, AttributeError):
                raise LookupError(f"a {name} of {module}, which this version has not") from None
            if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
                raise LookupError(f"{name}, which is no configuration")
            node = object.__new__(cls)
            for field, child in fields.items():
                object.__setattr__(node, field, _rebuild(child, arrays))
            return node
        case _:
            raise LookupError(form.get("missing", "an unknown object"))
