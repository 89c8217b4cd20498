"""Observables against numpy on the recorded trajectory: averages, errors, histograms, series; and the sums behind them."""

from importlib import import_module

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from heatbath import engine, potentials
from heatbath.engine import observables, plan
from heatbath.engine.observables import Histogram, Mean, Series
from heatbath.engine.observables.record import Record, length, level_of
from heatbath.engine.observables.statistics import Moments, merge_moments
from heatbath.integrators import BAOAB, EulerMaruyama

STEPS = 61
LOW, HIGH, BINS = -1.0, 1.5, 11


def energy(x):
    return sum(jnp.sum((leaf**2 - 1) ** 2 + 0.3 * leaf) for leaf in jax.tree.leaves(x))


def radius(x):
    leaves = jax.tree.leaves(x)
    return {"r": jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in leaves)), "first": jnp.ravel(leaves[0])[:1]}


def start(n, shape):
    x = np.random.default_rng(n).normal(0.5, 0.4, size=(n, 4)).astype(np.float32)
    return {"1-D": x[:, :1], "2-D": x[:, :4].reshape(n, 2, 2), "dict": {"a": x[:, 0], "b": x[:, 1:]}}[shape]


MEASURED = {
    "trajectory": Series(observables.position, every=1),
    "mean": Mean(observables.position, every=1),
    "late": Mean(radius, every=2, burn_in=25, covariance=True),
    "histogram": Histogram(observables.position, bins=BINS, low=LOW, high=HIGH, every=4, burn_in=9),
    "radii": Series(radius, every=7),
    "history": Series(Mean(observables.position), every=10, burn_in=20),
}


def flat(tree, lead=0):
    """A tree of arrays (lead axes, ...) as one array (lead axes, k)."""
    return np.concatenate(
        [np.asarray(a, float).reshape(*np.shape(a)[:lead], -1) for a in jax.tree.leaves(tree)], axis=-1
    )


def units_of(x):
    """Values (times, n, k) in the independent units of the error bar, each (members, k)."""
    if x.shape[1] >= 16:
        return [x[:, g::64].reshape(-1, x.shape[2]) for g in range(min(x.shape[1], 64))]
    units = list(x)
    while len(units) >= 32:
        units = [np.concatenate(units[i : i + 2]) for i in range(0, len(units), 2)]
    return units


def jackknife(units, statistic):
    """Bias-corrected value and error, leaving out one unit at a time (Busing, Meijer, van der Leeden 1999)."""
    whole, g = np.concatenate(units), len(units)
    h = np.array([len(whole) / len(unit) for unit in units])[:, None]
    without = np.array([statistic(np.concatenate(units[:i] + units[i + 1 :])) for i in range(g)])
    corrected = g * statistic(whole) - np.sum((1 - 1 / h) * without, axis=0)
    pseudo = h * statistic(whole) - (h - 1) * without
    return corrected, np.sqrt(np.mean((pseudo - corrected) ** 2 / (h - 1), axis=0))


def close(found, expected, rtol):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


def mean(x):
    return x.mean(axis=0)


def variance(x):
    return x.var(axis=0)


