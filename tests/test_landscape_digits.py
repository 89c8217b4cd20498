"""Printed digits of landscapes with coupled coordinates."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from test_landscapes import MIX1, MIX2, MIX3, Case, dense, mixture, near

from heatbath import potentials
from heatbath.engine.equilibrium import NotKnown


def printed(value, digits):
    """Equal to digits in print, to one unit of the last."""
    assert abs(value - float(digits)) <= 1.01 * 10.0 ** -len(digits.partition(".")[2]), (value, digits)


def test_digits_of_the_mixture():
    landscape = potentials.GaussianMixture(**MIX1)
    state, cold = landscape.equilibrium(1), landscape.equilibrium(0.5)
    assert abs(state.free_energy) < 1e-12
    near([state.mean[0], state.covariance[0, 0]], [0.45, 3.3475], 1e-14)
    printed(state.mean_energy, "1.793378248916")
    printed(state.heat_capacity, ".3954532638727")
    printed(state.bin_probabilities(np.linspace(-8, 0, 40)).sum(), ".3467555395157")
    printed(cold.mean[0], ".5487851298314")
    printed(cold.covariance[0, 0] + cold.mean[0] ** 2, "3.11218644578")


def test_mixture_where_closed_forms_and_sums_meet():
    """1/T just beside a whole number takes the sums over a grid, the whole number itself products of Gaussians."""
    for options in (MIX1, MIX2):
        landscape = potentials.GaussianMixture(**options)
        for t in (0.5, 0.25):
            exact, summed = landscape.equilibrium(t), landscape.equilibrium(t * (1 + 1e-11))
            near(exact.mean, summed.mean)
            near(exact.covariance, summed.covariance)
            near(exact.density(np.linspace(-3, 3, 9)), summed.density(np.linspace(-3, 3, 9)))


def test_mixture_in_three_dimensions():
    landscape = potentials.GaussianMixture(**MIX3)
    case = Case(landscape, lambda x: mixture(x, **MIX3), 0.5, [-5, -5, -6], [7, 6, 6], 130)
    _, x, u, weight = dense(case)
    log_z = math.log(weight.sum()) - u.min() / 0.5
    x, p = x.reshape(-1, 3), weight.ravel() / weight.sum()
    state = landscape.equilibrium(0.5)
    near(state.mean, p @ x)
    near(state.covariance, (x - p @ x).T * p @ (x - p @ x))
    near(state.log_partition, log_z)
    near(landscape.equilibrium(1.0).free_energy, 0.0)
    assert np.isfinite(landscape.equilibrium(1 / 49).density(0.0))  # 1/T is 49 but for its last bit
    assert f"F = {-0.5 * log_z:.6g}" in repr(state) and "mean energy not known" in repr(state)
    between = landscape.equilibrium(0.7)
    assert "free energy not known" in repr(between)
    asks = (lambda: state.mean_energy, lambda: state.entropy, lambda: state.expectation(jnp.sum))
    for ask in (*asks, lambda: between.mean, lambda: between.free_energy):
        with pytest.raises(NotKnown):
            ask()


def test_digits_of_ring_and_rosenbrock():
    ring = potentials.Ring().equilibrium(1)
    printed(math.exp(ring.log_partition), "5.130381207583")
    printed(np.trace(ring.covariance), "1.112635621314")
    printed(ring.mean_energy, ".3873643786857")
    radius = lambda x: jnp.sqrt(jnp.sum(x * x) + 1e-30)  # noqa: E731
    assert abs(ring.expectation(radius) - 1.006469780886) < 1e-7  # |x| has a kink, which a grid feels
    for a, b, var, cov, entropy in ((1, 100, 2.505, 1, "-.1578552071"), (0.05, 5, 240.1, 20, "2.8378770664")):
        state = potentials.Rosenbrock(a=a, b=b).equilibrium(1)
        near(state.mean, [1, 1 + 0.5 / a], 1e-13)
        near(state.covariance[1], [cov, var], 1e-13)
        near(state.mean_energy, 1)
        printed(state.entropy, entropy)
        assert state.bin_probabilities(np.linspace(-3, 700, 500), coordinate=1).sum() == pytest.approx(1, abs=1e-7)


def test_digits_of_the_funnel():
    state = potentials.Funnel().equilibrium(1)
    assert abs(state.free_energy) < 1e-12
    near(state.mean, np.zeros(10))
    near(np.diag(state.covariance)[0], 9)
    printed(state.covariance[4, 4], "90.0171313005")
    warm = potentials.Funnel().equilibrium(1.2)
    near([warm.mean[0], warm.covariance[0, 0]], [4.5 * 9 * 0.2, 10.8])


def test_digits_of_mueller_and_brown():
    table = """10 11.7295905583 -.543664427 1.394512234 .340295476 2.004658975 -134.93404405 1.63611865 .9744028634
               20 5.3661332423 -.424893676 1.165086171 .373660753 1.631181406 -113.41362697 2.42077774 .8067684807
               40 2.9856701536 -.432696690 .918450764 .634586228 1.276657349 -68.48216535 1.91541746 .6141704797"""
    for row in table.split("\n"):
        t, *digits = row.split()
        state = potentials.MuellerBrown().equilibrium(float(t))
        square = np.diag(state.covariance) + state.mean**2
        above = state.bin_probabilities(np.linspace(0.65, 6, 60), coordinate=1).sum()
        found = (state.log_partition, *state.mean, *square, state.mean_energy, state.heat_capacity, above)
        for value, wanted in zip(found, digits, strict=True):
            printed(value, wanted)


@pytest.mark.parametrize(
    ("x", "y", "energy", "curvatures"),
    [(-0.5582236346, 1.4417258418, "-146.699517210", (410.5311, 4068.1990)),
     (0.6234994049, 0.0280377585, "-108.166724117", (543.8362, 3005.3959)),
     (-0.0500108230, 0.4666941049, "-80.767818130", None),
     (-0.8220015587, 0.6243128028, "-40.664843509", None),
     (0.2124865820, 0.2929883251, "-72.248940112", None)],
)  # fmt: skip
def test_stationary_points_of_mueller_and_brown(x, y, energy, curvatures):
    with jax.enable_x64(True):
        surface, point = potentials.MuellerBrown(), np.array([x, y])
        printed(float(surface(point)), energy)
        assert np.abs(jax.jit(surface.gradient)(point)).max() < 1e-6
        if curvatures:
            np.testing.assert_allclose(np.linalg.eigvalsh(jax.jit(jax.hessian(surface))(point)), curvatures, rtol=1e-7)


PHI4 = {
    -1.0: ("-.799861663219", ".689777216637", "1.025923056966", "1.528964821378", "-12.79781513989", ".689797488280",
           ".357884325843", ".186092029537", ".0505556586563"),
    1.0: ("-.347112032686", ".307714511926", ".251281997520", ".793178865467", "-5.55379252471", ".307714512791",
          ".0872127685852", ".0247196318970", ".00198603380252"),
}  # fmt: skip


@pytest.mark.parametrize("r", PHI4)
def test_digits_of_the_phi4_chain(r):
    site, square, fourth, length, free, *correlations = PHI4[r]
    chain, long = potentials.Phi4Chain(r=r), potentials.Phi4Chain(r=r, sites=256)
    state = chain.equilibrium(1)
    printed(chain.free_energy_per_site(1.0), site)
    printed(chain.correlation_length(1.0), length)
    printed(state.free_energy, free)
    for distance, digits in zip((0, 1, 2, 4), correlations, strict=True):
        printed(chain.correlation(1.0)[distance], digits)
        printed(state.covariance[3, (3 + distance) % 16], digits)
    printed(long.correlation(1.0)[0], square)
    x = np.linspace(-7, 7, 1001)
    moment = lambda c, k: np.sum(c.marginal(1.0, c.like, 0, x) * x**k) * (x[1] - x[0])  # noqa: E731
    printed(moment(long, 4), fourth)
    near(moment(chain, 2), state.covariance[0, 0])
    # dF/dr = N <φ²>/2, dF/du = N <φ⁴>/4, and the virial: <φ ∂U/∂φ> = T
    slope = lambda f, e=1e-4: (f(e) - f(-e)) / (2 * e)  # noqa: E731
    free = lambda dr, du: potentials.Phi4Chain(r=r + dr, u=1 + du).equilibrium(1).free_energy  # noqa: E731
    near(slope(lambda e: free(e, 0)), 8 * state.covariance[0, 0], 1e-7)
    near(slope(lambda e: free(0, e)), 4 * moment(chain, 4), 1e-7)
    c0, c1 = chain.correlation(1.0)[:2]
    near(2 * (c0 - c1) + r * c0 + moment(chain, 4), 1)


def test_gaussian_chain():
    chain = potentials.Phi4Chain(sites=64, r=1.0, u=0.0)
    printed(chain.correlation_length(0.7), "1.0390434606")
    modes = 1.0 + 2 - 2 * np.cos(2 * np.pi * np.arange(64) / 64)
    state = chain.equilibrium(0.7)
    near(state.log_partition, 0.5 * np.sum(np.log(2 * np.pi * 0.7 / modes)))
    near(state.mean_energy, 32 * 0.7)
    near(state.covariance[5, 5], 0.7 * np.mean(1 / modes))
    near(state.covariance[5, 5], 0.7 * 0.4472135955)


def test_digits_of_the_rotors():
    table = ((0.5, ".24249961258", ".24249961312", ".00345819429"), (1.0, ".44638996590", ".44639391203", ".03976855275"),
             (2.0, ".69777465796", ".69925192682", ".24892273068"))  # fmt: skip
    for j, bond, ring_bond, ring_four in table:
        chain, ring = (potentials.RotorChain(coupling=2 * j, periodic=periodic) for periodic in (False, True))
        printed(chain.correlation(2.0)[1], bond)
        printed(ring.correlation(2.0)[1], ring_bond)
        printed(ring.correlation(2.0)[4], ring_four)
        state, q = chain.equilibrium(2.0), chain.correlation(2.0)[1]
        near(chain.correlation(2.0), q ** np.arange(16))
        near(state.log_partition, 16 * math.log(2 * np.pi) + 15 * math.log(scipy.special.i0(j)))
        near(state.mean_energy, -15 * 2 * j * q)
        near(state.heat_capacity, 15 * j * j * (1 - q / j - q * q))
        near(ring.equilibrium(2.0).mean_energy, -16 * 2 * j * ring.correlation(2.0)[1])
        orders = scipy.special.iv(np.arange(-60, 61), j)
        near(ring.equilibrium(2.0).log_partition, 16 * math.log(2 * np.pi) + math.log(np.sum(orders**16)))


def test_digits_of_the_entropic_well():
    well = potentials.EntropicWell()
    above = lambda w, t: w.equilibrium(t).bin_probabilities(np.linspace(0, 5, 40)).sum()  # noqa: E731
    assert well.crossover == 0.25
    for t, digits in ((0.1, ".0480822740"), (0.2, ".3786992620"), (0.25, ".5"), (0.3, ".5813356252"), (0.5, ".7256214534"),
                      (1, ".8018476928"), (2, ".8198038758")):  # fmt: skip
        printed(above(well, t), digits)
    assert above(well, well.crossover) == pytest.approx(0.5, abs=1e-12)
    stiffer = potentials.EntropicWell(barrier=1.0, offset=0.0, stiffness=1.0, softening=-1.0, transverse=1)
    for t, digits in ((0.25, ".2824346682"), (0.5, ".2958140894"), (1, ".3043154540"), (2, ".3026523623")):
        printed(above(stiffer, t), digits)


def test_entropic_well_without_softening_is_a_double_well_with_harmonic_modes():
    well = potentials.EntropicWell(barrier=2.0, offset=0.6, stiffness=1.5, softening=0.0, transverse=3)
    plain = potentials.DoubleWell(barrier=2.0, tilt=0.3).equilibrium(0.7)
    state = well.equilibrium(0.7)
    near(state.log_partition, plain.log_partition - 0.3 / 0.7 + 1.5 * math.log(2 * np.pi * 0.7 / 1.5))
    near(np.diag(state.covariance), [plain.covariance[0, 0], *[0.7 / 1.5] * 3])
    with pytest.raises(ValueError, match="softening is 0"):
        _ = well.crossover


def test_digits_of_the_regression():
    i, x = np.arange(12), np.linspace(-1, 1, 12)
    features, targets = np.stack([x**0, x, x**2], 1), np.sin(2 * x) + 0.3 * np.cos(5 * i)
    posterior = potentials.BayesianLinear(features=features, targets=targets, noise_variance=0.25, prior_precision=2.0)
    state = posterior.equilibrium(1)
    printed(posterior.log_evidence, "-9.70860046642451")
    printed(-state.free_energy, "-9.70860046642451")
    s = state.covariance
    found = (*state.mean, *np.diag(s), s[0, 2], s[0, 1], s[1, 2], *np.linalg.eigvalsh(np.linalg.inv(s)))
    digits = ("-.0253836651 1.0938726808 .1420190719 .0375871219 .0478260870 .1229683885 -.0465044088 .0000000000 "
              ".0000000000 6.973218592 20.909090909 58.310027088").split()  # fmt: skip
    for value, wanted in zip(found, digits, strict=True):
        printed(value, wanted)
    near(posterior.equilibrium(3.0).covariance, 3 * s, 1e-13)
    covariance = 0.25 * np.eye(12) + features @ features.T / 2.0  # of the targets, as the prior has them
    marginal = (
        12 * math.log(2 * np.pi) + np.linalg.slogdet(covariance)[1] + targets @ np.linalg.solve(covariance, targets)
    )
    near(posterior.log_evidence, -marginal / 2, 1e-13)
