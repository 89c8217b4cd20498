"""Counter-based noise: every number is a pure function of (key, stream, step, particle, coordinate).

Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror, Shaw, SC 2011) is the block function; normals come from it by Box and
Muller. No generator state exists, so chunking, restarting, sharding or adding particles cannot touch the noise.

Version 1 of the stream, frozen by golden words in the tests. The q-th normal of a coordinate, q = step × (normals a
step) + slot, is

    key_q = threefry(key of the stream, (low word of q // 2, high word of q // 2))
    block = threefry(key_q, (particle, ravelled coordinate)),     normal = BoxMuller(block)[q mod 2]

and the key of a stream is (seed, stream number) for an integer seed, or for a typed key whose high word is 0, which is
what `jax.random.key(seed)` makes; else threefry(typed key, (stream number, 0)).

Performance: the two normals of a block leave as one complex number. XLA on the CPU gives every output array a loop of
its own, so two real outputs would compute Threefry twice, and their common radius a third time (measured: 340 against
830 million normals a second on one AVX2 core).
"""

import enum
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

STREAM_VERSION = 1

Word = Any  # uint32 array
Counter = tuple[Word, Word]  # a 64-bit integer as its low and high 32-bit words


class Stream(enum.IntEnum):
    """Independent streams of one key; users take numbers from `USER` on."""

    POSITIONS = 1  # `engine.scatter`
    INIT = 2  # what an integrator's `init` draws: momenta, a first stored normal
    NORMALS = 3
    SCALARS = 4
    UNIFORMS = 5
    WORDS = 6
    CHANCE = 7  # what a potential draws: minibatches
    EXACT = 8  # exact samplers of the landscapes
    LEG = 9  # a key for each change of integrator within a run
    PROBE = 10  # random directions of trace estimators
    MOMENTA = 11  # momenta drawn anew in the middle of a run
    USER = 128


def threefry(k0: Word, k1: Word, x0: Word, x1: Word) -> Counter:
    """The Threefry-2x32-20 block function; bit-exact with Random123 and with `jax.random`."""
    keys = (k0, k1, k0 ^ k1 ^ np.uint32(0x1BD11BDA))
    x0, x1 = x0 + keys[0], x1 + keys[1]
    for injection in range(5):
        for distance in ((13, 15, 26, 6), (17, 29, 16, 24))[injection % 2]:
            x0 = x0 + x1
            x1 = x0 ^ ((x1 << np.uint32(distance)) | (x1 >> np.uint32(32 - distance)))
        x0 = x0 + keys[(injection + 1) % 3]
        x1 = x1 + keys[(injection + 2) % 3] + np.uint32(injection + 1)
    return x0, x1


def counter(value: int) -> Counter:
    """A Python integer below 2^64 as a counter."""
    return np.uint32(value & 0xFFFFFFFF), np.uint32(value >> 32)


def advance_counter(start: Counter, offset: Word) -> Counter:
    """The counter `start + offset` for a 32-bit offset, with carry."""
    low = start[0] + offset
    return low, start[1] + (low < offset).astype(jnp.uint32)


def key_words(key: Any) -> Any:
    """The two words of a key: an integer in [0, 2^32), or a typed threefry key. Shape (2,), uint32."""
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        if str(jax.random.key_impl(key)) != "threefry2x32" or key.shape != ():
            raise TypeError(
                f"key must be a single typed threefry2x32 key; got {jax.random.key_impl(key)} of shape {key.shape}. "
                "Use jax.random.key(seed, impl='threefry2x32'), or the integer seed itself"
            )
        return jax.random.key_data(key)
    if isinstance(key, bool) or not isinstance(key, int | np.integer):
        raise TypeError(f"key must be an integer in [0, 2**32) or a typed threefry key; got {key!r}")
    if not 0 <= int(key) < 2**32:
        raise ValueError(f"key must be in [0, 2**32); got {key}: larger seeds would wrap around in silence")
    return np.asarray([0, int(key)], np.uint32)


def stream_key(key: Any, stream: int) -> Any:
    """The two words of a stream's key, from those of `key_words`: on the host for a concrete key."""
    words = np.asarray(key) if not isinstance(key, Tracer) else key
    xp = np if isinstance(words, np.ndarray) else jnp
    number, zero = np.full(1, stream, np.uint32), np.zeros(1, np.uint32)
    hashed = xp.concatenate(threefry(words[:1], words[1:], number, zero))
    return xp.where(words[:1] == 0, xp.concatenate([words[1:], number]), hashed)


def stream_keys(key: Any) -> dict[int, Any]:
    """The keys of all streams that a step may take."""
    streams = (Stream.NORMALS, Stream.SCALARS, Stream.UNIFORMS, Stream.WORDS, Stream.CHANCE)
    return {int(stream): stream_key(key, stream) for stream in streams}


def leg_key(key: np.ndarray, leg: int) -> np.ndarray:
    """The key of a leg: a change of integrator draws new noise, whatever step numbers it goes on with."""
    if leg == 0:
        return key
    return np.concatenate(threefry(key[:1], key[1:], np.full(1, Stream.LEG, np.uint32), np.full(1, leg, np.uint32)))


