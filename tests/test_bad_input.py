"""Bad input: every error has the right type, names what arrived and the rule, and comes before anything compiles.

Also a run that leaves the finite numbers: the particle and the step that it names are those of a replay in plain numpy,
with noise drawn from the definition of the stream.
"""

import re
import warnings
from importlib import import_module
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from heatbath import engine
from heatbath.engine import checks, noise, observables
from heatbath.integrators import BAOA, Descent, EulerMaruyama, Splitting
from heatbath.potentials import DoubleWell, Posterior

NAN = float("nan")
N = 8
X = np.ones((N, 2), np.float32)
DATA = np.ones(10, np.float32)
WELL, BATH, COLD = DoubleWell(), BAOA(step_size=0.1), EulerMaruyama(step_size=0.1)
EXAMPLES = dict(data=DATA, log_likelihood=lambda x, e: -((e - jnp.sum(x)) ** 2), log_prior=lambda x: -jnp.sum(x**2))


def simulate(potential=WELL, integrator=BATH, positions=X, *, steps=2, **options):
    return engine.simulate(potential, integrator, positions, steps=steps, progress=False, **options)


def posterior(**options):
    options = EXAMPLES | options
    return Posterior(options.pop("log_likelihood"), options.pop("log_prior"), **options)


def bath(**numbers):
    return simulate(integrator=BAOA(**{"step_size": 0.1, **numbers}))


def measure(what, integrator=BATH, potential=WELL):
    return simulate(potential, integrator, observables={"measured": what})


@engine.pytree
class Forgetful(engine.Integrator):
    """A step that returns the position where a state should be."""

    def init(self, potential: Any, position: Any, noise: Any) -> Any:
        return NamedState(position)

    def step(self, potential: Any, state: Any, noise: Any) -> Any:
        return state.position


@engine.pytree
class Halved(Forgetful):
    """A step that returns the position in half precision."""

    def step(self, potential: Any, state: Any, noise: Any) -> Any:
        return NamedState(state.position.astype(jnp.float16))


class NamedState(NamedTuple):
    position: Any


def bad(call, error, *says, id):
    """A row of the table: the message contains a match of every one of `says`."""
    return pytest.param(call, error, says, id=id)


def through_every_mark():
    """A bad number of every field of a bath, plain, as an array, and through each, sweep and a schedule."""
    rules = {"step_size": "positive", "temperature": "non-negative", "friction": "non-negative", "mass": "positive"}
    ways = {
        "plain": lambda v: v,
        "array": lambda v: jnp.asarray([1.0, v]),
        "each": lambda v: engine.each(np.full(N, v)),
        "sweep": lambda v: engine.sweep([1.0, v]),
        "schedule": lambda v: lambda step: v + 0.0 * step,
    }
    shapes = {
        "array": np.ones(N),
        "list": [1.0] * N,
        "each": engine.each(np.ones((N, 3))),
        "sweep": engine.sweep(np.ones((2, 3))),
        "schedule": lambda step: np.ones(N),
    }
    for name, rule in rules.items():
        for way, mark in ways.items():
            for value, shown in ((-0.25, r"-0\.25"), (NAN, "nan")):
                field = {name: mark(value)}
                yield bad(
                    lambda f=field: bath(**f), ValueError, name, rule, f"got.*{shown}", id=f"{name} {way} {value}"
                )
        for way, value in shapes.items():
            yield bad(lambda n=name, v=value: bath(**{n: v}), ValueError, name, r"each\(", r"\(2,\)", r"got.*\([38],\)",
                      id=f"{name} shape {way}")  # fmt: skip
        yield bad(lambda n=name: bath(**{n: engine.each(np.ones(7))}), ValueError, name, "one row a particle", r"8.*7",
                  id=f"{name} rows")  # fmt: skip
        yield bad(lambda n=name: bath(**{n: "0.1"}), TypeError, name, "must be a number", "'0.1'", id=f"{name} string")
        yield bad(
            lambda n=name: bath(**{n: lambda step: "hot"}), (TypeError, ValueError), name, "hot", id=f"{name} words"
        )
        yield bad(lambda n=name: bath(**{n: None}), TypeError, name, "None", id=f"{name} None")
        yield bad(lambda n=name: bath(**{n: lambda a, b: 1.0}), TypeError, name, "of the step alone", id=f"{name} two")


