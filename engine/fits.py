"""From biases and efficiencies to orders and to work: the formulas of a benchmark."""

from typing import NamedTuple

import numpy as np

RESOLVED = 4.0  # errors that a bias must exceed to count for an order
LEADING = 3  # smallest steps of resolved bias, where the leading term leads best
LEAST = 0.02  # relative error of a bias, however small its statistical one: what higher orders leave


class Order(NamedTuple):
    """Slope of ln |bias| against ln h, its standard error, and the bias at h = 1."""

    value: float
    error: float
    prefactor: float


def order_of(step_sizes: np.ndarray, bias: np.ndarray, error: np.ndarray) -> Order:
    """The order of a bias a hᵖ, by weighted least squares at the three smallest steps where it is resolved.

    error: standard errors; 0 of an exact bias. The slope's error is that of the biases (at least 2 %), or of their
    scatter round the line where that is larger. NaN where fewer than two are resolved, or the sign changes.
    """
    h, b, e = (np.asarray(a, float) for a in (step_sizes, bias, error))
    good = np.isfinite(b) & np.isfinite(e) & (np.abs(b) > np.maximum(RESOLVED * e, 1e-12))
    place = np.flatnonzero(good)[np.argsort(h[good])][:LEADING]
    if len(place) < 2 or np.ptp(h[place]) == 0 or np.ptp(np.sign(b[place])) > 0:
        return Order(np.nan, np.nan, np.nan)
    x, y = np.log(h[place]), np.log(np.abs(b[place]))
    deviation = np.maximum(e[place] / np.abs(b[place]), LEAST)
    design = np.stack([x, np.ones_like(x)], 1) / deviation[:, None]
    covariance = np.linalg.inv(design.T @ design)
    slope, offset = covariance @ design.T @ (y / deviation)
    residual = (y - slope * x - offset) / deviation
    excess = float(np.sum(residual**2)) / max(len(x) - 2, 1)
    return Order(float(slope), float(np.sqrt(covariance[0, 0] * max(excess, 1.0))), float(np.exp(offset)))


def work(bias: np.ndarray, variance: np.ndarray, efficiency: np.ndarray, error: float | np.ndarray) -> np.ndarray:
    """Gradients for a root mean square error, G = V/(e (error² - bias²)); infinite where the bias alone exceeds it.

    efficiency: e, independent samples a gradient. A mean over G gradients has the mean square error bias² + V/(eG).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.asarray(error, float) ** 2 - np.square(bias)
        needed = np.where(room > 0, variance / (efficiency * room), np.inf)
    return np.where(np.isfinite(bias) & (efficiency > 0), needed, np.inf)


def error_after(gradients: np.ndarray, bias: np.ndarray, variance: np.ndarray, efficiency: np.ndarray) -> np.ndarray:
    """The least root mean square error, over step sizes, after some gradients (budgets,): √(bias² + V/(eG)).

    A mean over fewer than one independent sample is no better than one: the variance is at most V.
    """
    good = np.isfinite(bias) & (efficiency > 0)
    if not good.any():
        return np.full(np.shape(gradients), np.nan)
    samples = np.maximum(np.multiply.outer(gradients, efficiency[good]), 1.0)
    return np.sqrt(np.min(np.square(bias[good]) + variance[good] / samples, axis=-1))
