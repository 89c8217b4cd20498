"""Uses that would give wrong numbers in silence: each is refused with what arrived, the rule and the fix, or is right."""

import jax.numpy as jnp
import numpy as np
import pytest

from heatbath import engine, integrators, potentials
from heatbath.engine import Potential, number, observables, pytree
from heatbath.engine.verdict import Line, Verdict

X = np.random.default_rng(1).normal(size=(100, 2)).astype(np.float32)
WELL, BATH = potentials.DoubleWell(), integrators.BAOAB(step_size=0.05)


def run(potential=WELL, integrator=BATH, positions=X, steps=20, measured=()):
    return engine.simulate(potential, integrator, positions, steps=steps, observables=measured, progress=False)


@pytree
class Odd(Potential):
    """A number of its own that is called temperature."""

    temperature: float = number("positive")

    def __call__(self, position):
        return self.temperature * jnp.sum(position**2) / 2


def cooling(step):
    return 1 - 0.5 * jnp.minimum(step / 200, 1.0)


def both_swept():
    bath = integrators.BAOAB(step_size=0.05, temperature=engine.sweep([0.5, 0.7]))
    return engine.mbar(run(potentials.DoubleWell(barrier=engine.sweep([0.5, 1.0])), bath))


def with_cooling():
    bath = integrators.EulerMaruyama(step_size=0.01, temperature=cooling)
    return engine.relaxation(potentials.Harmonic(), bath, X, steps=400, every=100)


def heat_by_truth():
    bath = integrators.EulerMaruyama(step_size=0.1)
    measure = dict(steps=2, every=1, observable=lambda x: x[0])
    return engine.response(potentials.Harmonic(), bath, X, temperature=True, **measure)


def one_particle():
    bath = integrators.EulerMaruyama(step_size=0.1)
    return engine.response(potentials.Harmonic(), bath, X[:1], steps=2, every=1, observable=lambda x: x[0], force=0.1)


@pytree
class Loose(potentials.Coordinatewise):
    """Confines below T = 2·strength alone, where ∫ (1 + x²)^(-strength/T) dx exists; not within its support anyway."""

    strength: float = number("positive", default=0.4)

    def one(self, x):
        return self.strength * jnp.log1p(x * x)

    def support(self, temperature, xp=np):
        return -50.0, 50.0


@pytree
class Barometric(Loose):
    """g x above a floor at 0: a wall ends the density on the left."""

    def one(self, x):
        return jnp.where(x >= 0, self.strength * x, jnp.inf)

    def support(self, temperature, xp=np):
        return 0.0, 60 * temperature / self.strength

    def nodes(self, temperature, count=4001, xp=np):
        x = xp.exp(xp.linspace(-45.0, xp.log(self.support(temperature, xp)[1]), count))  # dense at the wall
        return x, x * (xp.log(x[1]) - xp.log(x[0]))


@pytree
class Endless(potentials.Solvable):
    """Nothing confines, and its author says so."""

    def __call__(self, position):
        return 0.0 * jnp.sum(position)

    def log_partition(self, temperature, like):
        return jnp.inf * temperature

    def moments(self, temperature, like):
        return np.zeros(1), np.full((1, 1), np.inf)

    def draw(self, temperature, like, key, n):
        raise NotImplementedError


BAD = [
    (lambda: Loose().equilibrium(1.0), "-50 to 50.* 3.13 T above.*must be 30.*does not exist, or `support`"),
    (lambda: Endless().equilibrium(1.0), "no partition function at temperature 1: ln Z .*inf"),
    (both_swept, "a number of the potential is swept.*thermodynamic_integration"),
    (with_cooling, "temperature still changes"),
    (heat_by_truth, "temperature must be a number; got True"),
    (one_particle, "needs at least 16 particles; got 1"),
    (lambda: run(measured=observables.Mean(lambda x: x + 1j)), "must return real numbers.*complex64"),
    (lambda: run(measured=observables.Mean(lambda x: jnp.zeros(0))), r"must return real numbers.*\[0\]"),
    (lambda: run(potentials.Phi4Chain(sites=3)), "3 coordinates here; got a position of 2"),
    (lambda: run(potentials.Ring(), positions=X[:, :1]), "2 coordinates here; got a position of 1"),
    (lambda: observables.Histogram(lambda x: x, low=np.zeros(2), high=3.0), "low and high must be one number; got"),
    (lambda: engine.reweight(np.ones(100), temperature=1.0, to="a"), "to must be a number; got 'a'"),  # pyright: ignore
    (lambda: engine.mbar("a"), "energies must be a number; got 'a'"),
    (
        lambda: engine.entropy(run(potentials.RotorChain(sites=4), positions=np.zeros((300, 4), np.float32))),
        "angles of period.*got 4",
    ),
]


@pytest.mark.parametrize("call, says", BAD, ids=[says for _, says in BAD])
def test_refused(call, says):
    with pytest.raises((ValueError, TypeError), match=says):
        call()


def first(x):
    return x[0]


HELD = [observables.Series(first, every=10), observables.Histogram(first, low=0.0, high=2.0)]


@pytest.mark.parametrize(
    "given, says",
    [
        ([observables.Series(first, every=5), HELD[1]], "every: the file has 10, not 5"),
        ([HELD[0], observables.Histogram(first, low=0.0, high=4.0)], "high: the file has 2.0, not 4.0"),
        ([HELD[0], observables.Histogram(first, low=0.0, high=2.0, bins=7)], "bins: the file has 50, not 7"),
        ([HELD[0], observables.Mean(first)], "histogram, not .*mean"),
        (HELD[:1], "2 entries, not 1"),
    ],
)
def test_a_file_goes_on_with_what_it_holds(given, says, tmp_path):
    run(steps=100, measured=HELD).save(tmp_path / "run.npz")
    with pytest.raises(ValueError, match=says):
        engine.load(tmp_path / "run.npz", observables=given)
    assert engine.load(tmp_path / "run.npz", observables=HELD).step == 100


