"""How large a step a scheme bears on an energy, and what a step costs."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from .block import run_block
from .checks import NonFiniteError
from .equilibrium import Solvable
from .linear import NotLinear, boundary, linear_map
from .plan import Plan
from .preparation import prepare
from .protocols import Integrator
from .simulate import simulate
from .target import Problem

TRIAL = 100  # steps, of a scheme with one gradient a step
HOT = 10.0  # standard deviations of the energy by which the mean may be off
MOVING = 0.1  # of the particles, in a step, that must move
HALVINGS = 4  # of a factor 4 between a step that is borne and one that is not: to 9 %
SMALLEST, LARGEST = 1e-8, 1e8
SECONDS = 0.05  # of a timed call


def largest_step(make: Callable[[float], Integrator], problem: Problem, key: Any) -> tuple[float, str]:
    """The largest step size a scheme bears, and how it was found; 0 if none is found, infinite if it bears all.

    Of a linear scheme on a quadratic energy the stability limit. Else searched: particles that start in equilibrium stay
    finite for 100 gradients, their mean energy within ten standard deviations of it, and at least a tenth of them moves
    in a step (Metropolis rejects the rest).
    """
    potential = problem.potential
    method = "searched"
    usable: Callable[[float], bool] = lambda h: _bears(make(h), problem, key)  # noqa: E731
    if isinstance(potential, Solvable) and potential.quadratic:
        try:
            linear_map(make(1.0), potential, problem.like)
            usable, method = (lambda h: linear_map(make(h), potential, problem.like).radius < 1), "exact"
        except NotLinear:
            pass
    low = high = 1.0
    if usable(low):
        while usable(high := 4 * low):
            low = high
            if high > LARGEST:
                return np.inf, method
    else:
        while not usable(low := high / 4):
            high = low
            if low < SMALLEST:
                return 0.0, method
    return boundary(usable, low, high, HALVINGS if method == "searched" else 30), method


def _bears(integrator: Integrator, problem: Problem, key: Any) -> bool:
    steps = max(10, TRIAL // integrator.gradients)
    options = {"observables": (), "progress": False}
    try:
        after = simulate(problem.potential, integrator, problem.start, steps=steps, key=key, **options)
        if integrator.noise.uniforms or integrator.noise.words:  # what can reject
            later = simulate(after, steps=1, **options)
            same = [np.asarray(a == b).reshape(len(a), -1).all(1)
                    for a, b in zip(*map(jax.tree.leaves, (after.positions, later.positions)), strict=True)]  # fmt: skip
            if np.mean(np.all(same, axis=0)) > 1 - MOVING:
                return False
    except NonFiniteError:
        return False
    energies = np.asarray(_energies(problem.potential, after.positions), float)
    exact = problem.quantities["energy"].exact
    spread = np.sqrt(exact.variance) if np.isfinite(exact.variance) else _spread(problem)
    return bool(abs(energies.mean() - exact.mean) <= HOT * spread)


def _spread(problem: Problem) -> float:
    return float(np.std(np.asarray(_energies(problem.potential, problem.start), float)))


@jax.jit
def _energies(potential: Any, positions: Any) -> Any:
    return jax.vmap(potential)(positions)


def seconds_a_step(integrator: Integrator, problem: Problem, key: Any) -> float:
    """Of one particle, when nothing is observed: the best of three calls of the compiled block."""
    run = prepare(problem.potential, integrator, problem.start, key=key, observables=())
    plan = Plan.of(run)
    carry, steps, best = plan.pack(run), 16, np.inf
    while True:
        taken = []
        for _ in range(3):
            began = time.perf_counter()
            jax.block_until_ready(
                run_block(plan.program, plan.shared, plan.particle, [], carry, plan.keys, plan.window(0, steps))
            )
            taken.append(time.perf_counter() - began)
        best = min(taken)
        if best > SECONDS / 3 or steps >= plan.most // 4:
            return best / steps / run.particles
        steps = int(min(max(2 * steps, steps * SECONDS / best), plan.most // 4))
