"""What `engine.certify` lets pass, and what it must not: declarations are held, whatever a class says of itself."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from registry import BATHS, INTEGRATORS

from heatbath import engine, integrators

NAMED = {case.name: case.make for case in INTEGRATORS}


def exactly(integrator):
    """By linear algebra alone."""
    return engine.certify(integrator, methods=("linear",))


@pytest.mark.parametrize("case", BATHS, ids=lambda case: case.name)
def test_every_bath_passes(case):
    verdict = exactly(case.make())
    assert verdict.passed, str(verdict)
    assert verdict.failures == () and verdict.require() is verdict
    assert verdict["linear"].measured == "yes" and verdict["coordinates share no noise"].measured == "yes"
    assert verdict["T sampled/bath as h → 0"].measured == pytest.approx(1, abs=1e-3)
    assert "no bath" not in str(verdict)


FEW = {
    "EulerMaruyama",
    "LeimkuhlerMatthews",
    "BAOAB",
    "BAOA",
    "OBABO",
    "ABOBA",
    "Splitting",
}  # the rest in the long run
few_first = pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.name, marks=[pytest.mark.slow] * (case.name not in FEW)) for case in BATHS]
)


@pytest.mark.slow
@pytest.mark.parametrize("case", INTEGRATORS, ids=lambda case: case.name)
def test_everything_passes_by_all_methods(case):
    """As a user asks, and each by whatever it lets be used: Metropolised kernels and thermostats by populations alone."""
    engine.certify(case.make()).require()


@few_first
def test_numbers_of_the_bath_do_not_matter(case):
    """The certificate is one of a scheme: temperature, mass, friction, mobility and step only set its units."""
    change = {"mass": 3.0, "friction": 0.1} if case.make().has_momentum else {"mobility": 0.2}
    change = {} if isinstance(case.make(), integrators.Descent) else change
    verdict = exactly(case.make(temperature=0.05, step_size=5.0, **change))
    assert verdict.passed, str(verdict)


@pytest.mark.parametrize(
    "integrator",
    [integrators.EulerMaruyama(step_size=1e-6, temperature=300.0), integrators.EulerMaruyama(step_size=50.0, mobility=1e6),
     integrators.BAOAB(step_size=0.1, mass=1e-7),
     integrators.BAOAB(step_size=1e4, mass=1e7, friction=1e-6, temperature=1e-3),
     integrators.UnderdampedEulerMaruyama(step_size=1e-3, friction=0.01)],
)  # fmt: skip
def test_units_of_any_size(integrator):
    """In femtoseconds, in seconds, of electrons and of stars; and a scheme that is stable for hω² < γ alone."""
    verdict = exactly(integrator)
    assert verdict.passed, str(verdict)


def test_noise_without_a_temperature_is_not_passed():
    """A temperature that is written into the step cannot be asked about."""

    @engine.pytree
    class Fixed(engine.Integrator):
        step_size: Any = engine.number("positive")
        noise = engine.NoiseSpec(normals=1)
        weak_order = stationary_order = 1

        def init(self, potential, position, noise):
            return integrators.Position(position)

        def step(self, potential, state, noise):
            x, h = state.position, self.step_size
            return state._replace(position=x - h * potential.gradient(x) + jnp.sqrt(2 * h) * noise.normals[0])

    assert exactly(Fixed(step_size=0.1)).failures == ("declares its temperature",)


@pytest.mark.parametrize("step_size", [0.01, 2.0])
def test_a_first_order_word_passes_at_any_friction(step_size):
    """Its bias is aγh + b(hω)²: where one term leads, and where the other, depends on γ/ω."""
    verdict = exactly(integrators.Splitting(scheme="OBA", step_size=step_size, friction=1.0))
    assert verdict.passed, str(verdict)


@pytest.mark.parametrize("word", ["AOAB", "OABAO", "OAB", "ABO", "AOBOA", "BAO", "OABA"])
def test_every_word_declares_what_is_so(word):
    assert exactly(integrators.Splitting(scheme=word, step_size=0.1, friction=1.3)).require().passed


def test_what_is_exact_on_its_way():
    """The Ornstein-Uhlenbeck step alone, and whatever does not declare it has it not."""
    shown = {name: exactly(NAMED[name]())["exact for transients"].measured for name in ("BAOAB", "LeimkuhlerMatthews")}
    assert exactly(NAMED["ExactOrnsteinUhlenbeck"]())["exact for transients"].measured == "yes"
    assert shown == {"BAOAB": "no", "LeimkuhlerMatthews": "no"}


def test_its_numbers_are_the_closed_forms():
    """analytic.md A.2 and A.3: k<x²>/T and <p²>/mT at quarters of the limit hω = 2 (w = 1/4, 1, 9/4), or z = 2."""
    w = np.array([0.25, 1, 2.25])
    lines = {name: exactly(NAMED[name]()) for name in ("BAOAB", "OBABO", "EulerMaruyama")}
    read = lambda name, what: [line.measured for key, line in lines[name].lines.items() if key.startswith(what)]  # noqa: E731
    np.testing.assert_allclose(read("BAOAB", "kinetic T"), 1 - w / 4, rtol=1e-8)
    np.testing.assert_allclose(read("OBABO", "configurational T"), 1 / (1 - w / 4), rtol=1e-7)
    np.testing.assert_allclose(read("EulerMaruyama", "configurational T"), [4 / 3, 2, 4], rtol=1e-7)
    assert lines["BAOAB"]["stable below hω"].measured == pytest.approx(2, rel=1e-8)
    assert lines["EulerMaruyama"]["stable below μhk"].measured == pytest.approx(2, rel=1e-6)
    assert lines["OBABO"]["stationary order"].measured == pytest.approx(2, abs=0.05)


@pytest.mark.parametrize(
    "integrator",
    [
        NAMED["Verlet"](),
        NAMED["Descent"](),
        integrators.Descent(optax.sgd(0.1)),
        integrators.BAOAB(step_size=0.1, temperature=0),
    ],
    ids=["Verlet", "Descent with adam", "Descent with sgd", "BAOAB at T = 0"],
)
def test_without_a_bath_it_says_so(integrator):
    verdict = exactly(integrator)
    assert "no bath" in str(verdict)
    assert not any(name.startswith(("T sampled", "exact for", "configurational")) for name in verdict.lines)
    assert verdict["gradients a step"].measured == 1


def test_a_descent_is_stable_below_two():
    verdict = exactly(integrators.Descent(optax.sgd(0.1)))
    assert verdict.passed and verdict["stable below μhk"].measured == pytest.approx(2, rel=1e-6)


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


@pytest.mark.parametrize("name", ["EulerMaruyama", "BAOAB"])
def test_a_full_certificate(name):
    """Everything at once, in units that are not 1: landscapes and populations scale with the bath."""
    change = {"mass": 3.0, "friction": 0.1} if name == "BAOAB" else {"mobility": 0.2}
    certificate = engine.certify(NAMED[name](temperature=0.05, step_size=5.0, **change))
    assert certificate.passed, str(certificate)
    declared = NAMED[name]()
    assert set(certificate.methods) == {"linear", "transfer", "montecarlo"}
    for shape in ("2 log cosh x", "-2 cos x"):
        assert certificate[f"stationary order on {shape}"].measured == pytest.approx(
            declared.stationary_order, abs=0.15
        )
        assert certificate.tables[shape].order(0) == certificate[f"stationary order on {shape}"].measured
    assert certificate["weak order at a fixed time"].measured == pytest.approx(declared.weak_order, abs=0.15)
    assert certificate["particles share no noise"].passed
    assert "is seen with 99 %" in str(certificate) and certificate.power < 0.1


def test_form_and_transport():
    """det = exp(-γh d); symplectic and reversible at friction 0; diffusion and drift (analytic.md A.3) at γh = 1/2, 1."""
    for gh, factor in ((0.5, 1.0207470413), (1.0, 1.0819767069)):
        for word in ("BAOAB", "OBA", "OAB", "AOBOA"):
            found = exactly(
                integrators.Splitting(scheme=word, step_size=0.4, friction=gh / 0.4, temperature=0.7, mass=2.0)
            )
            drift = {"BAOAB": factor, "OBA": factor + gh / 2, "OAB": factor - gh / 2, "AOBOA": gh / 2 / np.sinh(gh / 2)}
            assert found["free diffusion/exact"].measured == pytest.approx(factor, rel=6e-11)
            assert found["drift under a force/exact"].measured == pytest.approx(drift[word], rel=6e-11)
            assert found["ln(volume) a step and coordinate"].measured == pytest.approx(-gh, rel=1e-12)
            assert found["symplectic at friction 0"].measured == "yes"
            assert (found["reversible at friction 0"].measured == "yes") == (word == word[::-1])


@engine.pytree
class Sticky(integrators.Splitting):
    """Friction acts twice as fast as it says, at the right temperature."""

    def step(self, potential, state, noise):
        twice = integrators.BAOAB(step_size=self.step_size, friction=2 * self.friction, temperature=self.temperature,
                                  mass=self.mass)  # fmt: skip
        return twice.step(potential, state, noise)


@engine.pytree
class Rough(integrators.EulerMaruyama):
    """Paths that have no limit: the noise changes its sign whenever the step is halved."""

    def step(self, potential, state, noise):
        sign = jnp.cos(jnp.pi * jnp.round(jnp.log2(self.step_size)))
        return super().step(potential, state, engine.Noise((sign * noise.normals[0],)))


def test_friction_and_paths_are_held_to_what_is_declared():
    assert exactly(Sticky(step_size=0.1)).failures == ("mobility × mγ as h → 0",)
    assert exactly(NAMED["EulerMaruyama"]())["strong order"].measured == pytest.approx(1, abs=0.15)
    assert exactly(Rough(step_size=0.1)).failures == ("strong order",)


def test_landscapes_that_are_asked_for():
    asked = {"x²/2 + x⁴/4": (0.05, 0.025)}
    certificate = engine.certify(NAMED["EulerMaruyama"](), methods=("transfer",), landscapes=asked)
    assert certificate.tables["x²/2 + x⁴/4"].names == ("x²", "x") and certificate.passed
    with pytest.raises(ValueError, match=r"landscapes must be some of \('2 log cosh x'"):
        engine.certify(NAMED["EulerMaruyama"](), landscapes={"x²": (0.1,)})
    with pytest.raises(
        ValueError, match=r"methods must be some of \('linear', 'transfer', 'montecarlo'\); got 'linear'"
    ):
        engine.certify(NAMED["EulerMaruyama"](), methods="linear")


@pytest.mark.parametrize("change", [{"temperature": engine.sweep([1.0, 2.0])}, {"step_size": lambda step: 0.1 / (1 + step)},
                                    {"temperature": engine.each(jnp.ones(3))}, {"mobility": jnp.ones(3)}],
                         ids=["sweep", "schedule", "each", "diagonal"])  # fmt: skip
def test_it_takes_plain_numbers(change):
    with pytest.raises(ValueError, match=f"certify takes an integrator of plain numbers; {next(iter(change))}"):
        exactly(integrators.EulerMaruyama(**{"step_size": 0.1, **change}))


def test_it_takes_an_instance():
    with pytest.raises(TypeError, match="must be an instance"):
        exactly(integrators.EulerMaruyama)
