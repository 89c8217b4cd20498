"""Ornstein-Uhlenbeck processes in closed form: Langevin dynamics on a quadratic energy, overdamped and underdamped."""

from typing import Any, NamedTuple

import numpy as np


class Gaussian(NamedTuple):
    """A normal law: mean (..., d) and covariance (..., d, d)."""

    mean: np.ndarray
    covariance: np.ndarray

    def divergence(self, other: "Gaussian") -> np.ndarray:
        """KL(self ‖ other) = [tr R - d - ln det R + δ·Σ⁻¹δ]/2 with R = Σ⁻¹S, over the leading axes; exact."""
        inverse = np.linalg.inv(other.covariance)
        ratio, apart = inverse @ self.covariance, self.mean - other.mean
        sign, log_det = np.linalg.slogdet(ratio)
        log_det = np.where(sign > 0, log_det, -np.inf)  # no spread in some direction: infinitely far
        square = np.einsum("...i,...ij,...j", apart, inverse, apart)
        return (np.trace(ratio, axis1=-2, axis2=-1) - apart.shape[-1] - log_det + square) / 2


class OrnsteinUhlenbeck(NamedTuple):
    """dz = -A (z - c) dt + noise, with the stationary law N(c, Σ); z is (x) or, underdamped, (x, p).

        m(t) = c + G (m₀ - c),    S(t) = Σ + G (S₀ - Σ) Gᵀ,    G = exp(-At)

    Exact for every A of which Σ is the stationary covariance. Gardiner, "Stochastic Methods" (2009), section 4.5.
    """

    drift: np.ndarray  # A, (s, s)
    stationary: Gaussian

    def at(self, times: Any, start: Gaussian) -> Gaussian:
        """The law at times (...), from a normal law at time 0."""
        from scipy.linalg import expm

        move = expm(-np.asarray(times, float)[..., None, None] * self.drift)
        mean = self.stationary.mean + move @ (start.mean - self.stationary.mean)
        apart = start.covariance - self.stationary.covariance
        return Gaussian(mean, self.stationary.covariance + move @ apart @ np.swapaxes(move, -1, -2))

    def divergence(self, times: Any, start: Gaussian) -> np.ndarray:
        """KL to the stationary law at times (...); it never increases."""
        return self.at(times, start).divergence(self.stationary)


def overdamped(stiffness: Any, *, temperature: float, mobility: float = 1.0, center: Any = 0.0) -> OrnsteinUhlenbeck:
    """dx = -μK(x - c) dt + √(2μT) dW; stiffness: a number or a symmetric positive (d, d)."""
    k, center = _quadratic(stiffness, center)
    return OrnsteinUhlenbeck(mobility * k, Gaussian(center, temperature * np.linalg.inv(k)))


def underdamped(
    stiffness: Any, *, temperature: float, friction: float, mass: float = 1.0, center: Any = 0.0
) -> OrnsteinUhlenbeck:
    """dx = p/m dt, dp = -K(x - c) dt - γp dt + √(2γmT) dW; z is (x, p)."""
    k, center = _quadratic(stiffness, center)
    one, none = np.eye(len(k)), np.zeros_like(k)
    drift = np.block([[none, -one / mass], [k, friction * one]])
    covariance = temperature * np.block([[np.linalg.inv(k), none], [none, mass * one]])
    return OrnsteinUhlenbeck(drift, Gaussian(np.concatenate([center, np.zeros(len(k))]), covariance))


def _quadratic(stiffness: Any, center: Any) -> tuple[np.ndarray, np.ndarray]:
    k = np.atleast_2d(np.asarray(stiffness, float))
    if k.shape[0] != k.shape[1] or not np.allclose(k, k.T) or np.linalg.eigvalsh(k)[0] <= 0:
        raise ValueError(f"stiffness must be a positive number or a symmetric positive matrix; got {stiffness!r}")
    return k, np.broadcast_to(np.asarray(center, float), (len(k),))