def check(found, n, rung=None):
    """All results of `MEASURED` against the trajectory, of one rung in a ladder."""
    pick = lambda tree, axis=0: tree if rung is None else jax.tree.map(lambda a: np.take(a, rung, axis), tree)  # noqa: E731
    values = pick(found["trajectory"].values, 1)
    at = lambda steps: jax.tree.map(lambda a: a[np.asarray(steps) - 1], values)  # noqa: E731
    radii = lambda steps: jax.vmap(jax.vmap(radius))(at(steps))  # noqa: E731

    x, average = flat(at(range(1, STEPS + 1)), 2), found["mean"]
    units = units_of(x)
    close(flat(pick(average.mean)), jackknife(units, mean)[0], 1e-6)
    close(flat(pick(average.error)), jackknife(units, mean)[1], 1e-5)
    close(flat(pick(average.variance)), jackknife(units, variance)[0], 1e-5)
    close(flat(pick(average.variance_error)), jackknife(units, variance)[1], 1e-4)
    assert average.unit == ("particles" if n >= 16 else "blocks of time") and average.dof == len(units) - 1
    assert average.count == STEPS * n * (1 if rung is None else 3)

    late, x = found["late"], flat(radii(range(26, STEPS + 1, 2)), 2)
    assert set(late.mean) == {"r", "first"} and late.mean["first"].shape[-1:] == (1,)
    close(flat(pick(late.mean)), jackknife(units_of(x), mean)[0], 1e-6)
    close(flat(pick(late.error)), jackknife(units_of(x), mean)[1], 1e-5)
    close(pick(late.covariance), np.cov(x.reshape(-1, 2).T, ddof=0), 1e-5)

    histogram, x = found["histogram"], flat(at(range(12, STEPS + 1, 4)), 2)
    place = np.floor((x.astype(np.float32) - np.float32(LOW)) * np.float32(BINS / (HIGH - LOW)))  # to the bit
    place = np.clip(place, -1, BINS).astype(int) + 1
    counts = np.stack([np.bincount(place[..., k].ravel(), minlength=BINS + 2) for k in range(x.shape[2])])
    total = place[..., 0].size
    assert histogram.count == total * (1 if rung is None else 3)
    rows = lambda tree: np.concatenate([a.reshape(-1, a.shape[-1]) for a in jax.tree.leaves(pick(tree))])  # noqa: E731
    density, outside, error = (rows(tree) for tree in (histogram.density, histogram.outside, histogram.error))
    np.testing.assert_allclose(density * np.diff(histogram.edges) * total, counts[:, 1:-1], atol=1e-6)
    np.testing.assert_allclose(outside * total, counts[:, [0, -1]], atol=1e-6)
    inside = [(unit[:, :1] == np.arange(BINS + 2)) * 1.0 for unit in units_of(place)]
    close(error[0], jackknife(inside, mean)[1][1:-1] / np.diff(histogram.edges), 1e-9)

    recording = found["radii"]
    assert recording.steps.tolist() == list(range(7, STEPS + 1, 7))
    close(flat(pick(recording.values, 1), 2), flat(radii(recording.steps), 2), 1e-6)

    history, x = found["history"], flat(at([30, 40, 50, 60]), 2)
    assert history.steps.tolist() == [30, 40, 50, 60]
    close(flat(pick(history.mean, 1), 1), x.mean(axis=1), 1e-6)
    if n > 1:
        groups = [[row[None, g :: min(n, 64)].reshape(-1, x.shape[2]) for g in range(min(n, 64))] for row in x]
        close(flat(pick(history.error, 1), 1), [jackknife(row, mean)[1] for row in groups], 1e-5)
    else:
        assert np.isnan(flat(history.error)).all()


@pytest.mark.parametrize(
    "n, shape",
    [(1, "2-D"), (5, "dict"), (5000, "1-D")]
    + [pytest.param(*case, marks=pytest.mark.slow) for case in ((64, "1-D"), (100, "2-D"), (1000, "dict"))],
)
def test_against_numpy(n, shape, monkeypatch):
    # many blocks, at last of one step
    monkeypatch.setattr(import_module("heatbath.engine.simulate"), "SECONDS_A_BLOCK", 1e-9)
    bath = BAOAB(step_size=0.1, temperature=0.5)
    run = engine.simulate(energy, bath, start(n, shape), steps=STEPS, key=n, observables=MEASURED)
    trajectory = run.observables["trajectory"]
    assert trajectory.steps.tolist() == list(range(1, STEPS + 1))
    assert jax.tree.structure(trajectory.values) == jax.tree.structure(run.positions)
    np.testing.assert_array_equal(flat(trajectory.values, 2)[-1], flat(run.positions, 1))
    check(run.observables, n)


@pytest.mark.parametrize("n", [7, 100])
def test_in_a_ladder(n):
    """Every rung has what its own trajectory gives: nothing is averaged over rungs."""
    bath = EulerMaruyama(step_size=0.02, temperature=engine.sweep([0.05, 0.3, 0.9]))
    run = engine.simulate(energy, bath, start(n, "2-D"), steps=STEPS, key=n, observables=MEASURED)
    assert run.observables["trajectory"].values.shape == (STEPS, 3, n, 2, 2)
    assert run.observables["late"].mean["r"].shape == (3,)
    for rung in range(3):
        check(run.observables, n, rung)


