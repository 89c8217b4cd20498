"""Populations under `simulate`: do exact draws stay in their law, and are particles independent?"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ..checks import NonFiniteError
from ..linear import linear_map
from ..protocols import Integrator, Noise
from ..pytree import upcast
from ..simulate import simulate
from ..verdict import Line
from .nonlinear import SHAPES, Landscape, refusal
from .quadratic import CENTER, PARTS, TURN, UNEQUAL, WARM
from .scheme import has_number, mass_of, probe, with_numbers

PARTICLES = 32_768
P_VALUE = 1e-6  # of a line: a right scheme fails one in a million
SEEN = 2.33  # deviates that a fault must be beyond the threshold, to be seen in 99 of 100
STEPS = (24, 240)  # fewest and most
GROUP = 16  # particles, whose mean must vary as that of independent ones
GENTLER = (1, 2, 4, 8)  # times as wide is a landscape, where a scheme with no known limit runs away from narrower ones


class Law(NamedTuple):
    """Normal laws of positions and momenta at the end of a run."""

    mean: np.ndarray
    covariance: np.ndarray
    momentum: np.ndarray | None  # covariance


def on_populations(
    integrator: Any, reach: float | None, key: Any, *, landscapes: bool
) -> tuple[dict[str, Line], float | None, str]:
    """Lines, the power, and what was done. reach: the largest stable stiffness of a linear scheme, else None. landscapes:
    whether transfer matrices have seen it on some, so that a linear one needs no well here.

    A scheme that is neither linear, nor exact on any energy (`stationary_order` inf), is extrapolated from its step and
    half of it by its declared order; one that declares no order cannot be judged.
    """
    temperature = WARM * float(integrator.temperature)
    if abs(temperature - 1) < 0.1:  # a scheme that forgets T = 1 is not to be looked at there
        temperature *= 3
    warm = with_numbers(integrator, temperature=temperature)
    temperature = float(warm.temperature)
    order = warm.stationary_order
    if reach is None and order is None:
        return {}, None, "declares no stationary law, and its step is not linear: nothing to hold it to"
    rng = np.random.default_rng(np.random.SeedSequence([_seed(key), 20]))
    exact = reach is not None or order == np.inf
    done = f"{PARTICLES:,} particles at T = {temperature:.3g}"
    well = reach is None or (not landscapes and order is not None and not refusal(warm))
    stride, said = _stride(warm, temperature, key) if well else np.nan, ""
    if well and not stride > 0:
        return {"population moves": Line("no", "yes", passed=False)}, None, done
    for gentle in GENTLER:
        try:
            lines, power = _coupled(warm, temperature, reach, exact, stride * gentle, rng, key)
            lines |= _in_a_well(warm, temperature, reach, stride * gentle, rng, key) if well else {}
            break
        except NonFiniteError as error:
            said = str(error).split(".")[0]
    else:
        return {"population stays finite": Line("no", "yes", passed=False, note=said)}, None, done
    against = "its own discrete law" if reach is not None else "the Gibbs state" + ("" if exact else ", extrapolated")
    return lines, power, f"{done} against {against}; a variance off by {100 * power:.2g} % is seen with 99 %"


def _seed(key: Any) -> int:
    return int(key) if isinstance(key, int | np.integer) else int(np.asarray(jax.random.key_data(key)).ravel()[-1])


def _coupled(
    warm: Any, temperature: float, reach: float | None, exact: bool, stride: float, rng: Any, key: Any
) -> tuple[dict[str, Line], float]:
    """Three coupled coordinates off centre, with unequal masses."""
    name = "mass" if warm.has_momentum else "mobility"
    factors = UNEQUAL if has_number(warm, name) else np.ones(3)
    mass = mass_of(warm) * factors if warm.has_momentum else np.ones(3)
    scheme = with_numbers(warm, **{name: float(getattr(warm, name) or 1.0) * factors})
    scale = np.sqrt(1 / factors if name == "mass" else factors)
    if reach is not None:
        stiffest = reach * PARTS[0]
    else:
        # a stride of 1.6 widths, half of it to extrapolate a bias: there a Metropolis test rejects three of ten steps, and
        # rarer rejections would show little of what follows them
        stiffest = temperature * ((1.6 if exact else 0.8) / stride) ** 2
    matrix = TURN @ np.diag(PARTS / PARTS[0] * stiffest) @ TURN.T / np.outer(scale, scale)
    energy, gibbs = probe(matrix, center=CENTER), temperature * np.linalg.inv(matrix)
    start = rng.multivariate_normal(CENTER, gibbs, PARTICLES)
    if reach is None:
        steps = STEPS[1]
        law = Law(np.array(CENTER), gibbs, np.diag(mass) * temperature if warm.has_momentum else None)
    else:
        steps, law = _transient(scheme, energy, gibbs)
    ends = [_end(scheme, energy, start, steps, key)]
    if not exact:
        ends.append(_end(with_numbers(scheme, step_size=float(scheme.step_size) / 2), energy, start, 2 * steps, key))
    order = scheme.stationary_order
    lines = {"population: positions": _normal(law.mean, law.covariance, [x for x, _ in ends], order)}
    if law.momentum is not None:
        still = np.zeros(3)
        lines["population: momenta"] = _normal(still, law.momentum, [p for _, p in ends], order)
    lines["particles share no noise"] = _independent(law.mean, ends[0][0])
    return lines, (_threshold(9) + SEEN) * np.sqrt(2 / PARTICLES)


def _stride(integrator: Any, temperature: float, key: Any) -> float:
    """How far a coordinate moves in a step without a force: h√(T/m) at the thermal speed, or √(2hμT)."""
    if integrator.has_momentum:
        return float(integrator.step_size) * np.sqrt(temperature / mass_of(integrator))
    return float(np.sqrt(np.mean(_end(integrator, probe(np.zeros((3, 3))), np.zeros((1024, 3)), 1, key)[0] ** 2)))


def _transient(scheme: Any, energy: Any, gibbs: np.ndarray) -> tuple[int, Law]:
    """How many steps, about two relaxation times, and the exact law then of a linear scheme that starts in equilibrium."""
    step = linear_map(scheme, energy, jnp.zeros(3))
    forgets = 0 < step.radius < 1 - 1e-9
    steps = int(np.clip(np.ceil(-2 / np.log(step.radius)), *STEPS)) if forgets else STEPS[1]
    takes = scheme.init_noise.normals
    with jax.enable_x64(True):
        wide, plain = upcast(scheme), upcast(energy)

        def init(z: Any) -> Any:
            first = Noise(tuple(z[3 * (i + 1) : 3 * (i + 2)] for i in range(takes)))
            return ravel_pytree(wide.init(plain, z[:3] + plain.center, first))[0]

        zero = jnp.zeros(3 * (1 + takes))
        mean, of_start = np.asarray(init(zero)), np.asarray(jax.jacfwd(init)(zero))
    covariance = of_start[:, :3] @ gibbs @ of_start[:, :3].T + of_start[:, 3:] @ of_start[:, 3:].T
    for _ in range(steps):
        mean = step.drift @ mean + step.constant
        covariance = step.drift @ covariance @ step.drift.T + step.noise @ step.noise.T
    momentum = None if step.momentum is None else step.momentum @ covariance @ step.momentum.T
    return steps, Law(step.position @ mean, step.position @ covariance @ step.position.T, momentum)


def _end(scheme: Integrator, energy: Any, start: np.ndarray, steps: int, key: Any) -> tuple:
    """Positions and momenta of a population at the end, in float64."""
    run = simulate(energy, scheme, start.astype(np.float32), steps=steps, key=key, observables=(), progress=False)
    return np.asarray(run.positions, float), None if run.momenta is None else np.asarray(run.momenta, float)


def _normal(mean: np.ndarray, covariance: np.ndarray, ends: list, order: float) -> Line:
    """Means and covariances of a normal population; with a second end, at half the step, extrapolated to none."""
    d, root = len(mean), np.sqrt(np.diag(covariance))
    pairs = np.triu_indices(d)
    root = np.maximum(root, 1e-100)  # what does not fluctuate is at its mean, or infinitely far off
    expected = np.append(np.zeros(d), (covariance / np.outer(root, root))[pairs])
    spread = np.sqrt(np.append(np.ones(d), 1 + expected[d:] ** 2))

    def features(x: np.ndarray) -> np.ndarray:
        y = (x - mean) / root
        return np.concatenate([y, y[:, pairs[0]] * y[:, pairs[1]]], axis=1)

    return _worst([features(x) for x in ends], expected, spread, order)


def _worst(ends: list[np.ndarray], expected: np.ndarray, spread: np.ndarray, order: float) -> Line:
    """The average that is furthest from what is expected, in standard errors: rows are independent particles.

    Of two ends at steps h and h/2 the extrapolated one, with half of what was added for what it leaves out.
    """
    values, slack = ends[0], np.zeros(len(expected))
    if len(ends) > 1:
        added = (ends[1] - ends[0]) / (2.0**order - 1)
        values, slack = ends[1] + added, np.abs(added.mean(axis=0)) / 2
        spread = values.std(axis=0)
    error = spread / np.sqrt(len(values))
    off = values.mean(axis=0) - expected
    z = np.sign(off) * np.maximum(np.abs(off) - slack, 0) / error
    worst = int(np.argmax(np.abs(z)))
    return Line(float(values[:, worst].mean()), float(expected[worst]), error=float(error[worst]), z=float(z[worst]),
                passed=bool(np.abs(z[worst]) < _threshold(len(z))), note=f"worst of {len(z)} averages")  # fmt: skip


def _threshold(comparisons: int) -> float:
    from scipy.special import ndtri

    return float(-ndtri(P_VALUE / 2 / comparisons))


def _independent(mean: np.ndarray, x: np.ndarray) -> Line:
    """n Var(mean of n particles)/Var, which is 1: of all, of neighbours, and of particles far apart."""
    y = (x - mean) / (x.std(axis=0) + 1e-9 * np.abs(x).max() + 1e-100)  # of particles that came together too
    worst, at = 1.0, 0.0
    for groups in (y[None], y.reshape(-1, GROUP, 3), y.reshape(GROUP, -1, 3).swapaxes(0, 1)):
        means = groups.mean(axis=1) * np.sqrt(groups.shape[1])  # standard normals, correlated between coordinates
        ratios = np.mean(means**2, axis=0)
        z = np.array([_chi_squared_deviate(r, len(means)) for r in ratios])
        if np.abs(z).max() > abs(at):
            at, worst = z[np.argmax(np.abs(z))], ratios[np.argmax(np.abs(z))]
    return Line(float(worst), 1.0, z=float(at), passed=bool(abs(at) < _threshold(9)), note="n Var(mean)/Var")


def _chi_squared_deviate(ratio: float, degrees: int) -> float:
    """A standard normal deviate as unlikely as a χ² per degree of freedom."""
    from scipy.special import chdtr, chdtrc, ndtri

    low, high = chdtr(degrees, degrees * ratio), chdtrc(degrees, degrees * ratio)
    return float(ndtri(max(low, 1e-300)) if low < high else -ndtri(max(high, 1e-300)))


def _in_a_well(
    warm: Any, temperature: float, reach: float | None, stride: float, rng: Any, key: Any
) -> dict[str, Line]:
    """Three coordinates, each in several wells: a landscape that no law of normals fits.

    Between quartic walls for kernels that test what they propose; for others, which would run away from those however small
    the step, the curvature is bounded: by a tenth of the largest stable stiffness, where that is known.
    """
    exact, h = warm.stationary_order == np.inf, float(warm.step_size)
    shape = "(x² - 1)²" if exact else "x²/2 + cos 3x"
    length = 4 * stride if reach is None else np.sqrt(10 * temperature / (0.1 * reach))
    grid = np.linspace(-8, 8, 20_001)
    with jax.enable_x64(True):
        density = np.exp(-np.asarray(SHAPES[shape](grid), float))
    below = np.cumsum(density) / density.sum()
    start = np.interp(rng.random((PARTICLES, 3)), below, grid) * length
    energy = Landscape(shape=shape, energy=temperature, length=float(length))
    schemes = [warm] if exact else [warm, with_numbers(warm, step_size=h / 2)]
    ends = [_end(s, energy, start, STEPS[1] * (1 + i), key)[0] / length for i, s in enumerate(schemes)]
    features = lambda x: np.stack([x, x**2, x**4, np.maximum(x, 0)], axis=-1).reshape(-1, 4)  # noqa: E731
    f = features(grid[:, None])
    expected = density @ f / density.sum()
    spread = np.sqrt(density @ (f - expected) ** 2 / density.sum())
    return {f"population: {shape}": _worst([features(x) for x in ends], expected, spread, warm.stationary_order)}
