"""How ensembles relax: divergences with errors, decay rates, entropy produced, linear response; against closed forms.

Unless another is stated a line is held to five standard errors, p = 6e-7 each.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import i0, i1

from heatbath import engine
from heatbath.engine import ornstein_uhlenbeck as ou
from heatbath.engine.divergence import entropy_nearest, kl_from_counts, kl_gaussian, kl_nearest, wasserstein
from heatbath.engine.linear import linear_map
from heatbath.engine.ornstein_uhlenbeck import Gaussian
from heatbath.integrators import BAOAB, EulerMaruyama
from heatbath.potentials import Cosine, DoubleWell, Harmonic, Solvable

Z = 5.0
OVERDAMPED = Gaussian(np.array([2.0]), np.array([[0.25]]))
UNDERDAMPED = Gaussian(np.array([2.0, 0.0]), np.diag([0.25, 1.0]))
UNIT = Gaussian(np.zeros(1), np.eye(1))


@engine.pytree
class Well(DoubleWell):
    """A double well that knows its density."""

    def marginal(self, temperature: float, like: Any, coordinate: int, x: np.ndarray) -> np.ndarray:
        one = self.equilibrium(temperature)
        return np.exp(-np.asarray(self.one(x)) / temperature - one.log_partition)


@engine.pytree
class Rotor(Solvable):
    """-cos x on the circle."""

    period = 2 * np.pi

    def __call__(self, position: Any) -> Any:
        return -jnp.sum(jnp.cos(position))

    def log_partition(self, temperature: Any, like: Any) -> Any:
        return jnp.log(2 * jnp.pi * i0(1 / temperature))

    def moments(self, temperature: float, like: Any) -> tuple[np.ndarray, np.ndarray]:
        return np.array([float(i1(1 / temperature) / i0(1 / temperature)), 0.0]), np.eye(2)  # the mean is what is used

    def draw(self, temperature: float, like: Any, key: Any, n: int) -> Any:
        return np.random.default_rng(key).vonmises(0.0, 1 / temperature, (n, 1))

    def marginal(self, temperature: float, like: Any, coordinate: int, x: np.ndarray) -> np.ndarray:
        return np.exp(np.cos(x) / temperature) / (2 * np.pi * float(i0(1 / temperature)))


def start(n, law=OVERDAMPED, coordinates=1, seed=0):
    normals = np.random.default_rng(seed).normal(size=(n, coordinates))
    return (law.mean[0] + np.sqrt(law.covariance[0, 0]) * normals).astype(np.float32)


# relaxation


@pytest.mark.parametrize("regime", ["overdamped", "underdamped"])
def test_divergence_of_an_ornstein_uhlenbeck_process_in_time(regime):
    """Ten times, within five errors of the closed form of continuous time: the step errs by less than one."""
    if regime == "overdamped":
        exact, law = ou.overdamped(1.0, temperature=1.0), OVERDAMPED
        bath, steps, every = EulerMaruyama(step_size=0.005), 500, 50
    else:
        exact, law = ou.underdamped(1.0, temperature=1.0, friction=1.0), UNDERDAMPED
        bath, steps, every = BAOAB(step_size=0.05), 100, 10
    found = engine.relaxation(Harmonic(), bath, start(20_000), steps=steps, every=every, key=3)
    assert found.estimator == "means and covariances" and len(found.times) == 11
    kl = exact.divergence(found.times, law)
    assert np.all(np.abs(found.kl - kl) < Z * found.error)
    w = np.sqrt((exact.at(found.times, law).mean[:, 0]) ** 2
                + (np.sqrt(exact.at(found.times, law).covariance[:, 0, 0]) - 1) ** 2)  # fmt: skip
    clear = w > 3 * found.wasserstein_floor
    assert clear.sum() > 5
    assert np.all(
        np.abs(found.wasserstein - w)[clear] < (Z * found.wasserstein_error + found.wasserstein_floor**2)[clear]
    )
    if regime == "overdamped":
        assert abs(found.rate - 2.0) < Z * found.rate_error < 0.5
        assert f"rate {found.rate:.4g}" in str(found) and "W2" in str(found)
    assert np.isclose(found.floor, np.sqrt(1 if regime == "overdamped" else 2.5) / 20_000)


def test_relaxation_to_the_law_of_a_large_step():
    """At h = 0.9 the scheme's own law is the end; the whole curve is that of its linear map; Gibbs is never reached."""
    target, bath = Harmonic(stiffness=1.5, center=0.3), BAOAB(step_size=0.9, temperature=0.8, mass=1.2)
    options = dict(steps=24, every=2, key=5)
    x = start(20_000)
    own = engine.relaxation(target, bath, x, **options, reference="scheme")
    gibbs = engine.relaxation(target, bath, x, **options)
    step = linear_map(bath, target, np.zeros(1))
    end = Gaussian(*step.stationary())
    mean, covariance, exact = np.array([2.0, 0.0]), np.diag([0.25, 0.8 * 1.2]), []
    # a state is (position, momentum, gradient): A forgets the old gradient after a step, which init sets from the position
    lift = np.array([[1.0, 0.0], [0.0, 1.0], [1.5, 0.0]])
    law = Gaussian(lift @ mean + np.array([0.0, 0.0, -0.45]), lift @ covariance @ lift.T)
    rows = np.concatenate([step.position, step.momentum])
    seen = lambda g: Gaussian(rows @ g.mean, rows @ g.covariance @ rows.T)  # noqa: E731
    for k in range(25):
        exact += [float(seen(law).divergence(seen(end)))] if k % 2 == 0 else []
        moved = step.drift @ law.covariance @ step.drift.T + step.noise @ step.noise.T
        law = Gaussian(step.drift @ law.mean + step.constant, moved)
    assert np.all(np.abs(own.kl - exact) < Z * own.error)
    assert np.all(np.diff(exact) < 0)  # positions and momenta together never go back
    assert gibbs.kl[-1] > Z * gibbs.error[-1] and gibbs.kl[-1] > 10 * gibbs.floor
    assert abs(own.kl[-1]) < Z * own.error[-1]


