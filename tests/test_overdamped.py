"""Implicit, exact and preconditioned overdamped schemes, and mobilities that are matrices, beyond the linear table."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath import engine, integrators, potentials
from heatbath.engine.linear import Quadratic, linear_map
from heatbath.engine.transfer import stationary_averages
from heatbath.integrators import CrankNicolson, EulerMaruyama, ExactOrnsteinUhlenbeck, ImplicitMidpoint, Preconditioned

K = np.array([[1.9, 0.5, -0.2], [0.5, 1.1, 0.3], [-0.2, 0.3, 0.6]])
MOBILITY = np.array([[1.0, 0.3, -0.1], [0.3, 0.7, 0.2], [-0.1, 0.2, 0.5]])
START, XI = np.array([1.2, -0.7, 0.4]), np.array([0.3, -1.1, 0.8])


@engine.pytree
class Quartic(engine.Potential):
    """A convex energy that is far from quadratic."""

    def __call__(self, position: Any) -> jax.Array:
        x = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(position)])
        return x @ jnp.asarray(K) @ x / 2 + jnp.sum(x**4) / 4


def one_step(integrator, potential, x: Any = START, xi: Any = XI):
    """One step in float64, from given noise."""
    with jax.enable_x64(True):
        x, xi = jax.tree.map(jnp.asarray, (x, xi))
        state = integrator.init(potential, x, engine.Noise((xi,) * integrator.init_noise.normals))
        return jax.tree.map(np.asarray, jax.jit(integrator.step)(potential, state, engine.Noise((xi,))).position)


def equation(scheme, new, h, mobility, kick):
    """What is left of the equation that defines an implicit step from START; nothing, where it is solved."""
    force = lambda y: K @ y + y**3  # noqa: E731
    middle = force((START + new) / 2) if scheme is ImplicitMidpoint else (force(START) + force(new)) / 2
    return np.abs(new - START + h * mobility @ middle - kick).max()


@pytest.mark.parametrize("scheme", [ImplicitMidpoint, CrankNicolson])
def test_implicit_steps_solve_their_equation(scheme):
    """On a quartic energy at three times the largest explicit step: Newton's iterations square what is left."""
    h, temperature = 1.5, 0.7
    kick = math.sqrt(2 * h * temperature) * np.linalg.cholesky(MOBILITY) @ XI
    left = []
    for iterations in (3, 4, 8):
        step = scheme(step_size=h, temperature=temperature, mobility=MOBILITY, iterations=iterations)
        assert step.gradients == iterations + (scheme is CrankNicolson)
        new = one_step(step, Quartic())
        left.append(equation(scheme, new, h, MOBILITY, kick))
    assert left[1] < left[0] / 2 and left[2] < 1e-13, left
    assert equation(scheme, new, h, np.diag(np.diag(MOBILITY)), kick) > 0.01


@pytest.mark.parametrize("scheme", [ImplicitMidpoint, CrankNicolson])
def test_one_iteration_is_exact_on_a_quadratic_energy(scheme):
    step = lambda n: one_step(scheme(step_size=7.0, mobility=MOBILITY, iterations=n), Quadratic(matrix=K))  # noqa: E731
    np.testing.assert_allclose(step(1), step(4), rtol=1e-12)


def test_both_implicit_schemes_are_one_map_on_a_quadratic_energy():
    steps = [
        one_step(s(step_size=3.0, mobility=MOBILITY), Quadratic(matrix=K)) for s in (ImplicitMidpoint, CrankNicolson)
    ]
    np.testing.assert_allclose(*steps, rtol=1e-12)


def test_a_matrix_acts_on_the_ravelled_position_of_a_tree():
    """A tree of parameters moves as its coordinates do in one vector."""
    tree = {"a": START[:1].reshape(1, 1), "b": START[1:]}
    xi = {"a": XI[:1].reshape(1, 1), "b": XI[1:]}
    for name in ("LeimkuhlerMatthews", "CrankNicolson"):
        scheme = getattr(integrators, name)(step_size=0.3, mobility=MOBILITY)
        found = one_step(scheme, Quartic(), tree, xi)
        assert found["a"].shape == (1, 1)
        flat = np.concatenate([found["a"].ravel(), found["b"]])
        np.testing.assert_allclose(flat, one_step(scheme, Quartic()), rtol=1e-12, err_msg=name)


WELL = potentials.Harmonic(stiffness=jnp.array([[1.5, 0.4], [0.4, 0.6]]))
SMALL = np.array([[1.0, -0.4], [-0.4, 0.5]])


