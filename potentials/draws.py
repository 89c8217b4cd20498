"""Random numbers of exact samplers, on the host in float64: pure functions of (key, particle, column, attempt).

The n-th particle's draw does not depend on how many particles there are, nor on how often others were refused.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..engine.noise import Stream, counter, key_words, stream_key, threefry

MOST = 100_000  # attempts; only an acceptance below about 1e-4 gets there
ROUNDING = 1e-9  # by which the log of a probability may exceed 0


class Source:
    """The numbers of one attempt of some particles; every call takes new columns, so the order of calls is the law.

    particles: ids (m,) uint32. attempt: below 2⁶⁴.
    """

    def __init__(self, key: Any, particles: np.ndarray, attempt: int = 0) -> None:
        words = np.asarray(stream_key(key_words(key), Stream.EXACT))
        self.key = threefry(words[:1], words[1:], *(np.full(1, word) for word in counter(attempt)))
        self.particles, self.attempt, self.column = particles, attempt, 0

    def uniforms(self, columns: int = 1) -> np.ndarray:
        """(m, columns), strictly inside (0, 1), with 52 random bits."""
        column = np.arange(self.column, self.column + columns, dtype=np.uint32)
        self.column += columns
        high, low = threefry(*self.key, self.particles[:, None], column[None])
        return ((high >> np.uint32(6)) * 2.0**26 + (low >> np.uint32(6)) + 0.5) * 2.0**-52

    def normals(self, columns: int = 1) -> np.ndarray:
        """(m, columns) standard normals, which reach 8.2."""
        from scipy.special import ndtri

        return ndtri(self.uniforms(columns))


def source(key: Any, n: int) -> Source:
    """The numbers of n particles, for samplers that refuse nothing."""
    return Source(key, np.arange(n, dtype=np.uint32))


def rejection(key: Any, particles: np.ndarray | int, propose: Callable, *, level: int = 0) -> np.ndarray:
    """Exact draws (n, d) by rejection. propose: Source -> (x (m, d), log of the probability (m,) to accept each).

    particles: how many, or their ids (n,). level: not 0 for a sampler within another's proposal, so that the two share no
    numbers. Raises ArithmeticError where a probability exceeds 1, which would bend the law, or next to nothing is accepted.
    """
    ids = np.arange(particles, dtype=np.uint32) if isinstance(particles, int) else particles
    todo, result = np.arange(len(ids)), np.empty(0)
    for attempt in range(MOST):
        numbers = Source(key, ids[todo], (level << 32) + attempt)
        x, log_probability = propose(numbers)
        if log_probability.max() > ROUNDING:
            raise ArithmeticError(f"a proposal exceeds its bound by a factor of exp({log_probability.max():.3g})")
        keep = np.log(numbers.uniforms()[:, 0]) < log_probability
        if not attempt:
            result = np.empty((len(ids), x.shape[1]))
        result[todo[keep]] = x[keep]
        todo = todo[~keep]
        if not todo.size:
            return result
    raise ArithmeticError(f"{todo.size} of {len(ids)} particles were refused {MOST} times: too cold for this sampler")
