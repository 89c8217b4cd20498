"""Counting by bits against numpy: whole numbers, so every count is exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath.engine import observables
from heatbath.engine.observables.bits import BITS, MEMBERS, bit_planes, count_planes
from heatbath.engine.observables.tally import WHOLE, whole


@pytest.mark.parametrize("cells", [1, 2, 53, 63, 64, 2**BITS - 1])
@pytest.mark.parametrize(
    ("k", "rungs", "members", "groups"), [(1, 1, MEMBERS, 64), (3, 2, 2 * MEMBERS, 5), (1, 1, 1024, 64)]
)
def test_counts(cells, k, rungs, members, groups):
    """All members in one cell too: no byte overflows."""
    rng = np.random.default_rng(cells)
    place = rng.integers(0, cells + 1, (k, rungs, members, groups), dtype=np.int32)  # cells: not counted
    place[..., 0] = cells - 1
    count = jax.jit(lambda p: count_planes(bit_planes(p, cells), cells))
    found = np.asarray(count(place)).reshape(k, cells, rungs, groups)
    for cell in range(cells):
        np.testing.assert_array_equal(found[:, cell], (place == cell).sum(axis=2))


@pytest.mark.parametrize("members", [1, 79, 128])
@pytest.mark.parametrize("bins", [1, 50, 124, 125])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_histogram_of_a_tile(members, bins, dtype):
    """With values outside, on the edges, and that are no numbers; and particles that are not there."""
    rng, groups = np.random.default_rng(bins), 64
    values = rng.normal(size=members * groups).astype(dtype)
    values[:6] = -np.inf, np.inf, np.nan, -1, 1, -0.0
    valid = rng.random(values.size) < 0.9
    valid[:6] = True
    histogram = observables.Histogram(lambda x: x, low=-1.0, high=1.0, bins=bins)
    group = lambda a: a.reshape(*a.shape[:-1], 1, members, groups)  # noqa: E731
    with jax.enable_x64(dtype == np.float64):
        row = lambda v, there: histogram.row(*histogram.follow((v[None],), (), there, 0, group), 0, group)  # noqa: E731
        found = np.asarray(jax.jit(row)(values, valid))[:, 0]
    there, column = values[valid], np.tile(np.arange(groups), members)[valid]
    cell = np.floor((there - dtype(-1)) * dtype(bins / 2)).clip(-1, bins) + 1
    cell = np.where(np.isnan(there), bins + 2, cell).astype(int)
    expected = np.zeros((bins + 3, groups), int)
    np.add.at(expected, (cell, column), 1)
    np.testing.assert_array_equal(found, expected)


def test_a_joint_histogram_of_many_cells():
    histogram = observables.Histogram2D(lambda x: x, low=-1.0, high=1.0, bins=(3000, 3000))
    place = np.asarray(histogram.place(jnp.asarray([[0.999], [0.999]])))[0, 0]
    group = lambda a: a[..., None, None]  # noqa: E731
    found = histogram.row(*histogram.follow((jnp.full((2, 1), 0.999),), (), jnp.ones(1, bool), 0, group), 0, group)
    assert np.flatnonzero(np.asarray(found)) == place > WHOLE


def test_whole_numbers():
    numbers = np.r_[0, 1, 2, 3, 1000, 2**16 + 1, 2**22, 2**23 - 1]
    for dtype in (np.float32, np.float64):
        with jax.enable_x64(dtype == np.float64):
            np.testing.assert_array_equal(whole(jnp.asarray(numbers, dtype)), numbers)
