"""Underdamped schemes on quadratic energies, on free particles and under a constant force: exact laws, no Monte Carlo.

Closed forms and digits of analytic.md A.3, all through the step's own matrices, at steps far from small.
"""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import cholesky, expm, solve_discrete_lyapunov
from test_linear_laws import STIFFNESS, near, phase_law

from heatbath import engine, integrators
from heatbath.engine.linear import Quadratic, linear_map
from heatbath.engine.pytree import upcast
from heatbath.integrators.free_motion import FreeMotion, free_motion

SCHEMES = {
    "EM": integrators.UnderdampedEulerMaruyama,
    "SymplecticEuler": integrators.SymplecticEuler,
    "SES": integrators.ExponentialEuler,
    "BBK": integrators.BBK,
    "GJ-I": integrators.GronbechJensen,
    "GJ-II": integrators.SivakChoderaCrooks,
    "GJ, c2 = 1 - γh": lambda **k: integrators.GronbechJensen(variant=jnp.ones_like, **k),
    "QUICSORT": integrators.QUICSORT,
    "UBU": integrators.UBU,
    "BUB": integrators.BUB,
    **{word: lambda word=word, **k: integrators.Splitting(scheme=word, **k)
       for word in ("BAOAB", "OBABO", "ABOBA", "BAOA", "OBA", "AOB", "OAB", "BOA", "AOBOA")},
}  # fmt: skip


def law(name, w, gh):
    """k<x²>/T, <p²>/mT and <xp>/hT, where there is a closed form: w = h²k/m, gh = γh."""
    em, euler = (gh - w) * (4 - 2 * gh + w), 4 - 2 * gh - w
    return {
        "EM": (2 * gh * (2 - gh + w) / em, 4 * gh / em, -2 * gh / em),
        "SymplecticEuler": (2 * (2 - gh) / euler, 4 / euler, 2 / euler),
        "BBK": (1 / (1 - w / 4), 1 / (1 + gh / 2), None),
        **dict.fromkeys(("GJ-I", "GJ-II", "GJ, c2 = 1 - γh"), (1, 1, None)),
    }[name]


@pytest.mark.parametrize("name", ["EM", "SymplecticEuler", "BBK", "GJ-I", "GJ-II", "GJ, c2 = 1 - γh"])
@pytest.mark.parametrize("w, gh", [(0.25, 0.5), (0.3, 0.9), (0.01, 1.3)])
def test_closed_forms(name, w, gh):
    h, mass, temperature = 0.7, 1.9, 0.3
    k = w * mass / h**2
    scheme = SCHEMES[name](step_size=h, friction=gh / h, mass=mass, temperature=temperature)
    xx, pp, xp = (float(c[0, 0]) for c in phase_law(scheme, np.array([[k]])))
    expected = law(name, w, gh)
    near(np.array([k * xx, pp / mass]) / temperature, np.array(expected[:2]))
    if expected[2] is not None:
        near(xp / h / temperature, np.array(expected[2]))


DIGITS = {  # m = k = γ = T = 1, h = 1/2
    "EM": (2.1538461538, 2.4615384615, -0.6153846154), "SymplecticEuler": (1.0909090909, 1.4545454545, 0.3636363636),
    "SES": (1.3244981138, 1.3193908244, 0.0066264146), "UBU": (0.9585914657, 1.0212055557, 0.0110073414),
    "BUB": (1.0221002310, 0.9600306707, -0.0221002310), "BBK": (1.0666666667, 0.8, None), "GJ-I": (1, 1, None),
}  # fmt: skip


@pytest.mark.parametrize("name", DIGITS)
def test_digits_in_print(name):
    found = phase_law(SCHEMES[name](step_size=0.5), np.eye(1))
    for value, digits in zip(found, DIGITS[name], strict=True):
        assert digits is None or float(value[0, 0]) == pytest.approx(digits, abs=6e-11)


@engine.pytree
class Deaf(integrators.BBK):
    """BBK with a fresh random force in its second half kick: it forgets the one it began with."""

    noise = engine.NoiseSpec(normals=2)

    def step(self, potential, state, noise):
        return super().step(potential, state._replace(normal=noise.normals[1]), engine.Noise(noise.normals[:1]))


@engine.pytree
class Central(integrators.GronbechJensen):
    """GJ with the velocity of the central difference, (x' - x)/h."""

    def momentum(self, state):
        return jnp.sqrt(self._share) * state.momentum