def test_what_the_closed_form_does_not_have_is_the_scheme():
    """At a step of 0.05 Euler and Maruyama's own law in discrete time is met, and the continuous one lies above it."""
    bath, law = EulerMaruyama(step_size=0.05), OVERDAMPED
    step, exact = linear_map(bath, Harmonic(), np.zeros(1)), []
    for k in range(41):
        exact += [float(law.divergence(UNIT))] if k % 4 == 0 else []
        law = Gaussian(step.drift @ law.mean, step.drift @ law.covariance @ step.drift.T + step.noise @ step.noise.T)
    found = engine.relaxation(Harmonic(), bath, start(200_000), steps=40, every=4, key=3)
    assert np.all(np.abs(found.kl - exact) < Z * found.error)
    continuous = ou.overdamped(1.0, temperature=1.0).divergence(found.times, OVERDAMPED)
    assert np.max((continuous - found.kl) / found.error) > 2 * Z


def test_a_hotter_bath_never_arrives():
    """Held against T = 1, a bath at T = 1.1 stays (r - 1 - ln r)/2, r = 1.1, away."""

    @engine.pytree
    class Hot(EulerMaruyama):
        def step(self, potential: Any, state: Any, noise: Any) -> Any:
            hot = EulerMaruyama(step_size=self.step_size, temperature=1.1 * self.temperature)
            return hot.step(potential, state, noise)

    options = dict(steps=300, every=100, key=2)
    x = start(20_000, UNIT)
    wrong = engine.relaxation(Harmonic(), Hot(step_size=0.02), x, **options)
    right = engine.relaxation(Harmonic(), EulerMaruyama(step_size=0.02), x, **options)
    assert wrong.kl[-1] > 4 * wrong.error[-1] and wrong.kl[-1] > 10 * wrong.floor
    assert right.kl[-1] < 4 * right.error[-1]


def test_histogram_of_a_double_well_in_time():
    """One coordinate, and the same with momenta, against the equations' own solutions, asymmetric, T ≠ 1."""
    well, law = Well(barrier=0.8, tilt=0.15), Gaussian(np.array([0.6]), np.array([[0.09]]))
    density = lambda x: np.exp(-((x - 0.6) ** 2) / 0.18)  # noqa: E731
    exact = engine.FokkerPlanck(well, temperature=0.8)
    found = engine.relaxation(well, EulerMaruyama(step_size=0.004, temperature=0.8), start(20_000, law), steps=1_000,
                              every=100, key=3)  # fmt: skip
    assert found.estimator == "histogram of 64 bins"
    kl = exact.divergence(density, found.times)
    # bins see a hundredth less than the density; Euler and Maruyama are early by the step's part of the rate, 1 %
    assert np.all(np.abs(found.kl - kl) < Z * found.error + 0.02 * kl)
    assert abs(found.rate - 2 * exact.gap) < Z * found.rate_error + 0.05 * exact.gap
    assert found.rate_error < 0.1 * found.rate
    joint = engine.relaxation(
        well, BAOAB(step_size=0.1, temperature=0.8), start(20_000, law), steps=40, every=10, key=3
    )
    assert joint.estimator == "histogram of 20 × 20 bins"
    assert joint.kl[0] == pytest.approx(kl[0], rel=0.05)  # momenta start in equilibrium
    assert np.all(np.diff(joint.kl) < 0)


