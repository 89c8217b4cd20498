"""Mixtures of Gaussians as energies."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..engine.equilibrium import NotKnown
from ..engine.pytree import pytree
from .cubature import NODES, Boxed, normal_density
from .draws import Source, rejection
from .sized import NEGLIGIBLE, as_particles, concrete

MOST_COMPONENTS = 200_000


@pytree
class GaussianMixture(Boxed):
    """Minus the log of a mixture of isotropic Gaussians: separate modes of known weights, in any dimension.

        U(x) = -ln p(x),   p(x) = Σₖ wₖ N(x; mₖ, sₖ²),   so T = 1 is the mixture itself, and F = 0 there

    means: m, (k,) in one coordinate or (k, d). scales: s, (k,), > 0. weights: w, (k,), > 0, divided by their sum.

    Draws are exact at every temperature and dimension. With 1/T = n + f, n whole and 0 ≤ f < 1, and aₖ = wₖ N(x; mₖ, sₖ²)

        p^(1/T) = (Σ aₖ)ⁿ (Σ aₖ)^f ≤ (Σ aₖ)ⁿ Σ aₖ^f

    since z^f is subadditive. Multiplied out the right-hand side is a mixture of Gaussians, and a draw of it is accepted
    with probability (Σ aₖ)^f / Σ aₖ^f ≥ k^(f-1): always at T = 1, 1/2, 1/3, …, where the mean and covariance are closed
    forms too, and so is log Z, but not its derivatives: mean energy, entropy and heat capacity, and at other temperatures
    log Z, moments and marginals, and averages at all, are sums over a grid in one or two coordinates and raise `NotKnown`
    above; as do draws so cold that the product has more than 200,000 terms.
    """

    # no `number` fields, whose arrays must be shaped like a position
    means: Any
    scales: Any
    weights: Any

    def __post_init__(self) -> None:
        given = [("means", "", (1, 2)), ("scales", "positive", (1,)), ("weights", "positive", (1,))]
        shapes = []
        for name, rule, axes in given:
            object.__setattr__(self, name, value := concrete(name, rule, getattr(self, name), axes))
            shapes += [np.shape(value)] if isinstance(value, np.ndarray | jax.Array) else []
        if len({shape[0] for shape in shapes}) > 1:
            raise ValueError(f"means, scales and weights need one row for each component; got shapes {shapes}")

    def __call__(self, position: Any) -> jax.Array:
        return -jax.nn.logsumexp(self._log_terms(self.ravelled(position), jnp))

    def _log_terms(self, x: Any, xp: Any) -> Any:
        """ln aₖ (..., k) at points x (..., d)."""
        square = xp.sum((x[..., None, :] - self._centers(xp)) ** 2, axis=-1) / self.scales**2
        return xp.log(self.weights / xp.sum(self.weights)) + self._log_norms(xp) - square / 2

    def _log_norms(self, xp: Any) -> Any:
        """ln of each Gaussian at its centre (k,)."""
        return -self.coordinates * (math.log(2 * math.pi) / 2 + xp.log(self.scales))

    def _centers(self, xp: Any) -> Any:
        return xp.reshape(self.means, (-1, self.coordinates))

    @property
    def coordinates(self) -> int:
        return 1 if np.ndim(self.means) == 1 else np.shape(self.means)[1]

    def box(self, temperature: Any, xp: Any = np) -> tuple[Any, Any]:
        """p is at most the largest Gaussian at x, and its maximum at least the largest term at a centre."""
        norms = self._log_norms(xp)
        highest = xp.max(xp.log(self.weights / xp.sum(self.weights)) + norms)
        half = self.scales * xp.sqrt(2 * (NEGLIGIBLE * temperature + xp.maximum(norms - highest, 0.0)))
        return xp.min(self._centers(xp) - half[:, None], axis=0), xp.max(self._centers(xp) + half[:, None], axis=0)

    def narrowest(self, temperature: float) -> float:
        return np.min(self.scales) * np.sqrt(temperature)

    def check_temperature(self, temperature: float, like: Any) -> None:
        super().check_temperature(temperature, like)
        if self.coordinates in NODES:
            self.check_grid(temperature)

    def _envelope(self, temperature: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, float]:
        """Of the mixture that bounds p^(1/T): probabilities (c,), means (c, d), variances (c,); f; ln of its integral."""
        k, d = len(self.scales), self.coordinates
        n, f = _power(temperature)
        if math.comb(int(n) + k - 1, k - 1) * (k if f else 1) > MOST_COMPONENTS:
            raise NotKnown(
                f"exact draws of {k} components at temperature {temperature:g} need more than {MOST_COMPONENTS} terms: "
                "it is too cold; a Harmonic well describes the deepest mode there"
            )
        bars = np.array(list(itertools.combinations(range(int(n) + k - 1), k - 1)), int).reshape(-1, k - 1)
        ends = np.full((len(bars), 1), int(n) + k - 1)
        powers = np.diff(np.hstack([np.full_like(ends, -1), bars, ends]), axis=1) - 1  # all (c, k) whole of sum n
        whole, log_factorial = powers, np.cumsum(np.log(np.maximum(np.arange(int(n) + 1), 1)))
        if f:
            whole = np.repeat(powers, k, axis=0)
            powers = whole + f * np.tile(np.eye(k), (len(powers), 1))
        precision = powers / self.scales**2
        variances = 1 / precision.sum(axis=1)
        means = variances[:, None] * (precision @ self._centers(np))
        apart = ((self._centers(np) - means[:, None]) ** 2).sum(axis=2)
        log_mass = log_factorial[-1] - log_factorial[whole].sum(axis=1) - (precision * apart).sum(axis=1) / 2
        log_mass += powers @ (np.log(self.weights / np.sum(self.weights)) + self._log_norms(np))
        log_mass += d / 2 * np.log(2 * math.pi * variances)
        mass = np.exp(log_mass - log_mass.max())
        return mass / mass.sum(), means, variances, f, log_mass.max() + np.log(mass.sum())

    def log_partition_alone(self, temperature: float, like: Any) -> float | None:
        return None if _power(temperature)[1] else self._envelope(temperature)[-1]

    def moments(self, temperature: float, like: Any) -> tuple[np.ndarray, np.ndarray]:
        if _power(temperature)[1] and self.coordinates <= 2:
            return super().moments(temperature, like)
        probabilities, means, variances, f, _ = self._envelope(temperature)
        if f:
            raise NotKnown(f"moments of a mixture in {self.coordinates} coordinates are known where 1/T is whole alone")
        mean = probabilities @ means
        spread = (means - mean).T * probabilities @ (means - mean)
        return mean, spread + np.eye(self.coordinates) * (probabilities @ variances)

    def marginal(self, temperature: float, like: Any, coordinate: int, x: np.ndarray) -> np.ndarray:
        if _power(temperature)[1]:
            return super().marginal(temperature, like, coordinate, x)
        probabilities, means, variances, *_ = self._envelope(temperature)
        return normal_density(x[:, None], means[:, coordinate], variances) @ probabilities

    def draw(self, temperature: float, like: Any, key: Any, n: int) -> Any:
        probabilities, means, variances, f, _ = self._envelope(temperature)
        below = np.cumsum(probabilities)

        def propose(numbers: Source) -> tuple[np.ndarray, np.ndarray]:
            component = np.searchsorted(below, numbers.uniforms()[:, 0] * below[-1])
            x = means[component] + np.sqrt(variances[component, None]) * numbers.normals(self.coordinates)
            if not f:
                return x, np.zeros(len(x))
            terms = self._log_terms(x, np)
            return x, f * np.logaddexp.reduce(terms, axis=1) - np.logaddexp.reduce(f * terms, axis=1)

        return as_particles(rejection(key, n, propose), like)


def _power(temperature: float) -> tuple[float, float]:
    """n and f of 1/T = n + f, n whole and 0 ≤ f < 1; what rounding leaves of f is none."""
    n, f = divmod(1 / temperature, 1.0)
    return (n + round(f), 0.0) if f > 1 - 1e-12 or f < 1e-12 else (n, f)
