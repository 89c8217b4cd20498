"""HMC, generalised HMC and Neal's funnel in 22 dimensions: the engine, and what a competent JAX user writes.

HMC takes 10 leapfrog steps before its test, generalised HMC one ("OBAB"). The user keeps gradient and energy of where a
particle stands, makes all noise of a step in one call, and writes the ten steps out, which is faster than a loop.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from contestants import TILT, WELL, Call, on_all_devices, run_engine, start
from jax import lax

from heatbath import integrators, potentials

LEAPS, GAMMA, SCALE = 10, 1.0, 3.0
DIMENSION = 22  # of the funnel


def well(x: Any) -> Any:
    """Energies (n,) of positions (n, d)."""
    return jnp.sum((x * x - 1) ** 2 + TILT * x, axis=-1)


def funnel(x: Any) -> Any:
    v, rest = x[:, 0], x[:, 1:]
    return (jnp.sum(rest * rest, axis=-1) * jnp.exp(-v) + (DIMENSION - 1) * v + v * v / SCALE**2) / 2


WORKS = {  # our energy, theirs, step size, temperature
    "double well": (WELL, well, 0.1, 0.5),
    "funnel": (potentials.Funnel(dimension=DIMENSION, scale=SCALE), funnel, 0.02, 1.0),
}


def ours(scheme: str, work: str, n: int, d: int, steps: int) -> Call:
    potential, _, h, t = WORKS[work]
    bath = {
        "HMC": lambda: integrators.HMC(step_size=h, steps=LEAPS, temperature=t),
        "GHMC": lambda: integrators.GHMC(step_size=h, friction=GAMMA, temperature=t),
        "BAOAB": lambda: integrators.BAOAB(step_size=h, friction=GAMMA, temperature=t),
    }[scheme]()
    return run_engine(potential, bath, start(n, d), steps)


def scan(scheme: str, work: str, n: int, d: int, steps: int) -> Call:
    """The population split over all devices of the process."""
    _, energy, h, t = WORKS[work]

    def forces(x: Any) -> tuple[Any, Any]:
        value, back = jax.vjp(energy, x)
        return value, back(jnp.ones_like(value))[0]

    step = {"HMC": hmc, "GHMC": ghmc, "BAOAB": baoab}[scheme](forces, h, t)

    def run(state: Any, key: Any) -> Any:
        return lax.scan(lambda s, key: (step(s, key), None), state, jax.random.split(key, steps))[0]

    return on_all_devices(run, start(n, d), lambda x, key: (x, jnp.zeros_like(x), *forces(x)))


def hmc(forces: Callable, h: float, t: float) -> Callable:
    def step(state: Any, key: Any) -> Any:
        x, _, value, g = state
        normal, uniform = jax.random.split(key)
        p = jnp.sqrt(t) * jax.random.normal(normal, x.shape)
        return leap(forces, h, t, (x, p, value, g), uniform, LEAPS)

    return step


def ghmc(forces: Callable, h: float, t: float) -> Callable:
    c = jnp.exp(-GAMMA * h)

    def step(state: Any, key: Any) -> Any:
        x, p, value, g = state
        normal, uniform = jax.random.split(key)
        p = c * p + jnp.sqrt(t * (1 - c * c)) * jax.random.normal(normal, x.shape)
        return leap(forces, h, t, (x, p, value, g), uniform, 1)

    return step


def leap(forces: Callable, h: float, t: float, old: Any, key: Any, count: int) -> Any:
    """Leapfrog steps and the test."""
    x, p, value, g = old
    new, energy = value, lambda value, p: value + jnp.sum(p * p, axis=-1) / 2
    for _ in range(count):
        p = p - h / 2 * g
        x = x + h * p
        new, g = forces(x)
        p = p - h / 2 * g
    change = energy(new, p) - energy(value, old[1])
    taken = jnp.log(jax.random.uniform(key, change.shape)) < -change / t
    choose = lambda a, b: jnp.where(taken.reshape(-1, *(1,) * (a.ndim - 1)), a, b)  # noqa: E731
    return tuple(map(choose, (x, p, new, g), (old[0], -old[1], value, old[3])))


def baoab(forces: Callable, h: float, t: float) -> Callable:
    c = jnp.exp(-GAMMA * h)

    def step(state: Any, key: Any) -> Any:
        x, p, value, g = state
        p = p - h / 2 * g
        x = x + h / 2 * p
        p = c * p + jnp.sqrt(t * (1 - c * c)) * jax.random.normal(key, x.shape)
        x = x + h / 2 * p
        g = forces(x)[1]
        return x, p - h / 2 * g, value, g

    return step


BY_NAME: dict[str, Callable[..., Call]] = {"metropolised": ours, "metropolised scan": scan}
