"""Known mistakes of Langevin codes, planted one by one: the certificate must fail, in the line that says what is wrong.

Each bug has its right twin, which passes.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from heatbath import engine, integrators
from heatbath.engine import Integrator, Noise, NoiseSpec, number, pytree, static
from heatbath.integrators import Phase, Position, Smoothed


@pytree
class Underdamped(Integrator):
    """What the schemes below share: a momentum drawn at T, and its kinetic energy."""

    step_size: Any = number("positive", default=0.2)
    friction: Any = number("non-negative", default=1.3)
    temperature: Any = number("non-negative", default=1.0)
    mass: Any = number("positive", default=1.0)
    bug: str = static(default="")
    has_momentum = True
    noise = init_noise = NoiseSpec(normals=1)
    stationary_order = 2

    def init(self, potential: Any, position: Any, noise: Noise) -> Any:
        return Phase(position, jnp.sqrt(self.mass * self.temperature) * noise.normals[0], None)

    def momentum(self, state: Any) -> Any:
        return state.momentum

    def kinetic_energy(self, state: Any) -> Any:
        return jnp.sum(state.momentum**2 / self.mass) / 2


@pytree
class HandWritten(Underdamped):
    """BAOAB, written out, and what becomes of it."""

    exact = frozenset({"positions"})
    weak_order = 2
    gradients = 2  # the simple way, nothing cached

    def step(self, potential: Any, state: Any, noise: Noise) -> Any:
        h, bug = self.step_size, self.bug
        x, p, _ = state
        kick = lambda x, p: p - h / 2 * potential.gradient(x)  # noqa: E731
        drift = lambda x, p: x + h / 2 * p / self.mass  # noqa: E731
        c = jnp.exp(-self.friction * h)
        variance = self.mass * self.temperature * (1 - c * c)
        variance = {"T for 2T": variance / 2, "mass missing": variance / self.mass}.get(bug, variance)
        p = c * p + jnp.sqrt(variance) * noise.normals[0] if bug == "OBAB" else kick(x, p)
        if bug == "OBAB":
            x = drift(drift(x, kick(x, p)), kick(x, p))
            return Phase(x, kick(x, kick(state.position, p)), None)
        x = drift(x, p)
        p = c * p + jnp.sqrt(variance) * noise.normals[0]
        x = drift(x, p)
        return Phase(x, kick(x, p), None)


@pytree
class Overdamped(Integrator):
    """Euler-Maruyama and its kind, with a mistake in the noise."""

    step_size: Any = number("positive", default=0.1)
    temperature: Any = number("non-negative", default=1.0)
    bug: str = static(default="")
    noise = NoiseSpec(normals=1)
    weak_order = stationary_order = 1

    def init(self, potential: Any, position: Any, noise: Noise) -> Any:
        return Position(position)

    def step(self, potential: Any, state: Any, noise: Noise) -> Any:
        x, h = state.position, self.step_size
        spread = jnp.sqrt((1 if self.bug else 2) * h * self.temperature)
        return Position(x - h * potential.gradient(x) + spread * noise.normals[0])


@pytree
class EulerAsMatthews(integrators.EulerMaruyama):
    """Euler-Maruyama under Leimkuhler and Matthews' name."""

    stationary_order = 2
    exact = frozenset({"positions"})


@pytree
class Forgetful(integrators.LeimkuhlerMatthews):
    """Leimkuhler and Matthews with two fresh normals: the one of the step before is not used again."""

    noise = NoiseSpec(normals=2)

    def step(self, potential: Any, state: Any, noise: Noise) -> Any:
        return super().step(potential, Smoothed(state.position, noise.normals[0]), Noise(noise.normals[1:]))


class Kicked(NamedTuple):
    position: Any
    momentum: Any
    normal: Any  # of the last half kick


@pytree
class BBK(Underdamped):
    """Brünger, Brooks and Karplus: the random force of a half kick is that of the next one, or by mistake a fresh one."""

    weak_order = 1
    gradients = 2

    @property
    def noise(self) -> NoiseSpec:
        return NoiseSpec(normals=2 if self.bug else 1)

    @property
    def init_noise(self) -> NoiseSpec:
        return NoiseSpec(normals=2)

    def init(self, potential: Any, position: Any, noise: Noise) -> Any:
        return Kicked(*super().init(potential, position, noise)[:2], noise.normals[1])

    def step(self, potential: Any, state: Any, noise: Noise) -> Any:
        x, p, old = state
        old = noise.normals[1] if self.bug else old
        h, g, new = self.step_size, self.friction, noise.normals[0]
        spread = jnp.sqrt(2 * self.mass * g * self.temperature / h)
        p = (1 - g * h / 2) * p + h / 2 * (spread * old - potential.gradient(x))
        x = x + h * p / self.mass
        p = (p + h / 2 * (spread * new - potential.gradient(x))) / (1 + g * h / 2)
        return Kicked(x, p, new)


