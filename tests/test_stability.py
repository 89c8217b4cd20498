"""A step beyond the linear limit of stability is told so before it runs, with the limit; no other step is."""

import jax.numpy as jnp
import numpy as np
import pytest

from heatbath import engine, integrators, potentials

FLAT = potentials.Harmonic(stiffness=jnp.array([0.0, 0.3]))
STIFF = potentials.Harmonic(stiffness=jnp.array([1.0, 4.0]))  # ω = 2 at mass 1
X = np.zeros((4, 2), np.float32)
# analytic.md A.1: hω < 2 for schemes with one kick, μhk < 2; Euler and Maruyama's underdamped step needs hω² < γ
LIMITS = {
    "EulerMaruyama": ({}, 0.5),
    "LeimkuhlerMatthews": ({"mobility": 0.5}, 1.0),
    "BAOAB": ({"friction": 3.0}, 1.0),
    "OBABO": ({"mass": 4.0}, 2.0),
    "SymplecticEuler": ({"friction": 1e-6}, 1.0),
    "Verlet": ({}, 1.0),
    "UnderdampedEulerMaruyama": ({"friction": 0.2}, 0.05),
    "GronbechJensen": ({}, 1.0),
}


def start(integrator, potential=STIFF, x=X):
    return engine.simulate(potential, integrator, x, steps=0, progress=False)


@pytest.mark.parametrize("name", LIMITS)
def test_a_step_beyond_the_limit_warns_with_it(name):
    numbers, limit = LIMITS[name]
    make = lambda factor: getattr(integrators, name)(step_size=factor * limit, **numbers)  # noqa: E731
    start(make(0.99))  # in silence: warnings are errors here
    with pytest.warns(UserWarning, match="limit of stability") as caught:
        start(make(1.01))
    said = str(caught[0].message)
    assert f"step_size {1.01 * limit:.6g} is beyond {'BAB' if name == 'Verlet' else name}'s limit" in said
    assert float(said.split("energy, ")[1].split(":")[0]) == pytest.approx(limit, rel=2e-5)


def test_what_it_warns_of_happens():
    """Beyond the limit a run leaves the finite numbers; below it stays, however long."""
    with pytest.warns(UserWarning, match="limit of stability"), pytest.raises(engine.NonFiniteError):
        engine.simulate(STIFF, integrators.BAOAB(step_size=1.02), X + 1, steps=3_000, progress=False)
    below = engine.simulate(STIFF, integrators.BAOAB(step_size=0.98), X + 1, steps=3_000, progress=False)
    assert np.abs(below.positions).max() < 30


def test_descent_has_a_limit_too():
    """Heavy ball: 2(1 + β)/k."""
    make = lambda rate: integrators.Descent(learning_rate=rate, momentum=0.5, temperature=1.0)  # noqa: E731
    start(make(0.74))
    with pytest.warns(UserWarning, match=r"limit of stability on this quadratic energy, 0\.75:"):
        start(make(0.76))


def test_the_largest_step_of_many_is_looked_at():
    """A ladder of steps or temperatures, or a step for each particle, hides no step that is too large."""
    hot = {"temperature": engine.sweep([0.5, 1.0])}
    start(integrators.BAOAB(step_size=0.99, **hot))
    start(integrators.BAOAB(step_size=engine.sweep([0.5, 0.99])))
    for step in (engine.sweep([0.5, 1.01]), engine.each([0.1, 1.01, 0.1, 0.1])):
        with pytest.warns(UserWarning, match=r"step_size 1\.01 is beyond BAOAB's limit"):
            start(integrators.BAOAB(step_size=step))
    with pytest.warns(UserWarning, match=r"step_size 1\.01 is beyond BAOAB's limit"):
        start(integrators.BAOAB(step_size=1.01, **hot))


@pytest.mark.parametrize("name", ["Verlet", "BAOAB", "UBU"])
def test_free_coordinates_are_no_instability(name):
    """A double eigenvalue 1, which rounding splits by its root."""
    start(getattr(integrators, name)(step_size=0.1), FLAT)


def test_no_word_where_the_law_is_not_linear():
    start(integrators.BAOAB(step_size=5.0), potentials.DoubleWell())
    start(integrators.HMC(step_size=5.0, steps=3))
    start(integrators.BAOAB(step_size=5.0, friction=engine.sweep([0.1, 5.0])))
    start(integrators.CrankNicolson(step_size=50.0))
