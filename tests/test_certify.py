"""What `engine.certify` lets pass, and what it must not: declarations are held, whatever a class says of itself."""

from typing import Any

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