@pytest.mark.parametrize("way", ["plain", "each", "sweep", "schedule"])
def test_mobilities_of_a_run_may_be_matrices(way):
    """One matrix, one a particle, a ladder of them, one that changes in time: against the step written out in numpy."""
    n, steps, h = 3, 4, 0.1
    many = SMALL * np.arange(1, n + 1)[:, None, None]
    mark = {"plain": SMALL, "each": engine.each(many), "sweep": engine.sweep(many, shared_noise=True),
            "schedule": lambda step: jnp.asarray(SMALL) * (1 + step)}[way]  # fmt: skip
    x = np.array([[1.0, -1.0], [0.5, 2.0], [0.3, 0.1]], np.float32)
    run = engine.simulate(
        WELL, EulerMaruyama(step_size=h, temperature=0.0, mobility=mark), x, steps=steps, observables={}
    )
    stiffness = np.asarray(WELL.stiffness, float)
    one = lambda mobility: np.eye(2) - h * mobility @ stiffness  # noqa: E731
    power = lambda mobility: np.linalg.matrix_power(one(mobility), steps)  # noqa: E731
    expected = {
        "plain": lambda: x @ power(SMALL).T,
        "each": lambda: np.stack([power(m) @ y for m, y in zip(many, x, strict=True)]),
        "sweep": lambda: np.stack([x @ power(m).T for m in many]),
        "schedule": lambda: x @ np.linalg.multi_dot([one(SMALL * (1 + k)) for k in reversed(range(steps))]).T,
    }[way]()
    np.testing.assert_allclose(run.positions, expected, rtol=2e-5)


@pytest.mark.parametrize(
    ("mobility", "says"),
    [(np.eye(3), r"mobility must be .*\(2, 2\); got shape \(3, 3\)"),
     (np.array([[1.0, 0.2], [0.1, 1.0]]), "mobility must be symmetric"),
     (np.array([[1.0, 2.0], [2.0, 1.0]]), "mobility must be positive definite.* -1"),
     (-1.0, "mobility must be positive; got -1")],
)  # fmt: skip
@pytest.mark.parametrize("name", ["EulerMaruyama", "CrankNicolson", "ExactOrnsteinUhlenbeck"])
def test_bad_mobilities(name, mobility, says):
    with pytest.raises(ValueError, match=says):
        engine.simulate(WELL, getattr(integrators, name)(step_size=0.1, mobility=mobility), jnp.zeros((4, 2)), steps=1)


def exact_mean_and_covariance(h, temperature, mobility):
    from scipy.linalg import expm

    decay = expm(-h * mobility @ K)
    sigma = temperature * np.linalg.inv(K)
    return decay, sigma - decay @ sigma @ decay.T


@pytest.mark.parametrize("mobility", [0.8, np.array([0.5, 1.0, 2.0]), MOBILITY], ids=["scalar", "diagonal", "matrix"])
def test_the_exact_step_is_the_continuous_dynamics(mobility):
    """Its drift is e^(-μKh) and its noise that of the Lyapunov integral, off centre, in a sum of two energies."""
    h, temperature, center = 1.3, 0.7, np.array([0.4, -2.0, 1.0])
    full = mobility if np.ndim(mobility) == 2 else np.diag(np.broadcast_to(mobility, 3))
    decay, noise = exact_mean_and_covariance(h, temperature, full)
    well = potentials.Harmonic(stiffness=K / 2, center=center)
    integrator = ExactOrnsteinUhlenbeck(step_size=h, temperature=temperature, mobility=mobility)
    found = linear_map(integrator, well + 1.0 * well, np.zeros(3))
    np.testing.assert_allclose(found.drift, decay, atol=1e-13)
    np.testing.assert_allclose(found.noise @ found.noise.T, noise, atol=1e-13)
    np.testing.assert_allclose(found.of_position()[0], center, rtol=1e-12)


def test_the_exact_step_on_flat_and_falling_ground():
    """Free diffusion has variance 2μTh, and an unstable direction grows."""
    integrator = ExactOrnsteinUhlenbeck(step_size=0.9, temperature=0.7, mobility=0.5)
    found = linear_map(integrator, Quadratic(matrix=np.diag([0.0, -1.3])), np.zeros(2))
    np.testing.assert_allclose(np.diag(found.drift), [1, math.exp(0.5 * 1.3 * 0.9)], rtol=1e-13)
    growth = 0.7 / 1.3 * math.expm1(2 * 0.5 * 1.3 * 0.9)
    np.testing.assert_allclose(np.diag(found.noise @ found.noise.T), [2 * 0.5 * 0.7 * 0.9, growth], rtol=1e-13)


