"""What a scheme samples at its finite step: predicted averages of the thermodynamic quantities, and by which method."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from .equilibrium import Equilibrium, Solvable, integrate
from .hardware import ONCE, jit
from .linear import NoStationary, NotLinear, linear_map
from .marks import Sweep
from .observables.measurements import (
    Equipartition,
    Measurement,
    VirialTemperature,
    configurational_temperature,
    kinetic_temperature,
    laplacian,
)
from .protocols import Integrator, Noise
from .pytree import size_of, upcast
from .transfer import Escape, NoTransfer, stationary_averages

ACCURACY = 2e-6  # relative, of transfer matrices
ROUNDING = 1e-5  # relative, of any law


class Law(NamedTuple):
    """Stationary averages at finite step; kinetic is None when overdamped.

    Position arrays are (d,), or for angles (2d,), of their cosines and sines.
    """

    energy: float
    energy_variance: float
    position: np.ndarray
    position_variance: np.ndarray
    kinetic: float | None
    equipartition: np.ndarray | None  # <(x - c) ∂U/∂x> of each coordinate, for the origin asked for; None for angles
    configurational: float
    method: str
    bins: Callable  # (equilibrium, edges, coordinate) -> probability of each bin of one ravelled coordinate
    escape: Escape | None = None  # of a law that is only quasi-stationary

    @property
    def virial(self) -> float | None:
        """The virial temperature; None for angles."""
        return None if self.equipartition is None else float(np.mean(self.equipartition))


class NoLaw(ValueError):
    """No exact method applies: only a second run can tell the bias."""


def predict(integrator: Integrator, potential: Solvable, like: Any, *, origin: Any = 0.0) -> Law:
    """The law of a scheme on a landscape, by linear algebra or a transfer matrix; plain numbers only.

    like: one particle's position. origin: of the virial. Raises `NoLaw`.
    """
    if integrator.stationary_order == np.inf:
        return _exact(integrator, potential, like, origin)
    try:
        if potential.quadratic:
            return _linear(integrator, potential, like, origin)
        if potential.separable:
            return _separable(integrator, potential, like, origin)
    except (NotLinear, NoTransfer, NoStationary) as error:
        raise NoLaw(str(error)) from None
    raise NoLaw(f"{type(potential).__name__} is neither quadratic nor a sum over coordinates")


def laws(integrator: Integrator, potential: Solvable, like: Any, *, origin: Any = 0.0) -> tuple[Law, Law]:
    """The law of a scheme, and that at a quarter of its step, which tells what of a bias is the step's. Raises `NoLaw`."""
    if integrator.step_size is None:
        raise NoLaw(f"the steps of {type(integrator).__name__} are its own: there is no smaller one to compare with")
    found = [predict(scheme, potential, like, origin=origin) for scheme in (integrator, with_step(integrator, 0.25))]
    return found[0], found[1]


def step_bias(pair: tuple[Law, Law], of_law: Callable[[Law], Any], exact: Any) -> np.ndarray:
    """A quantity's bias where it is the step's: a quarter of the step leaves at most two thirds of it.

    What a wrong scheme shows at every step is no excuse: its own law would explain any mistake. A scheme of first order
    leaves a quarter of a small bias, and at steps where the bias levels off as much as half.
    """
    coarse, fine = (np.ravel(np.asarray(of_law(law), float)) - exact for law in pair)
    shrinks = np.abs(fine) <= np.abs(coarse) * 2 / 3 + ROUNDING * np.abs(exact).max()
    return np.where(shrinks | np.isnan(coarse), coarse, 0.0)  # NaN: a thermometer where there is no force


def with_step(integrator: Any, factor: float) -> Any:
    """The integrator at a multiple of its step size, marks and schedules kept."""
    h: Any = integrator.step_size
    if isinstance(h, Sweep):
        scaled: Any = Sweep(np.asarray(h.values) * factor, shared_noise=h.shared_noise)
    else:
        scaled = (lambda step: h(step) * factor) if callable(h) else h * factor  # pyright: ignore[reportOperatorIssue]
    return integrator.with_step_size(scaled)


def _exact(integrator: Integrator, potential: Solvable, like: Any, origin: Any) -> Law:
    temperature = float(integrator.temperature)
    state = potential.equilibrium(temperature, like=like)
    return Law(
        energy=state.mean_energy,
        energy_variance=state.heat_capacity * temperature**2,
        position=state.mean,
        position_variance=np.diag(state.covariance),
        kinetic=temperature,
        equipartition=None if potential.period is not None else np.full(state.dimension, temperature),
        configurational=temperature,
        method="none, the kernel is exact",
        bins=lambda state, edges, i: state.bin_probabilities(edges, coordinate=i),
    )


