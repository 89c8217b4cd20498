"""Thermodynamics measured over an ensemble, against exact equilibria: within its error bars, calibrated, mutants caught.

Single figures are held to p = 1e-6 (4.9 errors), families of z over independent ensembles to |mean| < 5/√n and a standard
deviation within 5 of its own errors around 1, which is p < 1e-6 each.
"""

import dataclasses
import importlib.util
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath import engine, integrators, potentials
from heatbath.engine import observables, pytree
from heatbath.engine.integration import _cubic, _quadrature

P = 4.9
QUARTIC, WELL = potentials.Quartic(), potentials.DoubleWell(barrier=1.0, tilt=0.3)
LADDER = np.array([0.3, 0.6, 1.2, 2.4])


def calibrated(z):
    z = np.asarray(z)
    assert np.all(np.isfinite(z))
    assert np.all(np.abs(z.mean(0)) < P / np.sqrt(len(z))), z.mean(0)
    assert np.all(np.abs(z.std(0) - 1) < P / np.sqrt(2 * len(z))), z.std(0)


def draws(landscape, temperature, n, key, like=None):
    return np.asarray(landscape.equilibrium(temperature, like=like).sample(key, n))


def simulate(potential, integrator, positions, *, steps, key=0, **options):
    return engine.simulate(potential, integrator, positions, steps=steps, key=key, progress=False, **options)


def still(potential, positions, temperature):
    """A run that has not moved, so that its snapshot is what it was given."""
    return simulate(potential, integrators.BAOAB(step_size=0.1, temperature=temperature), positions, steps=0)


# entropy


@pytest.mark.parametrize(
    "landscape, temperature, d", [(WELL, 0.5, 1), (QUARTIC, 2.0, 2), (potentials.Cosine(), 0.7, 1)]
)
def test_entropy_by_histogram(landscape, temperature, d):
    """Scatter over 64 ensembles of 4,000; a population drawn at a temperature 10 % too high stands out in their mean."""
    like, period = np.zeros(d), landscape.period
    exact = landscape.equilibrium(temperature, like=like).entropy
    x, hot = (draws(landscape, t, 64 * 4_000, 1, like).reshape(64, 4_000, d) for t in (temperature, 1.1 * temperature))
    x = x + 2 * np.pi * np.arange(4_000)[:, None] if period else x  # turns do not matter
    found = [engine.entropy(a, period=period) for a in x]
    z = np.array([(m.value - exact) / m.error for m in found])
    # the bias that is left, third order in the counts and fourth in the width, is half an error at most
    assert abs(z.mean()) < 0.5 + P / 8 and abs(z.std() - 1) < P / np.sqrt(128)
    mutant = np.array([(m.value - exact) / m.error for m in (engine.entropy(a, period=period) for a in hot)])
    assert mutant.mean() > 0.5 + P / 8


def test_entropy_where_equal_bins_see_nothing():
    """Long tails and narrow valleys: neighbours take over."""
    for landscape in (potentials.Funnel(dimension=2, scale=3.0), potentials.Rosenbrock(a=0.5, b=50.0)):
        state = landscape.equilibrium(1.0)
        found = engine.entropy(np.asarray(state.sample(3, 20_000), float))
        assert "nearest neighbours" in found.method
        assert abs(found.value - state.entropy) < P * found.error + 0.02


def test_entropy_by_neighbours_and_of_a_run():
    x = np.random.default_rng(0).normal(size=(3_000, 3)).astype(np.float32)
    found, exact = engine.entropy(x), 1.5 * np.log(2 * np.pi * np.e)
    assert abs(found.value - exact) < P * found.error and "neighbours" in found.method
    assert engine.entropy(still(QUARTIC, x, 1.0)).value == pytest.approx(found.value, abs=1e-5)
    swept = engine.entropy(still(QUARTIC, x[:, :1], engine.sweep([1.0, 2.0])))
    assert swept.value[0] == swept.value[1] == pytest.approx(engine.entropy(x[:, :1]).value)


