"""Linear response: how averages answer a small step of force or temperature, and what fluctuations say of it."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .checks import check_steps
from .divergence import need_particles
from .protocols import Potential, as_potential
from .pytree import check_number, number, pytree, ravel
from .run import Run
from .simulate import simulate


@pytree
class Pull(Potential):
    """-force·x: a constant force, a number for every coordinate or one for each (d,)."""

    force: Any = number()

    def __call__(self, position: Any) -> jax.Array:
        return -jnp.sum(self.force * ravel(position))


@dataclass(frozen=True)
class Response:
    """The response of an average, divided by the step that caused it. steps, times: (records,).

    measured: from the driven and the undriven run, on the same noise. predicted: from the fluctuations of the undriven
    run. Each (records,), with its error and that of their difference, which is smaller: they share the particles.
    """

    steps: np.ndarray
    times: np.ndarray
    measured: np.ndarray
    measured_error: np.ndarray
    predicted: np.ndarray
    predicted_error: np.ndarray
    difference_error: np.ndarray

    def __str__(self) -> str:
        lines = [f"{'step':>10}  {'time':>10}  {'response':>10}  {'error':>8}  {'fluctuations':>12}  {'error':>8}"]
        columns = (self.steps, self.times, self.measured, self.measured_error, self.predicted, self.predicted_error)
        for step, time, value, error, said, its in zip(*columns, strict=True):
            lines.append(f"{step:>10,}  {time:>10.4g}  {value:>10.4g}  {error:>8.2g}  {said:>12.4g}  {its:>8.2g}")
        return "\n".join(lines)

    __repr__ = __str__


def response(
    potential: Callable,
    integrator: Any,
    positions: Any,
    *,
    steps: int,
    every: int,
    observable: Callable,
    force: Any = None,
    temperature: float | None = None,
    key: Any = 0,
) -> Response:
    """The answer of ⟨A⟩ to a small step at time 0 of the force, or the temperature, against the prediction of fluctuations.

        force f:          d⟨A(t)⟩/df = ⟨(A(t) - A(0)) (B(t) - B(0))⟩/2T,     B = Σ x (or f̂·x)
        temperature δ:    d⟨A(t)⟩/dT = ⟨(A(t) - A(0)) (U(t) - U(0))⟩/2T²

    The right sides are (C(0) - C(t))/T and /T² with C the equilibrium correlation of A and B, written so that they also
    hold for diffusion without an equilibrium: with A = B = x on a flat energy they say D = μT (Einstein). For dynamics
    that obeys detailed balance, A even in the momenta, up to what the scheme's step adds; `positions` must be drawn from
    the equilibrium. The response to temperature is predicted for overdamped schemes.

    observable: A, a function of one particle's position, a number. force: a number for all coordinates, or (d,): small
    against what already acts. temperature: δ, a small rise. Give one of the two. steps, every: how long, and between two
    records. Raises ValueError otherwise, and at temperature 0. Kubo, Rep. Prog. Phys. 29, 255 (1966).
    """
    steps, every = check_steps(steps), check_steps(every)
    if not 1 <= every <= steps:
        raise ValueError(f"every must be from 1 to steps = {steps}; got {every}")
    if (force is None) == (temperature is None):
        raise ValueError(f"give a force or a temperature step, one of the two; got {force!r} and {temperature!r}")
    bath = integrator.temperature
    if np.ndim(bath) or np.asarray(bath).dtype.kind not in "iuf" or not bath > 0:
        raise ValueError(f"response takes one positive temperature of the bath; got {bath!r}")
    energy, driven, strong = as_potential(potential), integrator, as_potential(potential)
    if force is not None:
        pull = Pull(force=force)
        size = float(force) if np.ndim(force) == 0 else float(np.linalg.norm(force))
        strong, cause = energy + pull, lambda x: -pull(x) / size
    else:
        if integrator.has_momentum:
            raise ValueError("the response to temperature is predicted for overdamped schemes; this one has momenta")
        check_number("temperature", "", temperature)
        size = float(temperature)  # pyright: ignore[reportArgumentType]
        driven, cause = dataclasses.replace(integrator, temperature=bath + size), energy
    if size == 0 or not np.isfinite(size):
        raise ValueError(f"the step must be finite and not zero; got {force if force is not None else temperature!r}")
    scale = 2 * bath if force is not None else 2 * bath**2
    begin = lambda u, bath: simulate(u, bath, positions, steps=0, key=key, observables=(), progress=False)  # noqa: E731
    free, pulled = begin(energy, integrator), begin(strong, driven)
    need_particles(free.particles, 16, "the error of a response")
    if free.ladder:
        raise ValueError("response takes one population: call it for each value of a sweep")
    a0, b0 = _values(free, observable), _values(free, cause)
    rows = []
    for _ in range(every, steps + 1, every):
        free, pulled = (simulate(run, steps=every, progress=False) for run in (free, pulled))
        a, b = _values(free, observable), _values(free, cause)
        apart = (_values(pulled, observable) - a) / size
        said = (a - a0) * (b - b0) / scale
        both = [(v.mean(), v.std(ddof=1) / np.sqrt(len(v))) for v in (apart, said, apart - said)]
        rows.append((free.step, float(free.time), *both[0], *both[1], both[2][1]))
    at, *rest = (np.array(column) for column in zip(*rows, strict=True))
    return Response(at.astype(int), *rest)


def _values(run: Run, function: Callable) -> np.ndarray:
    """A function of the position for every particle (n,), in float64."""
    with jax.enable_x64(True):
        values = jax.vmap(function)(jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), run.positions))
    if np.shape(values) != (run.particles,):
        raise ValueError(f"observable must return one number for one particle; got shape {np.shape(values)[1:]}")
    return np.asarray(values, float)
