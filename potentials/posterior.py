"""Bayesian posteriors over data: the energy is minus the log of likelihood times prior."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ..engine.protocols import Chance, Draw, Potential
from ..engine.pytree import number, pytree, static
from .subsets import mulhi, shuffle, words

SAMPLINGS = ("fresh", "replacement", "epoch")


@pytree
class Posterior(Potential):
    """Minus log posterior over data, whole or in minibatches; temperature 1 is Bayes.

        U(θ) = -(N/n) Σ power · log p(exampleᵢ | θ) - log p(θ),      i over n of the N examples

    log_likelihood: (position, example) -> scalar for one example. log_prior: position -> scalar.
    data: a pytree of arrays with a leading axis of N examples; stored once, never per particle. An example is a row.
    batch_size: n; all data if None. sampling: "fresh", a subset without replacement at every step; "replacement",
    independent examples; "epoch", passes over the data in random order, reshuffled, the N mod n left over dropped.
    shared: all particles see the same minibatch: cheaper, but errors then come from time, not from particles.
    likelihood_power: tempers the likelihood alone; an integrator's temperature tempers likelihood and prior.

    As a function of the position it is the energy on all data, whatever the batch size. A sum over the data, not a mean:
    on a mean loss Bayes would be T = 1/N. Cost of a step: n likelihoods. Raises ValueError for data whose leaves
    disagree, or a batch larger than the data. Welling and Teh (ICML 2011) for the estimator.
    """

    log_likelihood: Callable = static(kw_only=False)
    log_prior: Callable = static(kw_only=False)
    data: Any
    batch_size: int | None = static(default=None)
    sampling: str = static(default="fresh")
    shared: bool = static(default=False)
    likelihood_power: Any = number("non-negative", default=1.0)

    def __post_init__(self) -> None:
        for name in ("log_likelihood", "log_prior"):
            if not callable(getattr(self, name)):
                raise TypeError(f"{name} must be a function; got {getattr(self, name)!r}")
        if self.sampling not in SAMPLINGS:
            raise ValueError(f"sampling must be one of {SAMPLINGS}; got {self.sampling!r}")
        leaves = jax.tree.leaves(self.data)
        if not all(isinstance(leaf, np.ndarray | jax.Array) for leaf in leaves):
            return  # placeholders of a tree transformation
        if not all(isinstance(leaf, Tracer) for leaf in leaves):
            object.__setattr__(self, "data", jax.tree.map(_on_device, self.data))
        sizes = sorted({leaf.shape[0] if leaf.ndim else 0 for leaf in leaves})
        if len(sizes) != 1 or sizes[0] == 0:
            raise ValueError(f"data must be arrays with one leading axis of examples; got leading axes of {sizes}")
        n = self.batch_size
        if n is not None and (isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= sizes[0]):
            raise ValueError(f"batch_size must be a whole number from 1 to the {sizes[0]} examples; got {n!r}")

    @property
    def examples(self) -> int:
        """N, the number of examples."""
        return jax.tree.leaves(self.data)[0].shape[0]

    def __call__(self, position: Any) -> jax.Array:
        return self._energy(position, self.data, 1.0)

    def _energy(self, position: Any, data: Any, weight: float) -> jax.Array:
        likelihoods = jax.vmap(self.log_likelihood, in_axes=(None, 0))(position, data)
        if likelihoods.ndim != 1:
            raise ValueError(
                f"log_likelihood must return one scalar for one example; got shape {likelihoods.shape[1:]}: it sees one "
                "row of the data, and the sum over examples is the posterior's"
            )
        return -weight * self.likelihood_power * jnp.sum(likelihoods) - self.log_prior(position)

    def parts(self) -> tuple[Potential, ...]:
        """Minus the log of the prior, and of the likelihood."""
        return _Prior(self.log_prior), dataclasses.replace(self, log_prior=_flat)

    @property
    def chance(self) -> tuple[Chance, ...]:
        if self.batch_size is None:
            return ()
        period = self.examples // self.batch_size if self.sampling == "epoch" else 1
        return (Chance(words=2, period=period, shared=self.shared),)

    def chosen(self, draw: Draw) -> jax.Array:
        """Indices (n,) of the examples of a minibatch."""
        place = jnp.arange(self.batch_size or self.examples, dtype=jnp.uint32)
        match self.sampling:
            case "replacement":
                return mulhi(words(draw.words, place), self.examples)
            case "epoch":
                place = place + jnp.asarray(draw.phase, jnp.uint32) * np.uint32(self.batch_size or 1)
        return shuffle(draw.words, place, self.examples)

    def at(self, draws: tuple[Draw, ...]) -> Potential:
        if not draws:
            return self
        rows = self.chosen(draws[0]).astype(jnp.int32)
        batch = jax.tree.map(lambda a: a[rows], self.data)
        return _Minibatch(posterior=self, batch=batch, weight=self.examples / len(rows))


@pytree
class _Minibatch(Potential):
    """A posterior seen through some of its examples, each counted `weight` times."""

    posterior: Posterior
    batch: Any
    weight: float = static()

    def __call__(self, position: Any) -> jax.Array:
        return self.posterior._energy(position, self.batch, self.weight)

    def parts(self) -> tuple[Potential, ...]:
        prior, likelihood = self.posterior.parts()
        return prior, dataclasses.replace(self, posterior=likelihood)


@pytree
class _Prior(Potential):
    """Minus the log of a prior."""

    log_prior: Callable = static(kw_only=False)

    def __call__(self, position: Any) -> jax.Array:
        return -self.log_prior(position)


def _flat(position: Any) -> float:
    """The log of a prior that says nothing."""
    del position
    return 0.0


def _on_device(leaf: Any) -> jax.Array:
    """Floating data in JAX's default precision, integers (labels) as they are."""
    return jnp.asarray(leaf, jnp.result_type(float)) if leaf.dtype == np.float64 else jnp.asarray(leaf)
