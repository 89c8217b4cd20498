"""Cyclical step sizes: large steps that find a mode, small ones that sample it, again and again."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from .pytree import check_number


def cyclical(peak: float, *, period: int) -> Callable[[Any], Any]:
    """A step size that falls from `peak` to almost 0 along a cosine and leaps back, every `period` steps.

        h(k) = (peak/2) (cos(π r/period) + 1),    r = k mod period

    A plain function of the step, for any field that takes a schedule, and for optax (whose steps count from 0 too).
    Samples count only late in a cycle: with the exploration's share s of it (0.8, say), at the steps with r ≥ s·period.
    Before, there is no bath: `temperature=lambda k: jnp.where(k % period < s * period, 0.0, T)`. Measured with
    `every=period`, an observable sees the last of each cycle. The bias there is that of the small steps; how often a mode
    is visited is up to the exploration, which keeps no Gibbs law.
    Raises ValueError where peak is not positive or period is no whole number of steps, at least 1.
    Zhang, Li, Zhang, Chen and Wilson, ICLR 2020, eq. (1), where steps count from 1.
    """
    check_number("peak", "positive", peak)
    if isinstance(period, bool) or not isinstance(period, int | np.integer) or period < 1:
        raise ValueError(f"period must be a whole number of steps, at least 1; got {period!r}")

    def step_size(step: Any) -> Any:
        left = period - step % period
        return (
            peak * jnp.sin(jnp.pi / (2 * period) * left) ** 2
        )  # the cosine's sum would cancel to 0 late in long cycles

    return step_size
