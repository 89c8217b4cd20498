"""What is timed: each function makes a call that takes `steps` steps of one piece of work, compiled and warm or not.

All of them move `n` particles of `d` coordinates in the double well U = Σ (x² - 1)² + 0.3 x at T = 0.5, overdamped
(h = 0.01) or by BAOAB (h = 0.05, γ = 1) or the nearest scheme that a peer has. Run by `worker.py`, one process for each
set of compiler flags.
"""

import ctypes
import functools
import pathlib
import platform
import subprocess
import tempfile
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from heatbath import engine, integrators, potentials
from heatbath.engine import block, observables
from heatbath.engine.noise import Stream, key_words, stream_key
from heatbath.engine.plan import Plan
from heatbath.engine.preparation import prepare

T, TILT, GAMMA = 0.5, 0.3, 1.0
H = {"overdamped": 0.01, "BAOAB": 0.05}
WELL = potentials.DoubleWell(barrier=1.0, tilt=TILT)
BATHS = {
    "overdamped": integrators.EulerMaruyama(step_size=H["overdamped"], temperature=T),
    "BAOAB": integrators.BAOAB(step_size=H["BAOAB"], friction=GAMMA, temperature=T),
}
LONG_RUN = 20_000  # steps, after which rows of counts are merged by the device
Call = Callable[[], Any]


def energy(x: Any) -> Any:
    return jnp.sum((x * x - 1) ** 2 + TILT * x)


def start(n: int, d: int, dtype: Any = np.float32) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=(n, d)) * 0.5, dtype)


# heatbath


def heatbath(scheme: str, n: int, d: int, steps: int, dtype: Any = np.float32, measured: Any = ()) -> Call:
    """The engine's compiled block."""
    return run_engine(WELL, BATHS[scheme], start(n, d, dtype), steps, measured)


def run_engine(potential: Any, bath: Any, positions: Any, steps: int, measured: Any = ()) -> Call:
    run = prepare(potential, bath, positions, key=0, observables=measured)
    plan = Plan.of(run)
    carry, at = plan.pack(run), plan.window(0, steps)
    return lambda: jax.block_until_ready(
        block.run_block(plan.program, plan.shared, plan.particle, [], carry, plan.keys, at)
    )


def silence() -> None:
    """From here on a constant stands in place of every normal in this process: what is left is the physics alone."""
    constant = lambda shape, dtype: jnp.full(shape, 0.1 + 0.1j, jnp.result_type(dtype, jnp.complex64))  # noqa: E731
    block.normals = lambda key, start, count, particles, coordinates, dtype: constant(
        (count, *jnp.broadcast_shapes(particles.shape, coordinates.shape)), dtype
    )
    block.normals_of_few = lambda key, start, count, first, shape, axis, dtype: constant(
        (count * np.prod(shape),), dtype
    )


def long_run(scheme: str, n: int, d: int, steps: int, observing: bool) -> Call:
    """`simulate` itself, host work included, going on with a long run: with the energy, two temperatures and a histogram
    every 10 steps, or with nothing."""
    second = {"overdamped": "virial_temperature", "BAOAB": "kinetic_temperature"}[scheme]
    measured = {
        "energy": observables.Mean(observables.potential_energy),
        "first": observables.Mean(observables.configurational_temperature),
        "second": observables.Mean(getattr(observables, second)),
        "histogram": observables.Histogram(lambda x: x[0], bins=50, low=-2.0, high=2.0),
    }
    run = engine.simulate(
        WELL,
        BATHS[scheme],
        start(n, d),
        steps=LONG_RUN,
        key=0,
        progress=False,
        observables=measured if observing else (),
    )
    return lambda: engine.simulate(run, steps=steps, progress=False).positions.block_until_ready()


# what a competent JAX user writes


def kernels(scheme: str) -> tuple[Callable, Callable]:
    """(init, step) on arrays of any shape; step takes the noise."""
    h, gradient = H[scheme], jax.grad(energy)

    def overdamped(x: Any, xi: Any) -> Any:
        return x - h * gradient(x) + jnp.sqrt(2 * h * T) * xi

    def baoab(state: Any, xi: Any) -> Any:
        x, p, g = state
        c = jnp.exp(-GAMMA * h)
        p = p - h / 2 * g
        x = x + h / 2 * p
        p = c * p + jnp.sqrt(T * (1 - c * c)) * xi
        x = x + h / 2 * p
        g = gradient(x)
        return x, p - h / 2 * g, g

    if scheme == "overdamped":
        return lambda x: x, overdamped
    return lambda x: (x, jnp.zeros_like(x), gradient(x)), baoab