MARKS = [
    bad(lambda: engine.each("a"), ValueError, "each", "array of numbers", "'a'", id="each of a string"),
    bad(lambda: engine.sweep(0.5), ValueError, "sweep", "array of numbers", r"0\.5", id="sweep of a number"),
    bad(lambda: engine.sweep([]), ValueError, "sweep", "non-empty", r"\[\]", id="empty sweep"),
    bad(lambda: bath(step_size=engine.sweep([0.1, 0.2]), temperature=engine.sweep([1.0, 2.0, 3.0])),
        ValueError, "one length", "step_size.*2", "temperature.*3", id="sweeps of two lengths"),
]  # fmt: skip

POSITIONS = [
    bad(lambda: simulate(positions=X[:0]), ValueError, "zero particles", "at least one", id="no particles"),
    bad(lambda: simulate(positions=np.where(np.isin(np.arange(N), (2, 5))[:, None], NAN, X)), ValueError,
        "not finite", "2 of 8", r"\[2, 5\]", id="not finite"),
    bad(lambda: simulate(positions={"a": X, "b": X[:3]}), ValueError, "disagree", r"3, 8", id="leaves disagree"),
    bad(lambda: simulate(positions=1.0), ValueError, "leading particle axis", "scalar", id="scalar"),
    bad(lambda: simulate(positions=X + 0j), TypeError, "real", "complex", id="complex"),
    bad(lambda: simulate(positions="here"), TypeError, "real", "<U4", id="string"),
    bad(lambda: simulate(positions={}), ValueError, "at least one array", "{}", id="empty"),
]  # fmt: skip

ENERGIES = [
    bad(lambda: simulate(lambda x: x**2), ValueError, "one scalar", r"\(2,\)", id="not a scalar"),
    bad(lambda: simulate(lambda x: (jnp.sum(x), x[0])), ValueError, "one scalar", r"\(\), \(\)", id="a pair"),
    bad(lambda: simulate(lambda x: jnp.sum(x) * 1j), TypeError, "real floating", "complex64", id="complex"),
    bad(lambda: simulate(lambda x: jnp.sum(x > 0)), TypeError, "real floating", "int32", id="integer"),
    bad(lambda: simulate(lambda x: np.sum(np.asarray(x) ** 2)), TypeError, "numpy", r"jax\.numpy", id="numpy"),
    bad(lambda: simulate(lambda x: x[0] if x[0] > 0 else -x[0]), TypeError, "branches", r"jnp\.where", id="branch"),
    bad(lambda: simulate(lambda x: x @ jnp.ones(5)), TypeError, "one particle", r"\(2,\)", r"\(5,\)", id="raises"),
    bad(lambda: simulate(3.0), TypeError, "callable", "float", id="not callable"),
]

KEYS = [
    bad(lambda: simulate(key=-1), ValueError, r"\[0, 2\*\*32\)", "-1", id="negative"),
    bad(lambda: simulate(key=2**32), ValueError, r"\[0, 2\*\*32\)", "4294967296", id="33 bits"),
    bad(lambda: simulate(key=1.0), TypeError, "integer", r"1\.0", id="float"),
    bad(lambda: simulate(key=True), TypeError, "integer", "True", id="bool"),
    bad(lambda: simulate(key=jax.random.key(1, impl="rbg")), TypeError, "rbg", "threefry", id="rbg"),
    bad(lambda: simulate(key=jax.random.split(jax.random.key(1), 3)), TypeError, "single", r"\(3,\)", id="batch"),
]

WORDS = [
    bad(lambda w=word: Splitting(scheme=w, step_size=0.1), ValueError, "letters A.*B.*O", f"got {word!r}$", id=f"{word!r}")
    for word in ("BAXB", "", "BOB", "AOA", "baoab", "BAO AB")
]  # fmt: skip

