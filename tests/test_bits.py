"""Same bits: what a particle does depends on its number, the key and the step, and on nothing else.

Positions and momenta are compared as 32-bit words, over how a run was cut, how particles lie in memory, who else is
there, what is measured, how many devices there are, and the pace of the host. This holds for energies and schemes that
act on each element: matrix products would differ by rounding with the batch.
"""

import dataclasses
import functools
import os
import subprocess
import sys
from importlib import import_module

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from registry import ALIKE, INTEGRATORS, MATRICES

from heatbath import engine, potentials
from heatbath.engine import observables
from heatbath.engine.layout import GROUPS

STEPS, KEY, N, D = 97, 3, 1000, 3
ENERGIES = {
    "Harmonic": lambda: potentials.Harmonic(stiffness=jnp.array([1.0, 2.0, 0.5]), center=0.3),
    "DoubleWell": lambda: potentials.DoubleWell(barrier=1.5, tilt=0.2),
}
SCHEMES = {case.name: case.make for case in INTEGRATORS if case.name not in MATRICES | ALIKE}
# one of each kind goes through everything; the rest, one energy each, through being cut, company and devices
KINDS = [
    *("EulerMaruyama", "LeimkuhlerMatthews", "BAOAB", "BAOA", "OBABO", "ABOBA", "Splitting", "Verlet", "Descent"),
]
LONG = [name for name in SCHEMES if name not in (*KINDS, "SGNHT", "MCLMC", "HMC", "BBK")]  # for the long run
# a compilation each: every scheme on one of the energies in turn
TURNS = [(scheme, list(ENERGIES)[i % 2]) for i, scheme in enumerate(SCHEMES)]
CASES = TURNS + [(scheme, energy) for scheme in KINDS for energy in ENERGIES if (scheme, energy) not in TURNS]
every_case, every_scheme, one_energy, other_energy = (
    pytest.mark.parametrize(
        "scheme, energy", [pytest.param(*turn, marks=[pytest.mark.slow] * (turn[0] in LONG)) for turn in turns]
    )
    for turns in (
        CASES,
        TURNS,
        [case for case in TURNS if case[0] in KINDS],
        [case for case in CASES if case not in TURNS],
    )
)
every_kind = pytest.mark.parametrize("scheme", KINDS)
# packages whose attribute of the same name is a function, so they are found by import_module
PLAN, SIMULATE = (import_module(f"heatbath.engine.{name}") for name in ("plan", "simulate"))


def integrator(scheme):
    """A registered integrator at a step and temperature at which the quartic wall is stable."""
    return SCHEMES[scheme](**({} if scheme == "Descent" else {"step_size": 0.05, "temperature": 0.7}))


def start(n=N, d=D):
    return engine.scatter(jnp.zeros(d), n, scale=0.6, key=1)


def simulate(scheme, energy, positions=None, *, steps=STEPS, key=KEY, measured=None):
    positions = start() if positions is None else positions
    measured = {} if measured is None else measured
    return engine.simulate(
        ENERGIES[energy](), integrator(scheme), positions, steps=steps, key=key, observables=measured
    )


def words(run):
    """Positions and momenta, (1 or 2, n, d), as 32-bit words."""
    arrays = [run.positions] if run.momenta is None else [run.positions, run.momenta]
    return np.stack([np.asarray(array) for array in arrays]).view(np.uint32)


@functools.cache
def whole(scheme, energy):
    """The words that every other way must give: in one go, nothing measured."""
    return words(simulate(scheme, energy))


def same(a, b):
    assert a.shape == b.shape and a.size
    count = int(np.sum(a != b))
    assert count == 0, f"{count} of {a.size} words differ"


def in_parts(run, parts=(13, 1, 50, 33)):
    for steps in parts:
        run = engine.simulate(run, steps=steps, progress=False)
    return run


@pytest.fixture(scope="module", autouse=True)
def two_devices(request, tmp_path_factory):
    """A process with two devices that does every case meanwhile."""
    path = tmp_path_factory.mktemp("devices") / "words.npz"
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
    # the schemes of the tests that are run, the long ones where they are asked for
    asked = {item.callspec.params["scheme"] for item in request.session.items
             if item.name.startswith("test_two_devices")}  # fmt: skip
    child = subprocess.Popen([sys.executable, __file__, path, *asked], env=os.environ | {"XLA_FLAGS": flags})
    yield lambda: (child.wait(timeout=300), np.load(path))[1]
    child.kill()
    child.wait()


@every_case
def test_where_a_run_is_cut(scheme, energy):
    same(words(in_parts(simulate(scheme, energy, steps=0))), whole(scheme, energy))


