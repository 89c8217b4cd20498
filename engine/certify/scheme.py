"""What a scheme is as seen from outside: one mode of stiffness k, its mass, and its motion where there is no landscape."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..linear import LinearMap, NotLinear, Quadratic, linear_map
from ..marks import is_mark, with_number
from ..protocols import Integrator, Noise
from ..pytree import named_leaves

SLOW = 1e-4  # γh at which the limit of small steps is taken
ONE = 1e-6  # distance from 1 of the eigenvalue that is the free particle's position


class Free(NamedTuple):
    """Motion under a constant force alone, from the step's matrices: exact at its step."""

    mobility: float  # mean velocity over the force
    diffusion: float  # Var(x(t))/2t
    friction: float  # the rate at which the momentum is forgotten; 0 where there is none


def probe(matrix: Any, *, center: Any = 0.0, force: Any = 0.0) -> Quadratic:
    """A quadratic energy whose leaves have the same shapes whatever is asked, so that one compilation serves all."""
    d = len(matrix)
    wide = lambda a: np.broadcast_to(np.asarray(a, float), d).copy()  # noqa: E731
    return Quadratic(matrix=np.asarray(matrix, float), center=wide(center), force=wide(force))


def on_mode(integrator: Integrator, stiffness: float) -> LinearMap:
    """A step on kx²/2."""
    if integrator.least_coordinates > 1:
        raise NotLinear(f"{type(integrator).__name__} has no dynamics in one coordinate")
    return linear_map(integrator, probe([[stiffness]]), jnp.zeros(1))


def has_number(integrator: Any, name: str) -> bool:
    """Whether a number is declared, and one that can be replaced."""
    return getattr(integrator, name) is not None and name in {leaf[0] for leaf in named_leaves(integrator, is_mark)}


def with_numbers(integrator: Any, **numbers: Any) -> Any:
    """The integrator with other numbers, as far as it has them."""
    for name, value in numbers.items():
        if name == "step_size":
            integrator = integrator.with_step_size(value)
        elif has_number(integrator, name):
            integrator = with_number(integrator, name, value)
    return integrator


def mass_of(integrator: Any) -> float:
    """The mass, from the kinetic energy of the momentum that is drawn at temperature 1."""
    integrator = with_numbers(integrator, temperature=1.0)
    with jax.enable_x64(True):
        state = integrator.init(probe(np.eye(1)), jnp.zeros(1), Noise((jnp.ones(1),) * integrator.init_noise.normals))
        p = float(jnp.sum(jnp.asarray(integrator.momentum(state))))
        return p**2 / 2 / float(jnp.asarray(integrator.kinetic_energy(state)))


def free(integrator: Integrator) -> Free | None:
    """Transport of a free particle at the integrator's step; None where it does not diffuse."""
    step = linear_map(integrator, probe([[0.0]], force=1.0), jnp.zeros(1))
    h = float(integrator.step_size)
    values, right = np.linalg.eig(step.drift)
    at_one = np.abs(values - 1) < ONE
    if at_one.sum() != 1:
        return None
    left_values, left = np.linalg.eig(step.drift.T)
    r, y = np.real(right[:, at_one])[:, 0], np.real(left[:, np.argmin(np.abs(left_values - 1))])
    y = y / (y @ r) * (step.position @ r)[0]  # the part of a state that is carried on is r (y·s), with position y·s
    others = np.abs(values[~at_one])
    slowest = float(others.max()) if integrator.has_momentum and len(others) else 0.0
    rate = -np.log(slowest) / h if slowest > 0 else np.inf if integrator.has_momentum else 0.0
    return Free(float(y @ step.constant) / h, float(np.sum((y @ step.noise) ** 2)) / 2 / h, rate)


def free_limit(integrator: Any) -> Free | None:
    """Transport in the limit of small steps: what the scheme approximates. None without such a limit."""
    if not has_number(integrator, "step_size"):
        return None
    h = float(integrator.step_size)
    for _ in range(60):
        found = free(with_numbers(integrator, step_size=h))
        if found is None or found.friction * h < SLOW:
            break
        h /= 4
    else:
        return None  # the momentum is forgotten however short the step: no motion in continuous time
    pair = [free(with_numbers(integrator, step_size=h / f)) for f in (1, 2)]
    if pair[0] is None or pair[1] is None:
        return None
    return Free(*(2 * fine - coarse for coarse, fine in zip(*pair, strict=True)))


def declared(integrator: Any) -> Free:
    """Transport as declared, where a step is not linear; NaN for a friction that is not."""
    number = lambda value, default: default if value is None else float(value)  # noqa: E731
    mobility = number(integrator.mobility, 1.0)
    return Free(mobility, mobility * float(integrator.temperature), number(integrator.friction, np.nan))
