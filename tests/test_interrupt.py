"""Ctrl-C keeps the run, wherever it strikes; what goes on from there is what had not stopped, bit for bit."""

import importlib
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath import engine, potentials
from heatbath.engine import observables
from heatbath.integrators import BAOAB

simulation = importlib.import_module("heatbath.engine.simulate")
WELL, BATH = potentials.DoubleWell(barrier=1.0, tilt=0.3), BAOAB(step_size=0.05, temperature=0.5)
X = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
STEPS = 400


def observed():
    return {
        "energy": observables.Mean(observables.potential_energy, every=3),
        "lags": observables.Autocorrelation(observables.position, every=5),
    }


def simulate(**options):
    return engine.simulate(WELL, BATH, X, steps=STEPS, key=1, observables=observed(), **options)


@pytest.fixture(scope="module")
def whole():
    return simulate()


def same(found, expected):
    assert found.step == expected.step
    for name in ("state", "memories"):
        for a, b in zip(*map(jax.tree.leaves, (getattr(found, name), getattr(expected, name))), strict=True):
            assert np.array_equal(a, b)
    energies = [float(run.observables["energy"].mean) for run in (found, expected)]
    assert energies[0] == pytest.approx(energies[1], rel=1e-6)  # where blocks end moves its last bits
    assert found.observables["energy"].count == expected.observables["energy"].count


PLACES = {
    "as it compiles": (simulation, "compile_block", 0),
    "in the first block": (simulation, "run_block", 0),
    "in a later block": (simulation, "run_block", 3),
    "as rows are put away": (simulation.Plan, "collect", 2),
    "at the bar": (simulation.Progress, "advance", 2),
    "as the state is unpacked": (simulation.Plan, "unpack", 0),
}


@pytest.mark.parametrize("place", PLACES)
def test_ctrl_c_keeps_the_run(place, whole, monkeypatch):
    """It strikes once, in turn 0, 1, ...; blocks of at most 16 steps, and a run that counts as large."""
    owner, name, turn = PLACES[place]
    function, turns = getattr(owner, name), iter(range(1_000))

    def struck(*arguments, **named):
        if next(turns) == turn:
            signal.raise_signal(signal.SIGINT)
        return function(*arguments, **named)

    monkeypatch.setattr(owner, name, struck)
    monkeypatch.setattr(simulation, "SECONDS_A_BLOCK", 0.0)  # blocks get shorter, not longer
    monkeypatch.setattr(simulation, "is_large", lambda arrays: True)
    with pytest.raises(engine.Interrupted, match=f"of {STEPS}; `.run`") as caught:
        simulate()
    stopped = caught.value.run
    assert stopped.step == {"compile_block": 0, "unpack": STEPS}.get(name, stopped.step)
    assert (stopped.step > 0) == (turn > 0 or name == "unpack")
    same(engine.simulate(stopped, steps=STEPS - stopped.step), whole)


def test_ctrl_c_while_the_devices_work():
    """A signal from outside at any moment; the run is large, so its block is compiled ahead."""
    timer = threading.Timer(1.0, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    start = jnp.asarray(np.resize(X, (300_000, 2)))
    timer.start()
    with pytest.raises(engine.Interrupted) as caught:
        engine.simulate(WELL, BATH, start, steps=1_000_000, key=1, observables=(), progress=False)
    stopped = caught.value.run
    assert 0 <= stopped.step < 1_000_000
    straight = engine.simulate(WELL, BATH, start, steps=stopped.step + 5, key=1, observables=(), progress=False)
    assert np.array_equal(engine.simulate(stopped, steps=5).positions, straight.positions)
