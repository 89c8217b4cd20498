"""The exact stationary law of every scheme on quadratic energies, against closed forms, at steps far from small.

No Monte Carlo: a step's own matrices, a Lyapunov equation, and formulas that were derived apart from the code
(analytic.md A.2 and A.3). Everything here runs in a float32 process, as users do, and must be float64 accurate.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath import engine, integrators
from heatbath.engine.linear import NotLinear, Quadratic, linear_map
from heatbath.engine.pytree import upcast

STIFFNESS = np.array([[1.9, 0.5, -0.2], [0.5, 1.1, 0.3], [-0.2, 0.3, 0.6]])
MASS = np.array([0.5, 1.3, 3.0])


def splitting_law(word, w, c):
    """k<x²>/T, <p²>/mT and <xp>/hT at the end of the word, w = h²k/m, c = exp(-γh): the table A.3."""
    q, late, early, root = 1 - w / 4, 2 * (1 + c) - w, 2 * (1 + c) - c * w, math.sqrt(c)
    split = 2 * (1 + c) - root * w
    bath = lambda p: c * c * p + 1 - c * c  # an O more: <p²> after it, from before  # noqa: E731
    table = {
        "BAOAB": (1, q, 0), "ABOBA": (1, 1 / q, 0), "BAOA": (1, 1, 0.5), "AOAB": (1, 1, -0.5),
        **dict.fromkeys(("OBABO", "OBAB", "BABO"), (1 / q, 1, 0)),
        **dict.fromkeys(("OABAO", "OABA", "ABAO"), (q, 1, 0)),
        "OBA": ((1 + c) ** 2 / late, 2 * (1 + c) / late, (1 + c) / late),
        "BAO": ((1 + c) ** 2 / late, bath(2 * (1 + c) / late), c * (1 + c) / late),
        "AOB": ((1 + c) ** 2 / late, 2 * (1 + c) / late, -(1 + c) / late),
        "ABO": ((1 + c) ** 2 / (c * early), 2 * (1 + c) / early, -(1 + c) / early),
        "BOA": ((1 + c) ** 2 / (c * early), 2 * (1 + c) / early, (1 + c) / early),
        "OAB": ((1 + c) ** 2 / (c * early), (2 * (1 + c) / early - 1) / c**2 + 1, -(1 + c) / early / c),
        "AOBOA": ((root + 1 / root) / 2, 2 * (1 + c) / split, 0),
    }  # fmt: skip
    return table[word]


WORDS = ("BAOAB", "BAOA", "AOAB", "ABOBA", "OBABO", "OBAB", "BABO", "OABAO", "OABA", "ABAO",
         "OBA", "BAO", "AOB", "OAB", "ABO", "BOA", "AOBOA")  # fmt: skip
# stiffness, mass, friction, temperature, hω: nothing is 1, steps are large
CASES = [(1.0, 1.0, 1.0, 1.0, 0.5), (3.7, 0.6, 0.4, 0.3, 1.8), (0.2, 2.5, 0.17, 2.3, 1.5), (50.0, 7.0, 3.0, 0.05, 1.2)]


def near(value, expected):
    np.testing.assert_allclose(value, expected, rtol=1e-10, atol=1e-10 * np.abs(expected).max())


def phase_law(integrator, stiffness):
    """Stationary covariances (xx, pp, xp) of positions and momenta."""
    step = linear_map(integrator, Quadratic(matrix=stiffness), np.zeros(len(stiffness)))
    covariance = step.stationary()[1]
    x, p = step.position, step.momentum
    return x @ covariance @ x.T, p @ covariance @ p.T, x @ covariance @ p.T


def phase_matrix(integrator, stiffness):
    """The step as a matrix on (x, p) alone: a gradient that the state keeps is K x."""
    d = len(stiffness)
    a = linear_map(integrator, Quadratic(matrix=stiffness), np.zeros(d)).drift
    if len(a) == 2 * d:
        return a
    return a[: 2 * d, : 2 * d] + a[: 2 * d, 2 * d :] @ np.concatenate([stiffness, np.zeros((d, d))], axis=1)


def check_splitting(integrator, word, stiffness, mass, friction, temperature):
    """A scheme against the table, by normal modes: y = Vᵀ√M x, with M^-½ K M^-½ = V ω² Vᵀ."""
    h, scale = float(integrator.step_size), np.sqrt(np.broadcast_to(mass, len(stiffness)))
    omega2, modes = np.linalg.eigh(stiffness / np.outer(scale, scale))
    laws = np.array([splitting_law(word, h * h * w, math.exp(-friction * h)) for w in omega2])
    of_x, of_p = modes / scale[:, None], modes * scale[:, None]
    expected = temperature * laws.T * np.stack([1 / omega2, np.ones_like(omega2), np.full_like(omega2, h)])
    xx, pp, xp = phase_law(integrator, stiffness)
    near(xx, of_x * expected[0] @ of_x.T)
    near(pp, of_p * expected[1] @ of_p.T)
    # friction alone contracts volume: det A = exp(-γh) for each coordinate
    assert np.linalg.det(phase_matrix(integrator, stiffness)) == pytest.approx(
        math.exp(-friction * h * len(modes)), 1e-10
    )
    natural = temperature / np.sqrt(omega2.max())  # <xp> may be 0, and then has this scale
    np.testing.assert_allclose(xp, of_x * expected[2] @ of_p.T, rtol=1e-10, atol=1e-10 * natural)


@pytest.mark.parametrize("word", WORDS)
def test_splittings(word):
    for k, mass, friction, temperature, hw in CASES:
        h = hw * math.sqrt(mass / k)
        integrator = integrators.Splitting(
            scheme=word, step_size=h, friction=friction, temperature=temperature, mass=mass
        )
        check_splitting(integrator, word, np.array([[k]]), mass, friction, temperature)


@pytest.mark.parametrize("word", ["BAOAB", "BAOA", "OBABO", "ABOBA", "OBA", "AOBOA"])
def test_splittings_in_three_coordinates(word):
    """A full stiffness and a diagonal mass: the modes of the scheme are those of √M x."""
    for mass in (MASS, 1.7):
        integrator = integrators.Splitting(scheme=word, step_size=0.8, friction=0.7, temperature=1.6, mass=mass)
        check_splitting(integrator, word, STIFFNESS, mass, 0.7, 1.6)


DIGITS = {  # analytic.md A.3 at m = k = γ = T = 1, h = 1/2: xx, pp, xp
    "OBABO": (1.0666666667, 1, 0), "BAOAB": (1, 0.9375, 0), "OBA": (0.8710385923, 1.0843721992, 0.2710930498),
    "OAB": (1.3899562625, 1.1346365910, -0.4325956228), "AOBOA": (1.0314130999, 1.0645052688, 0),
    "BOAOB": (1.0979446792, 1.0041162736, -0.0672267856),
}  # fmt: skip


@pytest.mark.parametrize("word", DIGITS)
def test_digits_in_print(word):
    law = phase_law(integrators.Splitting(scheme=word, step_size=0.5), np.eye(1))
    np.testing.assert_allclose([float(c[0, 0]) for c in law], DIGITS[word], rtol=0, atol=6e-11)


class Overdamped(NamedTuple):
    """A row of the table A.2 at z = μhk."""

    law: Callable  # k<x²>/T
    correlation: Callable  # of positions n steps apart
    limit: float = math.inf  # of stable z


HEUN = lambda z: 1 - z + z**2 / 2  # noqa: E731
IMPLICIT = Overdamped(lambda z: 1.0, lambda z, n: ((1 - z / 2) / (1 + z / 2)) ** n)
OVERDAMPED = {
    "EulerMaruyama": Overdamped(lambda z: 1 / (1 - z / 2), lambda z, n: (1 - z) ** n, 2),
    "LeimkuhlerMatthews": Overdamped(lambda z: 1.0, lambda z, n: (1 - z / 2) * (1 - z) ** (n - 1), 2),
    "StochasticHeun": Overdamped(lambda z: (1 - z / 2) / (1 - z / 2 + z**2 / 4), lambda z, n: HEUN(z) ** n, 2),
    "ImplicitMidpoint": IMPLICIT,
    "CrankNicolson": IMPLICIT,
    "ExactOrnsteinUhlenbeck": Overdamped(lambda z: 1.0, lambda z, n: math.exp(-z * n)),
}
MOBILITY = np.array([[1.0, 0.3, -0.1], [0.3, 0.7, 0.2], [-0.1, 0.2, 0.5]])


def check_overdamped(integrator, name, stiffness, mobility, temperature):
    """A scheme against the table A.2, by the modes of √μᵀ K √μ: its law, and correlations at lags of 1 to 4 steps."""
    h, d = float(integrator.step_size), len(stiffness)
    root = np.linalg.cholesky(mobility) if np.ndim(mobility) == 2 else np.diag(np.sqrt(np.broadcast_to(mobility, d)))
    kappa, modes = np.linalg.eigh(root.T @ stiffness @ root)
    variance = temperature / kappa * np.array([OVERDAMPED[name].law(h * k) for k in kappa])
    back = root @ modes
    step = linear_map(integrator, Quadratic(matrix=stiffness), np.zeros(d))
    mean, covariance = step.of_position()
    near(covariance, back * variance @ back.T)
    np.testing.assert_allclose(mean, 0, atol=1e-14)
    whole, read = step.stationary()[1], step.position
    for n in range(1, 5):
        later = variance * np.array([OVERDAMPED[name].correlation(h * k, n) for k in kappa])
        lagged = read @ np.linalg.matrix_power(step.drift, n) @ whole @ read.T
        np.testing.assert_allclose(lagged, back * later @ back.T, rtol=1e-10, atol=1e-10 * np.abs(covariance).max())


@pytest.mark.parametrize("name", OVERDAMPED)
def test_overdamped_schemes(name):
    make = getattr(integrators, name)
    for k, mobility, temperature, z in [(1.0, 1.0, 1.0, 0.5), (3.7, 0.4, 0.3, 1.9), (0.2, 2.5, 2.3, 1.2)]:
        integrator = make(step_size=z / mobility / k, temperature=temperature, mobility=mobility)
        check_overdamped(integrator, name, np.array([[k]]), mobility, temperature)
    for mobility in (1 / MASS, 0.6, MOBILITY):
        integrator = make(step_size=0.5, temperature=1.6, mobility=mobility)
        check_overdamped(integrator, name, STIFFNESS, mobility, 1.6)
    if OVERDAMPED[name].limit == math.inf:  # a step that no explicit scheme survives
        check_overdamped(make(step_size=40.0, temperature=0.7), name, STIFFNESS, 1.0, 0.7)


def test_float32_numbers_are_taken_at_their_word():
    """In a float32 process the law is that of the rounded numbers, to all digits of float64."""
    assert not jax.config.jax_enable_x64
    h, mass = jnp.float32(0.7), jnp.asarray(MASS, jnp.float32)
    bath = integrators.BAOAB(step_size=h, friction=jnp.float32(0.3), temperature=jnp.float32(1.1), mass=mass)
    check_splitting(bath, "BAOAB", STIFFNESS, np.asarray(mass, float), float(jnp.float32(0.3)), float(jnp.float32(1.1)))
    with pytest.raises(AssertionError):  # and 0.7 is not float32(0.7), to ten digits
        near(phase_law(bath, STIFFNESS)[1], phase_law(integrators.BAOAB(step_size=0.7, mass=MASS), STIFFNESS)[1])
    with jax.enable_x64(True):
        inside = phase_law(bath, STIFFNESS)
    for a, b in zip(inside, phase_law(bath, STIFFNESS), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("word", WORDS)
def test_limits_of_stability(word):
    """The largest stable hω of each word; a step whose radius is not below 1 has no stationary law."""
    friction, mass, h = 0.8, 1.9, 0.6
    c = math.exp(-friction * h)
    limits = {
        **dict.fromkeys(("OBA", "BAO", "AOB"), 2 * (1 + c)),
        **dict.fromkeys(("OAB", "ABO", "BOA"), 2 * (1 + c) / c),
        "AOBOA": 2 * (1 + c) / math.sqrt(c),
    }
    for factor, stable in ((1 - 1e-6, True), (1 + 1e-6, False)):
        k = factor * limits.get(word, 4.0) * mass / h**2
        integrator = integrators.Splitting(scheme=word, step_size=h, friction=friction, mass=mass)
        step = linear_map(integrator, Quadratic(matrix=np.array([[k]])), np.zeros(1))
        assert (step.radius < 1) == stable
        if not stable:
            with pytest.raises(ValueError, match="no stationary law"):
                step.stationary()


@pytest.mark.parametrize("name", OVERDAMPED)
def test_limits_of_stability_overdamped(name):
    limit = OVERDAMPED[name].limit
    for z, stable in ((limit - 1e-6, True), (limit + 1e-6, False)) if limit < math.inf else ((1e4, True),):
        step = linear_map(getattr(integrators, name)(step_size=0.5, mobility=0.4),
                          Quadratic(matrix=np.array([[z / 0.2]])), np.zeros(1))  # fmt: skip
        assert (step.radius < 1) == stable


@pytest.mark.parametrize("word", ["BAB", "ABA", "ABABA"])
def test_verlet_is_symplectic_and_reversible(word):
    flip, d = np.diag([1.0] * 3 + [-1.0] * 3), 3
    j = np.block([[np.zeros((d, d)), np.eye(d)], [-np.eye(d), np.zeros((d, d))]])
    a = phase_matrix(integrators.Splitting(scheme=word, step_size=0.9, mass=MASS), STIFFNESS)
    np.testing.assert_allclose(a.T @ j @ a, j, atol=1e-13)
    np.testing.assert_allclose(flip @ a @ flip @ a, np.eye(2 * d), atol=1e-13)
    if word == "BAB":  # conserves p²/2m + (1 - w/4) k x²/2; the phase of a mode is cos θ = 1 - w/2
        np.testing.assert_array_equal(a, phase_matrix(integrators.Verlet(step_size=0.9, mass=MASS), STIFFNESS))
        conserved = np.block([[STIFFNESS - 0.9**2 / 4 * STIFFNESS / MASS @ STIFFNESS, np.zeros((d, d))],
                              [np.zeros((d, d)), np.diag(1 / MASS)]])  # fmt: skip
        np.testing.assert_allclose(a.T @ conserved @ a, conserved, atol=1e-13)
        scale = np.sqrt(MASS)
        w = 0.81 * np.linalg.eigvalsh(STIFFNESS / np.outer(scale, scale))
        phases = np.sort(np.linalg.eigvals(a).real)[::2]
        np.testing.assert_allclose(phases, np.sort(1 - w / 2), atol=1e-13)
    else:
        kick_first = integrators.Splitting(scheme="BA", step_size=0.9, mass=MASS)
        b = phase_matrix(kick_first, STIFFNESS)
        assert np.abs(flip @ b @ flip @ b - np.eye(2 * d)).max() > 0.1  # a word that is no palindrome is not reversible


@pytest.mark.parametrize("integrator", [integrators.BAOAB(step_size=0.9, friction=0.6, temperature=1.4, mass=MASS),
                                        integrators.Splitting(scheme="OBA", step_size=0.7, friction=0.6),
                                        integrators.LeimkuhlerMatthews(step_size=0.5, temperature=0.3)],
                         ids=["BAOAB", "OBA", "LM"])  # fmt: skip
def test_transients(integrator):
    """m_n = Aⁿ m₀ and S_n = Σ - AⁿΣAⁿᵀ (from S₀ = 0), against the Jacobian of n steps done one after another."""
    n, potential, spec = 7, Quadratic(matrix=STIFFNESS), integrator.noise
    step = linear_map(integrator, potential, np.zeros(3))
    with jax.enable_x64(True):
        wide, energy, zero = upcast(integrator), upcast(potential), jnp.zeros(3)
        start = wide.init(energy, jnp.array([1.0, -0.5, 2.0]), engine.Noise((jnp.array([0.3, 0.1, -0.7]),)))
        flat = lambda state: jnp.concatenate(jax.tree.leaves(state))  # noqa: E731

        def iterate(xi):
            state = start
            for i in range(n):
                state = wide.step(energy, state, engine.Noise(tuple(xi[i])))
            return flat(state)

        silent = jnp.zeros((n, spec.normals, *zero.shape))
        mean, response = np.asarray(iterate(silent)), np.asarray(jax.jacfwd(iterate)(silent))
        power = np.linalg.matrix_power(step.drift, n)
        near(power @ np.asarray(flat(start)), mean)
    response = response.reshape(len(mean), -1)
    sigma = step.stationary()[1]
    near(sigma - power @ sigma @ power.T, response @ response.T)


@engine.pytree
class NoisyEuler(integrators.EulerMaruyama):
    """Noise √h for √(2h)."""

    def step(self, potential, state, noise):
        return super().step(potential, state, engine.Noise((noise.normals[0] / np.sqrt(2),)))


@engine.pytree
class Dropped(integrators.Splitting):
    """The last kick of the word is forgotten."""

    def step(self, potential, state, noise):
        new = super().step(potential, state, noise)
        half = self.step_size / self.scheme.count("B")
        return new._replace(momentum=new.momentum + half * potential.gradient(new.position))


MUTANTS = {
    "noise √h for √2h": lambda: check_overdamped(
        NoisyEuler(step_size=0.3, temperature=0.7), "EulerMaruyama", STIFFNESS, 1.0, 0.7),
    "Euler-Maruyama under another name": lambda: check_overdamped(
        integrators.EulerMaruyama(step_size=0.3), "LeimkuhlerMatthews", STIFFNESS, 1.0, 1.0),
    "a matrix of mobilities for its root": lambda: check_overdamped(
        integrators.CrankNicolson(step_size=0.3, mobility=MOBILITY), "CrankNicolson", STIFFNESS, MOBILITY @ MOBILITY, 1.0),
    "mobility for its root": lambda: check_overdamped(
        integrators.EulerMaruyama(step_size=0.3, mobility=0.5), "EulerMaruyama", STIFFNESS, 0.25, 1.0),
    "temperature off by 10 %": lambda: check_splitting(
        integrators.BAOAB(step_size=0.5, temperature=1.1), "BAOAB", STIFFNESS, 1.0, 1.0, 1.0),
    "a mass is missing": lambda: check_splitting(
        integrators.BAOAB(step_size=0.5), "BAOAB", STIFFNESS, 1.5, 1.0, 1.0),
    "a half kick is missing": lambda: check_splitting(
        Dropped(step_size=0.5), "BAOAB", STIFFNESS, 1.0, 1.0, 1.0),
    "momentum seen at another substep": lambda: check_splitting(
        integrators.BAOA(step_size=0.5), "BAOAB", STIFFNESS, 1.0, 1.0, 1.0),
    "thermostat in the wrong place": lambda: check_splitting(
        integrators.OBABO(step_size=0.5), "BAOAB", STIFFNESS, 1.0, 1.0, 1.0),
}  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS)
def test_wrong_schemes_fail(mutant):
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        MUTANTS[mutant]()


def test_what_is_not_linear_is_said_to_be_so():
    @engine.pytree
    class Anharmonic(engine.Potential):
        def __call__(self, position):
            return jnp.sum(position**2) / 2 + 1e-6 * jnp.sum(position**4)

    with pytest.raises(NotLinear, match="a step of Splitting is not linear on Anharmonic"):
        linear_map(integrators.BAOAB(step_size=0.3), Anharmonic(), np.zeros(2))
