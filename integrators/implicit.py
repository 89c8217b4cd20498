"""Implicit overdamped schemes: stable at any step, for a few linear solves a step."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from ..engine.protocols import Integrator, Noise, NoiseSpec, Potential
from ..engine.pytree import check_count, number, pytree, ravel, root_times, static, times
from .overdamped import Position


@pytree
class Implicit(Integrator):
    """What both have in common: their numbers, and that they are exact on Gaussians."""

    step_size: Any = number("positive")
    temperature: Any = number("non-negative", default=1.0)
    mobility: Any = number("positive definite", default=1.0)
    iterations: int = static(default=3)
    exact = frozenset({"positions"})
    noise = NoiseSpec(normals=1)

    def __post_init__(self) -> None:
        check_count("iterations", self.iterations, 1)

    def init(self, potential: Potential, position: Any, noise: Noise) -> Position:
        return Position(position)


@pytree
class ImplicitMidpoint(Implicit):
    """Exact on Gaussians at any step size, however stiff; first order elsewhere (see `CrankNicolson`).

        x' = x - μh ∇U(y) + √(2μhT) ξ,    y = (x + x')/2

    The midpoint y is found by Newton's method from y = x: `iterations` of them always, so a step is a fixed map. One is
    exact on a quadratic energy; elsewhere what is left is small to the power 2^iterations. Convex energies may take any
    step; where the curvature reaches -2/μh the equation has no unique solution.
    step_size: h, time. temperature: T, energy. mobility: μ, a scalar, diagonal or matrix.
    Cost: an iteration takes a gradient and its Jacobian (d more), and solves d equations, O(d³). Weak order 1 and
    stationary order 1: to leading order it samples U - hT tr(μ∇∇U)/4. On Gaussians positions are exact and stable at all
    steps, x' = ((1 - z/2)x + √(2μhT) ξ)/(1 + z/2) with z = μhk: a stiff mode turns round, -1 < (1 - z/2)/(1 + z/2).
    Raises ValueError for no iterations.
    """

    weak_order = 1
    stationary_order = 1

    @property
    def gradients(self) -> int:
        return self.iterations

    def step(self, potential: Potential, state: Position, noise: Noise) -> Position:
        x, h, (xi,) = state.position, self.step_size, noise.normals
        kick = optax.tree.scale(jnp.sqrt(2 * h * self.temperature), root_times(self.mobility, xi))
        known = optax.tree.add_scale(x, 0.5, kick)

        def residual(y: Any) -> Any:
            drift = times(self.mobility, potential.gradient(y))
            return optax.tree.add_scale(optax.tree.sub(y, known), h / 2, drift)

        y = newton(residual, x, self.iterations)
        return Position(optax.tree.sub(optax.tree.scale(2.0, y), x))


@pytree
class CrankNicolson(Implicit):
    """Exact on Gaussians at any step size, however stiff, and of second order elsewhere.

        x' = x - μh (∇U(x) + ∇U(x'))/2 + √(2μhT) ξ

    The trapezoidal rule; on a quadratic energy the same map as `ImplicitMidpoint`, whose iterations and limits it shares.
    step_size: h, time. temperature: T, energy. mobility: μ, a scalar, diagonal or matrix.
    Cost: a gradient, and for each iteration a gradient, its Jacobian (d more) and a solution of d equations, O(d³). Weak
    order 2, stationary order 2; on Gaussians positions are exact and stable at all steps.
    Raises ValueError for no iterations.
    """

    weak_order = 2
    stationary_order = 2

    @property
    def gradients(self) -> int:
        return 1 + self.iterations

    def step(self, potential: Potential, state: Position, noise: Noise) -> Position:
        x, h, (xi,) = state.position, self.step_size, noise.normals
        drift: Callable = lambda y: times(self.mobility, potential.gradient(y))  # noqa: E731
        kick = optax.tree.scale(jnp.sqrt(2 * h * self.temperature), root_times(self.mobility, xi))
        known = optax.tree.add(optax.tree.add_scale(x, -h / 2, drift(x)), kick)

        def residual(y: Any) -> Any:
            return optax.tree.add_scale(optax.tree.sub(y, known), h / 2, drift(y))

        return Position(newton(residual, x, self.iterations))


def newton(residual: Callable, start: Any, iterations: int) -> Any:
    """A root of a map from trees to trees of one structure, by a fixed number of Newton's iterations from `start`."""
    y, unravel = ravel_pytree(start)

    def value(y: jax.Array) -> tuple[jax.Array, jax.Array]:
        r = ravel(residual(unravel(y)))
        return r, r

    for _ in range(iterations):
        jacobian, r = jax.jacfwd(value, has_aux=True)(y)
        y = y - jnp.linalg.solve(jacobian, r)
    return unravel(y)
