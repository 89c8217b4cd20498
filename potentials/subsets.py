"""Random subsets without storing a permutation: a keyed bijection on [0, n)."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from ..engine.noise import threefry

ROUNDS = 8


def words(key: jax.Array, index: jax.Array) -> jax.Array:
    """A random 32-bit word for every index, from a key of two words."""
    return threefry(key[0], key[1], index, jnp.zeros_like(index))[0]


def mulhi(word: jax.Array, n: int) -> jax.Array:
    """⌊word · n / 2³²⌋ without 64-bit integers: a word as a number in [0, n), for n ≤ 2³²."""
    low, high = word & np.uint32(0xFFFF), word >> np.uint32(16)
    n_low, n_high = np.uint32(n & 0xFFFF), np.uint32(n >> 16)
    middle = high * n_low + ((low * n_low) >> np.uint32(16))  # below 2³²
    carry = (middle & np.uint32(0xFFFF)) + low * n_high
    # low * n_high may be up to 2³² - 2¹⁷ + 1, and the carry 2¹⁶ - 1 more, which still fits
    return high * n_high + (middle >> np.uint32(16)) + (carry >> np.uint32(16))


def shuffle(key: jax.Array, index: jax.Array, n: int) -> jax.Array:
    """Where a random permutation of [0, n), given by a key of two words, takes `index`.

    A Feistel network on pairs (l, r) in [0, a) × [0, b), with a·b a little above n, alternately adds a hash of one half
    to the other; results of n or more are sent round again (Black and Rogaway, CT-RSA 2002).
    """
    if n == 1:
        return jnp.zeros_like(index)
    a = math.isqrt(n - 1) + 1
    b = -(-n // a)
    keys = words(key, jnp.arange(ROUNDS, dtype=jnp.uint32))

    def once(value: jax.Array) -> jax.Array:
        left, right = value // np.uint32(b), value % np.uint32(b)
        for turn in range(0, ROUNDS, 2):
            left = _wrap(left + mulhi(_hash(right, keys[turn]), a), a)
            right = _wrap(right + mulhi(_hash(left, keys[turn + 1]), b), b)
        return left * np.uint32(b) + right

    again = lambda value: value >= np.uint32(n)  # noqa: E731
    return jax.lax.while_loop(
        lambda value: jnp.any(again(value)), lambda value: jnp.where(again(value), once(value), value), once(index)
    )


def _wrap(value: jax.Array, modulus: int) -> jax.Array:
    return jnp.where(value >= np.uint32(modulus), value - np.uint32(modulus), value)


def _hash(value: jax.Array, key: jax.Array) -> jax.Array:
    """A bijection of 32-bit words that spreads every bit (the finaliser of MurmurHash3), keyed on both sides."""
    value = (value * np.uint32(0x9E3779B1)) ^ key
    value = (value ^ (value >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    value = (value ^ (value >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return (value ^ (value >> np.uint32(16))) + key