def test_mutants():
    """analytic.md F.5: what the laws read with the two mistakes that are made with these schemes."""
    xx, pp, _ = phase_law(Deaf(step_size=0.5), np.eye(1))
    np.testing.assert_allclose([xx[0, 0], pp[0, 0]], [0.566667, 0.5], atol=1e-6)
    assert phase_law(Central(step_size=0.5), np.eye(1))[1][0, 0] == pytest.approx(0.8, abs=1e-12)


def half_step_momentum(name, scheme, k):
    """<u²>/mT of BBK's momentum half a kick after the step, by the Lyapunov law of the whole state."""
    step = linear_map(scheme, Quadratic(matrix=np.array([[k]])), np.zeros(1))
    h, g, m, t = (float(getattr(scheme, n)) for n in ("step_size", "friction", "mass", "temperature"))
    row = np.array([0.0, 1 - g * h / 2, -h / 2, math.sqrt(g * h * m * t / 2)])  # over x, p, gradient, normal
    return row @ step.stationary()[1] @ row / m / t


def test_bbk_half_a_step_later():
    scheme = integrators.BBK(step_size=0.7, friction=0.9, mass=1.9, temperature=0.3)
    k = 2.1 * 1.9 / 0.49
    assert half_step_momentum("BBK", scheme, k) == pytest.approx(1 / (1 - 2.1 / 4), rel=1e-12)


@pytest.mark.parametrize("name", ["GJ-I", "GJ-II", "GJ, c2 = 1 - γh"])
def test_lag_one_of_the_gj_family(name):
    h, friction, k = 0.7, 1.1, 1.6
    step = linear_map(SCHEMES[name](step_size=h, friction=friction), Quadratic(matrix=np.array([[k]])), np.zeros(1))
    sigma = step.stationary()[1]
    u = friction * h
    c3 = {"GJ-I": 1 / (1 + u / 2), "GJ-II": -math.expm1(-u) / u}.get(name, 1.0)
    lagged = step.position @ step.drift @ sigma @ step.position.T
    assert float(lagged[0, 0]) * k == pytest.approx(1 - c3 * h * h * k / 2, rel=1e-12)


@pytest.mark.parametrize("name, limit", [("BBK", 4), ("GJ-I", 4), ("GJ-II", None), ("SymplecticEuler", 4 - 2 * 0.6)])
def test_limits_of_stability(name, limit):
    h, friction, mass = 0.5, 1.2, 1.7
    if limit is None:  # c₃ w < 2(1 + c₂)
        c2 = math.exp(-friction * h)
        limit = 2 * (1 + c2) * friction * h / (1 - c2)
    for factor, stable in ((1 - 1e-6, True), (1 + 1e-6, False)):
        k = np.array([[factor * limit * mass / h**2]])
        step = linear_map(SCHEMES[name](step_size=h, friction=friction, mass=mass), Quadratic(matrix=k), np.zeros(1))
        assert (step.radius < 1) == stable


def test_rescaled_time_is_gj_ii():
    """VRORV with h √(tanh(γh/2)/(γh/2)) in A and B, and the bath's own exp(-γh): one dynamics under two names."""
    h, friction, k = 0.8, 1.7, np.array([[2.3]])
    b = math.sqrt(math.tanh(friction * h / 2) / (friction * h / 2))
    rescaled = integrators.BAOAB(step_size=b * h, friction=friction / b, temperature=0.4, mass=1.3)
    known = integrators.SivakChoderaCrooks(step_size=h, friction=friction, temperature=0.4, mass=1.3)

    def autocovariance(scheme):
        step = linear_map(scheme, Quadratic(matrix=k), np.zeros(1))
        sigma = step.stationary()[1]
        powers = [np.linalg.matrix_power(step.drift, n) for n in range(30)]
        return np.array([float((step.position @ power @ sigma @ step.position.T)[0, 0]) for power in powers])

    near(autocovariance(known), autocovariance(rescaled))
    np.testing.assert_allclose(autocovariance(known), autocovariance(rescaled), rtol=0, atol=1e-12)
    plain = integrators.BAOAB(step_size=h, friction=friction, temperature=0.4, mass=1.3)
    assert np.abs(autocovariance(known) - autocovariance(plain)).max() > 1e-3


@engine.pytree
class Pull(engine.Potential):
    """A constant force."""

    force: float = engine.number()

    def __call__(self, position):
        return -jnp.sum(self.force * position)


