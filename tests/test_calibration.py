"""Error bars are calibrated: over 300 independent ensembles the z of `compare`'s lines is a standard normal.

Rungs of a ladder with equal numbers are independent ensembles, so one call gives 300; only minibatches shared by all
particles need 300 keys. Bounds: |mean| < 0.2 (3.5 standard errors) and 0.85 < standard deviation < 1.15 (3.7); at most one
false alarm in 2,000 lines, and keys are fixed.
"""

import jax.numpy as jnp
import numpy as np
import pytest

from heatbath import engine, integrators, potentials
from heatbath.engine import observables

ENSEMBLES = 300


def check_normal(z: dict[str, list[float]]) -> None:
    for name, values in z.items():
        assert len(values) == ENSEMBLES, name
        assert np.all(np.isfinite(values)), name
        assert abs(np.mean(values)) < 0.2, (name, np.mean(values))
        assert 0.85 < np.std(values) < 1.15, (name, np.std(values))


def by_quantity(verdict: engine.Verdict, ladder: list[float] | None = None) -> dict[str, list[float]]:
    """z of each quantity over the rungs, in a ladder of temperatures apart for each of them."""
    z: dict[str, list[float]] = {}
    for name, line in verdict.lines.items():
        quantity, _, rung = name.partition(" [")
        place = quantity if ladder is None else f"{quantity} at {rung.split(',')[0].rstrip(']')}"
        z.setdefault(place, []).append(line.z)
    return z


def ensembles(potential, integrator, particles, steps, start=None, **options):
    start = jnp.zeros((particles, 1)) if start is None else start
    return engine.simulate(potential, integrator, start, steps=steps, progress=False, **options)


@pytest.mark.parametrize("particles, steps", [(10_000, 60), (8, 3_000), (1, 30_000)])
def test_harmonic(particles, steps):
    bath = integrators.OBABO(step_size=0.8, friction=1.5, temperature=engine.sweep(np.full(ENSEMBLES, 0.7)))
    run = ensembles(potentials.Harmonic(stiffness=1.3, center=0.4), bath, particles, steps, key=particles)
    check_normal(by_quantity(engine.compare(run)))


def test_double_well_by_transfer_matrix():
    """A nonlinear energy, an overdamped scheme of first order: the predicted bias is many errors wide."""
    scheme = integrators.EulerMaruyama(step_size=0.025, temperature=engine.sweep(np.full(ENSEMBLES, 1.0)))
    start = engine.scatter(jnp.zeros(1), 1_000, scale=1.0, key=1)
    run = ensembles(potentials.DoubleWell(barrier=1.0, tilt=0.3), scheme, 1_000, 1_200, start, key=5)
    verdict = engine.compare(run)
    check_normal(by_quantity(verdict))
    line = next(line for name, line in verdict.lines.items() if name.startswith("configurational"))
    assert abs(line.step_bias) > 5 * line.error  # else this would prove nothing


@pytest.mark.slow
def test_ladder():
    temperatures = [0.4, 1.6]
    bath = integrators.BAOAB(step_size=0.8, friction=1.5, temperature=engine.sweep(np.tile(temperatures, ENSEMBLES)))
    run = ensembles(potentials.Harmonic(stiffness=1.3), bath, 64, 6_000, key=2)
    check_normal(by_quantity(engine.compare(run), temperatures))


DATA = np.random.default_rng(3).gamma(2.0, size=(20, 1)).astype(np.float32)
BATCH, STEP = 4, 0.02


def gaussian_mean(**options) -> tuple[potentials.Posterior, dict[str, float]]:
    """The mean of 20 numbers, and its exact law under SGLD.

    The gradient noise does not depend on the position, so the chain is a linear one with more noise: with stiffness K,
    z = hK and the variance s² of the gradient's estimate, Var = (T + h s²/2)/(K (1 - z/2)).
    """
    posterior = potentials.Posterior(
        lambda w, y: -0.5 * jnp.sum((w - y) ** 2), lambda w: 0.0 * jnp.sum(w), data=DATA, batch_size=BATCH, **options
    )
    n, stiffness = len(DATA), float(len(DATA))
    noise = n**2 / BATCH * (n - BATCH) / (n - 1) * float(np.var(DATA))
    variance = (1 + STEP * noise / 2) / (stiffness * (1 - STEP * stiffness / 2))
    return posterior, {"x": float(DATA.mean()), "x.variance": variance}


def test_minibatches_of_each_particle():
    posterior, exact = gaussian_mean()
    scheme = integrators.SGLD(step_size=STEP, temperature=engine.sweep(np.full(ENSEMBLES, 1.0)))
    run = ensembles(
        posterior, scheme, 64, 300, key=7, observables={"x": observables.Mean(observables.position, every=3)}
    )
    check_normal(by_quantity(engine.compare(run, exact=exact)))


def test_minibatches_shared_by_all():
    posterior, exact = gaussian_mean(shared=True)
    measured = {"x": observables.Mean(observables.position, every=3)}
    z: dict[str, list[float]] = {}
    naive = []
    for key in range(ENSEMBLES):
        scheme = integrators.SGLD(step_size=STEP, temperature=1.0)
        run = ensembles(posterior, scheme, 32, 1_500, key=key, observables=measured)
        for name, line in engine.compare(run, exact={"x": exact["x"]}).lines.items():
            z.setdefault(name, []).append(line.z)
        settled = run.positions
        naive.append((float(settled.mean()) - exact["x"]) / (float(settled.std()) / np.sqrt(32)))
    check_normal(z)
    assert np.std(naive) > 2  # the spread between particles would be several times too small


def test_error_bars_of_independent_particles_need_no_time():
    """The mutant: one noise for all particles is seen by n · Var(ensemble mean), not by any mean."""
    bath = integrators.EulerMaruyama(step_size=0.5, temperature=engine.sweep(np.full(ENSEMBLES, 1.0)))
    run = ensembles(potentials.Harmonic(stiffness=1.0), bath, 100, 60, key=11)
    law = 1 / (1 - 0.25)
    means = np.asarray(run.positions)[..., 0].mean(1)
    shared = np.asarray(run.positions)[:, :1, 0].repeat(100, 1).mean(1)  # what shared noise would give
    ratio, mutant = (100 * np.mean(m**2) / law for m in (means, shared))
    # chi-squared with 300 degrees of freedom over 300: p = 1e-6 at 1 ± 0.44
    assert 0.62 < ratio < 1.46
    assert not 0.62 < mutant < 1.46
