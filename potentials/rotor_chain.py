"""The chain of rotors."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..engine.equilibrium import NotKnown
from ..engine.pytree import check_count, number, pytree, static
from .draws import Source, rejection
from .sized import Sized, as_particles

ANGLES = 1024  # of the integrals of Bessel functions, exact for |coupling|/T up to `STIFFEST`
STIFFEST = 1e4
FRUSTRATED = 1e-6  # Z over its largest term, below which rounding takes the digits


@pytree
class RotorChain(Sized):
    """Planar spins (XY model) along a line or ring: angles, phase winding, no order at any temperature.

        U(θ) = -coupling Σᵢ cos(θᵢ - θᵢ₊₁),   K = coupling/T,   I_n modified Bessel functions of K
        open: Z = (2π)ᴺ I₀ᴺ⁻¹,         <cos(θ₀ - θᵣ)> = (I₁/I₀)ʳ
        ring: Z = (2π)ᴺ Σ_n I_nᴺ,      <cos(θ₀ - θᵣ)> = Σ_n I_nᴺ⁻ʳ I_n₊₁ʳ / Σ_n I_nᴺ

    sites: N, at least 2. coupling: negative for antiparallel neighbours. periodic: a ring. Position: N angles, of period
    2π; moments are those of (cos θ, sin θ), whose means are zero. Draws are exact: bonds are independent von Mises angles,
    and on a ring the last one is accepted or refused, with probability I₀ exp(-|K|) at least without frustration.
    A frustrated ring (odd, antiparallel) loses its digits when cold, and raises `NotKnown` there.
    """

    sites: int = static(default=16)
    coupling: Any = number(default=1.0)
    periodic: bool = static(default=False)
    period = 2 * np.pi

    def __post_init__(self) -> None:
        check_count("sites", self.sites, 2)
        if not isinstance(self.periodic, bool):
            raise TypeError(f"periodic must be True or False; got {self.periodic!r}")

    def __call__(self, position: Any) -> jax.Array:
        x = self.ravelled(position)
        bonds = jnp.cos(x - jnp.roll(x, -1))
        return -self.coupling * jnp.sum(bonds if self.periodic else bonds[:-1])

    @property
    def coordinates(self) -> int:
        return self.sites

    def check_temperature(self, temperature: float, like: Any) -> None:
        super().check_temperature(temperature, like)
        stiffness = abs(float(self.coupling)) / temperature
        if stiffness > STIFFEST:
            raise ValueError(f"coupling/temperature must be at most {STIFFEST:g} for exact sums; got {stiffness:g}")
        if self.periodic and np.sum(self._ratios(temperature) ** self.sites) < FRUSTRATED:
            raise NotKnown(f"a frustrated ring of {self.sites} rotors loses its digits at temperature {temperature:g}")

    def _bessel(self, temperature: Any, xp: Any) -> Any:
        """I_n(K) exp(-|K|) for n = -M/2 … M/2 - 1, zero first, as the discrete Fourier transform of exp(K cos θ)."""
        stiffness = self.coupling / temperature
        turn = xp.cos(2 * np.pi * xp.arange(ANGLES) / ANGLES)
        return xp.fft.fft(xp.exp(stiffness * turn - xp.abs(stiffness))).real / ANGLES

    def _ratios(self, temperature: float) -> np.ndarray:
        bessel = self._bessel(temperature, np)
        return bessel / bessel[0]

    def log_partition(self, temperature: Any, like: Any) -> jax.Array:
        bessel, n = self._bessel(temperature, jnp), self.sites
        bonds = n if self.periodic else n - 1
        z = n * np.log(2 * np.pi) + bonds * (jnp.log(bessel[0]) + jnp.abs(self.coupling / temperature))
        return z + jnp.log(jnp.sum((bessel / bessel[0]) ** n)) if self.periodic else z

    def correlation(self, temperature: float) -> np.ndarray:
        """<cos(θ₀ - θᵣ)> (N,) for r = 0 … N - 1."""
        ratios, r = self._ratios(temperature), np.arange(self.sites)
        if not self.periodic:
            return ratios[1] ** r
        terms = ratios ** (self.sites - r[:, None]) * np.roll(ratios, -1) ** r[:, None]
        return terms.sum(axis=1) / np.sum(ratios**self.sites)

    def moments(self, temperature: float, like: Any) -> tuple[np.ndarray, np.ndarray]:
        i = np.arange(self.sites)
        block = self.correlation(temperature)[np.abs(i[:, None] - i)] / 2
        return np.zeros(2 * self.sites), np.kron(np.eye(2), block)

    def marginal(self, temperature: float, like: Any, coordinate: int, x: np.ndarray) -> np.ndarray:
        """Of an angle in one period, wherever that begins."""
        return np.full(len(x), 1 / (2 * np.pi))

    def draw(self, temperature: float, like: Any, key: Any, n: int) -> Any:
        """Angles in (-π, π]."""
        stiffness = float(self.coupling) / temperature

        def propose(numbers: Source) -> tuple[np.ndarray, np.ndarray]:
            first = 2 * np.pi * numbers.uniforms()
            bonds = von_mises(key, numbers, stiffness, self.sites - 1)
            closing = stiffness * np.cos(bonds.sum(axis=1)) - abs(stiffness)
            return np.hstack([first, bonds]).cumsum(axis=1), closing if self.periodic else np.zeros(len(bonds))

        return as_particles(np.pi - (np.pi - rejection(key, n, propose)) % (2 * np.pi), like)


def von_mises(key: Any, numbers: Source, stiffness: float, columns: int) -> np.ndarray:
    """(m, columns) angles of density ∝ exp(stiffness cos θ), exact by rejection from a Gaussian cut off at ±π.

    cos θ ≤ 1 - 2θ²/π² there, so at least 2/π are accepted, at any stiffness.
    """
    from scipy.special import ndtr, ndtri

    size = max(abs(stiffness), 1e-12)
    deviation = np.pi / (2 * np.sqrt(size))
    low = ndtr(-np.pi / deviation)

    def propose(inner: Source) -> tuple[np.ndarray, np.ndarray]:
        theta = deviation * ndtri(low + inner.uniforms() * (1 - 2 * low))
        return theta, size * (np.cos(theta[:, 0]) - 1 + 2 * (theta[:, 0] / np.pi) ** 2)

    ids = numbers.particles[:, None] * np.uint32(columns) + np.arange(columns, dtype=np.uint32)
    theta = rejection(key, ids.ravel(), propose, level=numbers.attempt + 1).reshape(ids.shape)
    return theta if stiffness >= 0 else theta + np.pi
