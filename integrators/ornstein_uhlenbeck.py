"""The exact step of overdamped Langevin dynamics on a quadratic energy."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ..engine.protocols import Integrator, Noise, NoiseSpec, Potential
from ..engine.pytree import number, pytree, ravel, root_times
from .overdamped import Position


@pytree
class ExactOrnsteinUhlenbeck(Integrator):
    """The continuous dynamics itself on a quadratic energy, at any step: the yardstick of the other schemes.

        x' = c + e^(-μKh) (x - c) + Σ^½ ξ,    Σ = T K⁻¹ (1 - e^(-2μKh)),    U = (x - c)·K(x - c)/2 + const

    By the modes of √μᵀ K √μ, so that flat and unstable directions (K ≤ 0) are exact too.
    step_size: h, time. temperature: T, energy. mobility: μ, a scalar, diagonal or matrix.
    Cost: the gradient's Jacobian at 0 (d gradients) and its modes, O(d³), once a step where particles share the energy, and
    O(d²) for each particle. No error in the step: law and transients are exact.
    Raises ValueError at `init` for an energy that does not declare `quadratic`.
    Uhlenbeck and Ornstein, Phys. Rev. 36, 823 (1930).
    """

    step_size: Any = number("positive")
    temperature: Any = number("non-negative", default=1.0)
    mobility: Any = number("positive definite", default=1.0)
    weak_order = stationary_order = 2  # of an error that is zero: any order holds
    exact = frozenset({"positions", "transients"})
    noise = NoiseSpec(normals=1)

    def init(self, potential: Potential, position: Any, noise: Noise) -> Position:
        if not potential.quadratic:
            raise ValueError(
                f"{type(self).__name__} is exact on quadratic energies and has no meaning on others; "
                f"{type(potential).__name__} does not declare `quadratic = True`: use LeimkuhlerMatthews or StochasticHeun"
            )
        return Position(position)

    def step(self, potential: Potential, state: Position, noise: Noise) -> Position:
        h, (x, unravel), xi = self.step_size, ravel_pytree(state.position), ravel(noise.normals[0])

        def gradient(y: jax.Array) -> tuple[jax.Array, jax.Array]:
            g = ravel(potential.gradient(unravel(y)))
            return g, g

        # at 0, where no particle is, so that the modes are found once for all particles
        stiffness, force = jax.jacfwd(gradient, has_aux=True)(jnp.zeros_like(x))
        root = jax.vmap(lambda e: ravel(root_times(self.mobility, unravel(e))), out_axes=1)(
            jnp.eye(len(x), dtype=x.dtype)
        )
        rate, modes = jnp.linalg.eigh(root.T @ stiffness @ root)
        back = root @ modes
        flat = jnp.where(rate == 0, 1, rate)
        way = jnp.where(rate == 0, h, -jnp.expm1(-flat * h) / flat)  # (1 - e^(-λh))/λ
        variance = self.temperature * jnp.where(rate == 0, 2 * h, -jnp.expm1(-2 * flat * h) / flat)
        # the noise is turned to the modes and back, so that it does not depend on the signs of eigenvectors
        x = x - back @ (way * (back.T @ (force + stiffness @ x))) + back @ (jnp.sqrt(variance) * (modes.T @ xi))
        return Position(unravel(x))
