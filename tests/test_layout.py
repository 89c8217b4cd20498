"""Where particles lie, how many each group has, and what the compiler is asked."""

import jax.numpy as jnp
import numpy as np
import pytest

from heatbath import engine
from heatbath.engine import hardware
from heatbath.engine.layout import choose
from heatbath.integrators import BAOAB


def layouts(**options):
    return choose(**{"rungs": None, "shared_noise": False, "normals": 1, "heavy": False, "devices": 2, **options})


def test_the_rule_of_the_layout():
    """Cores are used by populations of a few hundred, tiles fit the cache, accelerators get one long loop."""
    for n, d in ((1_000, 1), (16_384, 2), (10**6, 2), (1_000, 100), (300, 10)):
        layout = layouts(particles=n, position=np.zeros(d))
        assert layout.devices == 2 and layout.tiles % 2 == 0
        assert layout.tile * d <= 2**15 and layout.tile <= 8192 and layout.steps >= 4
        assert layout.tile * layout.tiles >= n
    for n in (66_000, 100_000, 10**6):  # no device has a tile more to do than another, and no tile is empty
        layout = layouts(particles=n, position=np.zeros(1))
        assert 0 <= layout.tile * layout.tiles - n < max(64 * layout.tiles, 0.02 * n)
    for n in (10_000, 100_000, 10**6):  # round numbers are worth whole eights of members
        assert layouts(particles=n, position=np.zeros(1)).tile % 512 == 0
    assert layouts(particles=1_000, position=np.zeros(1), devices=1).tile == 1_024
    assert layouts(particles=1_100, position=np.zeros(1), devices=1).tile == 1_152  # 1,536 would be too dear
    assert layouts(particles=1, position=np.zeros(1)).devices == 1
    gpu = layouts(particles=262_144, position=np.zeros(2), devices=1, accelerator=True)
    assert gpu.tiles == 1 and gpu.tile == 262_144


@pytest.mark.parametrize(("rungs", "particles"), [(None, 1), (None, 100), (None, 20_001), (3, 5), (3, 100), (5, 9_000)])
@pytest.mark.parametrize("devices", [1, 2])
def test_members_of_groups(rungs, particles, devices):
    """The host's count of the particles in each group is that of the device, and every particle is counted once."""
    layout = layouts(particles=particles, rungs=rungs, position=np.zeros(2), devices=devices)
    counts = layout.members()
    assert counts.sum() == particles * (rungs or 1)
    for tile in range(layout.tiles):
        there = layout.grouped(np.asarray(layout.identify(tile)[1]))
        np.testing.assert_array_equal(counts[tile], there.sum(axis=-2))


def test_options_that_a_compiler_does_not_know_are_left_out(monkeypatch):
    known = hardware.known(**hardware.ONCE)
    monkeypatch.setattr(hardware, "ONCE", {**hardware.ONCE, "xla_of_another_time": 1})
    assert known and hardware.known(**hardware.ONCE) == known
    twice = hardware.jit(hardware.ONCE)(lambda x: 2 * x)
    assert twice(3.0) == 6.0 and twice.__name__ == "<lambda>"


@pytest.mark.parametrize("n", [1, 70, 600])
def test_a_leaf_of_no_coordinates(n):
    """It changes nothing for the others, measured or not."""
    bath, x = BAOAB(step_size=0.05), np.ones((n, 4), np.float32)
    energy = lambda q: jnp.sum(q["a"] ** 2)  # noqa: E731
    runs = [
        engine.simulate(energy, bath, {"a": x, **more}, steps=20, observables=observables)
        for more in ({}, {"z": np.zeros((n, 0), np.float32)})
        for observables in ((), None)
    ]
    assert runs[2].positions["z"].shape == (n, 0)
    for run in runs[1:]:
        assert np.array_equal(run.positions["a"], runs[0].positions["a"])
