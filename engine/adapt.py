"""Step size and friction found during burn-in: aimed at a stated error, then frozen."""

import contextlib
import dataclasses
from statistics import NormalDist
from typing import Any

import jax
import numpy as np

from .checks import NonFiniteError, check_steps
from .marks import is_mark, with_number
from .observables import Mean, acceptance, configurational_temperature, energy_error
from .observables.standard import standard
from .progress import Progress
from .pytree import named_leaves, ravel, times
from .run import Run
from .simulate import simulate

ORDER = 2.0  # of errors in the step, as supposed: other orders converge too, as the gain falls
LARGEST = 2.0  # factor by which a step size is changed at once
FARTHEST = 1e4  # and in all
SETTLED = 0.2  # relative departure of the error from its target that is still at the target
TARGETS = {"acceptance": acceptance, "energy_error": energy_error, "configurational": configurational_temperature}


@dataclasses.dataclass(frozen=True, eq=False)
class Adapted:
    """What `adapt` found. integrator: with plain numbers; run: to go on with, under it, its observables starting afresh.

    step_size, friction: what was set; friction is None where it was not adapted. target, value, error: of the quantity
    aimed at, measured with the numbers frozen. history: (step size, value) of every block. reached: whether the target is.
    """

    integrator: Any
    run: Run
    quantity: str
    target: float
    value: float
    error: float
    step_size: float
    friction: float | None
    history: np.ndarray
    reached: bool

    def __repr__(self) -> str:
        name = getattr(self.integrator, "scheme", type(self.integrator).__name__)
        lines = [
            f"{name} adapted in {len(self.history)} blocks, {self.run.step:,} steps of {self.run.particles:,} particles"
        ]
        lines.append(f"  step_size  {self.step_size:.6g}  (from {self.history[0, 0]:.6g})")
        lines += [] if self.friction is None else [f"  friction   {self.friction:.6g}"]
        lines.append(f"  {self.quantity}  {self.value:.6g} ± {self.error:.2g}, target {self.target:g}")
        lines += (
            [] if self.reached else ["  ! the target was not reached: longer blocks, another start, or another target"]
        )
        return "\n".join(lines)