def test_histogram_on_a_circle_in_time():
    """Angles that have gone round, released two turns away, are where they are."""
    law, rotor = Gaussian(np.array([1.0]), np.array([[0.09]])), Rotor()
    exact = engine.FokkerPlanck(rotor, temperature=1.0, nodes=100)
    assert exact.periodic and np.isclose(exact.equilibrium @ np.cos(exact.x) * exact.grid.spacing, 0.4463899658965)
    turned = start(10_000, law) + np.float32(4 * np.pi)
    found = engine.relaxation(rotor, EulerMaruyama(step_size=0.005), turned, steps=300, every=60, key=3)
    kl = exact.divergence(lambda x: np.exp(-((x - 1.0) ** 2) / 0.18), found.times)
    assert found.wasserstein is None
    assert np.all(np.abs(found.kl - kl) < Z * found.error + 0.03 * kl)


def test_neighbours_of_three_coordinates_in_time():
    """Independent coordinates: three times the divergence of one. And two, by cells of the density itself."""
    well, law = Well(barrier=0.8), Gaussian(np.array([0.6]), np.array([[0.09]]))
    one = engine.FokkerPlanck(well, temperature=1.0)
    for d, estimator in ((3, "nearest neighbours"), (2, "histogram of 8 × 8")):
        found = engine.relaxation(
            well, EulerMaruyama(step_size=0.004), start(3_500, law, d), steps=150, every=150, key=7
        )
        kl = d * one.divergence(lambda x: np.exp(-((x - 0.6) ** 2) / 0.18), found.times)
        assert found.estimator.startswith(estimator) and found.wasserstein is None
        coarse = 0.25 if d == 2 else 0.1  # 64 cells do not see everything; neighbours are near-exact
        assert np.all(np.abs(found.kl - kl)[1:] < (Z * found.error + coarse * kl)[1:])
        assert "too few records" in str(found) or found.rate > 0


@pytest.mark.parametrize("barrier, step, n, first, last, exact", [
    (1.0, 0.005, 500_000, 0.8, 2.2, 0.74868167), (5.0, 0.0025, 250_000, 1.0, 16.0, 0.05552281),
])  # fmt: skip
def test_relaxation_rate_of_the_mean_position(barrier, step, n, first, last, exact):
    """Released off centre, ⟨x⟩ decays at the gap: within 2 % of continuous time, and five errors of the scheme's own rate.

    The rate of Euler and Maruyama at this step is the second eigenvalue of its Gaussian kernel on 400 Gauss nodes.
    """
    width = 2.6 if barrier < 3 else 1.9
    x, weight = np.polynomial.legendre.leggauss(400)
    x, weight = width * x, width * weight
    mean = x - step * 4 * barrier * x * (x * x - 1)
    kernel = np.exp(-((x - mean[:, None]) ** 2) / (4 * step)) / np.sqrt(4 * np.pi * step) * weight
    own = -np.log(np.sort(np.abs(np.linalg.eigvals(kernel)))[-2]) / step
    assert exact < own < 1.02 * exact  # the discretisation error
    run = engine.simulate(DoubleWell(barrier=barrier), EulerMaruyama(step_size=step), np.full((n, 1), 0.9, np.float32),
                          steps=round(first / step), key=4, observables=(), progress=False)  # fmt: skip
    before = np.asarray(run.positions, float)
    after = np.asarray(engine.simulate(run, steps=round((last - first) / step), progress=False).positions, float)
    rate = np.log(before.mean() / after.mean()) / (last - first)
    error = np.std(before / before.mean() - after / after.mean()) / (last - first) / np.sqrt(n)
    assert abs(rate - own) < Z * error < 0.035 * exact
    assert abs(rate - exact) < 0.02 * exact + 2 * error