OBSERVABLES = [
    bad(lambda: measure(lambda x: x), TypeError, "observables", "function", r"Mean\(", id="a bare function"),
    bad(lambda: measure("energy"), TypeError, "observables", "str", r"Mean\(", id="a string"),
    bad(lambda: measure(observables.position), TypeError, "observables", r"Mean\(", id="a bare measurement"),
    bad(lambda: measure(observables.Mean), TypeError, "observables", r"Mean\(", id="a class"),
    bad(lambda: observables.Mean(3), TypeError, "Mean takes a function", "got 3", id="Mean(3)"),
    bad(lambda: measure(observables.Mean(None)), TypeError, "Mean takes a function", "got None", id="Mean(None)"),
    bad(lambda: measure(observables.Mean(np.ones(2))), TypeError, "Mean takes a function", "got", id="Mean of an array"),
    bad(lambda: measure(observables.Mean(observables.Mean(observables.position))), TypeError, "Mean takes a function",
        id="Mean of a Mean"),
    bad(lambda: observables.Series(observables.Histogram(observables.position, low=0.0, high=1.0)), TypeError,
        "Series records", "Histogram", id="Series of a Histogram"),
    bad(lambda: measure(observables.Mean(lambda x: np.asarray(x))), TypeError, "measurement of Mean uses numpy",
        r"jax\.numpy", id="a measurement in numpy"),
    bad(lambda: measure(observables.Mean(lambda x: x if x[0] > 0 else -x)), TypeError, "measurement of Mean branches",
        r"jnp\.where", id="a measurement that branches"),
    bad(lambda: observables.Series(observables.Mean(observables.position, burn_in=7)), ValueError, "to the Series",
        id="a Mean's own burn-in in a Series"),
    bad(lambda: observables.Mean(observables.position, every=0), ValueError, "every", "at least 1", "0$", id="every"),
    bad(lambda: observables.Mean(observables.position, every=1.5), ValueError, "every", "integer", "1.5$", id="every 1.5"),
    bad(lambda: observables.Series(observables.position, burn_in=-1), ValueError, "burn_in", "-1", id="burn_in"),
    bad(lambda: observables.Histogram(observables.position, low=1.0, high=1.0), ValueError, "low must be below high",
        "got 1.0 and 1.0", id="empty range"),
    bad(lambda: measure(observables.Histogram(observables.position, low=jnp.array(1.0), high=jnp.array(-1.0))), ValueError,
        "low must be below high", id="reversed range in arrays"),
    bad(lambda: observables.Histogram(observables.position, low=0.0, high=1.0, bins=0), ValueError, "bins", "positive",
        "got 0", id="no bins"),
    bad(lambda: measure(observables.Histogram(observables.position, low=engine.sweep([0.0, 0.5]), high=1.0)), TypeError,
        "plain numbers", "sweep", id="a swept range"),
    bad(lambda: measure(observables.Mean(observables.kinetic_temperature), COLD), ValueError, "kinetic_temperature",
        "momenta", "overdamped", id="kinetic temperature without momenta"),
    bad(lambda: measure(observables.Mean(observables.configurational_temperature), COLD, posterior(batch_size=3)),
        ValueError, "minibatch", "batch_size=None", id="configurational temperature of a minibatch"),
]  # fmt: skip

STEPS = [
    bad(lambda: simulate(steps=-1), ValueError, "steps must not be negative", "-1", id="negative steps"),
    *(bad(lambda s=s: simulate(steps=s), TypeError, "steps must be a whole number", re.escape(f"got {s!r}"), id=f"{s!r}")
      for s in (2.5, "10", None, True, NAN, [3])),
]  # fmt: skip

POSTERIORS = [
    bad(lambda: posterior(batch_size=11), ValueError, "batch_size", "1 to the 10", "got 11", id="batch too large"),
    bad(lambda: posterior(batch_size=0), ValueError, "batch_size", "1 to the 10", "got 0", id="batch of none"),
    bad(lambda: posterior(data=(DATA, DATA[:9])), ValueError, "data", "one leading axis", "9, 10", id="data disagree"),
    bad(lambda: posterior(sampling="bootstrap"), ValueError, "sampling", "fresh.*replacement.*epoch", "'bootstrap'",
        id="sampling"),
    bad(lambda: posterior(log_prior=0.0), TypeError, "log_prior", "function", "0.0", id="prior"),
    bad(lambda: simulate(posterior(log_likelihood=lambda x, e: x * e)), ValueError, "likelihood", "scalar", r"\(2,\)",
        id="likelihood of two numbers"),
]  # fmt: skip

