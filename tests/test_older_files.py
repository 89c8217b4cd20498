"""Files of older schemas go on: their sums are right, to rounding, also where a group of observations was not complete."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
from test_storage import begin, goes_on_alike, seen

from heatbath import engine, potentials
from heatbath.engine import observables
from heatbath.engine.observables.record import Record, length
from heatbath.integrators import BAOAB


def goes_on_from_older_files(whole, cut, folder):
    """Files of schema 4 and before know the sums of a group that is not complete, but not how the device left them."""
    cut.save(folder / "new.npz")
    with np.load(folder / "new.npz") as file:
        arrays = {name: array for name, array in file.items() if ".begun." not in name}
    header = json.loads(arrays["header"].tobytes()) | {"schema": 4}
    for record in header["records"]:
        record["open"] = 1
    arrays |= {"record.0.open0.0": np.ones(3), "header": np.frombuffer(json.dumps(header).encode(), np.uint8)}
    np.savez(folder / "old.npz", **arrays)
    run = engine.load(folder / "old.npz", observables=seen(0.0))
    assert run.records[0].open is None and run.records[0].tail_rows > 0
    goes_on_alike(whole, run)


def one_by_one(record, rows):
    """A record to which every observation came by itself."""
    new = Record(first=record.first, every=record.every, merge=record.merge)
    for row in range(length(rows)):
        new.push(jax.tree.map(lambda a, row=row: a[row : row + 1], rows))
    assert new.rows == record.rows and new.tail is None
    return new


def test_files_of_schema_2_go_on(tmp_path):
    """Means arrived one by one; of schema 1 counts too, and of schema 4 still means with a covariance."""
    given = {
        "x": observables.Mean(lambda x: x, every=1),
        "U": observables.Mean(lambda x: x, every=1, covariance=True),
        "all": observables.Series(observables.Mean(lambda x: x), every=1),
        "pairs": observables.Series(observables.Mean(lambda x: x, covariance=True), every=1),
        "bins": observables.Histogram(lambda x: x[0], low=-2.0, high=2.0, every=1),
    }
    bath = BAOAB(step_size=0.3, temperature=0.7)
    whole = engine.simulate(
        potentials.Harmonic(), bath, jnp.zeros((70, 2)), steps=1100, observables=given, progress=False
    )
    run = engine.simulate(potentials.Harmonic(), bath, jnp.zeros((70, 2)), steps=703, observables=given, progress=False)
    names = [name for name, _ in run.named_observables()]
    records = dict(zip(names, run.records, strict=True))
    rows = {"x": records["all"].blocks, "U": records["pairs"].blocks}
    old = [one_by_one(r, rows[name]) if name in rows else r for name, r in records.items()]
    assert all(r.pending[0] is not None and r.open is None for r, name in zip(old, names, strict=True) if name in rows)
    dataclasses.replace(run, records=tuple(old)).save(tmp_path / "new.npz")
    with np.load(tmp_path / "new.npz") as file:
        arrays = dict(file)
    header = json.loads(arrays["header"].tobytes()) | {"schema": 2}
    np.savez(tmp_path / "old.npz", **arrays | {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)})
    found = goes_on_alike(whole, engine.load(tmp_path / "old.npz", observables=given)).observables
    np.testing.assert_array_equal(found["bins"].density, whole.observables["bins"].density)
    np.testing.assert_allclose(found["U"].covariance, whole.observables["U"].covariance, rtol=1e-5, atol=1e-7)


def test_files_of_schema_4_go_on(tmp_path):
    begun = begin(70, 0.0)
    whole, cut = (engine.simulate(begun, steps=steps, progress=False) for steps in (1099, 699))
    goes_on_from_older_files(whole, cut, tmp_path)


def test_rungs_of_older_files_go_on_each_in_its_place(tmp_path):
    """Several rungs in a tile, and several tiles for a rung."""
    for rungs, n in ((3, 5), (2, 10_000)):
        given = {"x": observables.Mean(lambda x: x, every=1), "U": observables.Mean(lambda x: x**2, every=1)}
        bath = BAOAB(step_size=0.3, temperature=engine.sweep(np.arange(1.0, rungs + 1)))
        start = engine.simulate(
            potentials.Harmonic(), bath, jnp.zeros((n, 2)), steps=200, observables=given, progress=False
        )
        whole, cut = (engine.simulate(start, steps=steps, progress=False) for steps in (21, 11))
        assert 0 < cut.records[0].tail_rows and cut.records[0].open is not None
        for record in cut.records:  # as of other tiles, and as of an older file
            record.open = [np.concatenate([leaf, leaf], axis=-2) for leaf in record.open]
        goes_on_alike(whole, cut)
        for record in cut.records:
            record.open = None
        goes_on_alike(whole, cut)