def blocks(key: Word, start: Counter, count: int, particles: Word, coordinates: Word) -> Counter:
    """Raw blocks for `count` consecutive counters; each word has shape (count, *broadcast(particles, coordinates)).

    key: of a stream.
    """
    index = lax.iota(jnp.uint32, count)
    k0, k1 = threefry(key[0], key[1], *advance_counter(start, index))
    shape = (count,) + (1,) * max(jnp.ndim(particles), jnp.ndim(coordinates))
    return threefry(k0.reshape(shape), k1.reshape(shape), particles[None], coordinates[None])


def normals(key: Word, start: Counter, count: int, particles: Word, coordinates: Word, dtype: Any) -> jax.Array:
    """Complex pairs of standard normals for `count` consecutive values of q // 2: real part q even, imaginary q odd."""
    return lax.complex(*box_muller(*blocks(key, start, count, particles, coordinates), dtype))


def normals_of_few(
    key: Word, start: Counter, count: int, first: Word, shape: tuple[int, int], axis: int, dtype: Any
) -> jax.Array:
    """The numbers of `normals` for particles first, first + 1, … along one axis of `shape`, coordinates along the other.

    One row, (count · shape,), computed with keys of their own for all blocks: twice the work, but one long loop where
    `normals` would make `count` short ones, as it would itself if the row were given its shape here.
    """
    index = np.indices((count, *shape), np.uint32).reshape(3, -1)
    keys = threefry(key[0], key[1], *advance_counter(start, index[0]))
    words = threefry(*keys, first + index[1 + axis % 2], index[2 - axis % 2])
    return lax.complex(*box_muller(*words, dtype))


def uniforms(words: Word, dtype: Any) -> jax.Array:
    """Uniform numbers strictly inside (0, 1) from 32-bit words."""
    return jnp.minimum((words.astype(dtype) + 0.5) * dtype(2.0**-32), dtype(1 - 2.0**-24))


def box_muller(b0: Word, b1: Word, dtype: Any) -> tuple[jax.Array, jax.Array]:
    """Two independent standard normals from two words; |normal| reaches 6.76.

    The first word gives the radius, the second the angle: the high bits as an angle in [-π/2, π/2), the lowest bit as
    the sign of the cosine. float32 uses short polynomials (`jnp.log` and `jnp.cos` cost more than Threefry); anything
    wider uses `jnp`.
    """
    dtype = jnp.dtype(dtype).type
    turn = lax.bitcast_convert_type(b1, jnp.int32).astype(dtype) * dtype(2.0**-32)
    if jnp.dtype(dtype) == jnp.float32:
        radius = jnp.sqrt(dtype(-2) * log32(uniforms(b0, dtype)))
        sine, cosine = sincospi32(turn)
    else:
        radius = jnp.sqrt(-2 * jnp.log(uniforms(b0, dtype)))
        sine, cosine = jnp.sin(np.pi * turn), jnp.cos(np.pi * turn)
    return radius * jnp.where(b1 & 1, -cosine, cosine), radius * sine


def log32(u: jax.Array) -> jax.Array:
    """Natural logarithm of a normal positive float32, to 2 ulp (polynomial of Cephes `logf`, Moshier 1992)."""
    bits = lax.bitcast_convert_type(u, jnp.int32)
    # split at sqrt(1/2): exponent and mantissa in [sqrt(1/2), sqrt(2)) by one integer subtraction
    shifted = bits - np.int32(0x3F3504F3)
    exponent = (shifted >> 23).astype(jnp.float32)
    t = lax.bitcast_convert_type((shifted & np.int32(0x007FFFFF)) + np.int32(0x3F3504F3), jnp.float32) - 1
    tail = jnp.full_like(t, np.float32(LOG32[0]))
    for coefficient in LOG32[1:]:
        tail = tail * t + np.float32(coefficient)
    square = t * t
    return (t - np.float32(0.5) * square + square * t * tail) + exponent * np.float32(np.log(2.0))


def sincospi32(v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """sin(πv) and cos(πv) for |v| ≤ 1/2 in float32, to 2.5e-7 absolute (minimax polynomials in v²)."""
    square = v * v
    sine, cosine = jnp.full_like(v, np.float32(SIN32[0])), jnp.full_like(v, np.float32(COS32[0]))
    for a, b in zip(SIN32[1:], COS32[1:], strict=True):
        sine, cosine = sine * square + np.float32(a), cosine * square + np.float32(b)
    return v * sine, cosine


LOG32 = (
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
    -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
)  # fmt: skip
SIN32 = (
    -7.0064874208e-03, 8.2035553979e-02, -5.9924855872e-01, 2.5501629330e00, -5.1677127483e00, 3.1415926534e00,
)  # fmt: skip
COS32 = (
    -2.4396716703e-02, 2.3493755902e-01, -1.3352120567e00, 4.0587091643e00, -4.9348021372e00, 9.9999999978e-01,
)  # fmt: skip
