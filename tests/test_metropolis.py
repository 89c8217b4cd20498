"""Metropolised kernels: acceptance in closed form, exact invariance at large steps, and mutants that fail.

The closed forms (analytic.md A.4) are met by quadrature of the kernels' own steps in float64; invariance is Monte Carlo from
exact draws, each number held to p = 1e-6.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from registry import log_likelihood, log_prior

from heatbath import engine, integrators, potentials
from heatbath.engine import Noise, observables
from heatbath.engine.protocols import as_potential
from heatbath.engine.pytree import upcast
from heatbath.integrators import GHMC, HMC, MALA, Metropolis, Splitting

Z = 4.9  # p = 1e-6, two-sided
K, MASS, T = 3.7, 0.6, 0.3
WELL = potentials.DoubleWell(barrier=1.0, tilt=0.4)


@jax.jit
def one_step(kernel, energy, x, xi):
    def one(x, xi):
        state = kernel.init(energy, x, Noise((xi,)))
        new = kernel.step(energy, state, Noise((xi,), (), jnp.array([0.5, 0.5])))
        return new.energy_error / T, kernel.acceptance(new)

    return jax.vmap(one)(x, xi)


def around(kernel, angles, radius=1.0):
    """Errors of the energy in units of T, and acceptance, of one step from a circle in the whitened phase plane."""
    angle = np.resize(angles, (1_000, 1))  # of one size, so that it compiles once
    with jax.enable_x64(True):
        well, kernel = upcast(potentials.Harmonic(stiffness=K)), upcast(kernel)
        found = one_step(kernel, well, radius * np.sqrt(T / K) * np.cos(angle), radius * np.sin(angle))
        return [np.asarray(a)[: len(angles)] for a in found]


def mean_acceptance(kernel):
    """The radius by hand, ∫ r exp(-r²/2) min(1, exp(-r²q)) dr = 1/(1 + 2 max(q, 0)); angles by Gauss and Legendre."""
    (a, c, both), accepted = around(kernel, [0, np.pi / 2, np.pi / 4])
    np.testing.assert_allclose(accepted, np.minimum(1, np.exp([-a, -c, -both])), rtol=1e-12)
    np.testing.assert_allclose(around(kernel, [1.0], 2.0)[0], 4 * around(kernel, [1.0])[0], rtol=1e-10)
    b = both - (a + c) / 2  # q = a cos² + 2b cos sin + c sin²
    low, high = np.sort(np.arctan((-b + np.array([1, -1]) * np.sqrt(b * b - a * c)) / c))
    nodes, weights = np.polynomial.legendre.leggauss(80)
    total = 0.0
    for begin, end in ((low, high), (high, low + np.pi)):  # q changes its sign at the ends
        q, _ = around(kernel, begin + (end - begin) * (nodes + 1) / 2)
        total += (end - begin) / 2 * np.sum(weights / (1 + 2 * np.maximum(q, 0)))
    return total / np.pi


def closed_form(e, steps):
    theta, chi = np.arccos(1 - e * e / 2), (1 - e * e / 4) ** -0.5
    return (chi - 1 / chi) * abs(np.sin(steps * theta)) / 2  # S


def kernel_at(e, steps):
    return HMC(step_size=e * np.sqrt(MASS / K), steps=steps, temperature=T, mass=MASS)


DIGITS = {  # (hω, steps): printed acceptance; of MALA at z = (hω)²/2
    **{(np.sqrt(2 * z), 1): p for z, p in ((0.05, 0.9974835525), (0.1, 0.9928826711), (0.2, 0.9798750217),
                                           (0.5, 0.9208331517), (1, 0.7836531041))},
    (0.5, 3): 0.9794910310, (1.0, 4): 0.9208331517, (1.5, 5): 0.7888355201, (1.9, 3): 0.4025110814,
}  # fmt: skip


@pytest.mark.parametrize(("e", "steps"), DIGITS)
def test_acceptance_to_all_digits(e, steps):
    assert mean_acceptance(kernel_at(e, steps)) == pytest.approx(DIGITS[e, steps], abs=6e-11)
    s = closed_form(e, steps)
    assert 1 - 2 / np.pi * np.arctan(s) == pytest.approx(DIGITS[e, steps], abs=6e-11)
    q, _ = around(kernel_at(e, steps), np.arange(1_000) * np.pi / 1_000)
    assert 2 * q.mean() == pytest.approx(2 * s * s, rel=1e-10)  # E[ΔH]/T
    assert np.mean(1 / (1 + 2 * q)) == pytest.approx(1, rel=1e-10)  # E[exp(-ΔH/T)]


def test_a_run_and_its_comparison():
    """(hω)² = 2 from exact draws: the acceptance of MALA at z = 1, what states say, and laws without a bias."""
    h, well = np.sqrt(2 * MASS / K), potentials.Harmonic(stiffness=K)
    measured = ("acceptance", "potential_energy", "kinetic_temperature", "position")
    run = engine.simulate(
        well, GHMC(step_size=h, temperature=T, mass=MASS), well.equilibrium(T).sample(1, 4_000), steps=100,
        observables={name: observables.Mean(getattr(observables, name), every=1) for name in measured},
    )  # fmt: skip
    found = run.observables["acceptance"]
    assert abs(found.mean - 0.7836531041) < Z * found.error and found.error < 2e-3
    accepted = np.asarray(run.state.accepted)
    assert accepted.dtype == bool and abs(accepted.mean() - 0.7836531041) < Z * np.sqrt(0.17 / 4_000)
    assert run.time == pytest.approx(100 * h) and kernel_at(0.5, (2, 4)).substeps == 3
    verdict = engine.compare(run, p_value=1e-6)
    assert verdict.passed, verdict
    assert "Metropolis OBAB" in str(verdict) and "kernel is exact" in str(verdict)
    assert verdict["kinetic_temperature"].step_bias == 0 and verdict["chi_squared"].passed


@engine.pytree
class WrongSign(Metropolis):
    def _probability(self, error):
        return jnp.where(error < 1e3, super()._probability(-error), 0)  # what runs away is rejected


@engine.pytree
class NoFlip(Metropolis):
    def _rejected(self, old):
        return old


def word(scheme, step_size):
    return Splitting(scheme=scheme, step_size=step_size, friction=0.5, temperature=0.7, mass=2.5)


def drawn(kernel, n=40_000):
    start = WELL.equilibrium(0.7).sample(2, n)
    return engine.simulate(WELL, kernel, start, steps=0, key=3, observables={})


def departures(kernel, steps=15):
    """Moments of positions and momenta after some steps from exact draws, in standard errors from the exact ones."""
    run = engine.simulate(drawn(kernel), steps=steps, progress=False)
    x, p = np.asarray(run.positions, float)[:, 0], np.asarray(run.momenta, float)[:, 0] / np.sqrt(2.5 * 0.7)
    exact = WELL.equilibrium(0.7).expectation(lambda x: jnp.stack([x[0], x[0] ** 2, x[0] ** 3]))
    values = np.stack([x, x**2, x**3, p, p**2, p**4, x * p, x * p**2])
    truth = np.array([*exact, 0, 1, 3, 0, exact[0]])
    return (values.mean(1) - truth) / values.std(1) * np.sqrt(values.shape[1])


KERNELS = {
    "HMC": HMC(step_size=0.9, steps=(2, 4), temperature=0.7, mass=2.5),
    "GHMC": Metropolis(word("OBABO", 0.9)),
    "drifts outside": Metropolis(word("ABAO", 0.9)),
    "fractions": Metropolis(dataclasses.replace(word("OBABO", 0.9), fractions=(0.2, 0.5, 1, 0.5, 0.8))),
}


@pytest.mark.parametrize("name", KERNELS)
def test_exact_draws_stay_exact(name):
    """Asymmetric target, T ≠ 1, mass ≠ 1, steps at which a tenth and more is rejected."""
    z = departures(KERNELS[name])
    assert np.abs(z).max() < Z, z


def test_fractions_of_a_word():
    """Those of A and B lie inside of the test, those of O outside: a bath for 0.2 h before it, and for 0.8 h after."""
    h, g, still = 0.9, 0.5, Noise((jnp.zeros(1), jnp.zeros(1)), (), jnp.array([0.5]))
    flat = as_potential(lambda x: 0 * jnp.sum(x))
    before = KERNELS["fractions"].init(flat, jnp.zeros(1), Noise((jnp.ones(1),)))
    after = KERNELS["fractions"].step(flat, before, still)
    np.testing.assert_allclose(after.position, h / 2.5 * np.exp(-0.2 * g * h) * before.momentum, rtol=1e-6)
    np.testing.assert_allclose(after.momentum, np.exp(-g * h) * before.momentum, rtol=1e-6)
    equal = Metropolis(dataclasses.replace(word("OBABO", 0.9), fractions=(0.5, 0.5, 1, 0.5, 0.5)))
    xi = Noise((jnp.ones(1), -jnp.ones(1)), (), jnp.array([0.5]))
    steps = [kernel.step(WELL, kernel.init(WELL, jnp.ones(1), xi), xi) for kernel in (equal, KERNELS["GHMC"])]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), *steps)
    long = integrators.Yoshida(step_size=0.1)
    assert Metropolis(long).gradients == 3 and Metropolis(long).noise.normals == 1


@pytest.mark.parametrize("mutant", [WrongSign, NoFlip])
def test_mutants_fail(mutant):
    z = departures(mutant(word("OBABO", 0.6)), steps=8)
    assert np.abs(z).max() > 8, z


@pytest.mark.parametrize("kernel, right", [(KERNELS["GHMC"], True), (NoFlip(word("OBABO", 0.9)), False)])
def test_reversal(kernel, right):
    """<f(x₀) p_n> = -<p₀ f(x_n)>: the chain run backwards is the chain with momenta turned round."""
    before = drawn(kernel)
    after = engine.simulate(before, steps=3, progress=False)
    (x0, p0), (x, p) = ([np.asarray(a, float)[:, 0] for a in (run.positions, run.momenta)] for run in (before, after))
    values = x0 * p + p0 * x
    z = values.mean() / values.std() * np.sqrt(len(values))
    assert (abs(z) < Z) == right, z
    if right:  # and what is compared is not zero
        assert abs(np.mean(x0 * p)) > 10 * np.std(x0 * p) / np.sqrt(len(p))


def test_lengths_are_drawn_uniformly():
    jittered = kernel_at(0.7, (2, 4))
    assert jittered.noise.uniforms == 2 and jittered.gradients == 4
    well, x, xi = potentials.Harmonic(stiffness=K), jnp.array([0.3]), jnp.array([1.1])
    step = jax.jit(lambda kernel, u: kernel.step(well, kernel.init(well, x, Noise((xi,))), Noise((xi,), (), u)))
    ends = {n: step(kernel_at(0.7, n), np.array([1e-6])) for n in (2, 3, 4)}
    for i, n in enumerate((2, 2, 3, 3, 4, 4)):  # sixths of the unit interval
        new = step(jittered, np.array([1e-6, (i + 0.5) / 6]))
        np.testing.assert_allclose(new.position, ends[n].position, rtol=1e-5)
        np.testing.assert_allclose(new.energy_error, ends[n].energy_error, rtol=1e-3, atol=1e-6)


def test_proposals_that_are_not_finite_are_rejected():
    energy = as_potential(lambda x: jnp.sum(x - jnp.log(x)))  # a Gamma law on x > 0
    kernel, xi = HMC(step_size=1.5, steps=3), np.linspace(-3, 3, 200)[:, None].astype(np.float32)

    @jax.jit
    @jax.vmap
    def step(xi):
        noise = Noise((xi,), (), jnp.array([1e-6]))
        new = kernel.step(energy, kernel.init(energy, jnp.ones(1), noise), noise)
        return new, kernel.acceptance(new)

    new, acceptance = jax.tree.map(np.asarray, step(xi))
    wild = new.energy_error == np.finfo(np.float32).max
    assert 20 < wild.sum() < 180 and np.all(acceptance[wild] == 0)
    np.testing.assert_array_equal(new.accepted, acceptance > 1e-6)
    assert np.all(new.position[wild] == 1) and np.all(new.momentum[wild] == -xi[wild])
    assert np.isfinite(new.position).all() and np.all(new.position > 0)


def test_energy_errors_are_differences():
    """In float32 with 100,000 coordinates: a difference of kinetic energies would be off by more than a thousandth."""
    normals = np.random.default_rng(0).normal(size=(2, 100_000)).astype(np.float32)
    kernel, well = MALA(step_size=0.05), potentials.Harmonic()

    @jax.jit
    def move(x, xi):
        return kernel.step(well, kernel.init(well, x, Noise((xi,))), Noise((xi,), (), jnp.array([1e-6])))

    def step(dtype):
        return move(*(a.astype(dtype) for a in (0.01 * normals[0], normals[1])))

    new = step(np.float32)
    with jax.enable_x64(True):
        truth = float(step(np.float64).energy_error)
    kinetic = [np.float32(0.5) * np.sum(p * p, dtype=np.float32) for p in (np.asarray(new.momentum), normals[1])]
    sums = float(
        np.float32(new.energy + kinetic[0]) - np.float32(potentials.Harmonic()(0.01 * normals[0]) + kinetic[1])
    )
    assert abs(float(new.energy_error) - truth) < 1e-4 < 1e-3 < abs(sums - truth)


def test_refresh_recomputes_energy_and_gradient():
    kernel, x = GHMC(step_size=0.9), jnp.array([1.3])
    state = kernel.init(WELL, x, Noise((jnp.ones(1),)))
    driven = potentials.Harmonic(stiffness=2.0)
    new = kernel.refresh(driven, state)
    assert float(new.energy) == pytest.approx(1.69) and float(new.gradient[0]) == pytest.approx(2.6)


WORDS = {
    "BAOAB": r"O stands outside.*A and B inside.*got 'BAOAB'",
    "OBA": r"read the same backwards.*cannot go back.*got 'OBA'",
    "BA": "read the same backwards",
    "OBABA": "read the same backwards",
}


@pytest.mark.parametrize("scheme", WORDS)
def test_words_that_no_test_makes_exact(scheme):
    with pytest.raises(ValueError, match=WORDS[scheme]):
        Metropolis(word(scheme, 0.1))


def test_bad_input():
    with pytest.raises(TypeError, match=r"reversible word.*LeimkuhlerMatthews"):
        Metropolis(integrators.LeimkuhlerMatthews(step_size=0.1))
    for steps in (0, -1, 2.0, True, (3, 2), (0, 4), (1, 2, 3), "3"):
        with pytest.raises(ValueError, match="positive whole number, or a pair"):
            HMC(step_size=0.1, steps=steps)
    with pytest.raises(ValueError, match="step_size must be positive"):
        GHMC(step_size=-0.1)
    with pytest.raises(ValueError, match="acceptance needs a Metropolis test; Splitting accepts every step"):
        measured = {"a": observables.Mean(observables.acceptance)}
        engine.simulate(WELL, integrators.BAOAB(step_size=0.1), jnp.zeros((4, 1)), steps=1, observables=measured)


def test_minibatches_are_refused_before_anything_compiles():
    data = (np.ones((40, 3), np.float32), np.ones(40, np.float32))
    posterior = potentials.Posterior(log_likelihood, log_prior, data=data, batch_size=8)
    whole = dataclasses.replace(posterior, batch_size=None)
    start, kernel = jnp.zeros((4, 3)), GHMC(step_size=0.01)
    run = engine.simulate(whole, kernel, start, steps=0, observables={})
    noisy = engine.simulate(posterior, integrators.BAOAB(step_size=0.01), start, steps=0, observables={})
    events = []
    jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: events.append(name))
    for energy in (posterior, 2.0 * posterior + (lambda x: jnp.sum(x**2))):
        with pytest.raises(ValueError, match=r"exact energies.*minibatches.*batch_size=None"):
            engine.simulate(energy, kernel, start, steps=2)
        with pytest.raises(ValueError, match="exact energies"):
            engine.advance(energy, kernel, run.state, 0, 0, 2)
        with pytest.raises(ValueError, match="exact energies"):
            engine.simulate(noisy, integrator=kernel, steps=2)
    assert not any("backend_compile" in name for name in events)


@pytest.mark.parametrize("potential", [potentials.DoubleWell(tilt=0.3), potentials.Funnel(dimension=5)])
def test_particles_stay_on_the_last_axis(potential):
    """Under `vmap` along the last axis nothing of a proposal is transposed: transposed it takes twice the time."""
    d, n = 5, 32
    bath = HMC(step_size=0.1, steps=3)
    step = lambda state, xi, u: bath.step(potential, state, Noise((xi,), (), u))  # noqa: E731
    first = bath.init(potential, jnp.ones(d), Noise((jnp.ones(d),)))
    states = jax.tree.map(lambda a: jnp.repeat(a[..., None], n, axis=-1), first)
    jaxpr = jax.make_jaxpr(jax.vmap(step, in_axes=-1, out_axes=-1))(states, jnp.ones((d, n)), jnp.ones((1, n)))
    moved = [e for e in jaxpr.eqns if e.primitive.name == "transpose" and e.invars[0].aval.size >= d * n]
    assert not moved, jaxpr