def transport(scheme, h):
    """Diffusion and drift of a free particle: sums over all later steps of what a normal, and the force, displace."""
    step = linear_map(scheme, Pull(force=1.0), np.zeros(1))
    x = np.flatnonzero(step.position[0])[0]
    rest = np.delete(np.arange(len(step.drift)), x)
    inner, noise = step.drift[np.ix_(rest, rest)], step.noise[rest]
    reach = step.drift[x, rest] @ np.linalg.inv(np.eye(len(rest)) - inner)
    diffusion = np.sum((reach @ noise + step.noise[x]) ** 2) / (2 * h)
    return diffusion, (reach @ step.constant[rest] + step.constant[x]) / h


@pytest.mark.parametrize("gh", [0.5, 1.0])
@pytest.mark.parametrize("name", SCHEMES)
def test_transport(name, gh):
    """Free diffusion over T/mγ, and drift over f/mγ."""
    h, mass, temperature = 0.8, 1.6, 0.7
    scheme = SCHEMES[name](step_size=h, friction=gh / h, mass=mass, temperature=temperature)
    factor = gh / 2 / math.tanh(gh / 2)
    assert factor == pytest.approx({0.5: 1.0207470413, 1.0: 1.0819767069}[gh], abs=6e-11)
    exact = ("EM", "SymplecticEuler", "SES", "BBK", "QUICSORT", "UBU", "BUB")
    expected = (1.0, 1.0) if name in exact or name.startswith("GJ") else (factor, {
        "OBA": factor + gh / 2, "AOB": factor + gh / 2, "OAB": factor - gh / 2, "BOA": factor - gh / 2,
        "AOBOA": gh / 2 / math.sinh(gh / 2),
    }.get(name, factor))  # fmt: skip
    diffusion, drift = transport(scheme, h)
    near(diffusion * mass * gh / h / temperature, np.array(expected[0]))
    near(drift * mass * gh / h, np.array(expected[1]))


TENSOR = np.array([[2.0, 0.6, -0.3], [0.6, 1.2, 0.2], [-0.3, 0.2, 0.7]])


@pytest.mark.parametrize("name, mass", [("EM", TENSOR), ("UBU", TENSOR), ("GJ-I", TENSOR), ("BAOAB", np.diag(TENSOR)),
                                        ("BBK", np.diag(TENSOR)), ("QUICSORT", np.diag(TENSOR))])  # fmt: skip
def test_a_mass_is_a_change_of_coordinates(name, mass):
    """y = Lᵀx, q = L⁻¹p for M = LLᵀ is the scheme with mass 1; so with a matrix, and with a diagonal."""
    make = lambda mass: SCHEMES[name](step_size=0.3, friction=1.5, temperature=0.8, mass=mass)  # noqa: E731
    root = cholesky(mass if mass.ndim == 2 else np.diag(mass), lower=True)
    back = np.linalg.inv(root)
    yy, qq, yq = phase_law(make(1.0), back @ STIFFNESS @ back.T)
    xx, pp, xp = phase_law(make(mass), STIFFNESS)
    near(xx, back.T @ yy @ back)
    near(pp, root @ qq @ root.T)
    np.testing.assert_allclose(xp, back.T @ yq @ root.T, rtol=1e-10, atol=1e-12)


def van_loan(friction, h, force=False):
    """exp of the drift, and the covariance, of dx = v dt, dv = (a - γv) dt + √(2γ) dW, as matrices over x, v, a."""
    drift = np.array([[0.0, 1, 0], [0, -friction, 1], [0, 0, 0]])
    spread = np.zeros((3, 3))
    spread[1, 1] = 2 * friction
    block = expm(np.block([[-drift, spread], [np.zeros((3, 3)), drift.T]]) * h)
    power = block[3:, 3:].T
    return power, power @ block[:3, 3:]


@pytest.mark.parametrize("gh", [1e-3, 0.3, 1.9, 2.1, 7.0])
def test_free_motion(gh):
    """Against the exponential of the equation's matrix."""
    h = 0.6
    power, covariance = van_loan(gh / h, h)
    with jax.enable_x64(True):
        free = FreeMotion(*map(float, free_motion(jnp.float64(gh / h), jnp.float64(h))))
    near(np.array([free.reach, free.pull, 1 + free.loss, free.reach]), np.array([*power[0, 1:], *power[1, 1:]]))
    noise = np.array([[free.reach * free.lean, free.stray], [free.spread, 0.0]])
    np.testing.assert_allclose(noise @ noise.T, covariance[:2, :2], rtol=1e-9, atol=1e-14)


