"""Gradient descent and its relatives: any optimiser, and the noise that makes one a sampler."""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from ..engine.protocols import Integrator, Noise, NoiseSpec, Potential
from ..engine.pytree import number, pytree, static


class Descending(NamedTuple):
    """State of a descent: the position and the optimiser's own state."""

    position: Any
    optimizer: Any


@pytree
class Descent(Integrator):
    """Any optax optimiser as an integrator; or plain and heavy-ball descent, which sample at a temperature.

        updates, s' = optimizer.update(∇U(x) + σ√T ξ, s, x),    x' = x + updates

    optimizer: an `optax.GradientTransformation`, which sees each particle's tree of parameters as a tree, and the value of
    the energy where it asks for one. Its numbers, momentum, schedules and counters are its own
    (`optax.inject_hyperparams` keeps numbers in its state), and so is its chance: `optax.noisy_sgd` draws the same for all
    particles, and a line search takes gradients that are not counted. Decoupled weight decay (`optax.adamw`) is no part of
    U: what such an optimiser goes down is not the energy that is measured.
    temperature, noise_scale: T and σ of noise on the gradient that the optimiser sees. It has no Gibbs law, at T or any
    other temperature, so no stationary order is declared and `compare` refuses it. Without σ none is drawn, and T must be 0.

    learning_rate: η, given in place of an optimizer, is that of `optax.sgd`, with the noise for which it samples at T:

        x' = x + v',    v' = βv - η (∇U(x) + √(2(1 - β)T/η) ξ)

    momentum: β in [0, 1). Without it this is Euler-Maruyama at h = η, μ = 1; with it, as η goes to 0, at μ = 1/(1 - β).
    Both are numbers like others: swept, scheduled (v is then scaled by the new η), one a particle. At temperature 0 wrap
    `optax.sgd` instead, which draws no noise. Weak and stationary order 1 in η. Exactly, on U = kx²/2:
    <x²> = (T/k)/(1 - ηk/2(1 + β)), <v²> = 2<xv> = 4ηT/(2(1 + β) - ηk), stable for ηk < 2(1 + β).

    Cost: 1 gradient. Raises TypeError for anything but an optax transformation; ValueError if both ways are mixed or
    neither is taken, and for a temperature that has no noise_scale. Polyak (1964); Chen, Fox and Guestrin, ICML 2014, §3.3.
    """

    optimizer: Any = static(kw_only=False, default=None)
    temperature: Any = number("non-negative", default=0.0)
    noise_scale: Any = number("positive", default=None)
    learning_rate: Any = number("positive", default=None)
    momentum: Any = number("in [0, 1)", default=None)  # hides the protocol's method, which `has_momentum` says is none

    def __post_init__(self) -> None:
        if self.optimizer is None:
            if self.learning_rate is None:
                raise ValueError(
                    "Descent takes an optimizer, such as optax.adam(1e-3), or a learning_rate; got neither"
                )
            if self.noise_scale is not None:
                raise ValueError(
                    f"noise_scale belongs to an optimizer; got {self.noise_scale!r} beside a learning_rate"
                )
            return
        if not isinstance(self.optimizer, optax.GradientTransformation):
            raise TypeError(
                "optimizer must be an optax.GradientTransformation, such as optax.adam(1e-3); "
                f"got {type(self.optimizer).__name__}"
            )
        for name in ("learning_rate", "momentum"):
            if (value := getattr(self, name)) is not None:
                raise ValueError(
                    f"{name} is the optimizer's own: give it to optax, or leave the optimizer out; got {value!r}"
                )
        cold = isinstance(self.temperature, int | float) and self.temperature == 0
        if not cold and self.noise_scale is None:
            raise ValueError(
                "an optimizer has no temperature: which noise would give one is unknown. Give a learning_rate (and "
                "momentum) in its place, or a noise_scale for noise without a Gibbs law; "
                f"got temperature {self.temperature!r}"
            )

    @property
    def noise(self) -> NoiseSpec:
        return NoiseSpec(normals=int(self.optimizer is None or self.noise_scale is not None))

    @property
    def weak_order(self) -> int | None:
        return 1 if self.optimizer is None else None

    @property
    def stationary_order(self) -> int | None:
        return self.weak_order

    @property
    def step_size(self) -> Any:
        return self.learning_rate

    @property
    def mobility(self) -> Any:
        return 1.0 if self.optimizer is None and self.momentum is None else None

    def with_step_size(self, step_size: Any) -> "Descent":
        return dataclasses.replace(self, learning_rate=step_size)

    def init(self, potential: Potential, position: Any, noise: Noise) -> Descending:
        return Descending(position, self._transformation().init(position))

    def step(self, potential: Potential, state: Descending, noise: Noise) -> Descending:
        (x, s), (value, g) = state, potential.value_and_gradient(state.position)
        if noise.normals:
            g = optax.tree.add_scale(g, self._scale() * jnp.sqrt(self.temperature), noise.normals[0])
        taking = optax.with_extra_args_support(self._transformation())
        updates, s = taking.update(g, s, x, value=value, grad=g, value_fn=potential)  # for those that ask
        return Descending(optax.apply_updates(x, updates), s)

    def _transformation(self) -> Any:
        return optax.sgd(self.learning_rate, self.momentum) if self.optimizer is None else self.optimizer

    def _scale(self) -> Any:
        if self.optimizer is not None:
            return self.noise_scale
        return jnp.sqrt(2 * (1 - (0.0 if self.momentum is None else self.momentum)) / self.learning_rate)