def test_free_energy_of_a_population():
    """Far more precise than <U> or S alone in equilibrium; above it by T KL elsewhere; F = <U> - T S by construction."""
    state = WELL.equilibrium(0.5)
    z = []
    populations = jnp.asarray(draws(WELL, 0.5, 16 * 4_000, 2).reshape(16, 4_000, 1))
    run = still(WELL, populations[0], 0.5)
    for x in populations:
        run = dataclasses.replace(run, state=run.state._replace(position=x))
        free = engine.free_energy_of(run)
        z.append((free.value - state.free_energy) / free.error)
    assert abs(np.mean(z)) < 0.5 + P / np.sqrt(16) and abs(np.std(z) - 1) < P / np.sqrt(32)
    s = engine.entropy(run)
    energy = np.mean([float(u) for u in jax.vmap(WELL)(jnp.asarray(x, jnp.float32))])
    assert free.value == pytest.approx(energy - 0.5 * s.value, abs=1e-5) and free.error < 0.5 * s.error / 2
    # a normal population in a harmonic well: F - F_eq = T (r - 1 - ln r)/2
    wide = still(potentials.Harmonic(), draws(potentials.Harmonic(), 2.25, 20_000, 1), 1.0)
    free = engine.free_energy_of(wide)
    exact = potentials.Harmonic().equilibrium(1.0).free_energy + (1.5**2 - 1 - np.log(1.5**2)) / 2
    assert abs(free.value - exact) < P * free.error < 0.2


# integration


def test_rule_of_integration():
    """Exact for cubics; on the exact <U> of the double well the stated error is the size of the true one."""
    s = np.array([0.0, 0.3, 0.4, 1.0, 1.7])
    values, slopes = _cubic(s)
    np.testing.assert_allclose(values @ s**3 + slopes @ (3 * s**2), s**4 / 4, atol=1e-14)
    assert np.all(_quadrature(s, s**3, 3 * s**2) < 1e-12)
    for temperatures in (np.geomspace(0.25, 2.0, 5), np.geomspace(2.0, 0.25, 9)):
        states = [WELL.equilibrium(t) for t in temperatures]
        beta = 1 / temperatures
        g, slope = (np.array(a) for a in zip(*[(-e.mean_energy, e.heat_capacity * e.temperature**2) for e in states],
                                             strict=True))  # fmt: skip
        values, slopes = _cubic(beta)
        true = values @ g + slopes @ slope - (np.array([e.log_partition for e in states]) - states[0].log_partition)
        stated = _quadrature(beta, g, slope)
        assert np.all(np.abs(true) <= 3 * stated + 1e-12) and stated[-1] < 30 * np.abs(true).max()


@pytest.fixture(scope="module")
def ladder():
    """A double well at seven temperatures, energies recorded."""
    temperatures = np.geomspace(0.4, 2.0, 7)
    bath = integrators.BAOA(step_size=0.1, temperature=engine.sweep(temperatures))
    start = draws(WELL, 0.8, 1_000, 3)
    measured = {
        "energy": observables.Mean(observables.potential_energy),
        "series": observables.Series(observables.potential_energy, every=100),
        "x": observables.Series(observables.position, every=100),
        "virial": observables.Mean(observables.virial_temperature),
        "histogram": observables.Histogram(observables.position, bins=24, low=-2.0, high=2.0),
    }
    return simulate(WELL, bath, start, steps=2_000, key=5, observables=measured)


