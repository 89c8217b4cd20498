"""A saved run goes on in a new process bit for bit; what cannot be read exactly is refused with a reason."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from registry import FEATURES, HARMONIC, INTEGRATORS, TARGETS, log_likelihood, log_prior

from heatbath import engine, potentials
from heatbath.engine import observables
from heatbath.engine.observables.record import level_of
from heatbath.integrators import BAOA, BAOAB, Descent, EulerMaruyama

X = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32) / 2
WELL, BATH = potentials.DoubleWell(barrier=1.5, tilt=0.2), BAOAB(step_size=0.05, temperature=0.7)
FRICTION = X[:, 0] ** 2
TREE = {"weights": X, "bias": X[:, 0]}


class Place(NamedTuple):
    """A tree of positions that a file cannot name."""

    x: Any


def loss(p):
    return jnp.sum((p["weights"] - 1) ** 2) + (p["bias"] + 1) ** 4


def falling(step):
    return 0.7 / (1 + 0.1 * step)


def norm(x):
    return jnp.sum(x**2)


def posterior():
    data = (FEATURES, TARGETS)
    return potentials.Posterior(log_likelihood, log_prior, data=data, batch_size=8, sampling="epoch")


def start(potential=WELL, integrator=BATH, positions=X, measured=None, steps=23):
    measured = {} if measured is None else measured
    return engine.simulate(potential, integrator, positions, steps=steps, key=2**32 - 5, observables=measured)


MEASURED = {
    "all": [observables.Mean(observables.position, every=2, covariance=True), observables.Mean(norm, every=3)],
    "histogram": observables.Histogram(observables.position, bins=5, low=-2.0, high=2.0, every=4, burn_in=10),
    "series": (observables.Series(observables.momentum, every=5), observables.Series(observables.Mean(norm), every=1)),
}
ANNEALED = lambda: BAOA(step_size=0.05, temperature=falling)  # noqa: E731

# one of each kind of state
KINDS = {"EulerMaruyama", "LeimkuhlerMatthews", "BAOAB", "BAOA", "BBK", "GronbechJensen", "MultipleTimeSteps", "HMC",
         "SGNHT", "NoseHooverChain", "MCLMC", "Descent", "heavy ball"}  # fmt: skip
KEPT = [case for case in INTEGRATORS if case.name in KINDS]

# name: a run, and what `load` must be given again
CASES = {
    **{case.name: (lambda c=case: start(ground(c), gentle(c)), lambda c=case: again(c)) for case in KEPT},
    "a tree of weights": (
        lambda: start(loss, Descent(optax.adam(0.1)), TREE),
        lambda: {"potential": loss, "integrator": Descent(optax.adam(0.1))},
    ),
    "minibatches": (
        lambda: start(posterior(), EulerMaruyama(step_size=0.01), np.ones((6, 3), np.float32)),
        lambda: {"potential": posterior()},
    ),
    "a ladder": (
        lambda: start(integrator=BAOA(step_size=0.05, temperature=engine.sweep([0.5, 1.0]), friction=engine.each(FRICTION))),
        dict,
    ),
    "a schedule": (lambda: start(integrator=ANNEALED()), lambda: {"integrator": ANNEALED()}),
    "everything measured": (lambda: start(measured=MEASURED), lambda: {"observables": MEASURED}),
    "standard observables": (lambda: engine.simulate(WELL, BATH, X, steps=300), dict),
    "a change of integrator": (
        lambda: engine.simulate(engine.simulate(start(), integrator=BAOA(step_size=0.02), steps=0), steps=6),
        dict,
    ),
    "a named tree": (
        lambda: start(lambda p: norm(p.x), BATH, Place(X)),
        lambda: {"potential": lambda p: norm(p.x), "positions": Place(X)},
    ),
}  # fmt: skip


def gentle(case):
    return case.make() if case.name == "Descent" else case.make(step_size=0.05)


def ground(case):
    return potentials.Harmonic(stiffness=1.5) if case.name in HARMONIC else WELL


def again(case):
    return {"integrator": case.make()} if case.name == "Descent" else {}


def leaves(run):
    """All that a run holds as a list of arrays: its state, and its results."""
    plain = lambda r: dataclasses.asdict(r) if dataclasses.is_dataclass(r) else r  # noqa: E731
    results = [jax.tree.leaves(plain(result)) for _, result in run.named_results()]
    numbers = [np.asarray(leaf) for result in results for leaf in result if not isinstance(leaf, str)]
    return [np.asarray(leaf) for leaf in jax.tree.leaves(run.state)] + numbers + [np.asarray(run.time or np.nan)]


def go_on(folder):
    """What the other process does: load every run as soon as it is there, go on, write what it then holds."""
    for name, (_, given) in CASES.items():
        while not (path := folder / f"{name}.npz").exists():
            time.sleep(0.05)
        run = engine.simulate(engine.load(path, **given()), steps=31, progress=False)
        np.savez(folder / f"{name}.after.npz", *leaves(run))


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    child = subprocess.Popen([sys.executable, __file__, folder])
    yield folder, lambda: child.wait(timeout=300)
    child.kill()
    child.wait()


@pytest.fixture(scope="module")
def runs(elsewhere):
    """The runs of all cases, saved one after the other while the other process reads them."""
    runs = {}
    for name, (make, _) in CASES.items():
        runs[name] = make()
        runs[name].save(elsewhere[0] / f"{name}.npz")
    return runs


@pytest.fixture(scope="module")
def folder(runs, elsewhere):
    return elsewhere[0]


@pytest.mark.parametrize("name", CASES)
def test_a_new_process_goes_on_bit_for_bit(name, runs, elsewhere):
    folder, finish = elsewhere
    expected = leaves(engine.simulate(runs[name], steps=31, progress=False))
    assert finish() == 0
    with np.load(folder / f"{name}.after.npz") as file:
        found = [file[f"arr_{i}"] for i in range(len(file.files))]
    assert len(found) == len(expected) and len(found) > 1
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("name", ["everything measured", "a ladder", "a schedule"])
def test_a_loaded_run_is_what_was_saved(name, runs, folder):
    run, loaded = runs[name], engine.load(folder / f"{name}.npz", **CASES[name][1]())
    assert (loaded.step, loaded.leg, loaded.ladder, loaded.rungs) == (run.step, run.leg, run.ladder, run.rungs)
    assert loaded.key.tolist() == run.key.tolist()
    assert repr(loaded) == repr(run)


@pytest.mark.parametrize(
    "name, missing",
    [
        ("Descent", "integrator"),
        ("a schedule", "integrator"),
        ("a tree of weights", "potential"),
        ("minibatches", "potential"),
        ("everything measured", "observables"),
        ("a named tree", "positions"),
    ],
)
def test_what_is_missing_is_named(name, missing, folder):
    given = {key: value for key, value in CASES[name][1]().items() if key != missing}
    with pytest.raises(ValueError, match=rf"give {missing}=.* to load"):
        engine.load(folder / f"{name}.npz", **given)


def forged(folder, tmp_path, **changes):
    """A good file with entries of its header changed."""
    with np.load(folder / "BAOAB.npz") as file:
        arrays = {name: file[name] for name in file.files}
    header = json.loads(arrays["header"].tobytes()) | changes
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(tmp_path / "forged.npz", **arrays)
    return tmp_path / "forged.npz"


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"stream": 99}, "noise stream 99"),
        ({"schema": 99}, "schema 99"),
        ({"x64": True}, "float64 mode.*jax_enable_x64"),
        (
            {"integrator": {"class": ["subprocess", "Popen"], "fields": {"args": {"value": "false"}}}},
            "give integrator=",
        ),
        ({"potential": {"class": ["heatbath.engine.layout", "Layout"], "fields": {}}}, "give potential="),
        ({"integrator": {"class": ["heatbath.integrators.splitting", "Gone"], "fields": {}}}, "give integrator="),
    ],
    ids=["stream", "schema", "precision", "a foreign class", "no configuration", "a class of another version"],
)
def test_files_that_cannot_go_on_exactly_are_refused(changes, says, folder, tmp_path):
    assert engine.load(forged(folder, tmp_path)).step == 23
    with pytest.raises(ValueError, match=says):
        engine.load(forged(folder, tmp_path, **changes))


def test_a_foreign_file_is_refused(tmp_path):
    np.savez(tmp_path / "foreign.npz", x=np.ones(3))
    with pytest.raises(ValueError, match="not a run saved by heatbath"):
        engine.load(tmp_path / "foreign.npz")


def test_an_integrator_of_another_state_is_refused(folder):
    with pytest.raises(ValueError, match="state does not fit"):
        engine.load(folder / "BAOAB.npz", integrator=EulerMaruyama(step_size=0.1))


def test_a_write_that_fails_leaves_the_old_file(runs, tmp_path, monkeypatch):
    path = tmp_path / "run.npz"
    runs["BAOAB"].save(path)
    before = path.read_bytes()

    def fail(file, **arrays):
        file.write(b"half of it")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="disk full"):
        runs["BAOA"].save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["run.npz"]


def test_a_path_may_be_a_plain_name(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs["BAOA"].save("plain")
    assert engine.load("plain").step == 23


def seen(offset):
    return {
        "x": observables.Mean(lambda x: offset + x, every=1),
        "U": observables.Mean(observables.potential_energy, every=1),
        "trace": observables.Series(lambda x: offset + x, every=1),
    }


def begin(n, offset):
    positions, bath, given = jnp.zeros((n, 2)), BAOAB(step_size=0.3, temperature=0.7), seen(offset)
    return engine.simulate(potentials.Harmonic(), bath, positions, steps=1, key=4, observables=given, progress=False)


def whole_and_cut(begun, folder, offset):
    """A run to step 1100, without a stop and with ten, saved and loaded at each; their records are the same."""
    whole, cut = engine.simulate(begun, steps=1099, progress=False), begun
    for step in (100, 129, 130, 301, 302, 303, 555, 700, 1025, 1100):
        cut = engine.simulate(cut, steps=step - cut.step, progress=False)
        cut.save(folder / "run")
        cut = engine.load(folder / "run", observables=seen(offset))
    for a, b in zip(whole.records, cut.records, strict=True):
        assert (a.rows, a.level, a.tail_rows) == (b.rows, b.level, b.tail_rows)
        parts = ((r.blocks, r.pending, r.tail, r.open) for r in (a, b))
        jax.tree.map(np.testing.assert_array_equal, *parts)
    return whole


@pytest.mark.parametrize(("n", "offset"), [(1, 0.0), (70, 300.0)])
def test_means_are_merged_alike_however_a_run_is_cut_and_saved(tmp_path, n, offset):
    """Beyond 128 observations they arrive in groups of 2, 4, … 64: one that is not complete goes on as it was left."""
    begun = begin(n, offset)
    whole = whole_and_cut(begun, tmp_path, offset)
    assert whole.records[0].tail_rows == 1100 % (1 << level_of(1099)) > 0
    values = np.asarray(whole.observables["trace"].values, float).reshape(1100, -1, 2)
    _, (count, mean, squares) = whole.records[2].after()
    assert count.sum() == 1100 * n == whole.observables["x"].count
    middle = (count * mean).sum((0, 3), keepdims=True) / count.sum()
    variance = (squares + count * (mean - middle) ** 2).sum((0, 2, 3)) / count.sum()
    np.testing.assert_allclose(middle.ravel(), values.mean((0, 1)), rtol=2e-7, atol=1e-7)
    np.testing.assert_allclose(variance, values.var((0, 1)), rtol=2e-5 if offset else 2e-6)


def goes_on_alike(whole, run):
    run = engine.simulate(run, steps=whole.step - run.step, progress=False)
    assert [(r.rows, r.tail_rows) for r in run.records] == [(r.rows, r.tail_rows) for r in whole.records]
    for name in ("x", "U"):
        mine, other = run.observables[name], whole.observables[name]
        assert mine.count == other.count
        np.testing.assert_allclose(mine.mean, other.mean, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(mine.variance, other.variance, rtol=1e-6)
    return run


def on_two_devices(folder):
    """What a process with two devices does."""
    assert jax.local_device_count() == 2
    begun = begin(6000, 0.0)
    whole = whole_and_cut(begun, folder, 0.0)
    cut = engine.simulate(begun, steps=700, progress=False)
    count = cut.records[0].open[0]
    assert len(count) == 2 and not np.array_equal(*count)  # the second device has less to do
    cut.save(folder / "cut")
    whole.save(folder / "whole")


def test_means_of_two_devices_go_on_there_and_on_one(tmp_path):
    """The halves of the population are summed apart; on one device a group that was begun on two is still merged."""
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
    command = [sys.executable, __file__, tmp_path, "on two devices"]
    subprocess.run(command, env=os.environ | {"XLA_FLAGS": flags}, check=True, timeout=300)
    whole, cut = (engine.load(tmp_path / name, observables=seen(0.0)) for name in ("whole", "cut"))
    assert len(cut.records[0].open[0]) == 2
    assert len(goes_on_alike(whole, cut).records[0].open[0]) == 1


if __name__ == "__main__":
    (on_two_devices if len(sys.argv) > 2 else go_on)(Path(sys.argv[1]))
