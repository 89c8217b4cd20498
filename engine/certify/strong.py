"""Strong order: how far apart a path at step h and at h/2 are, driven by one noise. Exact, on a quadratic energy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..linear import linear_map
from ..protocols import Integrator, Noise
from ..pytree import ravel, upcast
from ..verdict import Line
from .scheme import probe, with_numbers

ORDER = 0.15
LEVELS = 9


def strong_order(integrator: Any, reach: float) -> dict[str, Line]:
    """√E|x_h(t) - x_{h/2}(t)|² from x = 1, both linear in one noise; nothing where noise cannot be coarsened."""
    coarse = _coarsening(integrator)
    if coarse is None or integrator.strong_order is None:
        return {}
    stiffness, h = 0.1 * reach, float(integrator.step_size)
    errors, order = [], np.nan
    for level in range(LEVELS):
        pair = [with_numbers(integrator, step_size=h / 2 ** (level + i)) for i in (0, 1)]
        errors.append(_distance(pair[0], pair[1], stiffness, 4 * 2**level, coarse))
        order = float(np.log2(errors[-2] / errors[-1])) if level else np.nan
        if level > 2 and abs(order - integrator.strong_order) < ORDER:
            break
    declared = float(integrator.strong_order)
    note = "better here" if order > declared + ORDER else ""
    return {"strong order": Line(order, declared, passed=bool(order > declared - ORDER), note=note)}


def _coarsening(integrator: Integrator) -> np.ndarray | None:
    """The normals of one step as a matrix over those of two half steps, in one coordinate."""
    count = integrator.noise.normals
    one = lambda row: Noise(normals=tuple(jnp.full(1, value) for value in row))  # noqa: E731
    columns = []
    with jax.enable_x64(True):
        for row in np.eye(2 * count):
            found = upcast(integrator).coarsen(one(row[:count]), one(row[count:]))
            if found is None:
                return None
            columns.append(np.concatenate([np.asarray(normal) for normal in found.normals]))
    return np.array(columns).T


def _distance(long: Integrator, short: Integrator, stiffness: float, steps: int, coarse: np.ndarray) -> float:
    """√E(x - x')² after some steps of one scheme, and twice as many of another that has half the step."""
    energy = probe([[stiffness]])
    one, two = (linear_map(scheme, energy, jnp.zeros(1)) for scheme in (long, short))
    zeros = np.zeros_like(one.drift)
    drift = np.block([[one.drift, zeros], [zeros, two.drift @ two.drift]])
    noise = np.concatenate([one.noise @ coarse, np.concatenate([two.drift @ two.noise, two.noise], axis=1)])
    with jax.enable_x64(True):
        first = Noise((jnp.zeros(1),) * long.init_noise.normals)
        starts = [ravel(upcast(scheme).init(upcast(energy), jnp.ones(1), first)) for scheme in (long, short)]
    mean, covariance = np.concatenate([np.asarray(start) for start in starts]), np.zeros_like(drift)
    for _ in range(steps):
        mean, covariance = drift @ mean, drift @ covariance @ drift.T + noise @ noise.T
    read = np.concatenate([one.position[0], -two.position[0]])
    return float(np.sqrt((read @ mean) ** 2 + read @ covariance @ read))
