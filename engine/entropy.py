"""Entropy and free energy of a population as it is, in equilibrium or not, from its positions alone."""

from typing import Any

import numpy as np

from .divergence import A_BIN, NEIGHBOURS, entropy_nearest, need_particles
from .equilibrium import Solvable
from .measured import Measured, plain, snapshot_energies, snapshots, temperatures_of
from .run import Run

BINS = {1: (3.0, 1 / 3), 2: (1.5, 1 / 4)}  # by dimension: factor and power of n, for which noise leads the bias
FEW = 2_000  # particles below which bins of the plane are too wide, and neighbours are better
DISAGREE = 4.0  # errors between the estimates by bins and by neighbours


def entropy(positions: Any, *, bins: int | None = None, period: float | None = None) -> Measured:
    """Differential entropy -<ln ρ> of a population's positions, with its error.

    In one and two dimensions by a histogram, corrected for its bias and extrapolated to bins of no width:

        S(w) = -Σ fᵢ ln(fᵢ/w) + (occupied - 1)/2n,    S = S(w) + [S(w) - S(2w)]/3

    beyond, up to ten, and in the plane below 2,000 particles, by nearest neighbours (see `divergence.entropy_nearest`),
    whose bias falls as n^(-2/d); its size, as twice as many neighbours show it, is in the error.

    positions: a `Run`, whose particles as they are now count (one value a rung in a ladder), or an array (n, ...) of
    independent particles. bins: an even number in each direction; chosen from n if not given. period: of the coordinates
    where they are angles; a run's `Solvable` landscape knows. Raises ValueError with the number of particles needed.
    Miller (1955); Kozachenko and Leonenko, Probl. Inf. Transm. 23, 95 (1987).
    """
    if isinstance(positions, Run):
        periods = _periods(positions) if period is None else [period] * (positions.rungs or 1)
        rows = [_entropy(x, bins, p) for x, p in zip(snapshots(positions), periods, strict=True)]
        return _rungs(positions, rows)
    x = np.asarray(positions, float)
    if x.ndim == 0:
        raise ValueError(f"entropy takes a Run or an array (n, ...) of positions; got {positions!r}")
    if not x.size:
        raise ValueError(f"entropy takes positions of particles; got an empty array of shape {x.shape}")
    return _entropy(x.reshape(len(x), -1), bins, period)


def free_energy_of(run: Run, *, bins: int | None = None) -> Measured:
    """F = <U> - T S of a run's population as it is now: in equilibrium the free energy, else above it by T KL.

    The error is that of the difference, far smaller than that of <U> or S: near equilibrium a particle's U/T and -ln ρ
    differ by a constant. One value a rung. bins: as for `entropy`. Raises ValueError at temperature 0, and as `entropy`.
    """
    if not isinstance(run, Run):
        raise TypeError(f"free_energy_of takes a Run, which knows its energy and temperature; got {type(run).__name__}")
    energies, periods = snapshot_energies(run), _periods(run)
    rows = []
    for x, u, t, period in zip(snapshots(run), energies, temperatures_of(run, run.step), periods, strict=True):
        massieu = _entropy(x, bins, period, beside=-u / t)  # S - <U>/T
        rows.append(Measured(-t * massieu.value, t * massieu.error, massieu.method))
    return _rungs(run, rows)


def _periods(run: Run) -> list[float | None]:
    potentials = [plain(run, rung, run.step)[0] for rung in range(run.rungs or 1)]
    return [p.period if isinstance(p, Solvable) else None for p in potentials]


def _rungs(run: Run, rows: list[Measured]) -> Measured:
    if not run.ladder:
        return rows[0]
    return Measured(np.array([row.value for row in rows]), np.array([row.error for row in rows]), rows[0].method)


def _entropy(x: np.ndarray, bins: int | None, period: float | None, beside: Any = 0.0) -> Measured:
    """The entropy of (n, d), plus the average of values (n,) beside it; the error is that of the sum."""
    n, d = x.shape
    if period is not None and not (np.ndim(period) == 0 and 0 < period < np.inf):
        raise ValueError(f"period must be one positive number; got {period!r}")
    if not np.all(np.isfinite(x)):
        raise ValueError(f"positions must be finite; {int(np.sum(~np.isfinite(x).all(1)))} of {n} are not")
    if d not in BINS:
        if bins is not None or period is not None:
            what = "bins" if bins is not None else f"angles of period {period:g}"
            raise ValueError(f"histograms, which {what} need, are for one or two coordinates; got {d}")
        return _nearest(x, beside)
    if bins is None and period is None and d == 2 and n < FEW:
        return _nearest(x, beside)
    if bins is None:
        need_particles(n, 200, "a histogram's entropy")
        factor, power = BINS[d]
        bins = 2 * max(2, round(factor * n**power / 2))
    if bins < 4 or bins % 2:
        raise ValueError(f"bins must be an even number, 4 at least; got {bins}")
    need_particles(n, A_BIN * bins, f"a histogram of {bins} bins in each direction")
    if period is None:
        low, width = x.min(0), np.ptp(x, axis=0) / bins
    else:
        low, width = np.zeros(d), np.full(d, float(period) / bins)
        x = x % period
    if np.any(width == 0):
        raise ValueError("positions coincide in some direction: no density, and no entropy")
    cells = np.minimum(((x - low) / width).astype(int), bins - 1)
    (fine, free), (coarse, fewer) = (_binned(cells // k, bins // k, float(np.prod(width * k))) for k in (1, 2))
    terms = fine + (fine - coarse) / 3 + beside
    bias = free + (free - fewer) / 3
    # χ² of the bins splits into that of the pairs and that within them; the latter counts 4/3
    noise = fewer + (free - fewer) * 16 / 9
    error = np.sqrt(max(terms.var() - noise / n, 0.0) / n + noise / (2 * n * n))
    value = float(terms.mean() + bias / (2 * n))
    if period is None:  # equal bins see nothing of a density with long tails or narrow peaks, and do not know it
        near = entropy_nearest(x, beside=beside)
        if not abs(near.value - value) < DISAGREE * np.hypot(near.error, error):
            found = _nearest(x, beside)
            return found._replace(method=f"{found.method}: bins do not resolve the density")
    return Measured(value, float(error), f"histogram of {' × '.join([str(bins)] * d)} bins")


def _nearest(x: np.ndarray, beside: Any) -> Measured:
    """By nearest neighbours, and in the error what their distance adds: a bias that grows as (k/n)^(2/d)."""
    n, d = x.shape
    found = entropy_nearest(x, neighbours=NEIGHBOURS, beside=beside)
    k = NEIGHBOURS if n >= 20 * NEIGHBOURS * 2**d else NEIGHBOURS // 2
    near, far = (entropy_nearest(x, neighbours=i * k, beside=beside).value for i in (1, 2))
    bias = (far - near) / (4 ** (1 / d) - 1) * (NEIGHBOURS / k) ** (2 / d)
    return Measured(found.value, float(np.hypot(found.error, bias)), "nearest neighbours")


def _binned(cells: np.ndarray, bins: int, volume: float) -> tuple[np.ndarray, int]:
    """-ln of the density at each particle (n,), by the cells (n, d) that they are in, and degrees of freedom."""
    n, d = cells.shape
    index = cells @ bins ** np.arange(d)
    counts = np.bincount(index, minlength=bins**d)
    return -np.log(counts[index] / (n * volume)), int(np.sum(counts > 0)) - 1
