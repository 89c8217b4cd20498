"""Free motion on a torus."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..engine.pytree import number, pytree, size_of
from .coordinatewise import Coordinatewise


@pytree
class Torus(Coordinatewise):
    """No energy at all: free diffusion, every coordinate an angle of period `length`.

        U(x) = 0,   Z = length^d,   uniform on [0, length)^d at every temperature,   S = d log length

    length: > 0. Moments are those of cos and sin of 2π x/length. The position may have any shape.
    """

    length: Any = number("positive", default=1.0)

    @property
    def period(self) -> Any:
        return self.length

    def one(self, x: Any) -> Any:
        return jnp.zeros_like(x)

    def support(self, temperature: Any, xp: Any = np) -> tuple[Any, Any]:
        return 0.0, self.length

    def log_partition(self, temperature: Any, like: Any) -> jax.Array:
        return size_of(like) * jnp.log(self.length)
