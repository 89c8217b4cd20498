"""The φ⁴ chain."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..engine.pytree import check_count, number, pytree, static
from .draws import Source, rejection
from .sized import NEGLIGIBLE, Sized, as_particles

NODES = 200  # of Gauss and Legendre
COARSE = 1e-6  # relative error of log Z a site allowed to half as many nodes; that of all of them is its square or less
CELLS = 128  # a site, of the sampler
BATCH = 1 << 13  # particles at a time


@pytree
class Phi4Chain(Sized):
    """A ring of sites with a quartic well each, held together by springs: kinks, correlation lengths, many dimensions.

        U(φ) = Σᵢ (φᵢ₊₁ - φᵢ)²/2 + V(φᵢ),   V(φ) = r φ²/2 + u φ⁴/4,   φ_N = φ₀
        Z = tr Kᴺ,   K(φ, φ') = exp(-[(φ - φ')²/2 + V(φ)/2 + V(φ')/2]/T)

    sites: N, at least 2. r: negative for two wells at ±√(-r/u). u: ≥ 0; with u = 0 the chain is Gaussian and needs r > 0.
    Position: N coordinates. Exact by the transfer operator K on 200 Gauss–Legendre nodes, to 1e-11; draws are exact by
    rejection (see `draw`). Raises ValueError without a finite integral, and at temperatures too low for the nodes.
    Scalapino, Sears and Ferrell (Phys. Rev. B 6, 3409, 1972).
    """

    sites: int = static(default=16)
    r: Any = number(default=-1.0)
    u: Any = number("non-negative", default=1.0)

    def __post_init__(self) -> None:
        check_count("sites", self.sites, 2)

    def __call__(self, position: Any) -> jax.Array:
        x = self.ravelled(position)
        return jnp.sum((jnp.roll(x, -1) - x) ** 2) / 2 + jnp.sum(self.on_site(x))

    def on_site(self, x: Any) -> Any:
        """V, of every site."""
        square = x * x
        return square * (self.r / 2 + self.u / 4 * square)

    @property
    def coordinates(self) -> int:
        return self.sites

    def check_temperature(self, temperature: float, like: Any) -> None:
        super().check_temperature(temperature, like)
        if not (self.u > 0 or (self.u == 0 and self.r > 0)):
            raise ValueError(
                f"u must be positive, or zero with a positive r, for a finite integral; got u = {float(self.u):g}, "
                f"r = {float(self.r):g}"
            )
        fine, coarse = (np.log(np.linalg.eigvalsh(self._kernel(temperature, n))[-1]) for n in (NODES, NODES // 2))
        if abs(fine - coarse) > COARSE:
            raise ValueError(f"temperature {temperature:g} is too low for {NODES} nodes: φ spans too many widths √T")

    def _lowest(self, xp: Any = np) -> Any:
        """The minimum of V."""
        return xp.where(self.r < 0, -(self.r**2) / (4 * xp.where(self.u > 0, self.u, 1.0)), 0.0)

    def _reach(self, temperature: Any, xp: Any = np) -> Any:
        """Where V is `NEGLIGIBLE` T above its minimum: with q = φ², the root of u q²/4 + r q/2 = level."""
        quarter, half = self.u / 4, self.r / 2
        level = self._lowest(xp) + NEGLIGIBLE * temperature
        root = xp.sqrt(half**2 + 4 * quarter * level)
        square = xp.where(
            half > 0, 2 * level / (xp.abs(half) + root), (root - half) / (2 * xp.where(quarter > 0, quarter, 1.0))
        )
        return xp.sqrt(square)

    def _nodes(self, temperature: Any, count: int, xp: Any) -> tuple[Any, Any]:
        reach = jax.lax.stop_gradient(self._reach(temperature, jnp)) if xp is jnp else self._reach(temperature)
        nodes, weights = np.polynomial.legendre.leggauss(count)
        return reach * nodes, reach * weights

    def _kernel(self, temperature: Any, count: int = NODES, xp: Any = np) -> Any:
        """K between nodes, with the roots of their weights on either side: symmetric. Energies count from V's minimum."""
        x, weights = self._nodes(temperature, count, xp)
        v = self.on_site(x) - self._lowest(xp)
        exponent = ((x[:, None] - x) ** 2 + v[:, None] + v) / (2 * temperature)
        return xp.sqrt(weights[:, None] * weights) * xp.exp(-exponent)

    def log_partition(self, temperature: Any, like: Any) -> jax.Array:
        """By repeated squaring, every factor divided by its trace: derivatives of eigenvalues would divide by gaps."""
        square, log_square = self._kernel(temperature, NODES, jnp), jnp.zeros(())
        power, log_power = None, jnp.zeros(())
        for bit in reversed(bin(self.sites)[2:]):
            trace = jnp.trace(square)
            square, log_square = square / trace, log_square + jnp.log(trace)
            if bit == "1":
                power = square if power is None else power @ square
                log_power = log_power + log_square
                size = jnp.trace(power)
                power, log_power = power / size, log_power + jnp.log(size)
            square, log_square = square @ square, 2 * log_square
        return log_power - self.sites * self._lowest(jnp) / temperature

    def free_energy_per_site(self, temperature: float) -> float:
        """-T ln λ₀ of the infinite chain, λ₀ the largest eigenvalue of K."""
        self.check_temperature(temperature, self.like)
        return float(self._lowest() - temperature * np.log(np.linalg.eigvalsh(self._kernel(temperature))[-1]))

    def correlation_length(self, temperature: float) -> float:
        """1/ln(λ₀/λ₁) of the infinite chain, in sites, from the two largest eigenvalues of K."""
        self.check_temperature(temperature, self.like)
        second, first = np.linalg.eigvalsh(self._kernel(temperature))[-2:]
        return float(1 / np.log(first / second))

    def correlation(self, temperature: float) -> np.ndarray:
        """<φ₀ φᵣ> (N,) for r = 0 … N - 1: Σ λₐᴺ⁻ʳ λ_bʳ <a|φ|b>² / Σ λₐᴺ over eigenstates a, b of K."""
        values, states = np.linalg.eigh(self._kernel(temperature))
        values = values / values[-1]
        element = (states.T * self._nodes(temperature, NODES, np)[0] @ states) ** 2
        r = np.arange(self.sites)[:, None]
        return np.sum(values ** (self.sites - r) * (values**r @ element), axis=1) / np.sum(values**self.sites)

    def moments(self, temperature: float, like: Any) -> tuple[np.ndarray, np.ndarray]:
        i = np.arange(self.sites)
        return np.zeros(self.sites), self.correlation(temperature)[np.abs(i[:, None] - i)]

    def marginal(self, temperature: float, like: Any, coordinate: int, x: np.ndarray) -> np.ndarray:
        nodes, weights = self._nodes(temperature, NODES, np)
        kernel = self._kernel(temperature)
        largest = np.linalg.eigvalsh(kernel)[-1]
        inner = np.linalg.matrix_power(kernel / largest, self.sites - 2)
        v, at = (self.on_site(place) - self._lowest() for place in (nodes, x))
        exponent = ((x[:, None] - nodes) ** 2 + at[:, None] + v) / (2 * temperature)
        ends = np.sqrt(weights) * np.exp(-exponent) / largest
        return np.einsum("mi,ij,mj->m", ends, inner, ends) / np.trace(inner @ kernel @ kernel / largest**2)

    def draw(self, temperature: float, like: Any, key: Any, n: int) -> Any:
        """Exact: cells of all sites from a bound on their weight, then places in the cells, then rejection.

        At φᵢ = aᵢ + δᵢ in a cell of width h round aᵢ, with gᵢ the slope of U/T in φᵢ at the centres, U/T exceeds its value
        at the centres plus Σ gᵢδᵢ by curvature alone, of order h². So places are drawn from exp(-gᵢδᵢ), whose integral is
        h sinh(z)/z, z = gᵢh/2, at most h exp(z²/6). That bound splits into bonds and sites: a chain of cells has it as its
        weight, and is drawn site by site from powers of one matrix. Acceptance is near 1 for h²N ≪ T.
        """
        return as_particles(rejection(key, n, _Cells(self, temperature).propose), like)


class _Cells:
    """The sampler's tables, for one chain at one temperature."""

    def __init__(self, chain: Phi4Chain, temperature: float) -> None:
        self.chain, self.temperature = chain, temperature
        reach = float(chain._reach(temperature))
        self.width = 2 * reach / CELLS
        a = self.centers = -reach + self.width * (np.arange(CELLS) + 0.5)
        self.slope = a * (chain.r + chain.u * a * a) / temperature  # V'/T
        # z² = (h/2)² (bond - bond + V'/T)² ≤ 3 (h/2)² (the three squares), and every bond has two ends
        self.spare = self.width**2 / 8
        self.bond = (a[:, None] - a) / temperature
        on_site = chain.on_site(a) / temperature - self.spare * self.slope**2
        exponent = self.bond**2 * (temperature / 2 - 2 * self.spare) + (on_site[:, None] + on_site) / 2
        matrix = np.exp(exponent.min() - exponent)
        self.powers = [np.eye(CELLS)]
        for _ in range(chain.sites):
            product = self.powers[-1] @ matrix
            self.powers.append(product / product.max())
        self.matrix = matrix

    def chains(self, numbers: Source) -> np.ndarray:
        """Cells (m, N) of closed chains, from their joint weight."""
        n = self.chain.sites
        u = numbers.uniforms(n)
        first = np.cumsum(np.diag(self.powers[n]))
        cells = np.empty(u.shape, int)
        cells[:, 0] = np.searchsorted(first, u[:, 0] * first[-1])
        for part in np.array_split(np.arange(len(u)), 1 + len(u) // BATCH):
            start = cells[part, 0]
            for i in range(1, n):
                below = np.cumsum(self.matrix[cells[part, i - 1]] * self.powers[n - i][start], axis=1)
                cells[part, i] = np.sum(below < u[part, i, None] * below[:, -1:], axis=1)
        return cells

    def propose(self, numbers: Source) -> tuple[np.ndarray, np.ndarray]:
        chain, t, h = self.chain, self.temperature, self.width
        cells = self.chains(numbers)
        a, slope = self.centers[cells], self.slope[cells]
        right = (a - np.roll(a, -1, axis=1)) / t
        left = np.roll(right, 1, axis=1)
        z = (right - left + slope) * h / 2
        u = numbers.uniforms(chain.sites)
        # the inverse of ∫ exp(-2zs) ds over s from -1/2, written so that neither sign overflows
        small = np.abs(z) < 1e-6
        size = np.where(small, 1.0, np.abs(z))
        place = np.where(small, u, -np.log1p(u * np.expm1(-2 * size)) / (2 * size))
        delta = h * (np.where(z < 0, 1 - place, place) - 0.5)
        x = a + delta
        log_sinhc = np.where(small, z * z / 6, size - np.log(2 * size) + np.log(-np.expm1(-2 * size)))
        bound = self.spare * (right**2 + left**2 + slope**2)
        rest = (chain.on_site(x) - chain.on_site(a)) / t - slope * delta  # of V beyond its slope: at least r δ²/2
        rest += (delta - np.roll(delta, -1, axis=1)) ** 2 / (2 * t)
        least = min(float(chain.r), 0.0) * h * h / (8 * t)
        return x, np.sum(log_sinhc - bound - rest + least, axis=1)