@pytest.mark.slow
def test_relaxation_rate_on_a_circle():
    """⟨sin x⟩, released off the minimum of -2 cos x, decays at the gap of the circle: within 2 %, and two errors."""
    n, step, first, last, exact = 2_000_000, 0.005, 0.8, 1.8, 1.6473654
    run = engine.simulate(Cosine(amplitude=2.0), EulerMaruyama(step_size=step), np.full((n, 1), 0.9, np.float32),
                          steps=round(first / step), key=5, observables=(), progress=False)  # fmt: skip
    before = np.sin(np.asarray(run.positions, float))
    after = np.sin(
        np.asarray(engine.simulate(run, steps=round((last - first) / step), progress=False).positions, float)
    )
    rate = np.log(before.mean() / after.mean()) / (last - first)
    error = np.std(before / before.mean() - after / after.mean()) / (last - first) / np.sqrt(n)
    assert 2 * error < 0.02 * exact
    assert abs(rate - exact) < 0.02 * exact + 2 * error, (rate, error)
    assert abs(rate / 1.1 - exact) > 0.02 * exact + 2 * error  # a mobility off by 10 % does not pass


def test_entropy_produced_by_a_scheme():
    """Euler and Maruyama on a quadratic energy: the path entropy is the divergence from its own law that is lost, exactly.

    ln K(x→y)/K(y→x) = -(k/2T)(1 - z/2)(y² - x²), z = μhk: the chain is reversible at T/(1 - z/2). Against the closed form
    of continuous time there remains a part of first order in the step.
    """
    k, mobility, temperature = 1.5, 0.7, 0.8
    law, time = Gaussian(np.array([2.0]), np.array([[0.25]])), 1.2
    process = ou.overdamped(k, temperature=temperature, mobility=mobility)
    continuous = float(process.divergence(0.0, law) - process.divergence(time, law))
    rest = []
    for steps in (60, 120, 240):
        h = time / steps
        z = mobility * h * k
        step = linear_map(EulerMaruyama(step_size=h, temperature=temperature, mobility=mobility), Harmonic(stiffness=k),
                          np.zeros(1))  # fmt: skip
        own, now, produced = Gaussian(*step.stationary()), law, 0.0
        for _ in range(steps):
            after = Gaussian(
                step.drift @ now.mean, step.drift @ now.covariance @ step.drift.T + step.noise @ step.noise.T
            )
            square = lambda g: g.mean[0] ** 2 + g.covariance[0, 0]  # noqa: E731
            heat = -(k / 2) * (1 - z / 2) * (square(after) - square(now))
            produced += np.log(after.covariance[0, 0] / now.covariance[0, 0]) / 2 + heat / temperature
            now = after
        assert np.isclose(produced, float(law.divergence(own) - now.divergence(own)), atol=1e-12)
        rest.append(produced - continuous)
    assert abs(rest[0] / rest[1] - 2) < 0.1 and abs(rest[1] / rest[2] - 2) < 0.05 and abs(rest[2]) < 0.01


# linear response


def x_of(position):
    return jnp.sum(position)


@pytest.mark.parametrize(
    "bath", [EulerMaruyama(step_size=0.005, temperature=0.8), BAOAB(step_size=0.05, temperature=0.8)]
)
def test_response_to_a_force_is_what_fluctuations_say(bath):
    well = DoubleWell(barrier=1.0, tilt=0.3)
    x = well.equilibrium(0.8).sample(1, 20_000)
    found = engine.response(well, bath, x, steps=round(1.0 / bath.step_size), every=round(0.5 / bath.step_size),
                            observable=x_of, force=0.02, key=3)  # fmt: skip
    assert np.all(np.abs(found.measured - found.predicted) < Z * found.difference_error)
    assert np.all(found.measured > 20 * found.measured_error) and np.all(found.difference_error < 0.1 * found.measured)
    other = engine.response(well, EulerMaruyama(step_size=0.005, temperature=1.2), x, steps=200, every=200,
                            observable=x_of, force=0.02, key=3)  # fmt: skip
    wrong = other.predicted * 1.2 / 0.8 - other.measured  # had the bath been taken for T = 0.8
    assert wrong[0] > Z * other.difference_error[0]


def test_response_to_a_temperature_is_what_fluctuations_say():
    """d⟨x²⟩/dT on a quadratic energy: (1 - exp(-2μkt))/k."""
    x = Harmonic(stiffness=2.0).equilibrium(0.5).sample(1, 20_000)
    found = engine.response(Harmonic(stiffness=2.0), EulerMaruyama(step_size=0.004, temperature=0.5), x, steps=100,
                            every=50, observable=lambda p: jnp.sum(p**2), temperature=0.01)  # fmt: skip
    exact = (1 - np.exp(-4 * found.times)) / 2
    for value, error in ((found.measured, found.measured_error), (found.predicted, found.predicted_error)):
        assert np.all(np.abs(value - exact) < Z * error + 0.01 * exact)
    assert np.all(found.predicted > 20 * found.predicted_error)


