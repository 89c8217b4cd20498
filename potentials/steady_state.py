"""The steady current of overdamped motion in a tilted periodic potential, exactly."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..engine.equilibrium import NotKnown
from ..engine.pytree import check_number

POINTS = 512  # of either integral; smooth ones converge exponentially
ACCURACY = 1e-8  # relative, that half of the points must reach
ROWS = 2048  # of points at which a density is computed at once


@dataclass(frozen=True, kw_only=True)
class SteadyState:
    """What overdamped motion comes to in U(x) - force x, for one coordinate, U of the given period.

    velocity: mean drift <dx/dt>. diffusion: lim Var(x(t))/2t of the unwrapped coordinate. entropy_production: of the
    bath in unit time, force velocity/temperature. mean: of cos and sin of 2π x/period, (2,).
    """

    period: float
    velocity: float
    diffusion: float
    entropy_production: float
    mean: np.ndarray
    _density: Callable[[np.ndarray], np.ndarray] = field(repr=False)

    @property
    def current(self) -> float:
        """Probability that passes a point in unit time."""
        return self.velocity / self.period

    def density(self, x: np.ndarray) -> np.ndarray:
        """Stationary density over one period at points of any shape."""
        x = np.asarray(x, float)
        blocks = [self._density(x.ravel()[i : i + ROWS]) for i in range(0, max(x.size, 1), ROWS)]
        return np.concatenate(blocks).reshape(x.shape)


def steady_state(energy: Callable, *, period: float, force: float, temperature: float, mobility: float) -> SteadyState:
    """From the periodic part U of the energy, a numpy function, and a constant force.

    With I±(x) = ∫₀ᴸ exp[(±U(x) ∓ U(x ∓ y) - y force)/T] dy and bars for averages over a period, at a force ≥ 0:

        velocity = μT (1 - exp(-L force/T))/Ī₊,   diffusion = μT avg(I₊² I₋)/Ī₊³,   density = I₋/(L Ī₋)

    Stratonovich (1958) for the current, Lifson and Jackson (1962) for the diffusion without force, Reimann et al. (Phys.
    Rev. Lett. 87, 010602, 2001, eqs. 4 to 6) with it. Raises ValueError for numbers out of range, `NotKnown` where the
    integrals do not converge.
    """
    for name, value in (("temperature", temperature), ("mobility", mobility)):
        check_number(name, "positive", value)
        if np.ndim(value):
            raise ValueError(f"{name} must be one number; got shape {np.shape(value)}")
    side = -1.0 if force < 0 else 1.0  # a force to the left is one to the right in the mirror
    u = lambda x: energy(side * x) / temperature  # noqa: E731
    push = abs(force) / temperature

    def inner(x: np.ndarray, sign: float, points: int, shift: float = 0.0) -> np.ndarray:
        """I± at points x (m,), times exp(-shift)."""
        nodes, weights = np.polynomial.legendre.leggauss(points)
        y = period / 2 * (1 + nodes)
        exponent = sign * (u(x)[:, None] - u(x[:, None] - sign * y)) - y * push - shift
        return np.exp(exponent) @ weights * (period / 2)

    def averages(points: int) -> tuple[np.ndarray, float, np.ndarray, np.ndarray]:
        x = period / points * np.arange(points)
        shift = np.ptp(u(x))
        plus, minus = inner(x, 1.0, points, shift), inner(x, -1.0, points, shift)
        with np.errstate(invalid="ignore", divide="ignore"):  # of underflow, which the caller sees
            drift = -np.expm1(-period * push) * np.exp(-shift) / plus.mean()
            return np.array([drift, np.mean(plus**2 * minus) / plus.mean() ** 3]), shift, x, minus

    (drift, spread), shift, x, minus = averages(POINTS)
    half = averages(POINTS // 2)[0]
    seen = min(spread, drift) if push else spread
    if not np.allclose(half, [drift, spread], rtol=ACCURACY, atol=0.0) or not seen > np.finfo(float).tiny:
        shown = lambda pair: f"{mobility * temperature * pair[0]:.6g}, {mobility * temperature * pair[1]:.6g}"  # noqa: E731
        raise NotKnown(
            f"the integrals of the steady state do not converge at temperature {temperature:g}, or leave the range of "
            f"float64: barrier or force do not suit the temperature. Speed and diffusion come out as "
            f"{shown((drift, spread))} from {POINTS} nodes and {shown(half)} from half of them"
        )
    angle = 2 * np.pi / period * x
    total = period * minus.mean()
    velocity = float(side * mobility * temperature * drift)
    return SteadyState(
        period=period,
        velocity=velocity,
        diffusion=float(mobility * temperature * spread),
        entropy_production=force * velocity / temperature,
        mean=np.array([np.cos(angle) @ minus, side * np.sin(angle) @ minus]) / minus.sum(),
        _density=lambda x: inner(side * x, -1.0, POINTS, shift) / total,
    )
