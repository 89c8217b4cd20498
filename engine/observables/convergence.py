"""Convergence without a known truth: do particles that started apart agree?"""

from typing import Any

import jax
import numpy as np

from .series import Recording

FEWEST_TIMES = 4  # recordings, of which each half needs two


def split_r_hat(recording: Recording) -> Any:
    """Rank-normalised split R̂ of a `Series`, shaped like the measured value, rungs first; below 1.01 where it is well.

    Every particle's recording is cut in halves; values are replaced by the normal scores of their ranks; R̂ compares the
    variance between the halves with that within. The larger of that and of the same of |value - median|, which sees
    halves that differ in spread. Vehtari, Gelman, Simpson, Carpenter and Bürkner, Bayesian Analysis 16 (2021).

    Raises TypeError for what is no recording of particles, ValueError for fewer than four recorded times.
    """
    if not isinstance(recording, Recording):
        raise TypeError(f"split_r_hat takes the Recording of a Series of a measurement; got {type(recording).__name__}")
    if len(recording.steps) < FEWEST_TIMES:
        raise ValueError(f"split_r_hat needs at least {FEWEST_TIMES} recorded times; got {len(recording.steps)}")
    lead = 1 if recording.ladder else 0

    def leaf(values: np.ndarray) -> np.ndarray:
        x = np.moveaxis(np.asarray(values, float), (0, 1 + lead), (0, 1))  # (times, n, [rungs,] ...)
        half = len(x) // 2
        chains = np.concatenate([x[:half], x[-half:]], axis=1)
        flat = chains.reshape(*chains.shape[:2], -1)
        bulk, folded = (_r_hat(_scores(a)) for a in (flat, np.abs(flat - np.median(flat, axis=(0, 1)))))
        return np.maximum(bulk, folded).reshape(chains.shape[2:])

    return jax.tree.map(leaf, recording.values)


def _scores(x: np.ndarray) -> np.ndarray:
    """Normal scores of the ranks among all values of a component, (times, chains, components)."""
    from scipy import special, stats

    ranks = stats.rankdata(x.reshape(-1, x.shape[-1]), axis=0)
    return special.ndtri((ranks - 3 / 8) / (len(ranks) + 1 / 4)).reshape(x.shape)


def _r_hat(x: np.ndarray) -> np.ndarray:
    n = len(x)
    within, between = x.var(axis=0, ddof=1).mean(axis=0), x.mean(axis=0).var(axis=0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt((n - 1) / n + between / within)
