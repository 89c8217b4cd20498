"""The shape of a population at one step, against the law it must have: χ², Kullback-Leibler, Kolmogorov-Smirnov.

One snapshot of independent particles, so that counts are multinomial: times pooled as if independent would not be.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .divergence import A_BIN, kl_from_counts
from .equilibrium import Equilibrium, NotKnown
from .law import Law
from .verdict import Line

MOST_BINS, FEWEST_BINS = 32, 4
IN_A_BIN = 4 * A_BIN  # particles, on average
APART = 4  # coordinates that get lines of their own
MOST_COORDINATES = 64  # that are looked at
PARTS = 16  # of an outer bin
FINE = 4001  # points from which the edges of bins are found
FAR = 12.0  # standard deviations that the points cover
ALIKE = 1e-6  # relative spread of variances that are still one factor


class Shape(NamedTuple):
    """A line of a verdict that waits for its threshold, and its p-value; `decides` is false where no law is known."""

    name: str
    line: Line
    p_value: float
    decides: bool


def shapes(positions: np.ndarray, energies: np.ndarray | None, state: Equilibrium, law: Law | None) -> list[Shape]:
    """What one snapshot says of each coordinate's histogram, and of the energy where its law is a Gamma law.

    positions: (n, d), ravelled. energies: (n,), on a homogeneous landscape. law: the scheme's own at its step; without one
    nothing is decided, since the Gibbs state is not what it samples. Beyond four coordinates the worst speaks for all.
    """
    n, d = positions.shape
    bins, found = min(MOST_BINS, n // IN_A_BIN), []
    if bins < FEWEST_BINS:
        return found
    for i in range(min(d, MOST_COORDINATES)):
        try:
            edges = bin_edges(state, i, bins)
            gibbs = bin_probabilities(lambda e, i=i: state.bin_probabilities(e, coordinate=i), edges, state)
            law_bins = None if law is None else (lambda e, i=i: law.bins(state, e, i))
            expected = gibbs if law_bins is None else bin_probabilities(law_bins, edges, state)
        except NotKnown:
            break
        found.append(_histogram(wrapped(positions[:, i], state.potential.period), edges, expected, gibbs, law))
    if len(found) > APART:
        kinds = [_worst(kind) for kind in zip(*found, strict=True)]
    else:
        kinds = [s._replace(name=f"{s.name}[{i}]") if d > 1 else s for i, both in enumerate(found) for s in both]
    degree = state.potential.degree
    factor = 1.0 if law is None else _factor(law, state)
    if energies is not None and degree is not None and factor is not None:
        kinds.append(_gamma(energies / (state.temperature * factor), d / float(degree), law is not None))
    return kinds


def _worst(shapes: tuple[Shape, ...]) -> Shape:
    worst = int(np.argmin([shape.p_value for shape in shapes]))
    shape, p = shapes[worst], min(1.0, len(shapes) * shapes[worst].p_value)
    return shape._replace(p_value=p, line=shape.line._replace(note=f"worst of {len(shapes)}: [{worst}]"))


def _histogram(
    x: np.ndarray, edges: np.ndarray, expected: np.ndarray, gibbs: np.ndarray, law: Law | None
) -> tuple[Shape, Shape]:
    """χ² and KL of a coordinate's counts between edges, which cover all that can be."""
    from scipy.special import chdtrc, chndtr

    n, free = len(x), len(expected) - 1
    counts = np.bincount(np.clip(np.searchsorted(edges, x, side="right") - 1, 0, free), minlength=free + 1)
    chi2 = float(np.sum((counts - n * expected) ** 2 / (n * expected)))
    p = float(chdtrc(free, chi2))
    deviation = float(np.sqrt(2 * free))
    note = "one snapshot" if law is not None else "against the Gibbs state, bias of the step unknown"
    chi = Shape("chi_squared", Line(chi2, float(free), deviation, _score(p), note=note), p, law is not None)
    found = kl_from_counts(counts, gibbs)
    bias = max(float(np.sum(expected * np.log(expected / gibbs))), 0.0)  # rounded
    # 2n times the plug-in estimate is a noncentral χ², of 2n times what the scheme's law itself is away
    plug_in = 2 * n * found.value + np.sum(counts > 0) - 1
    p = float(1 - chndtr(max(plug_in, 0.0), free, 2 * n * bias))
    line = Line(found.value, 0.0, max(found.error, found.floor), _score(p), None if law is None else bias, note=note)
    return chi, Shape("kl_divergence", line, p, law is not None)


def _gamma(u: np.ndarray, shape: float, decides: bool) -> Shape:
    """Kolmogorov and Smirnov's distance of U/T to its Gamma law; expected are mean and deviation of its limit law."""
    from scipy.special import gammainc, kolmogorov

    n = len(u)
    below = gammainc(shape, np.sort(np.maximum(u, 0.0)))
    steps = np.arange(n + 1) / n
    distance = float(max((steps[1:] - below).max(), (below - steps[:-1]).max()))
    p = float(kolmogorov(distance * np.sqrt(n)))
    line = Line(distance, 0.8687 / np.sqrt(n), 0.2603 / np.sqrt(n), _score(p), note="U/T against its Gamma law")
    return Shape("energy_distribution", line, p, decides)


def _score(p: float) -> float:
    """The one-sided normal deviate of a p-value: large where the fit is bad."""
    from scipy.special import ndtri

    return float(-ndtri(np.clip(p, 1e-300, 1 - 1e-16)))


def _factor(law: Law, state: Equilibrium) -> float | None:
    """By what one factor the scheme scales the temperature of the shape, if it is one; exact for linear schemes."""
    if not state.potential.quadratic:
        return None
    ratio = law.position_variance / np.diag(state.covariance)
    return float(ratio.mean()) if np.ptp(ratio) < ALIKE * ratio.mean() and _diagonal(state.covariance) else None


def _diagonal(matrix: np.ndarray) -> bool:
    return bool(np.all(np.abs(matrix - np.diag(np.diag(matrix))) < ALIKE * np.abs(matrix).max()))


def bin_edges(state: Equilibrium, coordinate: int, bins: int) -> np.ndarray:
    """Edges (bins + 1,) of bins that are about equally probable under the Gibbs state; on a circle, of equal ones."""
    period = state.potential.period
    if period is not None:
        return np.linspace(-float(period) / 2, float(period) / 2, bins + 1)
    mean, deviation = state.mean[coordinate], np.sqrt(state.covariance[coordinate, coordinate])
    grid = np.linspace(mean - FAR * deviation, mean + FAR * deviation, FINE)
    below = np.cumsum(state.density(grid, coordinate=coordinate))
    return np.concatenate([grid[:1], np.interp(np.arange(1, bins) / bins, below / below[-1], grid), grid[-1:]])


def bin_probabilities(of_bins: Callable, edges: np.ndarray, state: Equilibrium) -> np.ndarray:
    """Probabilities between the edges, of sum 1; the two outer bins, which are wide, by their parts."""
    if state.potential.period is None:
        left = np.linspace(edges[0], edges[1], PARTS, endpoint=False)
        right = np.linspace(edges[-2], edges[-1], PARTS + 1)[1:]
        p = of_bins(np.concatenate([left, edges[1:-1], right]))
        p = np.concatenate([[p[:PARTS].sum()], p[PARTS:-PARTS], [p[-PARTS:].sum()]])
    else:
        p = of_bins(edges)
    return p / p.sum()


def wrapped(x: np.ndarray, period: float | None) -> np.ndarray:
    """Angles within one period around 0; as they are without one."""
    return x if period is None else (x / float(period) + 0.5) % 1.0 * float(period) - float(period) / 2