def test_integration_over_temperature_and_mbar_agree_with_the_exact_free_energy(ladder):
    temperatures = np.asarray(ladder.integrator.temperature.values)
    exact = np.array([WELL.equilibrium(t).log_partition for t in temperatures])
    exact -= exact[0]
    found = engine.thermodynamic_integration(ladder)
    assert found.parameter == "temperature" and found.log_partition[0] == 0
    error = np.hypot(found.error, found.quadrature)[1:]
    assert np.all(np.abs(found.log_partition - exact)[1:] < P * error) and np.all(error < 0.02)
    # Δ(F/T) is minus that; 10 % more heat than the bath is said to have stands out
    hotter = dataclasses.replace(ladder.integrator, temperature=engine.sweep(temperatures / 1.1))
    mutant = engine.thermodynamic_integration(dataclasses.replace(ladder, integrator=hotter))
    wrong = np.array([WELL.equilibrium(t / 1.1).log_partition for t in temperatures])
    assert abs(mutant.log_partition[-1] - wrong[-1] + wrong[0]) > P * mutant.difference[1]
    multi = engine.mbar(ladder)
    assert np.all(np.abs(multi.log_partition - exact)[1:] < P * multi.error[1:]) and np.all(multi.overlap > 50)
    between, state = 0.5 * (temperatures[2] + temperatures[3]), WELL.equilibrium
    energy = multi.average(between)
    assert abs(energy.value - state(between).mean_energy) < P * energy.error < 0.1
    mean = multi.average(between, np.asarray(ladder.observables["x"].values)[-10:])
    assert mean.value.shape == (1,) and abs(mean.value[0] - state(between).mean[0]) < P * mean.error[0] < 0.2
    free = multi.log_partition_at(between)
    assert abs(free.value - state(between).log_partition + state(temperatures[0]).log_partition) < P * free.error
    assert "quadrature" in repr(found) and "T = 0.4" in repr(multi)


def test_integration_is_calibrated():
    """A harmonic well under a scheme exact for it: ln Z = (d/2) ln T; 24 ensembles."""
    temperatures, z = np.array([0.5, 0.7, 1.0]), []
    bath = integrators.LeimkuhlerMatthews(step_size=0.8, temperature=engine.sweep(temperatures))
    measured = {"energy": observables.Mean(observables.potential_energy, every=5)}
    for key in range(24):
        run = simulate(potentials.Harmonic(), bath, jnp.zeros((128, 2)), steps=200, key=key, observables=measured)
        found = engine.thermodynamic_integration(run)
        z.append((found.log_partition - np.log(temperatures / 0.5))[1:] / found.error[1:])
    calibrated(z)


PHI = np.stack([np.ones(12), np.linspace(-1, 1, 12), np.linspace(-1, 1, 12) ** 2], 1)
Y = np.sin(2 * PHI[:, 1]) + 0.3 * np.cos(5 * np.arange(12))
REGRESSION = potentials.BayesianLinear(features=PHI, targets=Y, noise_variance=0.25, prior_precision=2.0)


def log_likelihood(theta, example):
    return -0.5 * (example[1] - example[0] @ theta) ** 2 / 0.25 - 0.5 * np.log(2 * np.pi * 0.25)


def log_prior(theta):
    return -jnp.sum(theta**2) - 1.5 * np.log(np.pi)


@pytree
class Dropped(potentials.Posterior):
    """A posterior that forgets N/n."""

    def at(self, draws):
        chosen = super().at(draws)
        return dataclasses.replace(chosen, weight=1.0) if draws else chosen


def posterior(kind=potentials.Posterior, **options):
    return kind(log_likelihood, log_prior, data=(PHI, Y), **options)


def evidence(**options):
    powers = engine.sweep(np.linspace(0, 1, 9) ** 2)
    measured = {"slope": observables.Mean(observables.EnergyDerivative("likelihood_power"))}
    bath = integrators.BAOA(step_size=0.1, friction=3.0)
    return simulate(posterior(likelihood_power=powers, **options), bath, jnp.zeros((256, 3)), steps=300, key=3,
                    observables=measured)  # fmt: skip


def test_evidence_of_a_posterior():
    """ln evidence -9.7086 of a regression, from prior to posterior; a dropped N/n is caught."""
    found = engine.thermodynamic_integration(evidence())
    value, error = found.difference
    assert abs(value - REGRESSION.log_evidence) < P * error < 0.4
    mutant = engine.thermodynamic_integration(evidence(kind=Dropped, batch_size=6))
    assert abs(mutant.log_partition[-1] - REGRESSION.log_evidence) > P * np.hypot(mutant.error, mutant.quadrature)[-1]