INTEGRATORS = [
    bad(lambda: Descent(optax.adam), TypeError, "GradientTransformation", "got function", id="optax function"),
    bad(lambda: simulate(integrator=EulerMaruyama), TypeError, "instance", r"EulerMaruyama\(step_size", id="class"),
    bad(lambda: simulate(integrator=BAOA), TypeError, "instance", "got function", id="factory"),
    bad(lambda: simulate(integrator=optax.adam(1e-3)), TypeError, "Integrator", "got Gradient", id="optimiser"),
    bad(lambda: simulate(integrator=Forgetful()), TypeError, r"Forgetful\.step", "same tree", id="another tree"),
    bad(
        lambda: simulate(integrator=Halved()),
        TypeError,
        r"Halved\.step",
        r"float32\[2\].*float16\[2\]",
        id="another dtype",
    ),
]

OTHERS = [*MARKS, *POSITIONS, *ENERGIES, *KEYS, *WORDS, *OBSERVABLES, *STEPS, *POSTERIORS, *INTEGRATORS]


@pytest.mark.parametrize("call, error, says", [*through_every_mark(), *OTHERS])
def test_error(call, error, says):
    with pytest.raises(error) as caught:
        call()
    assert all(re.search(part, str(caught.value)) for part in says), f"{says} not all in: {caught.value}"


class Compiled(BaseException):
    """Something was about to be compiled."""


@pytest.fixture
def nothing_compiles(monkeypatch):
    """The two compiled functions of a run, `integrator.init` for all particles and the block of steps, may not be called."""

    def refuse(*_, **__):
        raise Compiled

    # by import_module: the package's attribute `simulate` is the function
    monkeypatch.setattr(import_module("heatbath.engine.preparation"), "_init", refuse)
    monkeypatch.setattr(import_module("heatbath.engine.simulate"), "run_block", refuse)


@pytest.mark.parametrize("call, error, says", OTHERS)
def test_error_comes_before_compiling(call, error, says, nothing_compiles):
    with pytest.raises(error):
        call()


def test_good_input_does_compile(nothing_compiles):
    """The fixture sees what it should see."""
    with pytest.raises(Compiled):
        simulate()


@pytest.mark.parametrize("number", [-0.25, np.float64(-0.25), np.float32(-0.25), jnp.float32(-0.25)])
def test_numbers_are_shown_as_a_user_writes_them(number):
    with pytest.raises(ValueError, match=r"^step_size must be positive; got -0\.25$"):
        bath(step_size=number)


@pytest.fixture(scope="module")
def run():
    return simulate(steps=1, observables={})


