"""What compiles: the structure of a program, once. Numbers, schedules, keys, starts and lengths compile nothing.

Every compilation of XLA is counted, the small ones of single operations too, as JAX reports them to its monitoring.
"""

import dataclasses
import importlib
import itertools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath import engine, potentials
from heatbath.engine import observables
from heatbath.engine.block import _compiled
from heatbath.engine.plan import Plan
from heatbath.integrators import BAOA, EulerMaruyama, Splitting

X = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32) / 2
KEYS = (3, 4)
SCHEDULES = tuple(lambda step, a=a, b=b: a + b * step for a, b in ((0.5, 0.001), (0.9, -0.002)))  # of equal operations
HARMONIC = potentials.Harmonic(stiffness=1.5)

ANNEALED = BAOA(step_size=0.1, temperature=SCHEDULES[0])


def simulate(potential=HARMONIC, integrator=None, positions=X, *, steps=30, key=3, **options):
    integrator = BAOA(step_size=0.1, temperature=0.5) if integrator is None else integrator
    options.setdefault("observables", {"energy": observables.Mean(observables.potential_energy, every=3)})
    return engine.simulate(potential, integrator, positions, steps=steps, key=key, **options)


def blocks():
    """Compiled blocks of steps, of both kinds."""
    return sum(_compiled(*kind)._cache_size() for kind in itertools.product((True, False), repeat=2))


