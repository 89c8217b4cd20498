"""The engine's populations obey the exact discrete laws: Monte Carlo with both errors bounded, and mutants that fail.

Everything starts at draws of the scheme's own stationary law (or relaxes for ten times), so nothing but the step is tested.
Each line of a verdict is held to p = 1e-6; a mutant must fail.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from registry import BATHS

from heatbath import engine, integrators, potentials
from heatbath.engine import Integrator, Noise, NoiseSpec, number, observables, pytree
from heatbath.integrators import EulerMaruyama, Phase, Position

P = 1e-6
TARGET = potentials.Harmonic(stiffness=jnp.array([[1.5, 0.4], [0.4, 0.6]]), center=jnp.array([0.5, -1.0]))
WELL = potentials.DoubleWell(barrier=1.0, tilt=0.4)


# certificates hold the linear laws of all baths every day; the runs of the rest are long
DAILY = ("EulerMaruyama", "LeimkuhlerMatthews", "BAOAB", "OBABO", "QUICSORT", "Descent")


@pytest.mark.parametrize(
    "case", [pytest.param(c, id=c.name, marks=[pytest.mark.slow] * (c.name not in DAILY)) for c in BATHS]
)
def test_quadratic_law_of_every_bath(case):
    """d > 1, coupled, off centre, T ≠ 1."""
    bath = case.make(step_size=0.5, temperature=0.6)
    run = engine.simulate(TARGET, bath, engine.scatter(jnp.zeros(2), 4_000, key=1), steps=400, key=3)
    verdict = engine.compare(run, p_value=P)
    assert verdict.passed, verdict
    assert {"mean_energy", "virial_temperature", "position[1]", "position.variance[0]"} <= set(verdict.lines)


@pytest.mark.parametrize("name", ["EulerMaruyama", "LeimkuhlerMatthews", "BAOAB", "BAOA", "OBABO", "ABOBA"])
def test_nonlinear_law_by_transfer_matrix(name):
    case = next(case for case in BATHS if case.name == name)
    h = 0.02 if name in ("EulerMaruyama", "LeimkuhlerMatthews") else 0.1
    start = WELL.equilibrium(1.0).sample(4, 20_000)
    run = engine.simulate(WELL, case.make(step_size=h, temperature=1.0), start, steps=600, key=5)
    verdict = engine.compare(run, p_value=P)
    assert verdict.passed, verdict
    assert "transfer matrix" in str(verdict)


def test_unknown_structure_is_compared_by_a_second_run():
    """A landscape that says neither quadratic nor separable: the bias comes from half the step."""

    @pytree
    class Opaque(type(TARGET)):
        quadratic = False

    target = Opaque(stiffness=1.0)
    bath = integrators.OBABO(step_size=0.9, friction=1.0, temperature=0.5)
    run = engine.simulate(target, bath, engine.scatter(jnp.zeros(1), 4_000, key=1), steps=300, key=3)
    verdict = engine.compare(run, p_value=P)
    assert "second run" in str(verdict)
    assert verdict.passed, verdict
    line, law = verdict["position.variance"], 0.5 / (1 - 0.9**2 / 4)
    assert abs(line.step_bias - (law - 0.5)) < 6 * line.error  # extrapolated: exact up to the fourth order


@pytree
class Mutant(Integrator):
    """BAOAB or Euler-Maruyama with one mistake."""

    step_size: Any = number("positive")
    temperature: Any = number("non-negative", default=1.0)
    noise_factor: Any = number(default=2.0)  # of h T in the noise's variance
    noise = NoiseSpec(normals=1)
    stationary_order = 1

    def init(self, potential: Any, position: Any, noise: Noise) -> Position:
        return Position(position)

    def step(self, potential: Any, state: Position, noise: Noise) -> Position:
        x, h, xi = state.position, self.step_size, noise.normals[0]
        return Position(x - h * potential.gradient(x) + jnp.sqrt(self.noise_factor * h * self.temperature) * xi)


@pytree
class HalfKickMissing(Integrator):
    """BAOAB without its last half kick."""

    step_size: Any = number("positive")
    temperature: Any = number("non-negative", default=1.0)
    noise = NoiseSpec(normals=1)
    init_noise = NoiseSpec(normals=1)
    has_momentum = True

    def init(self, potential: Any, position: Any, noise: Noise) -> Phase:
        return Phase(position, jnp.sqrt(self.temperature) * noise.normals[0], None)

    def step(self, potential: Any, state: Phase, noise: Noise) -> Phase:
        x, p, h = state.position, state.momentum, self.step_size
        p = p - h / 2 * potential.gradient(x)
        x = x + h / 2 * p
        p = jnp.exp(-h) * p + jnp.sqrt(self.temperature * (1 - jnp.exp(-2 * h))) * noise.normals[0]
        return Phase(x + h / 2 * p, p, None)

    def momentum(self, state: Phase) -> Any:
        return state.momentum

    def kinetic_energy(self, state: Phase) -> jax.Array:
        return jnp.sum(state.momentum**2) / 2


def measured_against(right: Integrator, wrong: Integrator) -> engine.Verdict:
    """A run of the wrong scheme held against the law of the right one."""
    start = engine.scatter(jnp.zeros(1), 4_000, key=1)
    run = engine.simulate(potentials.Harmonic(stiffness=1.0), wrong, start, steps=400, key=3)
    from heatbath.engine.law import predict

    law = predict(right, potentials.Harmonic(stiffness=1.0), jnp.zeros(1))
    exact = {"potential_energy": law.energy, "position.variance": law.position_variance}
    return engine.compare(run, exact=exact | ({"kinetic_temperature": law.kinetic} if law.kinetic else {}), p_value=P)


def test_control_passes():
    scheme = EulerMaruyama(step_size=0.2, temperature=0.7)
    assert measured_against(scheme, Mutant(step_size=0.2, temperature=0.7)).passed


@pytest.mark.parametrize(
    "right, wrong",
    [
        (EulerMaruyama(step_size=0.2, temperature=0.7), Mutant(step_size=0.2, temperature=0.7, noise_factor=1.0)),
        (EulerMaruyama(step_size=0.2, temperature=0.7), Mutant(step_size=0.2, temperature=0.77)),
        (integrators.BAOAB(step_size=0.5), HalfKickMissing(step_size=0.5)),
        (integrators.BAOA(step_size=0.8), integrators.BAOAB(step_size=0.8)),
    ],
    ids=["noise √h for √2h", "temperature off by 10 %", "half kick missing", "momentum at the wrong substep"],
)
def test_mutants_fail(right, wrong):
    assert not measured_against(right, wrong).passed


def test_noise_shared_by_two_particles_is_seen():
    """n · Var(mean of a pair) against the law: 2 particles, many pairs; the engine's pass, a copy of one fails."""
    run = engine.simulate(
        potentials.Harmonic(stiffness=1.0), EulerMaruyama(step_size=0.5), jnp.zeros((8_000, 1)), steps=60, key=2
    )
    x = np.asarray(run.positions)[:, 0]
    law = 1 / (1 - 0.25)
    for pairs, right in ((np.stack([x[::2], x[1::2]]), True), (np.stack([x[::2], x[::2]]), False)):
        ratio = 2 * np.var(pairs.mean(0)) / law
        # chi-squared with 4,000 degrees of freedom: ± 4.9 √(2/4000) at p = 1e-6
        assert (abs(ratio - 1) < 4.9 * np.sqrt(2 / 4_000)) == right