def test_a_number_called_temperature_is_no_bath():
    """U = λx²/2 at T = 1: ln Z falls by ln(λ)/2, and the integral over the bath's temperature would rise."""
    measured = observables.Mean(observables.EnergyDerivative("temperature"), every=2)
    ladder = Odd(temperature=engine.sweep([0.5, 1.0, 2.0]))
    start = engine.scatter(jnp.zeros(1), 400, scale=1.0, key=1)
    found = engine.thermodynamic_integration(run(ladder, integrators.BAOAB(step_size=0.1), start, 400, measured))
    value, error = found.difference
    assert abs(value + np.log(4) / 2) < 5 * error < 0.2


def test_a_flat_landscape_has_no_configurational_temperature_and_passes():
    torus = potentials.Torus(length=2.0)
    still = run(torus, BATH, torus.equilibrium(1.0).sample(1, 400), 200, None)
    verdict = engine.compare(still)
    assert verdict.passed and verdict["configurational_temperature"].passed is None
    assert not any("in a bath" in warning for warning in still.warnings)


def test_a_rare_observable_does_not_stop_a_verdict():
    measured = {
        "x": observables.Mean(observables.position),
        "rare": observables.Histogram(observables.position, low=-2.0, high=2.0, every=400),
    }
    made = run(steps=790, measured=measured)
    assert "position[0]" in engine.compare(made).lines and made.results(400)["rare"] is None


def test_first_passages_of_a_tree():
    tree = {"a": X, "b": -X}
    measured = observables.FirstPassage(observables.position, level=0.5)
    found = run(lambda q: WELL(q["a"]) + WELL(q["b"]), positions=tree, steps=60, measured=measured).observables
    assert {name: a.shape for name, a in found.crossed.items()} == {"a": (2,), "b": (2,)}
    assert np.all(found.crossed["a"] + found.waiting["a"] == 100)


@pytest.mark.parametrize(
    "landscape, temperature", [(potentials.Ring(barrier=2.0), 0.5), (potentials.Phi4Chain(sites=4), 0.7)]
)
def test_what_an_entropy_of_few_particles_misses_is_in_its_error(landscape, temperature):
    state = landscape.equilibrium(temperature)
    draws = np.asarray(state.sample(7, 24 * 700)).reshape(24, 700, -1)
    z = np.array([(m.value - state.entropy) / m.error for m in map(engine.entropy, draws)])
    assert np.abs(z).max() < 4.5 and np.abs(z.mean()) < 1.5


MODES = potentials.GaussianMixture(
    means=[-24.84, -0.93, 23.93], scales=[0.297, 0.068, 0.037], weights=[0.48, 0.16, 0.36]
)


@pytest.mark.parametrize(
    "landscape, temperature, edges, exact",
    [
        (MODES, 1.0, [-40.0, 0.0, 40.0], [0.64, 0.36]),
        (MODES, 1.0, [-40.0, -10.0, 13.0, 40.0], [0.48, 0.16, 0.36]),
        (potentials.TripleWell(), 1e-4, [-3.0, -0.5, 0.5, 3.0], None),
        (potentials.Cosine(amplitude=100.0), 0.01, [1.0, 5.0, 8.0], [0.0, 1.0]),  # around 2π
    ],
)
def test_bins_far_wider_than_what_is_in_them(landscape, temperature, edges, exact):
    """Peaks that no node of a bin would see are where the quantiles are; three wells are weighed by their curvatures."""
    if exact is None:
        weights = 1 / np.sqrt([54.0, 13.5, 54.0])
        exact = weights / weights.sum()
    found = landscape.equilibrium(temperature).bin_probabilities(edges)
    np.testing.assert_allclose(found, exact, atol=1e-4 if temperature == 1e-4 else 1e-9)


def test_a_wall_ends_a_density():
    """Z = T/g and <x> = T/g of the barometric law (analytic.md B): beyond its floor the energy is infinite."""
    state = Barometric(strength=2.0).equilibrium(0.8)
    assert state.log_partition == pytest.approx(np.log(0.4), abs=1e-10)
    assert (state.mean[0], state.mean_energy) == pytest.approx((0.4, 0.8), rel=1e-10)


def test_a_corner_has_no_configurational_temperature_and_no_verdict():
    """On |x| it is NaN, without warnings of numpy's, and what is not decided is counted."""
    measured = [observables.Mean(m) for m in (observables.configurational_temperature, observables.kinetic_temperature)]
    draws = np.asarray(potentials.Laplace().equilibrium(1.0).sample(3, 100))
    with pytest.warns(UserWarning, match="twice differentiable"):
        found = run(potentials.Laplace(), positions=draws, steps=40, measured=measured)
    assert np.isnan(found.observables[0].mean)
    table = engine.thermometers(found)
    assert [line.passed for line in table.lines.values()].count(None) == 1 and "all passed, 1 not decided" in str(table)
    assert "nothing was decided" in str(Verdict("", {"x": Line(1.0, 1.0, passed=None)}))
    assert "NOT passed: x" in str(Verdict("", {"x": Line(1.0, 2.0, passed=False), "y": Line(1.0, 1.0, passed=None)}))