def test_einstein_relation():
    """Free particles: the mobility is the drift by the force, and the diffusion over T."""
    bath = BAOAB(step_size=0.1, temperature=0.8, friction=2.0, mass=1.5)
    found = engine.response(lambda p: 0.0 * jnp.sum(p), bath, jnp.zeros((20_000, 1)), steps=300, every=150,
                            observable=x_of, force=0.02)  # fmt: skip
    assert np.all(np.abs(found.measured - found.predicted) < Z * found.difference_error)
    mobility = np.diff(found.measured) / np.diff(found.times)
    assert np.allclose(mobility, 0.1 / np.tanh(0.1) / 3.0, rtol=1e-4)  # 1/(mγ), and the splitting's (γh/2) coth(γh/2)
    assert "fluctuations" in str(found)


# bad input


def relax(potential=Harmonic(), integrator=EulerMaruyama(step_size=0.1), n=100, **options):  # noqa: B008
    return engine.relaxation(potential, integrator, start(n), **{"steps": 2, "every": 1, **options})


def respond(integrator=EulerMaruyama(step_size=0.1), observable=x_of, **options):  # noqa: B008
    return engine.response(Harmonic(), integrator, start(50), steps=2, every=1, observable=observable, **options)


BAD = [
    (lambda: kl_from_counts(np.ones(40), np.full(40, 1 / 40)), "40 bins needs at least 200 particles; got 40"),
    (lambda: kl_from_counts(np.ones(3), np.full(4, 0.25)), "3 counts and 4 probabilities"),
    (lambda: kl_from_counts(np.full(3, 100), np.full(3, 0.5)), "of sum 1.5"),
    (lambda: kl_gaussian(np.ones((10, 2)), Gaussian(np.zeros(2), np.eye(2))), "at least 50 particles; got 10"),
    (lambda: kl_gaussian(np.full((99, 1), np.nan), UNIT), "99 of 99 are not"),
    (lambda: kl_nearest(np.ones((20, 1)), x_of, draws=np.ones((20, 1))), "at least 80 particles; got 20"),
    (lambda: kl_nearest(np.ones((90, 1)), x_of, draws=np.ones((90, 2))), "1 coordinate.s., draws 2"),
    (lambda: entropy_nearest(np.ones((99, 1))), "99 points coincide"),
    (lambda: entropy_nearest(np.ones((99, 11))), "11 coordinates; at most 10"),
    (lambda: wasserstein(np.ones(9), np.ones(8)), "quantiles must be 9"),
    (lambda: relax(every=0), "every must be from 1 to steps = 2; got 0"),
    (lambda: relax(reference="gibbs"), "'equilibrium' or 'scheme'; got 'gibbs'"),
    (lambda: relax(lambda x: jnp.sum(x**2)), "knows no equilibrium"),
    (lambda: relax(integrator=EulerMaruyama(step_size=0.1, temperature=0.0)), "temperature 0"),
    (lambda: relax(integrator=EulerMaruyama(step_size=engine.sweep([0.1, 0.2]))), "one population"),
    (lambda: relax(n=63), "at least 64 particles; got 63"),
    (lambda: relax(DoubleWell(), reference="scheme"), "not linear"),
    (lambda: respond(), "one of the two; got None and None"),
    (lambda: respond(force=1.0, temperature=1.0), "one of the two"),
    (lambda: respond(force=0.0), "finite and not zero"),
    (lambda: respond(EulerMaruyama(step_size=0.1, temperature=0.0), force=0.1), "positive temperature.*got 0"),
    (lambda: respond(BAOAB(step_size=0.1), temperature=0.1), "overdamped"),
    (lambda: respond(force=0.1, observable=lambda p: p), r"one number for one particle; got shape \(1,\)"),
]  # fmt: skip


@pytest.mark.parametrize("call, says", BAD, ids=[says for _, says in BAD])
def test_bad_input(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_a_start_at_one_point_is_infinitely_far():
    """No spread, no density: as it must be, and no reason to stop."""
    for well in (Harmonic(), Well()):
        found = engine.relaxation(well, EulerMaruyama(step_size=0.1), jnp.ones((500, 1)), steps=2, every=1)
        assert np.isfinite(found.kl[1:]).all()
        assert found.kl[0] == np.inf if well.quadratic else found.kl[0] > 2.0  # in one bin of 10: ln 10