def test_free_motion_at_the_ends():
    """Leading terms where γt is small, in float32 too; no friction; friction without end."""
    for dtype, rtol in ((jnp.float32, 1e-6), (jnp.float64, 1e-8)):
        with jax.enable_x64(dtype == jnp.float64):
            free = free_motion(dtype(1e-8), dtype(0.5))
            near_zero = [-5e-9, 0.5, 0.125, 1e-4, 5e-5, 0.5 * math.sqrt(5e-9 / 6)]
            np.testing.assert_allclose(free, near_zero, rtol=rtol)
            np.testing.assert_allclose(free_motion(dtype(0.0), dtype(0.5)), [0, 0.5, 0.125, 0, 0, 0], rtol=rtol)
            far = [-1, 5e-5, 9999 / 4e8, 1, 1, math.sqrt(19996) / 2e4]
            np.testing.assert_allclose(free_motion(dtype(2e4), dtype(0.5)), far, rtol=1e-6)


@pytest.mark.parametrize("name", ["SES", "UBU", "BUB"])
def test_transients_of_a_free_particle_are_exact(name):
    """Mean and covariance after 5 steps from a given place and momentum, against continuous time."""
    h, friction, mass, temperature, n = 0.6, 1.4, 1.7, 0.3, 5
    scheme = SCHEMES[name](step_size=h, friction=friction, mass=mass, temperature=temperature)
    step = linear_map(scheme, Quadratic(matrix=np.zeros((1, 1))), np.zeros(1))
    free = step.drift[:2, :2], step.noise[:2] @ step.noise[:2].T  # x and p; no gradient that is kept matters
    power, covariance = np.eye(2), np.zeros((2, 2))
    for _ in range(n):
        power, covariance = free[0] @ power, free[0] @ covariance @ free[0].T + free[1]
    exact, spread = van_loan(friction, n * h)
    units = np.diag([1, mass])
    near(power, units @ exact[:2, :2] @ np.linalg.inv(units))
    near(covariance, temperature / mass * units @ spread[:2, :2] @ units)


@pytest.mark.parametrize(
    "name, order", [("UBU", 2), ("BUB", 2), ("SES", 1), ("QUICSORT", 3), ("GJ-I", None), ("BBK", 2)]
)
def test_stationary_orders(name, order):
    """log₂ of the bias of <x²> at h = 0.01 and 0.005."""
    bias = [float(phase_law(SCHEMES[name](step_size=h), np.eye(1))[0][0, 0]) - 1 for h in (0.01, 0.005)]
    if order is None:
        np.testing.assert_allclose(bias, 0, atol=1e-12)
    else:
        assert math.log2(bias[0] / bias[1]) == pytest.approx(order, abs=0.15)


def strong_error(scheme, h, levels=2):
    """√E(x_h - x_{h/2})² at t = 2 from one noise, by the joint linear map of both."""
    coarse, fine = (scheme(step_size=h / 2**i) for i in range(levels))
    long, short = (linear_map(s, Quadratic(matrix=np.eye(1)), np.zeros(1)) for s in (coarse, fine))
    count = coarse.noise.normals
    with jax.enable_x64(True):
        columns = []
        for row in np.eye(2 * count).reshape(-1, 2, count, 1):
            first, second = (engine.Noise(tuple(half)) for half in row)
            columns.append(np.concatenate([np.asarray(n) for n in coarse.coarsen(first, second).normals]))
    mix = np.array(columns).T
    np.testing.assert_allclose(mix @ mix.T, np.eye(count), atol=1e-14)  # standard normals again
    drift = np.block([[long.drift, 0 * long.drift], [0 * long.drift, short.drift @ short.drift]])
    noise = np.concatenate([long.noise @ mix, np.concatenate([short.drift @ short.noise, short.noise], axis=1)])
    mean, covariance = np.tile([1.0, 0.0], 2), np.zeros((4, 4))
    for _ in range(round(2 / h)):
        mean, covariance = drift @ mean, drift @ covariance @ drift.T + noise @ noise.T
    read = np.array([1.0, 0, -1, 0])
    return math.sqrt((read @ mean) ** 2 + read @ covariance @ read)


def test_strong_order_of_quicsort():
    errors = [strong_error(integrators.QUICSORT, h) for h in (0.2, 0.1, 0.05)]
    for a, b in itertools.pairwise(errors):
        assert math.log2(a / b) == pytest.approx(3, abs=0.15)