def scan(scheme: str, n: int, d: int, steps: int, dtype: Any = np.float32) -> Call:
    """One `lax.scan`, one key a step, `jax.random.normal` for the whole array; split over all devices of the process."""
    init, step = kernels(scheme)

    def run(state: Any, key: Any) -> Any:
        x = jax.tree.leaves(state)[0]
        body = lambda s, key: (step(s, jax.random.normal(key, x.shape, x.dtype)), None)  # noqa: E731
        return lax.scan(body, state, jax.random.split(key, steps))[0]

    return on_all_devices(run, start(n, d, dtype), lambda x, key: init(x))


def on_all_devices(run: Callable, population: Any, init: Callable = lambda x, key: x) -> Call:
    """The population, a tree of arrays (n, ...), split over all devices of the process: state = init(part, key) is made
    at once, run(state, key) is the call."""
    n = len(jax.tree.leaves(population)[0])
    begin, compiled, devices = jax.jit(init), jax.jit(run), jax.local_devices()[:n]
    ends = [n * i // len(devices) for i in range(len(devices) + 1)]
    cut = lambda i: jax.tree.map(lambda a: np.asarray(a)[ends[i] : ends[i + 1]], population)  # noqa: E731
    parts = [jax.device_put((cut(i), jax.random.key(i)), device) for i, device in enumerate(devices)]
    begun = [(begin(*part), part[1]) for part in parts]
    return lambda: jax.block_until_ready([compiled(*part) for part in begun])


def a_key_each(one: Callable) -> Callable:
    """one(x, key) for a particle -> the same for a population, under `vmap`."""
    return lambda x, key: jax.vmap(one)(x, jax.random.split(key, len(x)))


def scan_keys(scheme: str, n: int, d: int, steps: int) -> Call:
    """`lax.scan` under `vmap`, a key for each particle; split over all devices of the process."""
    init, step = kernels(scheme)

    def one(x: Any, key: Any) -> Any:
        body = lambda s, key: (step(s, jax.random.normal(key, x.shape)), None)  # noqa: E731
        return lax.scan(body, init(x), jax.random.split(key, steps))[0]

    return on_all_devices(a_key_each(one), start(n, d))


# the hardware


@functools.cache
def library() -> ctypes.CDLL:
    """`kernel.c`, compiled on the spot."""
    source = pathlib.Path(__file__).with_name("kernel.c")
    flags = "-std=c11 -O3 -march=native -ffp-contract=fast -fno-math-errno -fno-trapping-math -fopenmp -Wno-psabi"
    if platform.machine() in ("x86_64", "AMD64"):
        flags += " -mprefer-vector-width=512"
    with tempfile.TemporaryDirectory() as folder:
        target = pathlib.Path(folder) / "kernel.so"
        subprocess.run(["gcc", *flags.split(), "-shared", "-fPIC", source, "-o", target, "-lm"], check=True)
        return ctypes.CDLL(str(target))


def by_hand(scheme: str, n: int, d: int, steps: int, x: np.ndarray | None = None, p: np.ndarray | None = None) -> Call:
    """The C kernel on positions and momenta (d, n); from those of heatbath it follows heatbath's trajectories of key 0."""
    if n % 64:
        raise ValueError(f"the C kernel takes whole vectors of 64 particles; got {n}")
    real, whole, word = ctypes.c_float, ctypes.c_int64, ctypes.c_uint32
    x = np.ascontiguousarray(start(n, d).T) if x is None else x
    p = np.zeros_like(x) if p is None else p
    pointer = lambda a: a.ctypes.data_as(ctypes.POINTER(real))  # noqa: E731
    seed, stream = (int(w) for w in stream_key(key_words(0), Stream.NORMALS))
    h, steps = H[scheme], steps // 2 * 2
    shape = whole(n), whole(d), whole(steps), word(seed), word(stream), real(1.0), real(TILT)
    if scheme == "overdamped":
        return lambda: library().overdamped(pointer(x), *shape, real(h), real((2 * h * T) ** 0.5))
    loss, spread = np.expm1(-GAMMA * h), (T * -np.expm1(-2 * GAMMA * h)) ** 0.5
    return lambda: library().baoab(pointer(x), pointer(p), *shape, real(h / 2), real(loss), real(spread))


# networks and regression


def networks(who: str, n: int, steps: int) -> Call:
    """n perceptrons 64-64-10 on the digits of scikit-learn, batches of 128 that all networks share, BAOAB."""
    from sklearn.datasets import load_digits

    raw: Any = load_digits()
    x, y = (raw.data / 16).astype(np.float32), raw.target.astype(np.int32)
    rng = np.random.default_rng(0)
    shapes = {"w1": (64, 64), "b1": (64,), "w2": (64, 10), "b2": (10,)}
    weights = {k: jnp.asarray(rng.normal(size=(n, *s)) * 0.1, jnp.float32) for k, s in shapes.items()}

    def log_likelihood(w: Any, example: Any) -> Any:
        hidden = jnp.tanh(example[0] @ w["w1"] + w["b1"])
        return jax.nn.log_softmax(hidden @ w["w2"] + w["b2"])[example[1]]

    def log_prior(w: Any) -> Any:
        return -0.5 * sum(jnp.sum(a * a) for a in jax.tree.leaves(w))

    h, c = 1e-3, float(np.exp(-1e-3))
    posterior = potentials.Posterior(log_likelihood, log_prior, data=(x, y), batch_size=128, shared=True)
    bath = integrators.BAOAB(step_size=h, friction=1.0, temperature=1.0)
    if who != "scan":
        return run_engine(posterior, bath, weights, steps)

    def batch_energy(w: Any, batch: Any) -> Any:
        return -len(x) / 128 * jnp.sum(jax.vmap(log_likelihood, (None, 0))(w, batch)) - log_prior(w)

    gradient = jax.vmap(jax.grad(batch_energy), (0, None))
    move = lambda a, s, b: jax.tree.map(lambda a, b: a + s * b, a, b)  # noqa: E731

    def step(state: Any, key: Any) -> Any:
        w, p, g = state
        drawn, *leaves = jax.random.split(key, 5)
        p = move(p, -h / 2, g)
        w = move(w, h / 2, p)
        noise = {k: jax.random.normal(key, p[k].shape) for k, key in zip(p, leaves, strict=True)}
        p = jax.tree.map(lambda a, xi: c * a + np.sqrt(1 - c * c) * xi, p, noise)
        w = move(w, h / 2, p)
        rows = jax.random.choice(drawn, len(x), (128,), replace=False)
        g = gradient(w, (jnp.asarray(x)[rows], jnp.asarray(y)[rows]))
        return (w, move(p, -h / 2, g), g), None

    def init(w: Any, key: Any) -> Any:
        zero = jax.tree.map(jnp.zeros_like, w)
        return w, zero, zero

    return on_all_devices(lambda state, key: lax.scan(step, state, jax.random.split(key, steps))[0], weights, init)


def regression(who: str, n: int, steps: int, batch: int | None) -> Call:
    """Bayesian logistic regression, 569 × 31 (the breast-cancer data), overdamped; batches shared, or all data."""
    from sklearn.datasets import load_breast_cancer

    raw: Any = load_breast_cancer()
    x = np.column_stack([np.ones(len(raw.target)), (raw.data - raw.data.mean(0)) / raw.data.std(0)]).astype(np.float32)
    y = raw.target.astype(np.float32)
    log_likelihood = lambda w, e: jax.nn.log_sigmoid((2 * e[1] - 1) * jnp.dot(e[0], w))  # noqa: E731
    log_prior = lambda w: -0.5 * jnp.sum(w * w)  # noqa: E731
    h, weights = 1e-4, start(n, 31) * 0.1
    if who != "scan":
        shared = {} if batch is None else {"batch_size": batch, "shared": True}
        posterior = potentials.Posterior(log_likelihood, log_prior, data=(x, y), **shared)
        return run_engine(posterior, integrators.EulerMaruyama(step_size=h), weights, steps)

    def loss(w: Any, data: Any) -> Any:
        return -len(x) / len(data[0]) * jnp.sum(jax.vmap(log_likelihood, (None, 0))(w, data)) - log_prior(w)

    def step(w: Any, key: Any) -> Any:
        drawn, noise = jax.random.split(key)
        data = jnp.asarray(x), jnp.asarray(y)
        if batch is not None:
            rows = jax.random.choice(drawn, len(x), (batch,), replace=False)
            data = data[0][rows], data[1][rows]
        g = jax.vmap(jax.grad(loss), (0, None))(w, data)
        return w - h * g + np.sqrt(2 * h) * jax.random.normal(noise, w.shape), None

    return on_all_devices(lambda w, key: lax.scan(step, w, jax.random.split(key, steps))[0], weights)


BY_NAME: dict[str, Callable[..., Call]] = {
    "heatbath": heatbath,
    "long run": long_run,
    "scan": scan,
    "scan, a key a particle": scan_keys,
    "C": by_hand,
    "networks": networks,
    "regression": regression,
}
