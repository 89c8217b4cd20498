"""Adaptation reaches its target at the step size that theory predicts, says so, and says when it does not."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import erfc

from heatbath import engine, integrators, potentials
from heatbath.engine.block import _compiled
from heatbath.integrators import BAOAB, GHMC, HMC, MALA, OBABO

NORMAL = potentials.Harmonic(stiffness=1.0)
START = engine.scatter(jnp.zeros(100), 64, key=1)  # exact draws at T = 1


def adapt(integrator, start=START, potential=NORMAL, *, blocks=16, steps=40, **target):
    return engine.adapt(potential, integrator, start, blocks=blocks, steps=steps, progress=False, **target)


def spread(e, steps):
    """S of analytic.md A.4 for hω = e."""
    theta, chi = np.arccos(1 - e * e / 2), (1 - e * e / 4) ** -0.5
    return (chi - 1 / chi) * abs(np.sin(steps * theta)) / 2


@pytest.mark.parametrize("first", [pytest.param(0.02, marks=pytest.mark.slow), 3.0])
def test_mala_reaches_its_optimum(first):
    """0.574 at z = (2.53/d)^⅓, h = √(2z); that acceptance is 0.5746 there in 100 dimensions moves h by 0.1 %."""
    found = adapt(MALA(step_size=first), acceptance=0.574)
    assert found.reached and abs(found.value - 0.574) < 5 * found.error and found.error < 0.01
    # 8 blocks of 64 × 20 steps, half of them independent: 0.4 % of h
    assert found.step_size == pytest.approx(np.sqrt(2 * (2.53 / 100) ** (1 / 3)), rel=0.025)
    assert found.integrator.step_size == found.step_size and isinstance(found.step_size, float)
    assert found.run.integrator is found.integrator and found.run.step == (16 + 4) * 40


@pytest.mark.slow
def test_hmc_reaches_its_optimum():
    found = adapt(HMC(step_size=0.1, steps=3), acceptance=0.651)
    predicted = brentq(lambda e: erfc(np.sqrt(200 * spread(e, 3) ** 2) / 2) - 0.651, 0.1, 0.6)
    assert found.reached and abs(found.value - 0.651) < 5 * found.error
    assert found.step_size == pytest.approx(predicted, rel=0.03)  # 1 % is the central limit theorem's


@pytest.mark.slow
def test_temperature_ratio_against_the_exact_law():
    """OBABO samples positions at T/(1 - h²k/4m): a ratio of 1.1 is a step of √(4m/11k)."""
    k, mass, temperature = 2.0, 0.5, 0.3
    bath = OBABO(step_size=0.05, friction=2.0, temperature=temperature, mass=mass)
    well = potentials.Harmonic(stiffness=k)
    found = adapt(bath, well.equilibrium(temperature).sample(1, 8_000), well, configurational=1.1, blocks=24)
    assert found.reached and abs(found.value - 1.1) < 5 * found.error + 0.005
    assert found.step_size == pytest.approx(np.sqrt(4 * mass / 11 / k), rel=0.07)


def test_what_is_never_reached_is_said():
    """BAOAB's positions are exact on a harmonic well up to the limit of stability: no step makes its ratio 1.2."""
    found = adapt(BAOAB(step_size=0.5), engine.scatter(jnp.zeros(1), 2_000, key=1), configurational=1.2, blocks=10)
    assert not found.reached and "was not reached" in str(found)
    assert found.step_size < 2.01  # and the population is as finite as it was
    assert np.isfinite(np.asarray(found.run.positions)).all()


@pytest.mark.slow
def test_energy_error_and_friction():
    """RMS(ΔH) = T√(Var + 4S⁴) with Var = ((λ - 1)² + (1/λ - 1)²)/2, √λ = exp(asinh S); friction is twice the lowest ω."""
    well, mass = potentials.Harmonic(stiffness=jnp.array([1.0, 9.0])), 4.0
    kernel = GHMC(step_size=0.1, friction=10.0, temperature=0.5, mass=mass)
    found = adapt(
        kernel, well.equilibrium(0.5, like=jnp.zeros(2)).sample(1, 1_000), well, energy_error=0.2, friction=True
    )

    def error(h):
        s = np.array([spread(h * omega, 1) for omega in (0.5, 1.5)])
        big = np.exp(2 * np.arcsinh(s))
        return np.sqrt(np.sum((big - 1) ** 2 + (1 / big - 1) ** 2) / 2 + np.sum(2 * s**2) ** 2)

    assert found.reached and found.quantity == "energy_error"
    assert found.step_size == pytest.approx(brentq(lambda h: error(h) - 0.2, 0.1, 1.2), rel=0.04)
    assert found.friction == pytest.approx(1.0, rel=0.1) and found.integrator.word.friction == found.friction
    text = str(found)
    assert "step_size" in text and "friction" in text and "target 0.2" in text and "not reached" not in text


