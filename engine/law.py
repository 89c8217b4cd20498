"""What a scheme samples at its finite step: predicted averages of the thermodynamic quantities, and by which method."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from .equilibrium import Solvable
from .linear import NoStationary, NotLinear, linear_map
from .observables.measurements import (
    Measurement,
    VirialTemperature,
    configurational_temperature,
    kinetic_temperature,
    laplacian,
)
from .protocols import Integrator, Noise
from .pytree import size_of, upcast
from .transfer import NoTransfer, stationary_averages

ACCURACY = 2e-6  # relative, of transfer matrices


class Law(NamedTuple):
    """Stationary averages at finite step; position arrays are (d,), kinetic is None when overdamped."""

    energy: float
    energy_variance: float
    position: np.ndarray
    position_variance: np.ndarray
    kinetic: float | None
    virial: float  # for the origin asked for
    configurational: float
    method: str


class NoLaw(ValueError):
    """No exact method applies: only a second run can tell the bias."""


def predict(integrator: Integrator, potential: Solvable, like: Any, *, origin: Any = 0.0) -> Law:
    """The law of a scheme on a landscape, by linear algebra or a transfer matrix; plain numbers only.

    like: one particle's position. origin: of the virial. Raises `NoLaw`.
    """
    try:
        if potential.quadratic:
            return _linear(integrator, potential, like, origin)
        if potential.separable:
            return _separable(integrator, potential, like, origin)
    except (NotLinear, NoTransfer, NoStationary) as error:
        raise NoLaw(str(error)) from None
    raise NoLaw(f"{type(potential).__name__} is neither quadratic nor a sum over coordinates")


def _linear(integrator: Integrator, potential: Solvable, like: Any, origin: Any) -> Law:
    step = linear_map(integrator, potential, like)
    mean, covariance = step.stationary()
    x, s = step.position @ mean, step.position @ covariance @ step.position.T
    with jax.enable_x64(True):
        zeros, unravel = ravel_pytree(jax.tree.map(lambda a: jnp.zeros(jnp.shape(a)), like))
        wide, kernel = upcast(potential), upcast(integrator)
        energy = lambda y: wide(unravel(y))  # noqa: E731
        stiffness = np.asarray(jax.hessian(energy)(zeros))
        force = np.asarray(jax.grad(energy)(jnp.asarray(x)))
        at_mean = float(energy(jnp.asarray(x)))
        kinetic = None
        if integrator.has_momentum:
            first = Noise(tuple(unravel(zeros) for _ in range(integrator.init_noise.normals)))
            flat, back = ravel_pytree(kernel.init(wide, unravel(zeros), first))
            quadratic = np.asarray(jax.hessian(lambda v: jnp.asarray(kernel.kinetic_energy(back(v))))(flat))
            kinetic = float(np.trace(quadratic @ covariance)) / len(x)
    product = stiffness @ s
    return Law(
        energy=at_mean + np.trace(product) / 2,
        energy_variance=np.trace(product @ product) / 2 + force @ s @ force,
        position=x,
        position_variance=np.diag(s),
        kinetic=kinetic,
        virial=(np.trace(product) + (x - origin) @ force) / len(x),
        configurational=(np.trace(stiffness @ product) + force @ force) / np.trace(stiffness),
        method="exact discrete law",
    )


def _separable(integrator: Integrator, potential: Solvable, like: Any, origin: Any) -> Law:
    temperature = float(integrator.temperature)
    if temperature <= 0:
        raise NoLaw("no stationary law at temperature 0")
    if np.ndim(origin):
        raise NoLaw("a virial origin for each coordinate has no law of one coordinate")
    with jax.enable_x64(True):
        mean, covariance = upcast(potential).moments(temperature, np.zeros(1))
    averages = stationary_averages(
        integrator, potential, _MEASURED[integrator.has_momentum], mean=float(mean[0]),
        deviation=float(np.sqrt(covariance[0, 0])), accuracy=ACCURACY,
    ).values  # fmt: skip
    energy, energy2, x, x2, gradient, virial, gradient2, curvature, *kinetic = averages
    d = size_of(like)
    return Law(
        energy=d * energy,
        energy_variance=d * (energy2 - energy**2),
        position=np.full(d, x),
        position_variance=np.full(d, x2 - x**2),
        kinetic=kinetic[0] if kinetic else None,
        virial=virial - origin * gradient,
        configurational=gradient2 / curvature,
        method="transfer matrix",
    )


def _measured(potential: Any, integrator: Any, state: Any) -> jax.Array:
    """The averages from which all others follow, for a particle of one coordinate."""
    x, energy, gradient = state.position, *potential.value_and_gradient(state.position)
    values = [energy, energy**2, x[0], x[0] ** 2, gradient[0], x[0] * gradient[0], gradient[0] ** 2]
    return jnp.stack([*values, laplacian(potential, x)])


def _measured_with_momentum(potential: Any, integrator: Any, state: Any) -> jax.Array:
    kinetic = kinetic_temperature(potential, integrator, state)
    return jnp.append(_measured(potential, integrator, state), kinetic)


_MEASURED: dict[bool, Callable] = {False: _measured, True: _measured_with_momentum}


def thermometer(law: Law, measure: Measurement) -> float | None:
    """What a thermometer reads under a law."""
    if measure.exact_at == kinetic_temperature.exact_at:
        return law.kinetic
    if isinstance(measure, VirialTemperature):
        return law.virial
    return law.configurational if measure.exact_at == configurational_temperature.exact_at else None
