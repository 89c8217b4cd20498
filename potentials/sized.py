"""Landscapes that have a number of coordinates of their own."""

import abc
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.flatten_util import ravel_pytree

from ..engine.equilibrium import Solvable
from ..engine.pytree import check_number, named_leaves, ravel, size_of

NEGLIGIBLE = 60.0  # energies this many T above the minimum do not count: exp(-60) = 9e-27


class Sized(Solvable):
    """A `Solvable` `@pytree` of a fixed number of coordinates, whatever the shape of the position that holds them."""

    @property
    @abc.abstractmethod
    def coordinates(self) -> int:
        """Number of coordinates of a particle."""

    @property
    def like(self) -> Any:
        return jnp.zeros(self.coordinates)

    def ravelled(self, position: Any) -> jax.Array:
        """The coordinates (d,) of a position. Raises ValueError for another number of them."""
        if size_of(position) != self.coordinates:
            raise ValueError(
                f"{type(self).__name__} has {self.coordinates} coordinates here; got a position of {size_of(position)}"
            )
        return ravel(position)

    def check_temperature(self, temperature: float, like: Any) -> None:
        for name, rule, value in named_leaves(self, lambda _: False):
            if rule is not None:  # arrays were not checked before
                check_number(name, rule, value)
        if size_of(like) != self.coordinates:
            raise ValueError(
                f"{type(self).__name__} has {self.coordinates} coordinates here; got a position of {size_of(like)}"
            )


def as_particles(x: np.ndarray, like: Any) -> Any:
    """Ravelled positions (n, d) as the tree of `like` with a leading axis n."""
    return jax.vmap(ravel_pytree(like)[1])(jnp.asarray(x))


def concrete(name: str, rule: str, value: Any, dimensions: tuple[int, ...]) -> Any:
    """Lists and integers as floating arrays, checked for rule and number of axes; marks and tracers pass."""
    if isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.dtype.kind in "iu"):
        value = np.asarray(value, float)
    if isinstance(value, np.ndarray) or (isinstance(value, jax.Array) and not isinstance(value, Tracer)):
        check_number(name, rule, value)
        if np.ndim(value) not in dimensions:
            axes = " or ".join(map(str, dimensions))
            raise ValueError(f"{name} must be an array of {axes} axes; got shape {np.shape(value)}")
    return value
