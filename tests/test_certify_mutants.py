"""Classes that declare what is not so, or hide what they do: each fails in the line of its fault."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heatbath import engine, integrators


def exactly(integrator):
    """By linear algebra alone."""
    return engine.certify(integrator, methods=("linear",))


@engine.pytree
class Loud(integrators.EulerMaruyama):
    """Noise √(2.2 hT) for √(2hT): a temperature off by 10 %."""

    def step(self, potential, state, noise):
        return super().step(potential, state, engine.Noise((noise.normals[0] * np.sqrt(1.1),)))


@engine.pytree
class Proud(integrators.EulerMaruyama):
    stationary_order = 2


@engine.pytree
class Perfect(integrators.EulerMaruyama):
    exact = frozenset({"positions"})


@engine.pytree
class Thrifty(integrators.EulerMaruyama):
    """Two gradients a step, one declared."""

    def step(self, potential, state, noise):
        ahead = super().step(potential, state, engine.Noise((jnp.zeros_like(state.position),)))
        force = (potential.gradient(state.position) + potential.gradient(ahead.position)) / 2
        kick = jnp.sqrt(2 * self.step_size * self.temperature) * noise.normals[0]
        return state._replace(position=state.position - self.step_size * force + kick)


@engine.pytree
class Chorus(integrators.EulerMaruyama):
    """All coordinates hear the same noise: every marginal is right."""

    def step(self, potential, state, noise):
        same = jnp.broadcast_to(noise.normals[0][..., :1], noise.normals[0].shape)
        return super().step(potential, state, engine.Noise((same,)))


@engine.pytree
class Limping(integrators.Splitting):
    """BAOAB without its last half kick."""

    def step(self, potential, state, noise):
        new = super().step(potential, state, noise)
        return new._replace(momentum=new.momentum + self.step_size / 2 * potential.gradient(new.position))


@engine.pytree
class Early(integrators.Splitting):
    """BAOAB that claims the momenta of BAOA."""

    exact = frozenset({"positions", "momenta"})


@engine.pytree
class Joint(integrators.Splitting):
    """BAOA's marginals are exact, but position and momentum are correlated."""

    exact = frozenset({"positions", "momenta", "jointly"})


@engine.pytree
class Timely(integrators.CrankNicolson):
    """The exact law, and not the exact way there."""

    exact = frozenset({"positions", "transients"})


@engine.pytree
class Silent(integrators.Splitting):
    """A bath that declares no stationary order."""

    stationary_order = None


@engine.pytree
class Heavy(integrators.Splitting):
    """A kinetic energy of half the momentum's: the thermometer is wrong, positions and momenta are right."""

    def kinetic_energy(self, state):
        return super().kinetic_energy(state) / 2


@engine.pytree
class Mute(integrators.EulerMaruyama):
    """The noise is forgotten."""

    def step(self, potential, state, noise):
        return super().step(potential, state, engine.Noise((jnp.zeros_like(noise.normals[0]),)))


@engine.pytree
class Stuck(integrators.EulerMaruyama):
    """No force and no noise: nothing moves."""

    gradients = 0

    def step(self, potential, state, noise):
        return state


@engine.pytree
class Ascent(integrators.EulerMaruyama):
    """The wrong sign of the force."""

    def step(self, potential, state, noise):
        new = super().step(potential, state, noise)
        return new._replace(position=new.position + 2 * self.step_size * potential.gradient(state.position))


MUTANTS = [
    (Loud(step_size=0.1), "T sampled/bath as h → 0"),
    (Proud(step_size=0.1), "stationary order"),
    (Perfect(step_size=0.1), "exact for positions"),
    (Thrifty(step_size=0.1), "gradients a step"),
    (Chorus(step_size=0.1), "coordinates share no noise"),
    (Limping(step_size=0.1), "T sampled/bath as h → 0"),
    (Early(step_size=0.1), "exact for momenta"),
    (Joint(scheme="BAOA", step_size=0.1), "exact for jointly"),
    (Timely(step_size=0.1), "exact for transients"),
    (Silent(step_size=0.1), "stationary order"),
    (Heavy(step_size=0.1), None),  # by whichever line
    (Mute(step_size=0.1), "T sampled/bath as h → 0"),
    (Stuck(step_size=0.1), "linear"),
    (Ascent(step_size=0.1), "stable"),
]


@pytest.mark.parametrize(("integrator", "line"), MUTANTS, ids=[type(i).__name__ for i, _ in MUTANTS])
def test_a_class_that_declares_too_much_fails(integrator, line):
    verdict = exactly(integrator)
    assert not verdict.passed
    with pytest.raises(AssertionError, match="NOT passed: "):
        verdict.require()
    if line is not None:
        assert line in verdict.failures and not verdict[line].passed
        assert f"{line} " in str(verdict) and "FAILED" in str(verdict)


@pytest.mark.parametrize("name", ["Loud", "Perfect", "Chorus"])
def test_a_mutant_fails_for_its_fault_alone(name):
    """So the mutants above fail for the right reason: a table of failures with one cause names that cause."""
    integrator, line = next(pair for pair in MUTANTS if type(pair[0]).__name__ == name)
    verdict = exactly(integrator)
    also = {"Loud": ("free D/(μT) as h → 0",), "Chorus": ("unequal mobilities",)}  # the same fault seen once more
    assert verdict.failures == (line, *also.get(name, ())), str(verdict)


