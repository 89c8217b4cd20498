"""Kernels of other libraries as integrators, so that `simulate`, `certify` and `benchmark` take them.

`pip install -e ".[peers]"`. Each draws its own randomness from a key made of two raw words of the engine's noise. BlackJAX
samples densities: it is given log p = -U/T with steps in our units; but `sgld` and `sghmc` have a temperature of their
own, which is passed to them as documented. jax-md is given the force.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from heatbath.engine import Integrator, Noise, NoiseSpec, Potential, number, pytree, static
from heatbath.engine.pytree import dot


class Alone(NamedTuple):
    """State of a kernel that remembers its position only."""

    position: Any


class Moving(NamedTuple):
    """State of jax-md's Langevin dynamics."""

    position: Any
    momentum: Any
    force: Any


def key_of(noise: Noise) -> jax.Array:
    """The first two raw words of a step as a typed key."""
    return jax.random.wrap_key_data(noise.words, impl="threefry2x32")


def log_density(potential: Potential, temperature: Any) -> Callable:
    """-U/T, whose derivative is the potential's own gradient."""

    @jax.custom_jvp
    def log_p(x: Any) -> jax.Array:
        return -potential(x) / temperature

    @log_p.defjvp
    def _(primals: tuple, tangents: tuple) -> tuple:
        value, gradient = potential.value_and_gradient(primals[0])
        return -value / temperature, -dot(gradient, tangents[0]) / temperature

    return log_p


def score(potential: Potential) -> Callable:
    """-∇U, as BlackJAX's stochastic gradient kernels ask for it."""
    return lambda x, batch: jax.tree.map(jnp.negative, potential.gradient(x))


class _Keyed(Integrator):
    """Takes two words a step; configures nothing itself."""

    noise = NoiseSpec(words=2)


@pytree
class BlackJaxSGLD(_Keyed):
    """BlackJAX's `sgld`: Euler-Maruyama. step_size: h. temperature: T, passed on."""

    step_size: Any = number("positive")
    temperature: Any = number("non-negative", default=1.0)
    weak_order = stationary_order = 1

    def init(self, potential: Potential, position: Any, noise: Noise) -> Alone:
        return Alone(position)

    def step(self, potential: Potential, state: Alone, noise: Noise) -> Alone:
        import blackjax

        return Alone(
            blackjax.sgld.build_kernel()(
                key_of(noise), state.position, score(potential), 0.0, self.step_size, self.temperature
            )
        )


@pytree
class BlackJaxSGHMC(_Keyed):
    """BlackJAX's `sghmc`: so many symplectic Euler steps from a momentum redrawn at unit temperature.

    step_size: h, with unit mass. temperature: T, passed on: in 1.7.1 it scales the noise of a friction of 0.01 alone, so
    that T ≈ 1 is sampled whatever it is. length: steps; one step alone never feels the force.
    """

    step_size: Any = number("positive")
    temperature: Any = number("non-negative", default=1.0)
    length: int = static(default=10)
    weak_order = stationary_order = 1

    @property
    def gradients(self) -> int:
        return self.length

    def init(self, potential: Potential, position: Any, noise: Noise) -> Alone:
        return Alone(position)

    def step(self, potential: Potential, state: Alone, noise: Noise) -> Alone:
        import blackjax

        kernel = blackjax.sghmc.build_kernel()
        key, x = key_of(noise), state.position
        return Alone(kernel(key, x, score(potential), 0.0, self.step_size, self.length, self.temperature))


@pytree
class BlackJaxMALA(_Keyed):
    """BlackJAX's `mala`. step_size: h of x - h∇U + √(2hT) ξ, which is BlackJAX's step over T. Exact at any step."""

    step_size: Any = number("positive")
    temperature: Any = number("positive", default=1.0)
    exact = frozenset({"positions"})
    stationary_order = 1

    def init(self, potential: Potential, position: Any, noise: Noise) -> Any:
        import blackjax

        return blackjax.mala.init(position, log_density(potential, self.temperature))

    def step(self, potential: Potential, state: Any, noise: Noise) -> Any:
        import blackjax

        log_p, h = log_density(potential, self.temperature), self.step_size * self.temperature
        return blackjax.mala.build_kernel()(key_of(noise), state, log_p, h)[0]