@pytest.mark.parametrize(
    "options, error, says",
    [
        (dict(positions=X), TypeError, "own positions"),
        (dict(key=1), TypeError, "own key"),
        (dict(integrator=EulerMaruyama), TypeError, "must be an instance"),
        (dict(integrator=BAOA(step_size=engine.each(np.ones(3)))), ValueError, "one row a particle"),
        (dict(observables="energy"), TypeError, "observables"),
        (dict(steps=-1), ValueError, "steps"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_errors_of_going_on(run, options, error, says, nothing_compiles):
    with pytest.raises(error, match=says):
        engine.simulate(run, **{"steps": 1, **options})


def test_float64_positions_warn_once(monkeypatch):
    monkeypatch.setattr(checks, "_truncation_warned", False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            simulate(positions={"a": np.ones((N, 2)), "b": np.ones(N)}, steps=0, observables={})
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == 1 and messages[0].startswith("positions are float64"), messages


KINKED = {
    "relu": lambda x: jnp.sum(jax.nn.relu(x)),
    "abs": lambda x: jnp.sum(jnp.abs(x)),
    "maximum": lambda x: jnp.sum(jnp.maximum(x, 0)),
    "vmapped relu": lambda x: jnp.sum(jax.vmap(jax.nn.relu)(x)),
    "jitted abs": lambda x: jax.jit(lambda y: jnp.sum(jnp.abs(y)))(x),
}
SMOOTH = {
    "softplus": lambda x: jnp.sum(jax.nn.softplus(x)),
    "logaddexp": lambda x: jnp.sum(jnp.logaddexp(x, -x)),
    "logsumexp": lambda x: jax.nn.logsumexp(x),
    "log_softmax": lambda x: -jax.nn.log_softmax(x)[0],
    "softmax": lambda x: jnp.sum(jax.nn.softmax(x) ** 2),
    "double well": WELL,
}


@pytest.mark.parametrize("name", [*KINKED, *SMOOTH])
def test_configurational_temperature_warns_of_kinks_alone(name):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        measured = observables.Mean(observables.configurational_temperature)
        simulate((KINKED | SMOOTH)[name], COLD, steps=0, observables=measured)
    found = [str(warning.message) for warning in caught]
    assert len(found) == (name in KINKED), found
    assert all("twice differentiable" in message for message in found)


def steps_until_broken(x, h, temperature, key, count=200):
    """For U = Σx⁴: the step after which each particle is first not finite, by Euler and Maruyama in numpy."""
    ids, coordinates = (np.arange(size, dtype=np.uint32) for size in x.shape)
    words = noise.stream_key(noise.key_words(key), noise.Stream.NORMALS)
    pairs = np.asarray(noise.normals(words, noise.counter(0), count // 2, ids[:, None], coordinates[None], jnp.float32))
    found = np.full(len(x), -1)
    for step in range(count):
        xi = pairs[step // 2].imag if step % 2 else pairs[step // 2].real
        with np.errstate(over="ignore", invalid="ignore"):
            x = x - np.float32(h) * 4 * x**3 + np.float32(np.sqrt(2 * h * temperature)) * xi
        found[(found < 0) & ~np.isfinite(x).all(axis=1)] = step + 1
    return found


@pytest.mark.parametrize("before", [0, 7])
@pytest.mark.parametrize("temperature", [0.0, 0.01])
def test_a_run_that_leaves_the_finite_numbers(temperature, before):
    """Two particles start just beyond √(1/2h) = 2.236, outside which the step grows; the first to go is named."""
    h, key = 0.1, 5
    x = np.zeros((100, 2), np.float32)
    x[37, 0], x[61, 1] = 2.2362, 2.4
    bath = EulerMaruyama(step_size=h, temperature=temperature)
    run = simulate(lambda x: jnp.sum(x**4), bath, x, steps=0, key=key)
    expected = steps_until_broken(x, h, temperature, key)
    first = expected[expected > 0].min()
    run = engine.simulate(run, steps=min(before, first - 1), progress=False)  # the named step counts from the beginning
    with pytest.raises(engine.NonFiniteError) as caught:
        engine.simulate(run, steps=500, progress=False)
    particles = np.flatnonzero(expected == first)
    assert first > 3 and len(particles) == 1
    assert caught.value.step == first
    assert caught.value.particles.tolist() == particles.tolist()
    message = str(caught.value)
    assert "1 of 100 particles" in message and f"first is particle {particles[0]}" in message
    assert f"step {first}" in message and "step_size = 0.025" in message


def test_several_particles_that_leave_together_are_counted():
    x = np.zeros((4, 2), np.float32)
    x[[1, 3]] = 50.0
    with pytest.raises(engine.NonFiniteError, match=r"2 of 4 particles.*first is particle 1") as caught:
        simulate(lambda x: jnp.sum(x**4), EulerMaruyama(step_size=0.1, temperature=0.0), x, steps=50)
    assert caught.value.particles.tolist() == [1, 3]


def test_an_optimiser_that_diverges_is_told_to_learn_slower():
    with pytest.raises(engine.NonFiniteError, match="smaller learning rate"):
        simulate(lambda x: jnp.sum(x**4), Descent(optax.sgd(1.0)), 50 * X, steps=50)
