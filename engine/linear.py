"""What a scheme does on a quadratic energy, exactly: a linear map of (state, noise), and its stationary law.

    s' = A s + B ξ,     Σ = A Σ Aᵀ + B Bᵀ

solved in float64 whatever the precision of the process; no Monte Carlo. Transients are exact too:
m_n = Aⁿ m_0 and S_n = Σ + Aⁿ (S_0 - Σ) Aⁿᵀ.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from .hardware import ONCE, jit
from .protocols import Integrator, Noise, Potential
from .pytree import pytree, ravel, upcast

LINEAR = 1e-9  # relative departure from linearity that is still rounding
ON_CIRCLE = 1e-7  # beyond 1, of a spectral radius that is still rounding: free particles have a double eigenvalue there


class LinearMap(NamedTuple):
    """One step on a quadratic energy: matrices over the ravelled state, and where the position and momentum lie there."""

    drift: np.ndarray  # A, (s, s)
    noise: np.ndarray  # B, (s, draws)
    constant: np.ndarray  # (s,): zero for a centred energy
    position: np.ndarray  # (d, s): the rows that pick the position out of a state
    momentum: np.ndarray | None  # (d, s)

    @property
    def radius(self) -> float:
        """Spectral radius of A; the scheme is stable below 1. Rate of relaxation: -ln(radius)/h."""
        return float(np.abs(np.linalg.eigvals(self.drift)).max())

    def stationary(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean (s,) and covariance (s, s) of the stationary law; raises `NoStationary` where there is none."""
        from scipy.linalg import matrix_balance, solve_discrete_lyapunov

        if not self.radius < 1 - 1e-13:
            raise NoStationary(f"no stationary law: the spectral radius of a step is {self.radius:.6g}, not below 1")
        mean = np.linalg.solve(np.eye(len(self.drift)) - self.drift, self.constant)
        # in units in which positions and momenta are of one size, whatever the mass: powers of two, so nothing is rounded
        balanced, (units, _) = matrix_balance(self.drift, permute=False, separate=True)
        noise = self.noise / units[:, None]
        return mean, solve_discrete_lyapunov(balanced, noise @ noise.T) * np.outer(units, units)

    def of_position(self) -> tuple[np.ndarray, np.ndarray]:
        """Stationary mean (d,) and covariance (d, d) of the position."""
        mean, covariance = self.stationary()
        return self.position @ mean, self.position @ covariance @ self.position.T


class NoStationary(ValueError):
    """The step is unstable: its chain has no stationary law."""


class NotLinear(ValueError):
    """The step is no linear map of state and noise on a quadratic energy: another method is needed."""


def linear_map(integrator: Integrator, potential: Potential, position: Any) -> LinearMap:
    """The linear map of one step on a quadratic energy, at step 0's numbers; position: the shapes of one particle.

    Raises `NotLinear` if the step is adaptive, Metropolised, takes uniforms, or the energy is not quadratic.
    """
    if integrator.noise.uniforms or integrator.noise.words or integrator.init_noise.normals > 2:
        raise NotLinear(f"{type(integrator).__name__} takes uniform noise: no linear map")
    with jax.enable_x64(True):
        origin = jax.tree.map(lambda a: np.zeros(np.shape(a)), position)
        drift, noise, constant, probes, position, momentum = jax.tree.map(
            np.asarray, _matrices(upcast(integrator), upcast(potential), origin)
        )
    for place, there in zip(*probes, strict=True):  # a linear map is the same seen from anywhere
        expected = np.hstack([drift, noise]) @ place + constant
        if not np.isfinite(expected).all() or not np.allclose(
            there, expected, rtol=LINEAR, atol=LINEAR * (1 + np.abs(expected).max())
        ):
            raise NotLinear(f"a step of {type(integrator).__name__} is not linear on {type(potential).__name__}")
    return LinearMap(drift, noise, constant, position, momentum)


def stability_limit(integrator: Any, potential: Potential, position: Any) -> float | None:
    """The step size at which a scheme becomes unstable on a quadratic energy, if its own is beyond; else None.

    0 where a millionth of its step is no better. position: the shapes of one particle. Raises `NotLinear`.
    """
    radius = lambda h: linear_map(integrator.with_step_size(h), potential, position).radius  # noqa: E731
    own = float(integrator.step_size)
    if radius(own) <= 1 + ON_CIRCLE:
        return None
    low, high = own / 2, own
    while radius(low) > 1 + ON_CIRCLE:
        low, high = low / 4, low
        if low < own * 1e-6:
            return 0.0
    return boundary(lambda h: radius(h) <= 1 + ON_CIRCLE, low, high, 20)


def boundary(holds: Callable[[float], bool], low: float, high: float, halvings: int) -> float:
    """The largest number seen where something holds that holds at `low` and not at `high`, by halving in the logarithm."""
    for _ in range(halvings):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if holds(middle) else (low, middle)
    return float(low)


@jit(ONCE)
def _matrices(integrator: Integrator, potential: Potential, origin: Any) -> tuple:
    """Steps from zero, from each unit of state and noise, and from two other places; and how to read a state."""
    x, unravel_position = ravel_pytree(origin)
    first = Noise(tuple(origin for _ in range(integrator.init_noise.normals)))
    state, unravel = ravel_pytree(integrator.init(potential, origin, first))
    spec = integrator.noise
    draws = spec.normals * x.size + spec.scalars

    def step(z: jax.Array) -> jax.Array:
        s, xi = z[: state.size], z[state.size :]
        normals = tuple(unravel_position(xi[i * x.size : (i + 1) * x.size]) for i in range(spec.normals))
        return ravel_pytree(integrator.step(potential, unravel(s), Noise(normals, xi[spec.normals * x.size :])))[0]

    # all at once, so that the step is compiled once; differences of a linear map are its matrix to the last digits
    size = state.size + draws
    places = jnp.stack([jnp.cos(jnp.arange(1.0, size + 1) * k + 0.3 * k) for k in (1, 2)])
    reached = jax.vmap(step)(jnp.concatenate([jnp.zeros((1, size)), jnp.eye(size), places]))
    matrix = (reached[1 : size + 1] - reached[0]).T
    read = lambda part: jax.vmap(lambda s: ravel_pytree(part(unravel(s)))[0])(jnp.eye(state.size)).T  # noqa: E731
    return (
        matrix[:, : state.size],
        matrix[:, state.size :],
        reached[0],
        (places, reached[size + 1 :]),
        read(lambda s: s.position),
        read(integrator.momentum) if integrator.has_momentum else None,
    )


@pytree
class Quadratic(Potential):
    """(x - c)·K(x - c)/2 - f·x for a matrix K: the probe of linear schemes, and with K = 0 of their transport."""

    matrix: Any
    center: Any = 0.0
    force: Any = 0.0
    quadratic = True

    def __call__(self, position: Any) -> jax.Array:
        x = ravel(position)
        y = x - self.center
        return jnp.vdot(y, self.matrix @ y) / 2 - jnp.sum(self.force * x)
