"""Functions of one coordinate by their values on uniform nodes: sinc functions on a line, trigonometric on a circle.

Differentiation and interpolation converge faster than any power of the spacing for smooth functions that vanish at the
ends of the line, or are periodic. Integrals are sums times the spacing. Trefethen, "Spectral Methods in MATLAB" (2000).
"""

from typing import NamedTuple

import numpy as np


class Grid(NamedTuple):
    """Nodes x (nodes,), the spacing, and matrices (nodes, nodes) of the first and second derivative there."""

    x: np.ndarray
    spacing: float
    first: np.ndarray
    second: np.ndarray
    period: float | None

    def at(self, x: float) -> np.ndarray:
        """Weights (nodes,) that interpolate a function's values to one point."""
        if self.period is None:
            return np.sinc((x - self.x) / self.spacing)
        half = np.pi * (x - self.x) / self.period
        n = len(self.x)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(np.sin(half) == 0, 1.0, np.sin(n * half) / (n * np.sin(half)))


def line(low: float, high: float, nodes: int) -> Grid:
    """Sinc functions on [low, high]; what they represent must be negligible at both ends."""
    x, spacing = np.linspace(low, high, nodes, retstep=True)
    apart, sign = _apart(nodes)
    first = sign / apart / spacing
    second = -2 * sign / apart**2 / spacing**2
    np.fill_diagonal(first, 0.0)
    np.fill_diagonal(second, -(np.pi**2) / 3 / spacing**2)
    return Grid(x, float(spacing), first, second, None)


def circle(low: float, high: float, nodes: int) -> Grid:
    """Trigonometric polynomials on [low, high) closed to a circle, on an odd number of nodes (one more if even)."""
    nodes += 1 - nodes % 2  # with an even number the fastest mode has no derivative
    period = high - low
    apart, sign = _apart(nodes)
    scale, half = 2 * np.pi / period, np.pi * apart / nodes
    first = scale * sign / (2 * np.sin(half))
    second = -(scale**2) * sign * np.cos(half) / (2 * np.sin(half) ** 2)
    np.fill_diagonal(first, 0.0)
    np.fill_diagonal(second, -(scale**2) * (nodes**2 - 1) / 12)
    return Grid(low + period * np.arange(nodes) / nodes, period / nodes, first, second, period)


def _apart(nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """j - k, with 1 on the diagonal to divide by, and (-1)^(j - k)."""
    apart = np.subtract.outer(np.arange(nodes), np.arange(nodes)).astype(float)
    sign = np.where(apart % 2 == 0, 1.0, -1.0)
    np.fill_diagonal(apart, 1.0)
    return apart, sign