def test_friction_of_a_population_that_starts_in_one_place():
    """There is no slowest direction yet: the friction stays what it is until there is one."""
    well = potentials.Harmonic(stiffness=jnp.array([1.0, 9.0]))
    found = engine.adapt(well, GHMC(step_size=0.2, friction=3.0), jnp.ones((256, 2)), acceptance=0.95, friction=True,
                         blocks=8, steps=25, key=1, progress=False)  # fmt: skip
    assert found.friction == pytest.approx(2, rel=0.5)  # 2√k of the softer direction


def test_the_error_of_energy_is_that_of_the_bath_removed():
    """BAOAB without its bath is velocity Verlet."""
    bath, x, p = BAOAB(step_size=0.8, friction=2.0, mass=3.0), jnp.array([1.3]), jnp.array([0.7])
    verlet = integrators.Verlet(step_size=0.8, mass=3.0)
    state = integrators.Phase(x, p, NORMAL.gradient(x))
    new = verlet.step(NORMAL, state, engine.Noise())
    total = lambda s: NORMAL(s.position) + verlet.kinetic_energy(s)  # noqa: E731
    assert float(bath.energy_error(NORMAL, state)) == pytest.approx(float(total(new) - total(state)), abs=1e-6)


def test_it_is_a_function_of_the_key_and_compiles_nothing_between_blocks():
    options = dict(acceptance=0.9, blocks=6, steps=10)
    first = adapt(MALA(step_size=0.3), **options)
    count = sum(_compiled(*kind)._cache_size() for kind in itertools.product((True, False), repeat=2))
    again, other = (adapt(MALA(step_size=0.3), **options, key=key) for key in (0, 1))
    np.testing.assert_array_equal(first.history, again.history)
    np.testing.assert_array_equal(first.run.positions, again.run.positions)
    assert other.step_size != first.step_size
    assert sum(_compiled(*kind)._cache_size() for kind in itertools.product((True, False), repeat=2)) == count
    more = engine.simulate(first.run, steps=20)
    assert more.step == first.run.step + 20 and more.observables["kinetic_temperature"].count == 2 * 64


BAD = [
    (dict(), ValueError, "one target, of .*got none"),
    (dict(acceptance=0.5, energy_error=0.1), ValueError, "one target.*acceptance.*energy_error"),
    (dict(acceptance=1.0), ValueError, "acceptance must lie between 0 and 1"),
    (dict(acceptance="high"), TypeError, "acceptance must be a number; got 'high'"),
    (dict(energy_error=0.0), ValueError, "energy_error must be positive"),
    (dict(configurational=1.0), ValueError, "configurational must be positive and not 1"),
    (dict(acceptance=0.5, blocks=2), ValueError, "at least 4 blocks"),
    (dict(acceptance=0.5, integrator=BAOAB(step_size=0.1)), ValueError, "acceptance needs a Metropolis test"),
    (dict(energy_error=0.5, integrator=integrators.EulerMaruyama(step_size=0.1)), ValueError, "needs a Hamiltonian part"),
    (dict(configurational=1.1, integrator=integrators.EulerMaruyama(step_size=0.1), friction=True), ValueError,
     "EulerMaruyama has no friction"),
    (dict(acceptance=0.5, integrator=MALA(step_size=engine.sweep([0.1, 0.2]))), ValueError, "one population"),
    (dict(acceptance=0.5, integrator=MALA(step_size=lambda step: 0.1)), ValueError, "one number for step_size"),
    (dict(acceptance=0.5, integrator=MALA(step_size=0.1, temperature=0.0)), ValueError, "temperature must be positive"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "error", "says"), BAD, ids=[says[:25] for _, _, says in BAD])
def test_bad_targets(options, error, says):
    options = {"integrator": MALA(step_size=0.1), **options}
    with pytest.raises(error, match=says):
        adapt(options.pop("integrator"), START[:4, :2], **options)