def test_the_error_of_a_mean_is_the_textbook_one_for_equal_groups():
    run = engine.simulate(energy, EulerMaruyama(step_size=0.02), start(256, "1-D"), steps=STEPS, observables=MEASURED)
    values = run.observables["trajectory"].values[..., 0]
    means = values.reshape(STEPS, 4, 64).mean(axis=(0, 1), dtype=float)
    np.testing.assert_allclose(run.observables["mean"].error, means.std(ddof=1) / 8, rtol=1e-5)


@pytest.mark.parametrize("n", [1, 5000])
def test_float32_sums_do_not_drift(n):
    steps = 4000 if n == 1 else 400
    run = engine.simulate(
        energy, EulerMaruyama(step_size=0.05), start(n, "1-D"), steps=steps,
        observables={
            "constant": Mean(lambda x: 1e4 + 0.1 + 0 * x[0], every=1),
            "sign": Mean(lambda x: jnp.sign(x[0]), every=1),
            "split": Mean(lambda x: 1e4 + 0.01 * jnp.sign(x[0]), every=1),
        },
    )  # fmt: skip
    constant, sign, split = (run.observables[name] for name in ("constant", "sign", "split"))
    assert constant.count == steps * n
    np.testing.assert_allclose(constant.mean, 1e4 + 0.1, rtol=1e-6)
    assert constant.variance < 1e-6  # a float32 has a step of 1e-3 there
    gap = float(np.float32(1e4) + np.float32(0.01)) - float(np.float32(1e4) - np.float32(0.01))
    share = (1 + float(sign.mean)) / 2
    assert 0.05 < share < 0.95
    np.testing.assert_allclose(split.variance, share * (1 - share) * gap**2, rtol=0.01)
    assert all(length(record.blocks) < 128 for record in run.records)


def rows_of(seed, count):
    """Rows of sums: three observations of two components in two groups each."""
    values = np.random.default_rng(seed).normal(3, 2, size=(count, 3, 2, 1, 2))
    centre = values.mean(axis=1)
    return Moments(np.full((count, 1, 1, 2), 3.0), centre, ((values - centre[:, None]) ** 2).sum(axis=1)), values


def record_of(rows, cuts, keep=False):
    record = Record(first=1, every=1, merge=merge_moments, keep=keep)
    for begin, end in zip([0, *cuts], [*cuts, length(rows)], strict=True):
        record.push(jax.tree.map(lambda a, b=begin, e=end: a[b:e], rows))
        assert keep or length(record.blocks) < 128
    return record


@settings(max_examples=60, deadline=None, database=None)
@given(count=some.integers(1, 700), data=some.data(), keep=some.booleans())
def test_a_record_does_not_see_how_rows_arrive(count, data, keep):
    cuts = sorted(data.draw(some.lists(some.integers(1, count), max_size=8).map(set)) - {count})
    rows, values = rows_of(count, count)
    together, apart = record_of(rows, [], keep), record_of(rows, cuts, keep)
    assert (together.level, together.rows) == (apart.level, apart.rows) == (together.level, count)
    assert [row is None for row in together.pending] == [row is None for row in apart.pending]
    jax.tree.map(np.testing.assert_array_equal, together.after(0), apart.after(0))
    steps, sums = together.after(0)
    assert steps[-1] == count and sums.count[:, 0, 0, 0].sum() == 3 * count
    assert np.all(np.diff(steps) > 0) and (not keep or length(sums) == count)
    weights = sums.count / sums.count.sum(axis=0)
    np.testing.assert_allclose((weights * sums.mean).sum(axis=0), values.mean(axis=(0, 1)), rtol=1e-12)


@settings(max_examples=40, deadline=None, database=None)
@given(count=some.integers(1, 20_000), data=some.data())
def test_a_record_of_counts_does_not_see_what_the_device_merged(count, data):
    """Rows of groups of 2^level whole numbers, cut anywhere, against every row by itself."""
    add = lambda a, b: a + b  # noqa: E731
    counts = np.random.default_rng(count).integers(0, 9, size=(count, 2, 1, 3))
    alone, merged = (Record(first=5, every=5, merge=add) for _ in range(2))
    alone.push(counts)
    begin = 0
    cuts = data.draw(some.lists(some.integers(1, count), max_size=6).map(set)) | {128 << k for k in range(6)} | {count}
    for end in sorted(cut for cut in cuts if cut <= count):
        level = level_of(begin)
        groups = np.arange(begin, end) >> level
        rows = np.stack([counts[begin:end][groups == g].sum(axis=0) for g in np.unique(groups)])
        merged.push(rows, level, end & ((1 << level) - 1))
        begin = end
        np.testing.assert_array_equal(merged.after(0)[1].sum(axis=0), counts[:end].sum(axis=0))
    assert (merged.rows, merged.level) == (alone.rows, alone.level) == (count, alone.level)
    jax.tree.map(np.testing.assert_array_equal, alone.after(0), merged.after(0))
    jax.tree.map(np.testing.assert_array_equal, alone.after(count), merged.after(count))