def adapt(
    potential: Any,
    integrator: Any = None,
    positions: Any = None,
    *,
    acceptance: float | None = None,
    energy_error: float | None = None,
    configurational: float | None = None,
    friction: bool = False,
    blocks: int = 40,
    steps: int = 50,
    key: Any = None,
    progress: bool = True,
) -> Adapted:
    """Find the step size at which an integrator makes a stated error, while the population burns in; then freeze it.

        ln h ← ln h - g_k ln(e/e*)/2,    g_k = min(1, 5/k), at most a factor of two

    with e the error measured in the k-th block, e* the one aimed at; the result is the mean of ln h over the second half of
    the blocks. A step that leads out of the finite numbers is taken back, and no such step is tried again. All of it happens
    between blocks, on the host: nothing recompiles, and the same key gives the same numbers.

    potential, integrator, positions: as `simulate` takes them, or a run alone. The integrator's step size is where the
    search starts. One target:
    acceptance: the mean probability of acceptance, between 0 and 1, of a Metropolised kernel; e = -2Φ⁻¹(acceptance/2), the
    spread of the energy error. About 0.57 for MALA, 0.65 to 0.8 for HMC, above 0.95 for generalised HMC.
    energy_error: the root mean square change of the total energy over a step without its bath, in units of T.
    configurational: the configurational temperature over the bath's, such as 1.02 for a scheme that runs hot; e is its
    distance from 1. Of no use where a scheme samples positions exactly.
    friction: also set the friction to critical damping of the slowest direction, γ = 2√(T/λ), λ the largest eigenvalue of
    the covariance of √m x, averaged over the second half too.
    blocks, steps: of the search, and in each; a quarter as many blocks measure the result. key, progress: as in `simulate`.

    What was measured during burn-in belongs to no equilibrium; `Adapted.run` starts its observables afresh. Raises
    ValueError or TypeError for a target that is none, or that the integrator does not know.
    """
    asked = {"acceptance": acceptance, "energy_error": energy_error, "configurational": configurational}
    quantity, target = _check_target({name: value for name, value in asked.items() if value is not None})
    blocks, steps = check_steps(blocks), check_steps(steps)
    if blocks < 4 or steps < 2:
        raise ValueError(f"adapt needs at least 4 blocks of 2 steps; got {blocks} of {steps}")
    run = simulate(potential, integrator, positions, steps=0, key=key, observables={})
    _check_numbers(run, ("step_size", "friction") if friction else ("step_size",))
    mean = Mean(TARGETS[quantity], every=1, burn_in=steps // 2)
    kernel, first, ceiling, history, dampings = run.integrator, float(run.integrator.step_size), np.inf, [], []
    h = first
    with Progress(total=blocks * steps, label=f"adapting to {quantity} {target:g}", enabled=progress) as bar:
        for k in range(1, blocks + 1):
            kernel = with_number(kernel, "step_size", h)
            if friction:
                dampings.append(_critical(run))
                kernel = with_number(kernel, "friction", dampings[-1])
            new, value = run, np.inf
            with contextlib.suppress(NonFiniteError):
                new = simulate(_under(run, kernel), steps=steps, observables={quantity: mean}, progress=False)
                value = _value(quantity, mean, new)[0]
            if np.isfinite(value):
                run = new
            else:  # the population goes on from where it was, and never again with such a step
                ceiling = min(ceiling, h / LARGEST)
            history.append((h, value))
            change = float(np.clip(_departure(quantity, value, target) / ORDER, -np.log(LARGEST), np.log(LARGEST)))
            h = float(np.clip(h * np.exp(-min(1.0, 5 / k) * change), first / FARTHEST, min(first * FARTHEST, ceiling)))
            bar.advance(steps)
    settled = lambda values: float(np.exp(np.mean(np.log(values[blocks // 2 :]))))  # noqa: E731
    h, damping = min(settled([h for h, _ in history]), ceiling), settled(dampings) if friction else None
    kernel = with_number(kernel, "step_size", h)
    kernel = with_number(kernel, "friction", damping) if friction else kernel
    more = steps * max(1, blocks // 4)
    run = simulate(_under(run, kernel), steps=more, observables={quantity: mean}, progress=False)
    value, error = _value(quantity, mean, run)
    reached = abs(_departure(quantity, value, target)) < SETTLED
    run = simulate(run, steps=0, observables=standard(run.potential, kernel, run.position))
    return Adapted(kernel, run, quantity, target, value, error, h, damping, np.array(history), reached)


def _check_target(given: dict[str, Any]) -> tuple[str, float]:
    """The one target and its value."""
    if len(given) != 1:
        raise ValueError(f"adapt aims at one target, of {sorted(TARGETS)}; got {sorted(given) or 'none'}")
    ((name, value),) = given.items()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number; got {value!r}")
    rules = {
        "acceptance": (0 < value < 1, "lie between 0 and 1, such as 0.65"),
        "energy_error": (0 < value < np.inf, "be positive, in units of T, such as 0.5"),
        "configurational": (0 < value < np.inf and value != 1, "be positive and not 1, which only a step of 0 reaches"),
    }
    good, rule = rules[name]
    if not good:
        raise ValueError(f"{name} must {rule}; got {value}")
    return name, float(value)


def _check_numbers(run: Run, names: tuple[str, ...]) -> None:
    """What is adapted, and the temperature, are single numbers of the integrator."""
    if run.ladder:
        raise ValueError("adapt takes one population: adapt each rung of a sweep by itself")
    found = {name: leaf for name, _, leaf in named_leaves(run.integrator, is_mark)}
    for name in (*names, "temperature"):
        if name not in found:
            raise ValueError(f"{type(run.integrator).__name__} has no {name} to adapt")
        if is_mark(found[name]) or callable(found[name]) or np.ndim(found[name]):
            raise ValueError(f"adapt needs one number for {name}; got {found[name]!r}")
    if not float(found["temperature"]) > 0:
        raise ValueError(
            f"adapt measures errors in units of T; temperature must be positive, got {found['temperature']}"
        )


def _under(run: Run, integrator: Any) -> Run:
    """The run under other numbers of the same integrator: its state and its noise go on as they are."""
    return dataclasses.replace(run, integrator=integrator, leg_step=run.step, leg_time=run.time)


def _value(quantity: str, mean: Mean, run: Run) -> tuple[float, float]:
    """The quantity as it is aimed at, and its standard error, from a run that measured nothing else."""
    temperature, (_, sums) = float(run.integrator.temperature), run.records[0].after(0)

    def measured(statistic: Any) -> tuple[float, float]:
        found = mean.estimate(statistic, sums, run.settings[0].unit)
        return float(found.value[0, 0]), float(found.error[0, 0])

    with np.errstate(over="ignore", invalid="ignore"):  # of steps that ran away, yet not out of the finite numbers
        value, error = measured(mean.mean_of)
        if quantity == "acceptance":
            return value, error
        if quantity == "configurational":
            return value / temperature, error / temperature
        variance, error = measured(mean.variance_of)
    size = np.sqrt(variance + value**2)
    return size / temperature, error / (2 * size * temperature)


def _departure(quantity: str, value: float, target: float) -> float:
    """ln e/e*: 0 at the target, negative below, -∞ where no error is seen."""
    if quantity == "acceptance":
        spread = lambda p: -NormalDist().inv_cdf(p / 2) if 0 < p < 2 else np.inf * (1 - p)  # noqa: E731
        ratio = spread(min(value, 1.0)) / spread(target) if np.isfinite(value) else np.inf
    elif quantity == "configurational":
        ratio = (value - 1) / (target - 1)
    else:
        ratio = value / target
    return float(np.log(ratio)) if ratio > 0 else -np.inf if ratio <= 0 else np.inf


def _critical(run: Run) -> float:
    """γ = 2√(T/λ), λ the largest eigenvalue of mass × covariance of x: critical damping of the slowest direction.

    As long as all particles are in one place, the friction stays what it is.
    """
    x, heavy = (
        np.asarray(jax.vmap(lambda position, c=c: ravel(times(c, position)))(run.positions), float)
        for c in (1.0, run.integrator.mass)
    )
    x = x - x.mean(axis=0)
    product = x.T @ heavy if x.shape[1] < len(x) else heavy @ x.T  # of the same largest eigenvalue
    slowest = np.linalg.eigvals(product).real.max() / len(x)
    if not slowest > 0:
        return float(run.integrator.friction)
    return float(2 * np.sqrt(float(run.integrator.temperature) / slowest))