def test_strong_order_of_quicsort_on_a_pendulum():
    """The same where forces bend: 64 particles, paths shared with half the step."""
    ring = lambda x: -2 * jnp.sum(jnp.cos(x))  # noqa: E731
    with jax.enable_x64(True):
        potential = engine.protocols.as_potential(ring)
        normals = np.random.default_rng(1).normal(size=(32, 3, 64))

        def end(h, normals):
            scheme = upcast(integrators.QUICSORT(step_size=h))
            state = scheme.init(potential, jnp.ones(64), engine.Noise((jnp.full(64, 0.5),)))
            step = lambda s, xi: (scheme.step(potential, s, engine.Noise(tuple(xi))), None)  # noqa: E731
            return np.asarray(jax.lax.scan(step, state, normals)[0].position)

        ends = []
        for _ in range(3):
            ends.append(end(2 / len(normals), normals))
            scheme = integrators.QUICSORT(step_size=1.0)
            halves = (engine.Noise(tuple(jnp.moveaxis(normals[i::2], 1, 0))) for i in (0, 1))
            normals = np.moveaxis(np.array(scheme.coarsen(*halves).normals), 0, 1)
    errors = [float(np.sqrt(np.mean((a - b) ** 2))) for a, b in itertools.pairwise(ends)]
    assert [math.log2(b / a) for a, b in itertools.pairwise(errors)] == pytest.approx([3], abs=0.35)
    assert errors[0] < 1e-4


def test_quicsort_is_that_of_diffrax():
    """One step with the same W, H and K, in two coordinates with masses of their own."""
    diffrax = pytest.importorskip("diffrax", exc_type=ImportError)
    h, friction, mass, temperature = 0.7, 1.3, np.array([0.8, 2.0]), 0.6
    xi = np.random.default_rng(3).normal(size=(3, 2))
    x, p = np.array([0.4, -0.9]), np.array([0.7, 0.2])
    with jax.enable_x64(True):
        area = diffrax.SpaceTimeTimeLevyArea(
            dt=jnp.asarray(h), W=math.sqrt(h) * xi[0], H=math.sqrt(h / 12) * xi[1], K=math.sqrt(h / 720) * xi[2]
        )

        class Path(diffrax.AbstractBrownianPath):
            t0: float = 0.0
            t1: float = h
            levy_area: type = diffrax.SpaceTimeTimeLevyArea

            def evaluate(self, t0, t1=None, left=True, use_levy=False):
                return area if use_levy else area.W

        # their u is 1/m and scales the noise as well: at temperature T the force is that of U/T, and u is T/m
        u = temperature / mass
        force = lambda x, args: jnp.sin(x) * 2 / temperature  # noqa: E731
        terms = diffrax.MultiTerm(diffrax.UnderdampedLangevinDriftTerm(friction, u, force),
                                  diffrax.UnderdampedLangevinDiffusionTerm(friction, u, Path()))  # fmt: skip
        solver = diffrax.QUICSORT(0.01)
        start = (jnp.asarray(x), jnp.asarray(p / mass))
        state = solver.init(terms, 0.0, h, start, None)
        (y, v), *_ = solver.step(terms, 0.0, h, start, None, state, False)
        scheme = upcast(integrators.QUICSORT(step_size=h, friction=friction, mass=mass, temperature=temperature))
        found = scheme.step(engine.protocols.as_potential(lambda x: -2 * jnp.sum(jnp.cos(x))),
                            integrators.Phase(jnp.asarray(x), jnp.asarray(p), None), engine.Noise(tuple(xi)))  # fmt: skip
    np.testing.assert_allclose(found.position, y, rtol=1e-11)
    np.testing.assert_allclose(found.momentum, mass * np.asarray(v), rtol=1e-11)


@pytest.mark.parametrize("name", ["GJ-I", "GJ-II"])
def test_gj_starts_thermal(name):
    """Momentum and stored normal at the start have their stationary covariance on a free particle."""
    scheme = SCHEMES[name](step_size=0.7, friction=1.9, temperature=0.6, mass=1.4)
    step = linear_map(scheme, Quadratic(matrix=np.zeros((1, 1))), np.zeros(1))
    inner = solve_discrete_lyapunov(step.drift[1:, 1:], step.noise[1:] @ step.noise[1:].T)
    with jax.enable_x64(True):
        wide, energy = upcast(scheme), Pull(force=0.0)
        start = lambda xi: jnp.concatenate(wide.init(energy, jnp.zeros(1), engine.Noise(tuple(xi)))[1:])  # noqa: E731
        made = np.asarray(jax.jacfwd(start)(jnp.zeros((2, 1))))[..., 0]
    near(made @ made.T, inner)