@pytree
class BlackJaxHMC(_Keyed):
    """BlackJAX's `hmc` with unit mass. step_size: h of a leapfrog step, BlackJAX's over √T. length: of these a draw."""

    step_size: Any = number("positive")
    temperature: Any = number("positive", default=1.0)
    length: int = static(default=10)
    exact = frozenset({"positions"})
    stationary_order = 1

    @property
    def gradients(self) -> int:
        return self.length

    def init(self, potential: Potential, position: Any, noise: Noise) -> Any:
        import blackjax

        return blackjax.hmc.init(position, log_density(potential, self.temperature))

    def step(self, potential: Potential, state: Any, noise: Noise) -> Any:
        import blackjax

        log_p, h = log_density(potential, self.temperature), self.step_size * jnp.sqrt(self.temperature)
        metric = jnp.ones(sum(leaf.size for leaf in jax.tree.leaves(state.position)))
        return blackjax.hmc.build_kernel()(key_of(noise), state, log_p, h, metric, self.length)[0]


@pytree
class BlackJaxMCLMC(_Keyed):
    """BlackJAX's `mclmc`, unadjusted, two gradients a step. step_size: a length over √d, as is the decoherence."""

    step_size: Any = number("positive")
    temperature: Any = number("positive", default=1.0)
    decoherence: Any = number("positive", default=1.0)  # L over √d
    init_noise = NoiseSpec(normals=1)
    gradients = 2
    stationary_order = 2

    def init(self, potential: Potential, position: Any, noise: Noise) -> Any:
        import blackjax

        state = blackjax.mala.init(position, log_density(potential, self.temperature))
        xi = noise.normals[0]
        unit = jax.tree.map(lambda a: a / jnp.sqrt(dot(xi, xi)), xi)
        return blackjax.mcmc.integrators.IntegratorState(position, unit, state.logdensity, state.logdensity_grad)

    def step(self, potential: Potential, state: Any, noise: Noise) -> Any:
        import blackjax

        size = sum(leaf.size for leaf in jax.tree.leaves(state.position)) ** 0.5
        log_p = log_density(potential, self.temperature)
        kernel = blackjax.mclmc.build_kernel()
        return kernel(key_of(noise), state, log_p, 1.0, self.decoherence * size, self.step_size * size)[0]


@pytree
class JaxMdBrownian(_Keyed):
    """jax-md's `brownian` with unit mass and friction: Euler-Maruyama of mobility 1. The position is one array."""

    step_size: Any = number("positive")
    temperature: Any = number("non-negative", default=1.0)
    weak_order = stationary_order = 1

    def init(self, potential: Potential, position: Any, noise: Noise) -> Alone:
        return Alone(position)

    def step(self, potential: Potential, state: Alone, noise: Noise) -> Alone:
        from jax_md import simulate, space

        x = state.position
        apply = simulate.brownian(
            _force(potential, x), space.free()[1], dt=self.step_size, kT=self.temperature, gamma=1.0
        )[1]
        now = simulate.BrownianState(x.reshape(1, -1), jnp.ones((), x.dtype), key_of(noise))
        return Alone(apply(now).position.reshape(x.shape))


@pytree
class JaxMdLangevin(_Keyed):
    """jax-md's `nvt_langevin`: BAOAB with unit mass. The position is one array."""

    step_size: Any = number("positive")
    friction: Any = number("non-negative", default=1.0)
    temperature: Any = number("non-negative", default=1.0)
    init_noise = NoiseSpec(normals=1)
    has_momentum = True
    weak_order = stationary_order = 2
    exact = frozenset({"positions"})

    def init(self, potential: Potential, position: Any, noise: Noise) -> Moving:
        momentum = jnp.sqrt(self.temperature) * noise.normals[0]
        return Moving(position, momentum, -potential.gradient(position))

    def step(self, potential: Potential, state: Moving, noise: Noise) -> Moving:
        from jax_md import simulate, space

        x = state.position
        options = {"dt": self.step_size, "kT": self.temperature, "gamma": self.friction, "center_velocity": False}
        apply = simulate.nvt_langevin(_force(potential, x), space.free()[1], **options)[1]
        rows = (a.reshape(1, -1) for a in state)
        new = apply(simulate.NVTLangevinState(*rows, jnp.ones((), x.dtype), key_of(noise)))
        return Moving(*(a.reshape(x.shape) for a in (new.position, new.momentum, new.force)))

    def momentum(self, state: Moving) -> Any:
        return state.momentum

    def kinetic_energy(self, state: Moving) -> jax.Array:
        return dot(state.momentum, state.momentum) / 2


def _force(potential: Potential, like: jax.Array) -> Callable:
    return lambda rows: -potential.gradient(rows.reshape(like.shape)).reshape(rows.shape)


BLACKJAX = (BlackJaxSGLD, BlackJaxSGHMC, BlackJaxMALA, BlackJaxHMC, BlackJaxMCLMC)
JAX_MD = (JaxMdBrownian, JaxMdLangevin)