@pytest.fixture
def compilations():
    """A function that counts what XLA compiled so far."""
    found = []

    def listen(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield lambda: len(found)
    jax.monitoring.unregister_event_duration_listener(listen)


@engine.pytree
class Tilted(engine.Potential):
    """A user's energy with a number."""

    slope: float = engine.number()

    def __call__(self, position):
        return jnp.sum(position**2) + self.slope * position[0]


CHANGES = {
    "a step size": [lambda h=h: simulate(integrator=BAOA(step_size=h)) for h in (0.1, 0.2)],
    "a temperature": [lambda t=t: simulate(integrator=BAOA(step_size=0.1, temperature=t)) for t in (0.5, 0.7)],
    "an integer for a float": [lambda t=t: simulate(integrator=BAOA(step_size=0.1, temperature=t)) for t in (0.5, 1)],
    "a mass": [lambda m=m: simulate(integrator=BAOA(step_size=0.1, mass=np.float32(m))) for m in ([1, 2], [3, 1])],
    "a stiffness": [lambda k=k: simulate(potentials.Harmonic(stiffness=k)) for k in (1.0, 2.0)],
    "a user's number": [lambda s=s: simulate(Tilted(slope=s)) for s in (0.1, 0.2)],
    "a multiple of a potential": [lambda s=s: simulate(s * HARMONIC) for s in (1.5, 2.5)],
    "values of particles": [
        lambda t=t: simulate(integrator=BAOA(step_size=0.1, temperature=engine.each(np.full(30, t))))
        for t in (0.5, 0.6)
    ],
    "values of a ladder": [
        lambda t=t: simulate(integrator=BAOA(step_size=0.1, temperature=engine.sweep([t, 2 * t]))) for t in (0.5, 0.6)
    ],
    "a schedule": [lambda s=s: simulate(integrator=BAOA(step_size=0.1, temperature=s)) for s in SCHEDULES],
    "the number of steps": [lambda n=n: simulate(steps=n) for n in (30, 75)],
    "the number of steps under a schedule": [lambda n=n: simulate(integrator=ANNEALED, steps=n) for n in (30, 75)],
    "the number of steps recorded": [
        lambda n=n: simulate(steps=n, observables=observables.Series(observables.position, every=2)) for n in (30, 75)
    ],
    "the key": [lambda k=k: simulate(key=k) for k in (3, 2**32 - 1)],
    "a typed key": [lambda k=k: simulate(key=jax.random.key(k, impl="threefry2x32")) for k in KEYS],
    "the start": [lambda x=x: simulate(positions=x) for x in (X, X + 1)],
    "the range of a histogram": [
        lambda low=low: simulate(observables=observables.Histogram(observables.position, low=low, high=2.0, every=5))
        for low in (-2.0, -1.0)
    ],
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_that_compiles_nothing(name, compilations):
    first, second = CHANGES[name]
    before = first()
    count = compilations()
    after = second()
    assert compilations() == count
    # and yet the change has its effect
    assert after.step != before.step or not np.array_equal(after.positions, before.positions) or "histogram" in name


def test_going_on_compiles_nothing(compilations):
    run = simulate()
    count = compilations()
    run = engine.simulate(engine.simulate(run, steps=13), steps=50)
    assert run.step == 93 and compilations() == count


def test_the_block_of_a_large_run_compiles_once(compilations, monkeypatch):
    """It is compiled ahead, and found again when it runs; with as many compilations as that of a small run."""
    simulation = importlib.import_module("heatbath.engine.simulate")
    counts = []
    for large, rows in ((False, 17), (False, 18), (True, 19)):
        monkeypatch.setattr(simulation, "is_large", lambda arrays, large=large: large)
        before = compilations()
        simulate(positions=X[:rows])
        counts.append(compilations() - before)
    assert counts[1] == counts[2] > 0


def test_the_same_function_is_the_same_energy():
    energy = lambda x: jnp.sum(x**4)  # noqa: E731
    run = simulate(energy)
    count = blocks()
    engine.simulate(run, steps=100)
    simulate(energy, key=5)
    assert blocks() == count
    simulate(lambda x: jnp.sum(x**4))  # written anew: another one
    assert blocks() == count + 1


STRUCTURE = {
    "another word": lambda: simulate(integrator=Splitting(scheme="OABAO", step_size=0.1)),
    "an observable": lambda: simulate(observables=observables.Mean(observables.potential_energy, every=4)),
    "another shape of particle": lambda: simulate(positions=X[:, :1]),
    "more particles": lambda: simulate(positions=np.concatenate([X, X])),
    "a schedule for a number": lambda: simulate(integrator=BAOA(step_size=SCHEDULES[0])),
}


@pytest.mark.parametrize("name", STRUCTURE)
def test_a_change_of_structure_compiles_one_block(name):
    simulate()
    count = blocks()
    run = STRUCTURE[name]()
    assert blocks() == count + 1
    engine.simulate(run, steps=3)
    assert blocks() == count + 1


@engine.pytree
class Doubled(EulerMaruyama):
    """A scheme with the fields of another one, and twice its step."""

    def step(self, potential, state, noise):
        return EulerMaruyama.step(dataclasses.replace(self, step_size=2 * self.step_size), potential, state, noise)


def test_classes_with_the_same_fields_are_different_programs():
    """JAX compares the trees of registered dataclasses without their classes: a landscape or a scheme must not get the
    compiled block of another one that happens to have as many numbers.
    """
    cold = EulerMaruyama(step_size=0.01, temperature=0.0)
    for potential in (potentials.DoubleWell(barrier=1.0, tilt=0.5), potentials.Harmonic(stiffness=1.0, center=0.5)):
        moved = simulate(potential, cold, steps=1, observables={}).positions
        expected = X - 0.01 * jax.vmap(jax.grad(potential))(jnp.asarray(X))
        np.testing.assert_allclose(moved, expected, atol=1e-6)
    other = simulate(HARMONIC, Doubled(step_size=0.01, temperature=0.0), steps=1, observables={}).positions
    np.testing.assert_allclose(other, X - 0.02 * 1.5 * X, atol=1e-6)
    trees = [jax.tree.structure(node) for node in (cold, Doubled(step_size=0.01))]
    assert trees[0] != trees[1] and trees[0] == jax.tree.structure(EulerMaruyama(step_size=0.5))


def test_equilibria_with_the_same_fields_are_different_programs():
    well = potentials.DoubleWell(barrier=1.0, tilt=0.5).equilibrium(0.7)
    harmonic = potentials.Harmonic(stiffness=1.0, center=0.5).equilibrium(0.7)
    np.testing.assert_allclose(harmonic.log_partition, 0.5 * np.log(2 * np.pi * 0.7), rtol=1e-12)
    assert abs(well.log_partition - harmonic.log_partition) > 0.01


def test_the_first_run_compiles_few_loops(compilations):
    """A loop takes some 10 ms to compile, of one number as of many: those of a run that observes what it does by default."""
    start = engine.scatter(jnp.zeros(1), 10_000)
    before = compilations()
    run = simulate(potentials.DoubleWell(), EulerMaruyama(step_size=0.01, temperature=0.5), start, observables=None)
    assert compilations() - before <= 5  # the block, the state's first values, and what goes into its layout and out
    plan = Plan.of(run)
    layout, carry = plan.program.layout, plan.pack(run)
    compiled = _compiled(layout.elementwise, layout.devices > 1)
    arguments = (plan.shared, plan.particle[0], [], carry[0], plan.keys, plan.window(30, 30), np.int32(0))
    text = compiled.lower(plan.program, *arguments).compile().as_text()
    loops = set(re.findall(r"calls=%([\w.]+)", text))
    assert 20 < len(loops) <= 55


@engine.pytree
class Spring(potentials.Coordinatewise):
    """A user's landscape that takes a root in plain Python, and reads a number that is no field."""

    stiffness: float = engine.number("positive", default=4.0)
    scale = 1.0

    def one(self, x):
        return math.sqrt(self.stiffness) * x * x * type(self).scale

    def support(self, temperature, xp=np):
        return -10.0 * np.sqrt(temperature), 10.0 * np.sqrt(temperature)


def test_derivatives_are_kept_for_programs_alone(monkeypatch):
    """Called by hand, a landscape has its fields as they are, and is differentiated as it is then."""
    x = jnp.array([0.5, -1.0])
    value, gradient = Spring().value_and_gradient(x)
    assert value == 2.5 and gradient.tolist() == [2.0, -4.0]
    monkeypatch.setattr(Spring, "scale", 3.0)
    assert Spring().value_and_gradient(x)[0] == 7.5
    assert jax.jit(lambda x: Spring().value_and_gradient(x)[0])(x) == 7.5  # plain fields
    double = lambda barrier, x: potentials.DoubleWell(barrier=barrier).value_and_gradient(x)[1]  # noqa: E731
    np.testing.assert_allclose(jax.jit(double)(2.0, x), double(2.0, x), rtol=1e-6)
    np.testing.assert_allclose(jax.jacfwd(double)(2.0, x), 4 * x * (x * x - 1), rtol=1e-6)