def test_trapped_ensemble_is_flagged_though_every_thermometer_is_right():
    """Barrier 10 T, released in one well: locally in equilibrium, globally nowhere near."""
    well = potentials.DoubleWell(barrier=1.0, tilt=0.02)
    bath = integrators.BAOAB(step_size=0.05, friction=1.0, temperature=0.1)
    run = engine.simulate(well, bath, engine.scatter(jnp.ones(1), 2_000, scale=0.1, key=1), steps=3_000, key=2)
    verdict = engine.compare(run)
    thermometers = [line for name, line in verdict.lines.items() if name.endswith("temperature")]
    assert len(thermometers) == 3
    assert all(line.passed for line in thermometers), verdict
    assert not verdict.passed
    assert not verdict["position"].passed
    assert any("thermometer" in flag and "trapped" in flag for flag in verdict.flags), verdict.flags


def test_particles_trapped_in_both_wells_are_flagged_without_any_truth():
    well = potentials.DoubleWell(barrier=1.0)
    bath = integrators.BAOAB(step_size=0.05, friction=1.0, temperature=0.1)
    start = np.random.default_rng(1).choice([-1.0, 1.0], (1_000, 1), p=[0.7, 0.3]).astype(np.float32)
    run = engine.simulate(well, bath, start, steps=2_000, key=2)
    assert any("position" in warning and "trapped" in warning for warning in run.warnings), run.warnings


def test_drift_is_flagged():
    slow = integrators.EulerMaruyama(step_size=0.001)
    start = jnp.full((500, 1), 4.0)
    measured = {"x": observables.Mean(observables.position)}
    run = engine.simulate(potentials.Harmonic(), slow, start, steps=1_000, key=2, observables=measured)
    assert any("drift" in warning for warning in run.warnings)