@settings(max_examples=60, deadline=None, database=None)
@given(before=some.integers(0, 900), count=some.integers(1, 700))
def test_a_record_does_not_see_what_was_merged_before_it(before, count):
    """Rows that the host merges for several observables at once, against every row by itself."""
    rows, _ = rows_of(before, before + count)
    alone = record_of(rows, [before] if before else [])
    merged = (
        record_of(jax.tree.map(lambda a: a[:before], rows), [])
        if before
        else Record(first=1, every=1, merge=merge_moments)
    )
    new = jax.tree.map(lambda a: a[before:], rows)
    levels = []
    for level, some_rows in observables.Mean(lambda x: x).unroll(new, before, before + count, merged.level):
        levels.append(level)
        merged.push(some_rows, level)
    assert (merged.level, merged.rows) == (alone.level, alone.rows) == (alone.level, before + count)
    assert before < 300 or count < 4 or max(levels) > 0
    jax.tree.map(np.testing.assert_array_equal, (merged.blocks, merged.pending), (alone.blocks, alone.pending))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("members", [1, 2, 7, 8, 61, 79, 128, 300])
@pytest.mark.parametrize(("offset", "odd"), [(0, 0), (1e4, 0), (-300, 8), (0, 1)])
def test_moments_of_a_tile(members, dtype, offset, odd):
    """In one pass around a pivot, also where the first members are nothing like the rest, and where some are padding."""
    values = offset + np.random.default_rng(members).normal(size=(3, members, 64))
    values[:, :odd] += 50
    valid = np.arange(members * 64).reshape(members, 64) < members * 64 - 30
    values, mean = values.astype(dtype).astype(float), Mean(lambda x: x)
    group = lambda a: a.reshape(*a.shape[:-1], 1, members, 64)  # noqa: E731
    with jax.enable_x64(dtype == np.float64):
        parts = [jnp.asarray(v.reshape(-1, members * 64), dtype) for v in (values[:1], values[1:])]
        opened = mean.open((), jnp.asarray(valid.ravel()), group)
        row = jax.jit(lambda *parts: mean.row(*mean.follow(parts, opened, valid.ravel(), 0, group), 0, group))(*parts)
    found = mean.settle(mean.unpack(np.asarray(row), valid.sum(axis=0, dtype=np.int32)[None, None]))
    assert row.dtype == dtype and mean.close(opened) == ()
    at = (values * valid).sum(axis=1) / valid.sum(axis=0).clip(1)
    squares = ((values - at[:, None]) ** 2 * valid).sum(axis=1)
    there, eps = valid.any(axis=0), float(np.finfo(dtype).eps)
    np.testing.assert_allclose(found.mean[:, 0, there], at[:, there], rtol=8 * eps, atol=20 * eps)  # of numpy too
    np.testing.assert_allclose(found.squares[:, 0, there], squares[:, there], rtol=300 * eps, atol=100 * eps)
    assert np.all(np.asarray(found.squares) >= 0)


def test_memory_is_constant():
    rows, _ = rows_of(1, 500)
    record = Record(first=1, every=1, merge=merge_moments)
    for _ in range(400):
        record.push(rows)
        assert length(record.blocks) < 128 and len(record.pending) == record.level + 1
    steps, sums = record.after(0)
    assert record.rows == 200_000 and steps[-1] == 200_000 and sums.count[:, 0, 0, 0].sum() == 600_000
    assert 64 <= length(record.blocks)  # and yet the history keeps a resolution of 1 to 2 %