@pytest.mark.parametrize("kind, right", [(potentials.Posterior, True), (Dropped, False)])
def test_a_dropped_data_factor_is_seen_by_compare_and_by_the_thermometers(kind, right):
    """Half of the data that weighs as half of it: too wide, and too hot for the energy on all data, which is measured.

    The step is so small that the noise of the minibatches, which heats too, is not seen.
    """
    mean, spread = REGRESSION.moments(1.0, REGRESSION.like)
    measured = {
        "position": observables.Mean(observables.position),
        "virial": observables.Mean(observables.VirialTemperature(origin=np.asarray(mean, np.float32))),
    }
    start, bath = REGRESSION.equilibrium(1.0).sample(1, 4_000), integrators.EulerMaruyama(step_size=2e-4)
    run = simulate(posterior(kind=kind, batch_size=6), bath, start, steps=2_000, key=3, observables=measured)
    exact = {"position": mean, "position.variance": np.diag(spread)}
    verdict = engine.compare(run, exact=exact)
    assert verdict.passed == right, verdict
    line = engine.thermometers(run)["virial"]
    assert (abs(line.z) < 5) == (line.measured < 1.1) == right
    assert any("in a bath of 1, p < 1e-06" in warning for warning in run.warnings) != right


def test_integration_over_a_number_of_the_potential():
    """ln Z of wells of rising stiffness is -½ ln k; and ∂²U/∂λ² counts where the energy is not linear in it."""
    stiffness = np.array([1.0, 1.5, 2.5])
    bath = integrators.LeimkuhlerMatthews(step_size=0.4, temperature=0.7)
    measured = {"k": observables.Mean(observables.EnergyDerivative("stiffness"))}
    run = simulate(potentials.Harmonic(stiffness=engine.sweep(stiffness)), bath, jnp.zeros((1_000, 1)), steps=200,
                   observables=measured)  # fmt: skip
    found = engine.thermodynamic_integration(run)
    error = np.hypot(found.error, found.quadrature)[1:]
    assert np.all(np.abs(found.log_partition + np.log(stiffness) / 2)[1:] < P * error) and error.max() < 0.05
    slope = observables.EnergyDerivative("center")
    values = slope(potentials.Harmonic(stiffness=3.0, center=0.5), bath, integrators.Position(jnp.array([2.0])))
    np.testing.assert_allclose(values, [-4.5, 3.0], rtol=1e-6)


# several temperatures as one


def energies_of(key, n=1_000):
    return np.stack([QUARTIC.one(draws(QUARTIC, t, n, 10 * key + k)[:, 0]) for k, t in enumerate(LADDER)])


def test_mbar_and_reweighting_are_calibrated():
    """60 ensembles of exact draws: ln Z of the rungs and between, averages between, and from a single temperature."""
    logs = [QUARTIC.equilibrium(t).log_partition for t in LADDER]
    middle, near = QUARTIC.equilibrium(0.9), QUARTIC.equilibrium(0.8)
    z = []
    for key in range(60):
        u = energies_of(key)
        found = engine.mbar(u, LADDER)
        rungs = (found.log_partition - logs + logs[0])[1:] / found.error[1:]
        energy, root, free = found.average(0.9), found.average(0.9, np.sqrt(4 * u)), found.log_partition_at(0.9)
        single = engine.reweight(u[1], u[1], temperature=0.6, to=0.8)
        z.append([*rungs, (energy.value - middle.mean_energy) / energy.error,
                  (root.value - middle.covariance[0, 0]) / root.error,
                  (free.value - middle.log_partition + logs[0]) / free.error,
                  (single.value - near.mean_energy) / single.error])  # fmt: skip
    calibrated(z)


