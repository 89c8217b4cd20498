"""Free energy along a coordinate, from a histogram."""

from typing import Any, NamedTuple

import numpy as np

from .observables import Density


class FreeEnergyProfile(NamedTuple):
    """Free energy along a coordinate: centers (bins,), value and its standard error ([rungs,] value's shape, bins)."""

    centers: np.ndarray
    value: np.ndarray
    error: np.ndarray


def free_energy_profile(density: Density, temperature: Any) -> FreeEnergyProfile:
    """-T ln p of any measured coordinate, with error bars: potential of mean force, landscape of a collective variable.

        F(q) = -T ln p(q),    p(q) = <δ(q(x) - q)>,    error T δp/p

    density: what a `Histogram` of one array measured. temperature: T > 0, or one a rung (rungs,) for a ladder's. p is
    the average over a bin, normalised over all values: ∫ exp(-F/T) dq = 1; for an absolute scale add the free energy.
    Bins that no particle visited are NaN. Raises TypeError for anything but a `Density`.
    """
    if not isinstance(density, Density) or not isinstance(density.density, np.ndarray):
        raise TypeError(
            f"free_energy_profile takes the Density of one array, which a Histogram observable gives; got {density!r}"
        )
    p, error, t = density.density, density.error, np.asarray(temperature, float)
    if not np.all(np.isfinite(t)) or np.any(t <= 0) or t.ndim > 1 or (t.ndim and t.shape != p.shape[:1]):
        raise ValueError(
            f"temperature must be a positive number, or one for each rung of a ladder; got {temperature!r} for a density of "
            f"shape {p.shape}"
        )
    t = t.reshape(t.shape + (1,) * (p.ndim - t.ndim)) if t.ndim else t
    seen = np.where(p > 0, p, np.nan)
    return FreeEnergyProfile(density.centers, -t * np.log(seen), t * error / seen)
