"""Noise, bit for bit and in law: Threefry, version 1 of the stream, Box and Muller, keys, independence.

Statistical thresholds are p-values of 1e-6 a test. Keys are fixed, so a failure is no accident that comes and goes.
"""

import cmath
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from jax.extend.random import threefry_2x32

from heatbath import engine, potentials
from heatbath.engine import noise as drawn
from heatbath.engine.noise import Stream, blocks, box_muller, counter, key_words, normals, stream_key, threefry

P_VALUE = 1e-6


def threefry_python(key: tuple[int, int], x: tuple[int, int]) -> tuple[int, int]:
    """Threefry-2x32-20 in plain integers, from the paper: four rounds, then one word pair of the key schedule."""
    mask, schedule = 0xFFFFFFFF, (*key, key[0] ^ key[1] ^ 0x1BD11BDA)
    a, b = (x[0] + schedule[0]) & mask, (x[1] + schedule[1]) & mask
    for turn in range(20):
        distance = (13, 15, 26, 6, 17, 29, 16, 24)[turn % 8]
        a = (a + b) & mask
        b = ((b << distance | b >> 32 - distance) & mask) ^ a
        if turn % 4 == 3:
            s = turn // 4 + 1
            a, b = (a + schedule[s % 3]) & mask, (b + schedule[(s + 1) % 3] + s) & mask
    return a, b