class Moved(NamedTuple):
    position: Any
    momentum: Any  # on site
    moved: Any  # mass × the velocity that is reported


@pytree
class GJ(Underdamped):
    """Grønbech-Jensen and Farago; the half-step velocity is (x' - x)/(√b h), and not the central difference."""

    exact = frozenset({"positions", "momenta"})
    weak_order = 1
    gradients = 2

    def init(self, potential: Any, position: Any, noise: Noise) -> Any:
        x, p, _ = super().init(potential, position, noise)
        return Moved(x, p, p)

    def momentum(self, state: Any) -> Any:
        return state.moved

    def kinetic_energy(self, state: Any) -> Any:
        return jnp.sum(state.moved**2 / self.mass) / 2

    def step(self, potential: Any, state: Any, noise: Noise) -> Any:
        x, p, _ = state
        h, g, m = self.step_size, self.friction, self.mass
        b = 1 / (1 + g * h / 2)
        eta = jnp.sqrt(2 * g * m * self.temperature * h) * noise.normals[0]
        here = -potential.gradient(x)
        new = x + b * h / m * (p + h / 2 * here + eta / 2)
        p = (1 - g * h / 2) * b * p + h / 2 * ((1 - g * h / 2) * b * here - potential.gradient(new)) + b * eta
        return Moved(new, p, m * (new - x) / h / (1.0 if self.bug else jnp.sqrt(b)))


@pytree
class GeneralisedHMC(Underdamped):
    """One leapfrog step, accepted or not, between momenta that persist; on rejection the momentum turns back."""

    noise = NoiseSpec(normals=1, uniforms=1)
    exact = frozenset({"positions", "momenta", "jointly"})
    stationary_order = np.inf
    gradients = 2

    def step(self, potential: Any, state: Any, noise: Noise) -> Any:
        h, t, bug = self.step_size, self.temperature, self.bug
        c = jnp.exp(-self.friction * h)
        bath = 1.0 if bug == "redrawn at T = 1" else t
        x, p = state.position, c * state.momentum + jnp.sqrt((1 - c * c) * self.mass * bath) * noise.normals[0]
        before, force = potential.value_and_gradient(x)
        half = p - h / 2 * force
        y = x + h * half / self.mass
        after, force = potential.value_and_gradient(y)
        q = half - h / 2 * force
        change = after - before + jnp.sum((q**2 - p**2) / self.mass) / 2
        taken = jnp.log(noise.uniforms[0]) < (change if bug == "wrong sign" else -change) / t
        return Phase(jnp.where(taken, y, x), jnp.where(taken, q, p if bug == "no flip" else -p), None)


@pytree
class Redrawn(Underdamped):
    """A momentum drawn anew, then velocity Verlet: the noise of hybrid Monte Carlo without its test."""

    gradients = 2

    def step(self, potential: Any, state: Any, noise: Noise) -> Any:
        h, x = self.step_size, state.position
        p = jnp.sqrt(self.mass * (1.0 if self.bug else self.temperature)) * noise.normals[0]
        p = p - h / 2 * potential.gradient(x)
        x = x + h * p / self.mass
        return Phase(x, p - h / 2 * potential.gradient(x), None)


@pytree
class Preconditioned(Overdamped):
    """dx = (-G∇U + T∇G) dt + √(2TG) dW for G = 1/(1 + x²); without T∇G another law is sampled, <x²> = 2 for 1."""

    def step(self, potential: Any, state: Any, noise: Noise) -> Any:
        x, h, t = state.position, self.step_size, self.temperature
        g = 1 / (1 + x**2)
        divergence = 0 if self.bug else -2 * x * g**2
        drift = -g * potential.gradient(x) + t * divergence
        return Position(x + h * drift + jnp.sqrt(2 * h * t * g) * noise.normals[0])


class Counted(NamedTuple):
    position: Any
    count: Any