def test_reweighting_to_where_one_is_changes_nothing():
    u = energies_of(1)[0]
    found = engine.reweight(u, temperature=0.3, to=0.3)
    assert found.value == pytest.approx(u.mean()) and found.effective == pytest.approx(len(u))
    assert found.error == pytest.approx(u.std(ddof=1) / np.sqrt(len(u)))
    # the same population said to be 10 % hotter than it is
    mutant = engine.reweight(energies_of(1, 20_000)[0], temperature=0.33, to=0.4)
    assert abs(mutant.value - 0.1) > P * mutant.error
    # a particle's times are one sample, not many: the same values twice tell no more
    twice = engine.reweight(np.stack([u, u]), temperature=0.3, to=0.4)
    assert twice.error == pytest.approx(engine.reweight(u, temperature=0.3, to=0.4).error)


def test_mbar_on_a_chain():
    """Eight coupled coordinates: free energies against the transfer operator."""
    chain, temperatures = potentials.Phi4Chain(sites=8), np.geomspace(0.5, 1.0, 4)
    energy = jax.jit(jax.vmap(chain))
    u = [np.asarray(energy(jnp.asarray(draws(chain, t, 500, k), jnp.float32))) for k, t in enumerate(temperatures)]
    found = engine.mbar(np.stack(u), temperatures)
    exact = np.array([chain.equilibrium(t).log_partition for t in temperatures])
    assert np.all(np.abs(found.log_partition - exact + exact[0])[1:] < P * found.error[1:])


def test_mbar_against_pymbar():
    """To 1e-9 in ln Z and 5 % in its error. In a process of its own: pymbar switches JAX to float64."""
    if importlib.util.find_spec("pymbar") is None:
        pytest.skip("pymbar is not installed (pip install pymbar)")
    u = energies_of(7)
    code = (
        "import json, sys, numpy as np, pymbar\n"
        "u, t = (np.array(a) for a in json.load(sys.stdin))\n"
        "m = pymbar.MBAR(np.ravel(u)[None] / t[:, None], [u.shape[1]] * len(t), relative_tolerance=1e-12)\n"
        "d = m.compute_free_energy_differences()\n"
        "print(json.dumps([(-d['Delta_f'][0]).tolist(), d['dDelta_f'][0].tolist()]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], input=json.dumps([u.tolist(), LADDER.tolist()]), text=True,
                          capture_output=True, check=True)  # fmt: skip
    log_partition, error = json.loads(done.stdout.splitlines()[-1])
    found = engine.mbar(u, LADDER)
    np.testing.assert_allclose(found.log_partition, log_partition, atol=1e-9)
    np.testing.assert_allclose(found.error[1:], error[1:], rtol=0.05)


# profiles


def test_free_energy_profile(ladder):
    """-T ln p of every rung against exact bins; empty bins are NaN."""
    density = ladder.results(500)["histogram"]
    temperatures = np.asarray(ladder.integrator.temperature.values)
    profile = engine.free_energy_profile(density, temperatures)
    assert profile.value.shape == (7, 1, 24) and profile.centers.shape == (24,)
    for t, value, error, p in zip(temperatures, profile.value[:, 0], profile.error[:, 0], density.density[:, 0],
                                  strict=True):  # fmt: skip
        exact = -t * np.log(WELL.equilibrium(t).bin_probabilities(density.edges) / np.diff(density.edges))
        seen = error < t / 10  # -ln p is biased where p is not known to some digits
        assert seen.sum() > 8 and np.all(np.abs(value - exact)[seen] < 5.5 * error[seen])  # Student's t
        assert np.array_equal(np.isnan(value), p == 0)
    cold = engine.free_energy_profile(
        dataclasses.replace(density, density=density.density * (density.density > 0.1)), 1.0
    )
    assert np.isnan(cold.value).any()


# bad input: what arrived, the rule, the fix


def quiet(potential=WELL, integrator=None, measured=()):
    return simulate(potential, integrator or integrators.BAOA(step_size=0.1), jnp.zeros((8, 1)), steps=0,
                    observables=measured)  # fmt: skip


