"""The form of a step: gradients it asks for, what it does to volumes of phase space, and whether it runs backwards."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..checks import check_step
from ..protocols import Integrator, Noise, NoiseSpec, Potential
from ..pytree import pytree, static, upcast
from ..verdict import Line
from .scheme import Free, has_number, mass_of, with_numbers

ROUNDING = 1e-9


@pytree
class Counting(Potential):
    """A quadratic energy that notes every gradient asked of it."""

    asked: list = static()
    quadratic = True

    def __call__(self, position: Any) -> jax.Array:
        return jnp.sum(position**2) / 2

    def value_and_gradient(self, position: Any) -> Any:
        jax.debug.callback(lambda: self.asked.append(1))  # when it is asked, in every turn of a loop
        return super().value_and_gradient(position)


@pytree
class Bent(Potential):
    """Σ log cosh x + 0.3 x₀x₁: smooth, coupled, and with a force that no linear scheme knows."""

    def __call__(self, position: Any) -> jax.Array:
        return jnp.sum(jnp.logaddexp(position, -position)) + 0.3 * position[0] * position[1]


def silent(spec: NoiseSpec, zero: Any) -> Noise:
    """Noise at the middle of its laws."""
    words = jnp.zeros(spec.words, jnp.uint32)
    return Noise((zero,) * spec.normals, jnp.zeros(spec.scalars), jnp.full(spec.uniforms, 0.5), words)


def count_gradients(integrator: Integrator) -> Line:
    """Gradients a step in fact, against the declared number."""
    integrator = jax.tree.map(jnp.asarray, integrator)  # numbers as a run passes them
    counting, zero = Counting(asked=[]), jnp.ones(integrator.least_coordinates)
    step = lambda state: integrator.step(counting, state, silent(integrator.noise, zero))  # noqa: E731
    state = integrator.init(counting, zero, silent(integrator.init_noise, zero))
    check_step(integrator, state, jax.eval_shape(step, state))
    jax.effects_barrier()
    counting.asked.clear()
    step(state)
    jax.effects_barrier()
    asked = len(counting.asked)
    return Line(float(asked), float(integrator.gradients), passed=asked == integrator.gradients)


def phase_space(integrator: Any, limit: Free | None) -> dict[str, Line]:
    """Determinant, symplecticity and time reversal of (x, p) → (x', p') on a nonlinear energy in two dimensions.

    A property and no verdict: a scheme may be right without. The determinant is of the step as it is, noise held fixed;
    the rest at friction 0, where the integrator declares a friction.
    """
    jacobian, _ = _phase_map(integrator)
    if jacobian is None:
        return {}
    d = len(jacobian) // 2
    shown = "" if limit is None else -limit.friction * float(integrator.step_size)
    measured = np.linalg.slogdet(jacobian)[1] / d
    lines = {"ln(volume) a step and coordinate": Line(_zero(measured), shown, passed=None, note="exact: -γh")}
    if not has_number(integrator, "friction"):
        return lines
    jacobian, returned = _phase_map(with_numbers(integrator, friction=0.0, temperature=1.0))
    if jacobian is None or returned is None:
        return lines
    form = np.block([[np.zeros((d, d)), np.eye(d)], [-np.eye(d), np.zeros((d, d))]])
    yes = lambda error: "yes" if error < ROUNDING else f"no ({error:.2g})"  # noqa: E731
    symplectic = yes(np.abs(jacobian.T @ form @ jacobian - form).max())
    reversible = yes(np.abs(returned).max())
    return lines | {
        "symplectic at friction 0": Line(symplectic, "", passed=None),
        "reversible at friction 0": Line(reversible, "", passed=None),
    }


def _zero(value: float) -> float:
    return 0.0 if abs(value) < 1e-14 else float(value)


def _phase_map(integrator: Any) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Jacobian of a step without noise in (x, p) at one place, and how far R∘step∘R∘step leads from there."""
    if not integrator.has_momentum or integrator.noise.uniforms or integrator.noise.words:
        return None, None
    unit = np.sqrt(mass_of(integrator) * max(float(integrator.temperature), 0.0))
    if unit == 0:  # the first momentum cannot be chosen
        return None, None
    with jax.enable_x64(True):
        jacobian, returned = _phase(upcast(integrator), upcast(unit))
        return np.asarray(jacobian), np.asarray(returned)


@jax.jit
def _phase(integrator: Any, unit: Any) -> tuple:
    place = jnp.array([0.3, -0.8, 0.5, 0.9])

    def step(z: Any) -> Any:
        x, p = z[:2], z[2:]
        # the first of the normals is the momentum's
        first = (p / unit, *(jnp.zeros(2),) * (integrator.init_noise.normals - 1))
        state = integrator.init(Bent(), x, Noise(first))
        new = integrator.step(Bent(), state, silent(integrator.noise, jnp.zeros(2)))
        return jnp.concatenate([new.position, integrator.momentum(new)])

    flip: Callable = lambda z: z * jnp.array([1.0, 1, -1, -1])  # noqa: E731
    return jax.jacfwd(step)(place), flip(step(flip(step(place)))) - place