@one_energy
def test_the_pace_of_the_host(scheme, energy, monkeypatch):
    for seconds in (1e-9, 1e9):  # blocks of 16, 8, 4, 2, 1, 1 … steps, and of 16, 81 steps
        monkeypatch.setattr(SIMULATE, "SECONDS_A_BLOCK", seconds)
        same(words(simulate(scheme, energy)), whole(scheme, energy))


@every_scheme
def test_who_else_is_there_and_what_is_measured(scheme, energy):
    """The first 37 of 1000, alone, with an observable due at steps that no noise block knows of."""
    measured = [
        observables.Mean(observables.potential_energy, every=7),
        observables.Series(observables.position, every=5),
    ]
    alone = simulate(scheme, energy, start()[:37], measured=measured)
    same(words(alone), whole(scheme, energy)[:, :37])


@every_kind
def test_a_handful_that_fills_no_vector_register(scheme):
    few = simulate(scheme, "DoubleWell", start()[:3])
    same(words(few), whole(scheme, "DoubleWell")[:, :3])


@pytest.mark.parametrize("scheme", ["EulerMaruyama", "BAOAB", pytest.param("OBABO", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "d", [1, pytest.param(10, marks=pytest.mark.slow), 31, 32, pytest.param(100, marks=pytest.mark.slow)]
)
def test_alone_as_among_many_in_every_layout(d, scheme):
    """Noise along time or across, particles along vectors or their coordinates: one, two and nine against 200."""
    among = words(simulate(scheme, "DoubleWell", start(200, d), steps=41))
    for n in (1, 2, 9):
        same(words(simulate(scheme, "DoubleWell", start(200, d)[:n], steps=41)), among[:, :n])


def odd_shapes():
    """Populations that several devices share though each is small, and whose noise is drawn along time."""
    well, data = potentials.DoubleWell(), jnp.arange(6.0)
    log_likelihood = lambda x, example: -jnp.sum(jnp.square(x - example / 6))  # noqa: E731
    posterior = potentials.Posterior(log_likelihood, lambda x: -well(x), data=data, batch_size=2)
    for name, potential, shape in (("matrices", well, (1, 2)), ("minibatches", posterior, (2,))):
        yield name, potential, engine.scatter(jnp.zeros(shape), 128, scale=0.6, key=1)


def odd_words():
    bath = integrator("EulerMaruyama")
    return {
        name: words(engine.simulate(potential, bath, x, steps=23, key=KEY, observables={}))
        for name, potential, x in odd_shapes()
    }


def test_devices_share_no_noise_in_small_populations(two_devices):
    with two_devices() as file:
        for name, found in odd_words().items():
            same(file[name], found)
            assert len(np.unique(found[0].reshape(128, -1)[:, 0])) == 128


def laid_out(monkeypatch, *, groups, steps):
    """From here on runs have tiles of so many times the groups, and noise blocks of so many steps."""

    def choose(**shapes):
        layout = chosen(**shapes)
        # a tile is at least a group of each wide where particles lie along vectors: narrower loops round differently
        tile = -(-max(groups * layout.groups, GROUPS) // layout.groups) * layout.groups
        tiles = -(-layout.padded // tile)
        return layout._replace(tile=tile, tiles=tiles, padded=tiles * tile, steps=steps)

    chosen = PLAN.choose
    monkeypatch.setattr(PLAN, "choose", choose)


@other_energy
def test_tiles_and_noise_blocks(scheme, energy, monkeypatch):
    laid_out(monkeypatch, groups=3, steps=6)
    same(words(simulate(scheme, energy)), whole(scheme, energy))


@pytest.mark.parametrize("n, d", [(1, 1), (37, 5), (4500, 2), (130, 40)])
def test_tiles_and_noise_blocks_of_many_shapes(n, d, monkeypatch):
    bath, well, x = integrator("BAOAB"), ENERGIES["DoubleWell"](), start(n, d)
    run = lambda: words(engine.simulate(well, bath, x, steps=41, key=KEY, observables={}))  # noqa: E731
    expected = run()
    laid_out(monkeypatch, groups=2, steps=10)
    same(run(), expected)


@every_case
def test_two_devices(scheme, energy, two_devices):
    with two_devices() as file:
        assert file["devices"] == 2
        same(file[f"{scheme} {energy}"], whole(scheme, energy))


@one_energy
def test_advance_is_simulate(scheme, energy):
    before = simulate(scheme, energy, steps=13)
    # as arguments: constants that the compiler sees are folded by another exponential than the processor's
    advance = jax.jit(lambda potential, bath, *rest: engine.advance(potential, bath, rest[0], KEY, *rest[1:]))
    state = advance(before.potential, before.integrator, before.state, before.step, STEPS - before.step)
    same(words(dataclasses.replace(before, state=state)), whole(scheme, energy))


@pytest.mark.parametrize("scheme", [name for name in KINDS if name != "Descent"])  # which draws nothing
def test_the_key_decides(scheme):
    again, other = (words(simulate(scheme, "DoubleWell", key=key)) for key in (KEY, KEY + 1))
    same(again, whole(scheme, "DoubleWell"))
    assert np.all(other != again)


MEASURED = {
    "position": observables.Mean(observables.position, every=3, covariance=True),
    "ratio": observables.Mean(observables.configurational_temperature, every=2, burn_in=20),
    "histogram": observables.Histogram(observables.position, bins=9, low=-2.0, high=2.0, every=5),
    "series": observables.Series(observables.momentum, every=4),
    "energies": observables.Series(observables.Mean(observables.potential_energy), every=1),
}


@pytest.mark.parametrize("n", [5, 1000])
def test_observables_of_a_run_that_was_cut(n):
    run = simulate("BAOAB", "DoubleWell", start(n), steps=0, measured=MEASURED)
    cut, uncut = in_parts(run), engine.simulate(run, steps=STEPS)
    for name in MEASURED:
        np.testing.assert_equal(plain(cut.observables[name]), plain(uncut.observables[name]))
    assert cut.observables["energies"].steps.tolist() == list(range(1, STEPS + 1))
    assert cut.warnings == uncut.warnings


def test_histograms_of_a_long_run_that_was_cut():
    """700 observations after a burn-in: rows of 1, 2, 4 and 8 of them, and cuts within such groups."""
    measured = {"x": observables.Histogram(observables.position, bins=9, low=-2.0, high=2.0, every=1, burn_in=45)}
    run = simulate("BAOAB", "DoubleWell", start(70), steps=0, measured=measured)
    cut, uncut = in_parts(run, (30, 100, 1, 60, 302, 7, 245)), engine.simulate(run, steps=745)
    series = engine.simulate(simulate("BAOAB", "DoubleWell", start(70), steps=45, measured={}),
                             steps=700, observables={"x": observables.Series(observables.position, every=1)})  # fmt: skip
    np.testing.assert_equal(plain(cut.observables["x"]), plain(uncut.observables["x"]))
    jax.tree.map(np.testing.assert_array_equal, cut.records[0].after(300), uncut.records[0].after(300))
    values = np.moveaxis(np.asarray(series.observables["x"].values), 2, 0).reshape(3, -1)
    counts = [np.histogram(v, bins=uncut.observables["x"].edges)[0] for v in values]
    np.testing.assert_allclose(uncut.observables["x"].density * (4 / 9) * 700 * 70, counts, atol=2)


def plain(result):
    """A result as dicts and tuples of arrays, which numpy compares; NaN equals NaN."""
    return dataclasses.asdict(result) if dataclasses.is_dataclass(result) else tuple(result)


def test_advance_under_vmap_is_a_loop():
    well, bath = ENERGIES["DoubleWell"](), integrator("BAOAB")
    state = simulate("BAOAB", "DoubleWell", start(50), steps=0).state
    advance = lambda key: engine.advance(well, bath, state, key, 0, 20).position  # noqa: E731
    keys = jax.random.split(jax.random.key(1, impl="threefry2x32"), 3)
    together, one = jax.jit(jax.vmap(advance))(keys), jax.jit(advance)
    apart = jnp.stack([one(key) for key in keys])
    same(*(np.asarray(a).view(np.uint32) for a in (together, apart)))
    assert len({float(a[0, 0]) for a in apart}) == 3


def test_advance_has_a_derivative_in_the_temperature():
    with jax.enable_x64(True):
        well, x = ENERGIES["DoubleWell"](), jnp.asarray(start(20), jnp.float64)
        bath = lambda t: SCHEMES["BAOAB"](step_size=0.05, temperature=t)  # noqa: E731
        state = engine.simulate(well, bath(0.7), x, steps=0, observables={}).state
        spread = jax.jit(lambda t: jnp.mean(engine.advance(well, bath(t), state, KEY, 0, 40).position ** 2))
        slope = jax.jvp(spread, (jnp.float64(0.7),), (jnp.float64(1.0),))[1]
        difference = (spread(0.7 + 1e-5) - spread(0.7 - 1e-5)) / 2e-5
        assert slope.dtype == jnp.float64 and abs(float(slope)) > 1e-3
        np.testing.assert_allclose(slope, difference, rtol=1e-7)


if __name__ == "__main__":
    found = {
        f"{scheme} {energy}": words(simulate(scheme, energy)) for scheme, energy in CASES if scheme in sys.argv[2:]
    }
    np.savez(sys.argv[1], devices=jax.local_device_count(), **found, **odd_words())
