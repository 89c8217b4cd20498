"""The tilted circle's steady state, against the Fokker-Planck equation in Fourier modes and digits in print."""

import math

import numpy as np
import pytest
import scipy.special

from heatbath.potentials import Cosine


def near(value, wanted, rtol=1e-10, atol=1e-10):
    np.testing.assert_allclose(value, wanted, rtol=rtol, atol=atol)


def printed(text):
    """A number in print, and half a unit of its last place (one whole, for digits that were cut and not rounded)."""
    return pytest.approx(float(text), abs=1.01 * 10.0 ** -len(text.partition(".")[2]), rel=0)


def fokker_planck(amplitude, force, temperature, mobility, modes=60):
    """Velocity, diffusion and density of the tilted cosine, by Fourier modes of exp(ikx).

    The density p = Σ pₖ exp(ikx) follows from L p = 0. For the diffusion, tilted averages exp(λ x): the largest
    eigenvalue of L(λ) is v λ + D λ² + …, and perturbation theory to second order needs one linear system.
    """
    k = np.arange(-modes, modes + 1)
    up, down, one = np.eye(k.size, k=-1), np.eye(k.size, k=1), np.eye(k.size)  # exp(ix) times, exp(-ix) times
    drift = mobility * (force * one - amplitude * (up - down) / 2j)  # -U'
    derivative, heat = np.diag(1j * k), mobility * temperature
    generator = -derivative @ drift + heat * derivative @ derivative
    first = drift - 2 * heat * derivative  # ∂ → ∂ - λ
    total = np.zeros(k.size)
    total[modes] = 2 * math.pi  # ∫ p dx
    bordered = np.block([[generator, total[:, None]], [total[None], np.zeros((1, 1))]])
    p = np.linalg.solve(bordered, np.append(np.zeros(k.size), 1.0))[:-1]
    velocity = (total @ first @ p).real
    q = np.linalg.solve(bordered, np.append(velocity * p - first @ p, 0.0))[:-1]
    diffusion = heat + (total @ first @ q).real
    return velocity, diffusion, lambda x: (np.exp(1j * np.multiply.outer(x, k)) @ p).real


@pytest.mark.parametrize(
    ("amplitude", "tilt", "temperature", "mobility"),
    [(1.0, 0.5, 1.0, 1.0), (2.0, 1.0, 0.5, 3.0), (1.5, -2.0, 0.4, 0.7), (-2.0, 0.3, 1.0, 1.0), (1.0, 30.0, 0.6, 1.0),
     (0.0, 1.0, 0.8, 2.0), (2.0, 0.0, 0.9, 1.5)],
)  # fmt: skip
def test_steady_state(amplitude, tilt, temperature, mobility):
    state = Cosine(amplitude=amplitude, tilt=tilt).steady_state(temperature, mobility=mobility)
    velocity, diffusion, density = fokker_planck(amplitude, tilt, temperature, mobility)
    near(state.velocity, velocity)
    near(state.current, velocity / (2 * math.pi))
    near(state.diffusion, diffusion)
    near(state.entropy_production, tilt * velocity / temperature)
    x = np.linspace(-9, 12, 3000).reshape(3, 1000)
    near(state.density(x), density(x))
    ring = np.linspace(0, 2 * math.pi, 256, endpoint=False)
    near(state.mean, 2 * math.pi * np.array([np.mean(f(ring) * density(ring)) for f in (np.cos, np.sin)]))
    near(velocity, mobility * (tilt - amplitude * state.mean[1]))  # the mean force
    if tilt:  # the thermodynamic uncertainty relation
        assert 2 * state.diffusion * state.entropy_production >= 2 * velocity**2 * (1 - 1e-12)
    else:
        near(state.density(x), Cosine(amplitude=amplitude).equilibrium(temperature).density(x))
        lifson_jackson = mobility * temperature / scipy.special.i0(amplitude / temperature) ** 2
        near(state.diffusion, lifson_jackson, rtol=1e-12)


@pytest.mark.parametrize(
    ("amplitude", "tilt", "digits"),
    [
        (1, 0.5, (".338454722018", ".848919681531", ".380211225951", ".161545277982", ".169227361")),
        (1, 2, ("1.801796788265", "1.208850766464", ".108704424746", ".198203211735", "3.603593577")),
        (2, 0.5, (".117982100461", ".371543092968", ".649048007432", ".191008949770", ".058991050")),
        (2, 1, (".351186812074", ".847177594887", ".526238843371", ".324406593963", ".351186812")),
        (2, 2, ("1.253046374841", "1.590482070459", ".265327878730", ".373476812579", "2.506092750")),
        (1, 0, ("0", ".6238603604321", ".4463899658965", "0", "0")),
        (2, 0, ("0", ".1924368784917", ".697774657964", "0", "0")),
        (4, 0, ("0", ".007828803494765", ".8635226110246", "0", "0")),
    ],
)
def test_digits_of_the_tilted_circle(amplitude, tilt, digits):
    """analytic.md C.6, and B for the level one."""
    state = Cosine(amplitude=amplitude, tilt=tilt).steady_state(1.0)
    found = (state.velocity, state.diffusion, *state.mean, state.entropy_production)
    assert found == tuple(printed(text) if text != "0" else pytest.approx(0, abs=1e-14) for text in digits)