SWEPT = integrators.BAOA(step_size=0.1, temperature=engine.sweep([1.0, 2.0]))
DENSITY = observables.Density(np.arange(3.0), np.ones((1, 2)), np.ones((1, 2)), np.zeros((1, 2)), "particles", 3, 9, ())


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda: engine.entropy(np.zeros((50, 1))), "at least 200 particles; got 50"),
        (lambda: engine.entropy(np.zeros((500, 1))), "coincide"),
        (lambda: engine.entropy(np.full((500, 2), np.nan)), "finite; 500 of 500"),
        (lambda: engine.entropy(np.ones((500, 3)), bins=8), "one or two coordinates.*3"),
        (lambda: engine.entropy(np.ones((500, 1)), bins=7), "even number.*7"),
        (lambda: engine.entropy(1.0), "array"),
        (lambda: engine.entropy(np.ones((500, 1)), period=-1.0), "period must be one positive number; got -1"),
        (lambda: engine.entropy(np.zeros((0, 1))), "empty array"),
        (lambda: engine.free_energy_of(np.ones(3)), "takes a Run.*ndarray"),
        (lambda: engine.entropy(simulate(posterior(batch_size=2, shared=True), integrators.SGLD(step_size=0.1),
                                         jnp.zeros((8, 3)), steps=0, observables=())), "shared=False"),
        (lambda: engine.thermodynamic_integration(quiet()), "engine.sweep"),
        (lambda: engine.thermodynamic_integration(quiet(integrator=SWEPT)), r"Mean\(observables.potential_energy\)"),
        (lambda: engine.thermodynamic_integration(
            quiet(potentials.DoubleWell(tilt=engine.sweep([0.0, 1.0])))), r'EnergyDerivative\("tilt"\)'),
        (lambda: engine.thermodynamic_integration(
            quiet(potentials.DoubleWell(tilt=engine.sweep([0.0, 1.0])), SWEPT)), "one engine.sweep.*tilt.*temperature"),
        (lambda: engine.thermodynamic_integration(quiet(
            integrator=integrators.BAOA(step_size=0.1, temperature=engine.sweep([1.0, 3.0, 2.0])))), "rise or fall"),
        (lambda: quiet(measured=observables.Mean(observables.EnergyDerivative("slope"))), "barrier.*tilt.*'slope'"),
        (lambda: engine.reweight(energies_of(2)[1], temperature=0.6, to=60.0), "below twice the temperature 0.6"),
        (lambda: engine.reweight(energies_of(2)[1], temperature=0.6, to=1e-9), r"rest on .* of 1000.*50"),
        (lambda: engine.reweight(np.ones(10), temperature=1.0, to=1.1), "at least 50.*10"),
        (lambda: engine.reweight(np.ones(100), to=1.1), "temperature must be.*None"),
        (lambda: engine.reweight(np.ones(100), np.ones(3), temperature=1.0, to=1.1), r"\(100,\).*\(3,\)"),
        (lambda: engine.mbar(np.stack([np.zeros(99), np.ones(99) * 500]), [0.1, 9.0]), "share.*50"),
        (lambda: engine.mbar(np.ones((3, 99)), [1.0, 2.0]), r"\(3, 99\) and \(2,\)"),
        (lambda: engine.mbar(np.ones((2, 99)), [1.0, 1.0]), "differ"),
        (lambda: engine.free_energy_profile(np.ones(3), 1.0), "Histogram"),
        (lambda: engine.free_energy_profile(DENSITY, -1.0), "positive.*-1"),
        (lambda: engine.thermometers(quiet()), "measured no thermometer"),
        (lambda: engine.thermometers(quiet(integrator=integrators.BAOA(step_size=0.1, temperature=0.0),
                                           measured=observables.Mean(observables.kinetic_temperature))), "positive.*0.0"),
    ],
)  # fmt: skip
def test_bad_input(call, says):
    with pytest.raises((ValueError, TypeError), match=says):
        call()