@pytest.mark.parametrize("energy", [potentials.DoubleWell(), WELL + potentials.DoubleWell(), lambda x: jnp.sum(x**2)])
def test_the_exact_step_refuses_what_is_not_quadratic(energy):
    with pytest.raises(ValueError, match=r"exact on quadratic energies.*does not declare `quadratic = True`"):
        engine.simulate(energy, ExactOrnsteinUhlenbeck(step_size=0.1), jnp.zeros((4, 2)), steps=1)


@pytest.mark.parametrize("iterations", [0, -1, 2.0, True])
@pytest.mark.parametrize("scheme", [ImplicitMidpoint, CrankNicolson])
def test_iterations_are_counted(scheme, iterations):
    with pytest.raises(ValueError, match=f"iterations must be a whole number of at least 1; got {iterations!r}"):
        scheme(step_size=0.1, iterations=iterations)


def lorentzian(position):
    """G = 1/(1 + x²)."""
    return 1 / (1 + position**2)


def second_moments(**options):
    """<x²> on U = x²/2 at T = 1, at steps of 0.04, 0.02, 0.01, by the transfer matrix."""
    well, square = potentials.Harmonic(stiffness=1.0), lambda potential, integrator, state: state.position**2
    schemes = [Preconditioned(step_size=h, **options) for h in (0.04, 0.02, 0.01)]
    law = [stationary_averages(s, well, square, mean=0.0, deviation=1.0, accuracy=1e-7) for s in schemes]
    return [float(found.values[0]) for found in law]


X = np.linspace(-12, 12, 4001)
WITHOUT = {  # <x²> of the law exp(-U)/G, which is that of the Itô equation without Γ
    "given": (lorentzian, 2.0),
    "RMSprop's": (
        None,
        float(np.sum(X**2 * np.exp(-(X**2) / 2) * np.hypot(1, X)) / np.sum(np.exp(-(X**2) / 2) * np.hypot(1, X))),
    ),
}


@pytest.mark.parametrize("metric", WITHOUT)
@pytest.mark.parametrize("divergence", [True, False])
def test_the_divergence_of_a_metric_tells_right_from_wrong(metric, divergence):
    """As the step goes to 0, <x²> is 1; without Γ it is 2 for G = 1/(1 + x²), and 1.417 for RMSprop's with λ = 1."""
    function, wrong = WITHOUT[metric]
    a, b, c = (x2 - (1.0 if divergence else wrong) for x2 in second_moments(metric=function, divergence=divergence))
    assert math.log2(b / c) == pytest.approx(1, abs=0.05)  # first order
    assert abs(a - 6 * b + 8 * c) / 3 < 1e-5  # extrapolated twice
    assert Preconditioned(step_size=0.1, divergence=divergence).stationary_order == (1 if divergence else None)


def test_a_metric_may_be_a_scalar_a_diagonal_or_a_matrix():
    """G = g(x) 1 in three shapes is one scheme; and Γ of a full matrix, by hand."""
    g = lambda x: 1 / (1 + jnp.sum(x**2))  # noqa: E731
    shapes = [g, lambda x: jnp.full(3, g(x)), lambda x: g(x) * jnp.eye(3)]
    steps = [one_step(Preconditioned(step_size=0.2, metric=metric), Quartic()) for metric in shapes]
    np.testing.assert_allclose(steps[0], steps[1], rtol=1e-13)
    np.testing.assert_allclose(steps[0], steps[2], rtol=1e-13)
    outer = lambda x: jnp.eye(3) + jnp.outer(x, x)  # noqa: E731  of divergence (d + 1) x
    h, temperature = 0.2, 0.7
    found = one_step(Preconditioned(step_size=h, temperature=temperature, metric=outer), Quartic())
    metric = np.eye(3) + np.outer(START, START)
    expected = START - h * (metric @ (K @ START + START**3) - temperature * 4 * START)
    expected += math.sqrt(2 * h * temperature) * np.linalg.cholesky(metric) @ XI
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_metric_is_a_function():
    with pytest.raises(TypeError, match=r"metric must be a function of the position.*got 2\.0"):
        Preconditioned(step_size=0.1, metric=2.0)  # pyright: ignore[reportArgumentType]


def test_without_its_divergence_there_is_nothing_to_compare_with():
    scheme = Preconditioned(step_size=0.05, divergence=False)
    measured = engine.observables.Mean(engine.observables.potential_energy)
    run = engine.simulate(potentials.Ring(), scheme, jnp.ones((8, 2)), steps=20, observables=measured)
    with pytest.raises(ValueError, match="Preconditioned declares no stationary law to compare with"):
        engine.compare(run)
