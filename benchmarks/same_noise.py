"""What the engine itself costs: heatbath against scans of the same scheme, written by hand, that draw the same noise.

All of them in the double well U = Σ (x² - 1)² + 0.3 x, `n` particles of `d` coordinates, on the devices and with the
flags of `engine.tune_cpu`. A scan by hand holds its state as (d, n) for each device and draws Box and Muller pairs by
`noise.normals`, for two steps at a time or, if that is faster, for blocks of sixteen; it has no observables, schedules,
checks or restarts.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from contestants import WELL, Call, T, kernels, run_engine, start
from jax import lax

from heatbath import integrators
from heatbath.engine import Noise
from heatbath.engine.noise import Stream, advance_counter, counter, key_words, normals, stream_key

UNDERDAMPED = {"step_size": 0.05, "temperature": T}
SCHEMES = {
    "overdamped": integrators.EulerMaruyama(step_size=0.01, temperature=T),
    "BAOAB": integrators.BAOAB(**UNDERDAMPED),
    "LeimkuhlerMatthews": integrators.LeimkuhlerMatthews(step_size=0.01, temperature=T),
    "OBABO": integrators.OBABO(**UNDERDAMPED),
    "GronbechJensen": integrators.GronbechJensen(**UNDERDAMPED),
    "SGHMC": integrators.SGHMC(**UNDERDAMPED),
    "BADODAB": integrators.BADODAB(**UNDERDAMPED),
}


def engine(scheme: str, n: int, d: int, steps: int) -> Call:
    return run_engine(WELL, SCHEMES[scheme], start(n, d), steps)


def plain(scheme: str) -> tuple[Any, Any, int]:
    """(init, step, normals a step) on states (d, n); steps of the integrator itself where none is written by hand."""
    if scheme in ("overdamped", "BAOAB"):
        init, step = kernels(scheme)
        return init, lambda state, drawn: step(state, *drawn), 1
    bath = SCHEMES[scheme]
    spec = bath.noise
    zero = lambda x: Noise((jnp.zeros_like(x),) * max(spec.normals, 2))  # noqa: E731
    init = jax.vmap(lambda x: bath.init(WELL, x, zero(x)), in_axes=-1, out_axes=-1)
    one = lambda state, drawn: bath.step(WELL, state, Noise(drawn))  # noqa: E731
    return init, jax.vmap(one, in_axes=-1, out_axes=-1), spec.normals


def by_hand(scheme: str, n: int, d: int, steps: int, block: int) -> Call:
    """block: steps whose noise is drawn at once."""
    init, step, count = plain(scheme)
    key, coordinates = stream_key(key_words(0), Stream.NORMALS), jnp.arange(d, dtype=jnp.uint32)[:, None]

    def run(x: Any, particles: Any) -> Any:
        def some(state: Any, j: Any) -> Any:
            start = advance_counter(counter(0), j * np.uint32(block * count // 2))
            pairs = normals(key, start, block * count // 2, particles, coordinates, x.dtype)

            def two(state: Any, pair: Any) -> Any:
                drawn = [part for slot in range(count) for part in (pair[slot].real, pair[slot].imag)]
                return step(step(state, tuple(drawn[:count])), tuple(drawn[count:])), None

            return lax.scan(two, state, pairs.reshape(block // 2, count, *x.shape))

        return lax.scan(some, init(x), jnp.arange(steps // block, dtype=jnp.uint32))[0]

    compiled, devices = jax.jit(run), jax.local_devices()
    pieces = np.array_split(np.asarray(start(n, d)).T, len(devices), axis=1)
    ids = np.array_split(np.arange(n, dtype=np.uint32)[None], len(devices), axis=1)
    parts = [jax.device_put(part, device) for part, device in zip(zip(pieces, ids, strict=True), devices, strict=True)]
    return lambda: jax.block_until_ready([compiled(*part) for part in parts])


BY_NAME = {
    "engine": engine,
    "by hand, in pairs": functools.partial(by_hand, block=2),
    "by hand, in blocks": functools.partial(by_hand, block=16),
}