@engine.pytree
class Clipped(integrators.EulerMaruyama):
    """A gradient clipped by the integrator: linear as long as nothing is clipped."""

    bound: float = engine.number("positive", default=1.0)

    def step(self, potential, state, noise):
        drift = jnp.clip(potential.gradient(state.position), -self.bound, self.bound)
        kick = jnp.sqrt(2 * self.step_size * self.temperature) * noise.normals[0]
        return state._replace(position=state.position - self.step_size * drift + kick)


@engine.pytree
class Coin(integrators.EulerMaruyama):
    """Moves or stays, by a uniform number: what a Metropolis test does."""

    noise = engine.NoiseSpec(normals=1, uniforms=1)

    def step(self, potential, state, noise):
        return jax.tree.map(lambda new, old: jnp.where(noise.uniforms[0] < 0.5, new, old),
                            super().step(potential, state, noise), state)  # fmt: skip


@pytest.mark.parametrize("integrator", [Clipped(step_size=0.1, bound=1e-4), Clipped(step_size=0.1), Coin(step_size=0.1)],
                         ids=["clipped early", "clipped late", "uniform noise"])  # fmt: skip
def test_a_nonlinear_step_is_said_to_be_one(integrator):
    verdict = exactly(integrator)
    assert verdict["linear"].measured == "no" and not verdict.passed
    assert type(integrator).__name__ in verdict["linear"].note
    assert "stationary order" not in verdict.lines  # nothing exact can be said


class Ticking(NamedTuple):
    position: Any
    ticks: Any


@engine.pytree
class Counter(integrators.EulerMaruyama):
    """Counts its steps, so that the linear map of its state has no stationary law; and its noise may be wrong."""

    loudness: Any = engine.number("positive", default=1.0)

    def init(self, potential, position, noise):
        return Ticking(position, jnp.zeros((), position.dtype))

    def step(self, potential, state, noise):
        new = super().step(potential, state, engine.Noise((self.loudness * noise.normals[0],)))
        return Ticking(new.position, state.ticks + 1)


@pytest.mark.parametrize("loudness", [0.8, pytest.param(1.0, marks=pytest.mark.slow)])
def test_a_counter_in_the_state_hides_nothing(loudness):
    """Without a stationary law of its own the population is held against the Gibbs state."""
    found = engine.certify(Counter(step_size=0.1, loudness=loudness), methods=("linear", "montecarlo"))
    assert "against the Gibbs state" in found.methods["montecarlo"]
    assert found.passed == (loudness == 1) == ("population: positions" not in found.failures), str(found)


@pytest.mark.slow
def test_a_population_in_its_own_law_does_not_vouch_for_that_law():
    verdict = engine.certify(Loud(step_size=0.1), methods=("montecarlo",))
    assert "T sampled/bath as h → 0" in verdict.failures
    assert verdict["population: positions"].passed
    verdict = engine.certify(Mute(step_size=0.1), methods=("montecarlo",))
    assert {"T sampled/bath as h → 0", "population moves"} <= {*verdict.failures}


@engine.pytree
class Leaning(integrators.EulerMaruyama):
    """A force that is wrong by a third difference: nothing on quadratic energies, and on wells it leans to a side."""

    gradients = 5

    def step(self, potential, state, noise):
        f = lambda s: potential.gradient(state.position + s / 2)  # noqa: E731
        new = super().step(potential, state, noise)
        return new._replace(position=new.position - 0.01 * self.step_size * (f(3) - 3 * f(1) + 3 * f(-1) - f(-3)))


@engine.pytree
class Lost(integrators.EulerMaruyama):
    """Leaves the finite numbers on the left."""

    def step(self, potential, state, noise):
        return super().step(potential, state._replace(position=jnp.sqrt(state.position)), noise)


def test_landscapes_see_what_quadratic_energies_do_not():
    verdict = engine.certify(Leaning(step_size=0.2), methods=("linear", "transfer"))
    assert {"<x> on 2 log cosh x", "<sin x> on -2 cos x"} == {*verdict.failures}, str(verdict)
    verdict = engine.certify(Lost(step_size=0.2), methods=("transfer",))
    assert not verdict.passed
    verdict = engine.certify(Stuck(step_size=0.2), methods=("transfer", "montecarlo"))
    assert verdict.failures == ("population moves",) and "no force moves it" in verdict.methods["transfer"]


def test_what_is_not_linear_is_left_to_other_methods():
    """A step that is half of the time none at all samples what Euler-Maruyama does; one of clipped gradients does not."""
    verdict = engine.certify(Coin(step_size=0.1))
    assert verdict.passed and verdict["linear"].passed is None, str(verdict)
    assert (
        "takes uniform noise" in verdict.methods["linear"] and "a transfer matrix takes" in verdict.methods["transfer"]
    )
    assert "extrapolated" in verdict.methods["montecarlo"] and 0.05 < verdict.power < 0.1
    verdict = engine.certify(Clipped(step_size=0.1), methods=("transfer",))
    assert verdict.failures == ("stationary order on -2 cos x",), str(verdict)
    assert verdict["stationary order on 2 log cosh x"].measured == "unknown"  # a tail too long for its polynomials