def _linear(integrator: Integrator, potential: Solvable, like: Any, origin: Any) -> Law:
    step = linear_map(integrator, potential, like)
    mean, covariance = step.stationary()
    x, s = step.position @ mean, step.position @ covariance @ step.position.T
    with jax.enable_x64(True):
        zeros = jax.tree.map(lambda a: np.zeros(jnp.shape(a)), like)
        forms = _forms(upcast(integrator), upcast(potential), zeros, jnp.asarray(x))
        at_mean, force, stiffness, *quadratic = map(np.asarray, forms)
    kinetic = float(np.trace(quadratic[0] @ covariance)) / len(x) if quadratic else None
    product = stiffness @ s
    return Law(
        energy=float(at_mean) + np.trace(product) / 2,
        energy_variance=np.trace(product @ product) / 2 + force @ s @ force,
        position=x,
        position_variance=np.diag(s),
        kinetic=kinetic,
        equipartition=np.diag(product) + (x - origin) * force,
        configurational=(np.trace(stiffness @ product) + force @ force) / np.trace(stiffness),
        method="exact discrete law",
        bins=lambda _, edges, i: np.diff(_normal_cdf((edges - x[i]) / np.sqrt(s[i, i]))),
    )


def _normal_cdf(x: np.ndarray) -> np.ndarray:
    from scipy.special import ndtr

    return ndtr(x)


@jit(ONCE)
def _forms(integrator: Integrator, potential: Solvable, zeros: Any, x: Any) -> list:
    """Energy and force at x, the energy's Hessian, and, with momenta, that of the kinetic energy in the ravelled state."""
    origin, unravel = ravel_pytree(zeros)
    energy = lambda y: potential(unravel(y))  # noqa: E731
    forms = [*jax.value_and_grad(energy)(x), jax.hessian(energy)(origin)]
    if integrator.has_momentum:
        first = Noise(tuple(zeros for _ in range(integrator.init_noise.normals)))
        flat, back = ravel_pytree(integrator.init(potential, zeros, first))
        forms.append(jax.hessian(lambda v: jnp.asarray(integrator.kinetic_energy(back(v))))(flat))
    return forms


def _separable(integrator: Integrator, potential: Solvable, like: Any, origin: Any) -> Law:
    temperature = float(integrator.temperature)
    if temperature <= 0:
        raise NoLaw("no stationary law at temperature 0")
    if np.ndim(origin):
        raise NoLaw("a virial origin for each coordinate has no law of one coordinate")
    with jax.enable_x64(True):
        mean, covariance = upcast(potential).moments(temperature, np.zeros(1))
    found = stationary_averages(
        integrator, potential, _MEASURED[integrator.has_momentum], mean=float(mean[0]),
        deviation=float(np.sqrt(covariance[0, 0])), accuracy=ACCURACY,
    )  # fmt: skip
    energy, energy2, gradient, virial, gradient2, curvature, *rest = found.values
    angles = potential.period is not None
    features = np.array(rest[: 2 + 2 * angles]).reshape(2, -1)  # averages, and those of squares
    d = size_of(like)

    def bins(state: Equilibrium, edges: np.ndarray, coordinate: int) -> np.ndarray:
        return integrate(lambda x: state.density(x, coordinate=coordinate) * found.ratio(x), edges)

    return Law(
        energy=d * energy,
        energy_variance=d * (energy2 - energy**2),
        position=np.repeat(features[0], d),
        position_variance=np.repeat(features[1] - features[0] ** 2, d),
        kinetic=rest[-1] if integrator.has_momentum else None,
        equipartition=None if angles else np.full(d, virial - origin * gradient),
        configurational=gradient2 / curvature if curvature else np.nan,  # of a flat landscape
        method="transfer matrix",
        bins=bins,
        escape=found.escape,
    )


def _measured(potential: Any, integrator: Any, state: Any) -> jax.Array:
    """The averages from which all others follow, for a particle of one coordinate."""
    x, energy, gradient = state.position, *potential.value_and_gradient(state.position)
    values = [energy, energy**2, gradient[0], x[0] * gradient[0], gradient[0] ** 2, laplacian(potential, x)]
    if potential.period is None:
        return jnp.stack([*values, x[0], x[0] ** 2])
    turned = 2 * np.pi / potential.period * x[0]
    return jnp.stack([*values, jnp.cos(turned), jnp.sin(turned), jnp.cos(turned) ** 2, jnp.sin(turned) ** 2])


def _measured_with_momentum(potential: Any, integrator: Any, state: Any) -> jax.Array:
    kinetic = kinetic_temperature(potential, integrator, state)
    return jnp.append(_measured(potential, integrator, state), kinetic)


_MEASURED: dict[bool, Callable] = {False: _measured, True: _measured_with_momentum}


def thermometer(law: Law, measure: Measurement) -> float | np.ndarray | None:
    """What a thermometer reads under a law."""
    if isinstance(measure, Equipartition):
        return law.equipartition
    if measure.exact_at == kinetic_temperature.exact_at:
        return law.kinetic
    if isinstance(measure, VirialTemperature):
        return law.virial
    return law.configurational if measure.exact_at == configurational_temperature.exact_at else None