def test_merging_is_associative():
    (a, b, c), values = zip(*[rows_of(seed, 1) for seed in range(3)], strict=True)
    left, right = merge_moments(merge_moments(a, b), c), merge_moments(a, merge_moments(b, c))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-13), left, right)
    together = np.concatenate(values, axis=1)
    np.testing.assert_allclose(left.squares / left.count, together.var(axis=1), rtol=1e-12)
    none = jax.tree.map(np.zeros_like, a)
    for merged in (merge_moments(a, none), merge_moments(none, a)):
        jax.tree.map(np.testing.assert_array_equal, merged, a)


def test_a_run_prints_its_results_and_its_flags():
    bath = BAOAB(step_size=0.2, temperature=0.3)
    measured = {
        "height": Mean(energy, every=2),
        "place": Mean(lambda x: x[0], every=2),
        "none": Mean(energy, every=1000),
    }
    run = engine.simulate(
        potentials.Harmonic(stiffness=0.1), bath, 40 + start(50, "1-D"), steps=200, observables=measured
    )
    text = repr(run)
    assert text.startswith("BAOAB on Harmonic: 50 particles × 1 coordinates, step 200, time 40")
    average = run.observables["place"]
    assert f"{float(average.mean):.6g} ± {float(average.error):.2g}" in text
    assert "nothing yet" in text and run.observables["none"] is None
    assert any(line.startswith("  ! place: drift") for line in text.splitlines())
    assert "! height" not in repr(engine.simulate(run, steps=0, observables={"height": Mean(energy)}))


@pytest.mark.parametrize("x64", [False, True])
def test_measures_of_several_types_in_one_batch(x64):
    """Sums are float32 at least: 64 observations of half precision would overflow."""
    with jax.enable_x64(x64):
        given = {
            "half": Mean(lambda x: 100 * x.astype(jnp.float16), every=1),
            "whole": Mean(lambda x: (x > 0).astype(jnp.int32), every=1),
            "plain": Mean(lambda x: x, every=1),
            "all": Series(lambda x: x, every=1),
        }
        bath = BAOAB(step_size=0.3, temperature=1.0)
        x = np.zeros((3000, 1), np.float32)
        found = engine.simulate(
            potentials.Harmonic(), bath, x, steps=900, observables=given, progress=False
        ).observables
    values = found["all"].values.astype(float)
    for name, expected in (("half", (100 * values).astype(np.float16)), ("whole", values > 0), ("plain", values)):
        expected = expected.astype(float)
        np.testing.assert_allclose(found[name].mean, expected.mean((0, 1)), rtol=1e-5, atol=2e-5)
        np.testing.assert_allclose(found[name].variance, expected.var((0, 1)), rtol=1e-5)


def test_a_measure_that_is_not_finite_warns_of_nothing_but_itself(recwarn):
    given = {"x": Mean(lambda x: x / 0.0, every=1), "fine": Mean(lambda x: x, every=1)}
    bath = BAOAB(step_size=0.3, temperature=1.0)
    run = engine.simulate(potentials.Harmonic(), bath, jnp.ones((70, 1)), steps=300, observables=given, progress=False)
    assert run.records[0].rows == 300 and not recwarn.list


@pytest.mark.parametrize("burn_in", [5, 3001])
def test_burn_in_ends_a_block_and_costs_few(burn_in, monkeypatch):
    """What is left out needs no rows: blocks are as long as without observables, and the first is right."""
    blocks, window = [], plan.Plan.window
    monkeypatch.setattr(plan.Plan, "window", lambda self, *at: blocks.append(at) or window(self, *at))
    given = {"x": Mean(lambda x: x, every=2, burn_in=burn_in), "all": Series(lambda x: x, every=1)}
    bath, x = BAOAB(step_size=0.3, temperature=1.0), jnp.zeros((70, 1))
    run = engine.simulate(potentials.Harmonic(), bath, x, steps=4000, observables={"x": given["x"]}, progress=False)
    begins, lengths = zip(*blocks, strict=True)
    first = run.records[0].first
    assert first - 1 in np.cumsum(lengths) or burn_in == 5
    assert sum(begin < first - 1 for begin in begins) <= 8
    values = engine.simulate(potentials.Harmonic(), bath, x, steps=4000, observables=given, progress=False)
    seen = np.asarray(values.observables["all"].values, float)[first - 1 :: 2]
    assert run.observables["x"].count == seen.size
    np.testing.assert_allclose(run.observables["x"].mean, seen.mean((0, 1)), rtol=1e-5, atol=1e-6)