def normal_python(seed: Any, stream: int, q: int, particle: int, coordinate: int) -> float:
    """The q-th normal of a coordinate as the module's docstring says, in double precision; seed: or two words."""
    base = (seed, stream) if isinstance(seed, int) else threefry_python(seed, (stream, 0))
    key = threefry_python(base, (q // 2 % 2**32, q // 2 >> 32))
    b0, b1 = threefry_python(key, (particle, coordinate))
    signed = b1 - 2**32 if b1 >= 2**31 else b1  # the angle in [-π/2, π/2); the lowest bit turns the cosine round
    z = math.sqrt(-2 * math.log((b0 + 0.5) / 2**32)) * cmath.exp(1j * math.pi * signed / 2**32)
    return z.imag if q % 2 else -z.real if b1 % 2 else z.real


def one_normal(seed: int, stream: int, q: int, particle: int, coordinate: int, dtype: type) -> float:
    key, where = (
        stream_key(key_words(seed), stream),
        (np.full(1, particle, np.uint32), np.full(1, coordinate, np.uint32)),
    )
    pair = complex(normals(key, counter(q // 2), 1, *where, dtype)[0, 0])
    return pair.imag if q % 2 else pair.real


@pytest.mark.parametrize(
    ("key", "x", "expected"),
    [  # kat_vectors of Random123: threefry2x32, 20 rounds
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_known_answers(key, x, expected):
    words = [np.full(1, w, np.uint32) for w in (*key, *x)]
    assert tuple(int(w[0]) for w in threefry(*words)) == expected
    assert tuple(int(w[0]) for w in jax.jit(threefry)(*words)) == expected
    assert threefry_python(key, x) == expected


def test_threefry_is_that_of_jax():
    words = np.random.default_rng(1).integers(0, 2**32, (500, 4), dtype=np.uint32)
    theirs = np.stack([np.asarray(threefry_2x32(jnp.asarray(w[:2]), jnp.asarray(w[2:]))) for w in words[:50]])
    ours = np.stack(threefry(*words.T), -1)
    np.testing.assert_array_equal(ours[:50], theirs)
    np.testing.assert_array_equal(ours, [threefry_python(tuple(w[:2]), tuple(w[2:])) for w in words.tolist()])


GOLDEN = [  # seed, stream, q, particle, coordinate: the two words of the block, the normal
    (0, 3, 0, 0, 0, "2ba22c5a 299bf09b", -1.6411880349),
    (0, 3, 1, 0, 0, "2ba22c5a 299bf09b", 0.9193512966),
    (1, 3, 7, 5, 2, "6e033b59 a3d2758c", -1.1761059052),
    (2**32 - 1, 4, 10**6, 2**20, 0, "35bb334c fe5a1f93", -1.7666602554),
    (42, 2, 3, 2**32 - 1, 2**32 - 1, "0800f645 0e35c247", 0.4567555336),
    (7, 128, 2**33 + 5, 123456, 3, "89688f9b d3b1c46e", -0.5770887368),
    (7, 1, 2**34 + 2, 9, 1, "1dcdc257 4a8b82c8", 1.2649699909),
]


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: str(tuple(int(v) for v in case[:5])))
def test_golden_stream(case):
    """Version 1 of the stream is frozen: published runs can be made again. Should this fail, raise STREAM_VERSION."""
    *where, words, normal = case
    seed, stream, q, particle, coordinate = where
    assert drawn.STREAM_VERSION == 1
    at = np.full(1, particle, np.uint32), np.full(1, coordinate, np.uint32)
    block = blocks(stream_key(key_words(seed), stream), counter(q // 2), 1, *at)
    assert f"{int(block[0][0, 0]):08x} {int(block[1][0, 0]):08x}" == words
    assert normal_python(*where) == pytest.approx(normal, abs=1e-9)
    # the words are exact on every machine; the last bits of a float32 are the compiler's
    assert one_normal(*where, np.float32) == pytest.approx(normal, abs=2e-6)
    with jax.enable_x64(True):
        assert one_normal(*where, np.float64) == pytest.approx(normal, abs=1e-9)


def test_counters_count_on_past_32_bits():
    key, at = stream_key(key_words(3), Stream.NORMALS), (np.arange(4, dtype=np.uint32), np.zeros(4, np.uint32))
    across = blocks(key, counter(2**32 - 2), 4, *at)
    for i in range(4):
        alone = blocks(key, counter(2**32 - 2 + i), 1, *at)
        np.testing.assert_array_equal(across[0][i], alone[0][0])
        np.testing.assert_array_equal(across[1][i], alone[1][0])
    assert len(np.unique(across[0])) == 16


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1, np.uint32(7)])
def test_an_integer_is_the_typed_key_of_that_seed(seed):
    typed = jax.random.wrap_key_data(jnp.asarray([0, int(seed)], jnp.uint32), impl="threefry2x32")
    np.testing.assert_array_equal(key_words(seed), key_words(typed))
    if int(seed) < 2**31:  # beyond, jax.random.key takes the seed for a signed integer or refuses it
        np.testing.assert_array_equal(key_words(seed), key_words(jax.random.key(int(seed), impl="threefry2x32")))
    traced = jax.jit(lambda key: stream_key(key_words(key), Stream.USER))(typed)
    np.testing.assert_array_equal(traced, [int(seed), Stream.USER])
    np.testing.assert_array_equal(stream_key(key_words(seed), Stream.USER), traced)


@pytest.mark.parametrize(
    ("key", "error", "words"),
    [
        (-1, ValueError, "got -1"),
        (2**32, ValueError, "wrap around"),
        (1.0, TypeError, "got 1.0"),
        (True, TypeError, "got True"),
        (None, TypeError, "got None"),
        ("7", TypeError, "got '7'"),
        (np.zeros(2, np.uint32), TypeError, "typed threefry key"),
        (lambda: jax.random.key(0, impl="rbg"), TypeError, "rbg"),
        (lambda: jax.random.split(jax.random.key(0), 3), TypeError, r"shape \(3,\)"),
    ],
)
def test_keys_that_are_refused(key, error, words):
    with pytest.raises(error, match=words):
        key_words(key() if callable(key) else key)


def test_streams_and_keys_differ():
    """Every stream of a seed, of its neighbours and of split keys has a key of its own."""
    typed = list(jax.random.split(jax.random.key(5, impl="threefry2x32"), 4))
    keys = [stream_key(key_words(key), stream) for key in [*range(4), *typed] for stream in Stream]
    assert len({tuple(key.tolist()) for key in keys}) == 8 * len(Stream)
    k0, k1 = np.repeat(np.stack(keys), 500, axis=0).T
    words = threefry(k0, k1, np.tile(np.arange(500, dtype=np.uint32), len(keys)), np.zeros_like(k0))[0]
    # 44,000 words of 32 bits: 0.2 coincidences are expected, and more than 6 with probability 1e-9
    assert len(np.unique(words)) >= words.size - 6


def ulps(value, exact):
    return np.abs(np.asarray(value, np.float64) - exact) / np.spacing(np.abs(exact).astype(np.float32))


@pytest.mark.parametrize("compiled", [False, True])
def test_short_functions(compiled):
    """Both the whole range and both ends: a polynomial goes wrong at the edge of its interval first."""
    top, branch = 1 - np.arange(1, 10**5) * 2.0**-24, np.sqrt(0.5) + np.arange(-1000, 1000) * 2.0**-24
    u = np.concatenate([np.linspace(1e-6, 0.999999, 10**6), np.geomspace(2.0**-33, 0.9, 10**6), top, branch])
    u = u.astype(np.float32)
    logarithm, both = (jax.jit(f) if compiled else f for f in (drawn.log32, drawn.sincospi32))
    assert ulps(logarithm(jnp.asarray(u)), np.log(u.astype(np.float64))).max() < 2
    v = np.concatenate([np.linspace(-0.5, 0.5, 10**6 + 1), [s * t for s in (1, -1) for t in 2.0 ** np.arange(-33, -1)]])
    v = v.astype(np.float32)
    sine, cosine = (np.asarray(a, np.float64) for a in both(jnp.asarray(v)))
    angle = np.pi * v.astype(np.float64)
    assert np.abs(sine - np.sin(angle)).max() < 2.5e-7
    assert np.abs(cosine - np.cos(angle)).max() < 2.5e-7
    np.testing.assert_allclose(sine[-64:], np.sin(angle[-64:]), rtol=2e-7)  # small angles keep their relative accuracy


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_ends_of_the_range(dtype):
    top = 2**32 - 1
    with jax.enable_x64(dtype == np.float64):
        words = np.array([0, 1, 2**31, *range(top - 600, top + 1)], np.uint32)
        u = np.asarray(drawn.uniforms(jnp.asarray(words), dtype))
        assert u.dtype == dtype and u.min() > 0 and u.max() < 1 and np.all(np.diff(u) >= 0)
        # the word 0 is the longest radius; 0 and 1 turn the cosine, the extreme angles the sine
        angles = np.array([0, 1, 2**31, 2**31 - 1], np.uint32)
        even, odd = (np.asarray(z) for z in box_muller(np.zeros(4, np.uint32), angles, dtype))
        furthest = math.sqrt(66 * math.log(2))  # 6.76, from u = 2^-33
        np.testing.assert_allclose([even[0], -even[1], -odd[2], odd[3]], furthest, rtol=1e-6)
        assert np.all(np.isfinite(box_muller(jnp.asarray(words), jnp.asarray(words), dtype)))


def test_float32_is_float64_rounded():
    words = np.random.default_rng(2).integers(0, 2**32, (2, 10**6), dtype=np.uint32)
    short = np.asarray(jax.jit(lambda a, b: box_muller(a, b, np.float32))(*words), np.float64)
    with jax.enable_x64(True):
        long = np.asarray(jax.jit(lambda a, b: box_muller(a, b, np.float64))(*words))
    difference, u = np.abs(short - long).max(axis=0), (words[0] + 0.5) / 2**32
    # where u is within 5e-6 of 1 the radius is below 3e-3 and its derivative 1/r magnifies the rounding of u
    assert difference[u < 1 - 5e-6].max() < 1e-5
    assert difference.max() < 1e-4


def draw(seed: int, start: int, dtype=np.float32) -> np.ndarray:
    """Normals by (q, particle, coordinate): 64 of q, 2^14 particles, 4 coordinates; 4.2 million."""
    at = jnp.arange(2**14, dtype=jnp.uint32)[:, None], jnp.arange(4, dtype=jnp.uint32)[None]
    pairs = np.asarray(_draw(stream_key(key_words(seed), Stream.NORMALS), counter(start), *at, dtype))
    return np.stack([pairs.real, pairs.imag], axis=1).reshape(64, 2**14, 4)


_draw = jax.jit(lambda key, start, i, c, dtype: normals(key, start, 32, i, c, dtype), static_argnames="dtype")


@pytest.fixture(scope="module")
def sample() -> np.ndarray:
    """21 million normals of five seeds and places."""
    return np.stack([draw(seed, start) for seed, start in enumerate((0, 1000, 2**31 - 5, 2**32 - 7, 2**40))])


def p_of_moments(z: np.ndarray) -> dict[str, float]:
    """p-values of the first eight moments: the mean of z^k is normal, with a variance known exactly."""
    moment = lambda k: 0.0 if k % 2 else float(scipy.special.factorial2(k - 1))  # noqa: E731
    z, power, found = z.ravel().astype(np.float64), 1.0, {}
    for k in range(1, 9):
        power = power * z
        deviate = (power.mean() - moment(k)) / math.sqrt((moment(2 * k) - moment(k) ** 2) / z.size)
        found[f"moment {k}"] = float(2 * scipy.special.ndtr(-abs(deviate)))
    return found


def p_of_shape(z: np.ndarray) -> dict[str, float]:
    """p-values of the largest distance to the exact distribution function, and of counts in the tails."""
    z = np.sort(z.ravel())
    cdf, steps = scipy.special.ndtr(z.astype(np.float64)), np.arange(z.size + 1) / z.size
    distance = max(np.max(steps[1:] - cdf), np.max(cdf - steps[:-1]))
    found = {"Kolmogorov-Smirnov": float(scipy.special.kolmogorov(distance * math.sqrt(z.size)))}
    for edge in (2.0, 3.0, 4.0, 4.5, 5.0, 5.5):
        for name, count in ((f"below -{edge}", np.searchsorted(z, -edge)), (f"above {edge}", np.sum(z > edge))):
            found[name] = float(scipy.stats.binomtest(int(count), z.size, scipy.special.ndtr(-edge)).pvalue)
    return found


def p_of_independence(z: np.ndarray) -> dict[str, float]:
    """p-values of products of two normals, and of two squares, along q, particles and coordinates (last three axes)."""
    found = {}
    for name, values in (("values", z), ("squares", (z * z - 1) / np.sqrt(2, dtype=z.dtype))):
        pairs = {"two of a pair": (values[..., 0::2, :, :], values[..., 1::2, :, :])}
        for axis, lags in ((-3, (1, 2, 3, 8)), (-2, (1, 2, 64, 1024)), (-1, (1, 2, 3))):
            for lag in lags:
                moved = np.moveaxis(values, axis, 0)
                pairs[f"axis {axis} lag {lag}"] = (moved[:-lag], moved[lag:])
        for pair, (a, b) in pairs.items():
            mean = np.mean(a * b, dtype=np.float64)  # of products with variance 1
            found[f"{pair}, {name}"] = float(2 * scipy.special.ndtr(-abs(mean) * math.sqrt(a.size)))
    # noise shared by particles, even weakly, shows in the variance of the ensemble mean: n Var = 1
    total = np.sum(z.astype(np.float64).sum(axis=-2) ** 2) / z.shape[-2]
    degrees = z.size // z.shape[-2]
    found["ensemble mean"] = float(2 * min(f(total, degrees) for f in (scipy.stats.chi2.cdf, scipy.stats.chi2.sf)))
    return found


@pytest.mark.parametrize("p_values", [p_of_moments, p_of_shape])
def test_the_law_of_a_normal(sample, p_values):
    found = p_values(sample)
    assert {name: p for name, p in found.items() if p < P_VALUE} == {}
    assert min(p_values(sample[:1] * np.float32(1.01)).values()) < P_VALUE  # 1 % too wide is seen, in a fifth of them


def test_normals_are_independent(sample):
    found = p_of_independence(sample[:3])
    assert {name: p for name, p in found.items() if p < P_VALUE} == {}
    shared = sample[0].copy()
    shared[:, 1::2] = shared[:, ::2]  # every second particle has its neighbour's noise
    broken = p_of_independence(shared)
    assert broken["axis -2 lag 1, values"] < P_VALUE and broken["ensemble mean"] < P_VALUE


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_particle_has_its_noise_alone_or_among_many(dtype):
    with jax.enable_x64(dtype == np.float64):
        key = stream_key(key_words(4), Stream.NORMALS)
        many = np.asarray(_draw(key, counter(17), jnp.arange(3000, dtype=jnp.uint32)[:, None],
                                jnp.arange(3, dtype=jnp.uint32)[None], dtype))  # fmt: skip
        for k in (0, 1, 1023, 2999):
            alone = _draw(key, counter(17), jnp.full((1, 1), k, jnp.uint32), jnp.full((1, 1), 2, jnp.uint32), dtype)
            np.testing.assert_array_equal(np.asarray(alone)[:, 0, 0], many[:, k, 2])


class Seen(NamedTuple):
    position: Any
    normals: Any
    scalars: Any


@engine.pytree
class Recorder(engine.Integrator):
    """Keeps the noise that it was given: what the engine hands to a step."""

    noise = engine.NoiseSpec(normals=3, scalars=1)

    def init(self, potential, position, noise):
        return Seen(position, jnp.zeros((3, *position.shape)), jnp.zeros(1))

    def step(self, potential, state, noise):
        return Seen(state.position, jnp.stack(noise.normals), noise.scalars)


@pytest.mark.parametrize("key", [3, jax.random.wrap_key_data(jnp.array([9, 4], jnp.uint32), impl="threefry2x32")])
def test_the_loop_hands_out_the_documented_normals(key):
    seed, steps = (key, 6) if isinstance(key, int) else ((9, 4), 5)
    run = engine.simulate(potentials.Harmonic(), Recorder(), jnp.zeros((5, 2)), steps=steps, key=key, observables={})
    for slot in range(3):  # an odd number a step: pairs straddle steps
        for particle, coordinate in ((0, 0), (4, 1)):
            expected = normal_python(seed, Stream.NORMALS, 3 * (steps - 1) + slot, particle, coordinate)
            assert float(run.state.normals[particle, slot, coordinate]) == pytest.approx(expected, abs=2e-6)
    scalar = normal_python(seed, Stream.SCALARS, steps - 1, 2, 0)
    assert float(run.state.scalars[2, 0]) == pytest.approx(scalar, abs=2e-6)