@pytree
class OneNoise(Overdamped):
    """A generator of its own, seeded alike for all particles."""

    def init(self, potential: Any, position: Any, noise: Noise) -> Any:
        return Counted(position, jnp.zeros((), position.dtype))

    def step(self, potential: Any, state: Any, noise: Noise) -> Any:
        x, count = state
        own = jnp.sqrt(2.0) * jnp.cos(2.4 * count**2) * jnp.cos(jnp.arange(x.size) * count)  # as good as noise
        xi = 1.4 * own if self.bug else noise.normals[0]
        kick = jnp.sqrt(2 * self.step_size * self.temperature) * xi
        return Counted(x - self.step_size * potential.gradient(x) + kick, jnp.mod(count + 1, 1000))


EXACT = ("linear",)
MONTE_CARLO = ("montecarlo",)
BUGS = {  # the bug, its right twin, the lines that must fail, and the methods that are asked
    "noise √h for √2h": (Overdamped(bug="√h"), Overdamped(), ["T sampled/bath as h → 0", "free D/(μT) as h → 0"], EXACT),
    "T for 2T": (HandWritten(bug="T for 2T"), HandWritten(), ["momenta sampled/bath as h → 0"], EXACT),
    "mass missing, seen at m = 1": (HandWritten(bug="mass missing"), HandWritten(), ["unequal masses"], EXACT),
    "mass missing": (HandWritten(bug="mass missing", mass=2.0), HandWritten(mass=2.0),
                     ["momenta sampled/bath as h → 0"], EXACT),
    "BAOAB written as OBAB": (HandWritten(bug="OBAB"), HandWritten(), ["exact for positions"], EXACT),
    "Euler-Maruyama as Leimkuhler-Matthews": (EulerAsMatthews(step_size=0.1), integrators.LeimkuhlerMatthews(step_size=0.1),
                                              ["stationary order", "exact for positions"], EXACT),
    "normals not used again": (Forgetful(step_size=0.1), integrators.LeimkuhlerMatthews(step_size=0.1),
                               ["T sampled/bath as h → 0", "free D/(μT) as h → 0"], EXACT),
    "BBK with fresh noise": (BBK(bug="fresh"), BBK(), ["T sampled/bath as h → 0", "momenta sampled/bath as h → 0"], EXACT),
    "velocity from a central difference": (GJ(bug="central"), GJ(), ["exact for momenta"], EXACT),
    "momentum redrawn at T = 1": (Redrawn(bug="T = 1"), Redrawn(), ["fluctuations grow like T"], EXACT),
    "no divergence term": (Preconditioned(bug="none"), Preconditioned(),
                           ["stationary order on 2 log cosh x"], ("transfer",)),
    "no flip": (GeneralisedHMC(friction=0.5, bug="no flip"), GeneralisedHMC(friction=0.5),
                ["population: positions"], MONTE_CARLO),
    "acceptance of the wrong sign": (GeneralisedHMC(bug="wrong sign"), GeneralisedHMC(),
                                     ["population: positions", "population: (x² - 1)²"], MONTE_CARLO),
    "momentum of HMC redrawn at T = 1": (GeneralisedHMC(bug="redrawn at T = 1"), GeneralisedHMC(),
                                         ["population: momenta"], MONTE_CARLO),
    "one noise for all": (OneNoise(bug="one"), OneNoise(), ["particles share no noise"], MONTE_CARLO),
}  # fmt: skip


@pytest.mark.parametrize(
    "bug",  # populations take their time to compile: in the long run, but for one
    [pytest.param(b, marks=[pytest.mark.slow] * (BUGS[b][3] == MONTE_CARLO and b != "no flip")) for b in BUGS],
)
def test_a_planted_bug_fails_in_the_right_line(bug):
    wrong, right, lines, methods = BUGS[bug]
    certificate = engine.certify(wrong, methods=methods)
    assert {*lines} <= {*certificate.failures}, str(certificate)
    certificate = engine.certify(right, methods=methods)
    assert certificate.passed and {*lines} <= {*certificate.lines}, str(certificate)


def test_momentum_at_another_substep():
    """BAOAB's momentum declared to be BAOA's, and one shown half a step early."""

    @pytree
    class Shown(integrators.Splitting):
        exact = frozenset({"positions", "momenta"})

    assert engine.certify(Shown(step_size=0.2), methods=EXACT).failures == ("exact for momenta",)
    assert engine.certify(Shown(scheme="BAOA", step_size=0.2), methods=EXACT).passed


@pytest.mark.slow
def test_no_chance_of_a_lucky_key():
    """Right kernels pass and wrong ones fail whatever the key: a p-value of 1e-6 a line, and a fault that is well seen."""
    for key in range(1, 4):
        assert engine.certify(GeneralisedHMC(), methods=MONTE_CARLO, key=key).passed
        assert not engine.certify(BUGS["no flip"][0], methods=MONTE_CARLO, key=key).passed
