"""Every integrator, potential and observable, once: a property is one test over all of them.

A public class or factory that is missing here fails `test_completeness.py`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax

from heatbath import integrators, potentials
from heatbath.engine import observables


class Case(NamedTuple):
    """A member of the registry: its name and how to make one."""

    name: str
    make: Callable[..., Any]


INTEGRATORS = [
    Case("EulerMaruyama", lambda **k: integrators.EulerMaruyama(**{"step_size": 0.1, **k})),
    Case("LeimkuhlerMatthews", lambda **k: integrators.LeimkuhlerMatthews(**{"step_size": 0.1, **k})),
    Case("StochasticHeun", lambda **k: integrators.StochasticHeun(**{"step_size": 0.1, **k})),
    Case("ImplicitMidpoint", lambda **k: integrators.ImplicitMidpoint(**{"step_size": 0.1, **k})),
    Case("CrankNicolson", lambda **k: integrators.CrankNicolson(**{"step_size": 0.1, **k})),
    Case("ExactOrnsteinUhlenbeck", lambda **k: integrators.ExactOrnsteinUhlenbeck(**{"step_size": 0.1, **k})),
    Case("Preconditioned", lambda **k: integrators.Preconditioned(**{"step_size": 0.1, **k})),
    Case("BAOAB", lambda **k: integrators.BAOAB(**{"step_size": 0.2, "friction": 1.3, **k})),
    Case("BAOA", lambda **k: integrators.BAOA(**{"step_size": 0.2, "friction": 1.3, **k})),
    Case("OBABO", lambda **k: integrators.OBABO(**{"step_size": 0.2, "friction": 1.3, **k})),
    Case("ABOBA", lambda **k: integrators.ABOBA(**{"step_size": 0.2, "friction": 1.3, **k})),
    Case("Splitting", lambda **k: integrators.Splitting(**{"scheme": "OBA", "step_size": 0.1, "friction": 1.3, **k})),
    Case("Verlet", lambda **k: integrators.Verlet(**{"step_size": 0.2, **k})),
    Case("UBU", lambda **k: integrators.UBU(**{"step_size": 0.2, "friction": 1.3, **k})),
    Case("BUB", lambda **k: integrators.BUB(**{"step_size": 0.2, "friction": 1.3, **k})),
    Case("MultipleTimeSteps", lambda **k: integrators.MultipleTimeSteps(**{"step_size": 0.2, "substeps": 2, **k})),
    Case("Omelyan", lambda **k: integrators.Omelyan(**{"step_size": 0.2, **k})),
    Case("Yoshida", lambda **k: integrators.Yoshida(**{"step_size": 0.2, **k})),
    Case("McLachlan", lambda **k: integrators.McLachlan(**{"step_size": 0.2, **k})),
    Case("GronbechJensen", lambda **k: integrators.GronbechJensen(**{"step_size": 0.2, "friction": 1.3, **k})),
    Case("SivakChoderaCrooks", lambda **k: integrators.SivakChoderaCrooks(**{"step_size": 0.2, "friction": 1.3, **k})),
    Case("BBK", lambda **k: integrators.BBK(**{"step_size": 0.2, "friction": 1.3, **k})),
    Case("SymplecticEuler", lambda **k: integrators.SymplecticEuler(**{"step_size": 0.1, "friction": 1.3, **k})),
    Case("ExponentialEuler", lambda **k: integrators.ExponentialEuler(**{"step_size": 0.1, "friction": 1.3, **k})),
    Case("UnderdampedEulerMaruyama",
         lambda **k: integrators.UnderdampedEulerMaruyama(**{"step_size": 0.1, "friction": 1.3, **k})),
    Case("QUICSORT", lambda **k: integrators.QUICSORT(**{"step_size": 0.2, "friction": 1.3, **k})),
    Case("SGHMC", lambda **k: integrators.SGHMC(**{"step_size": 0.1, "friction": 1.3, **k})),
    Case("SGNHT", lambda **k: integrators.SGNHT(**{"step_size": 0.1, "friction": 1.3, **k})),
    Case("BADODAB", lambda **k: integrators.BADODAB(**{"step_size": 0.1, "friction": 1.3, **k})),
    Case("NoseHooverChain", lambda **k: integrators.NoseHooverChain(**{"step_size": 0.1, **k})),
    Case("MCLMC", lambda **k: integrators.MCLMC(**{"step_size": 0.2, "persistence_length": 1.5, **k})),
    Case("HMC", lambda **k: integrators.HMC(**{"step_size": 0.2, "steps": (2, 4), **k})),
    Case("MALA", lambda **k: integrators.MALA(**{"step_size": 0.4, **k})),
    Case("GHMC", lambda **k: integrators.GHMC(**{"step_size": 0.2, "friction": 1.3, **k})),
    Case("Descent", lambda: integrators.Descent(optax.adam(1e-2))),
    Case("heavy ball", lambda step_size=0.1, temperature=1.0: integrators.Descent(
        learning_rate=step_size, momentum=0.6, temperature=temperature)),
]  # fmt: skip
# on quadratic energies alone; and with linear algebra for each particle, which rounds with the batch as matrix products do
HARMONIC = {"ExactOrnsteinUhlenbeck"}
MATRICES = HARMONIC | {"ImplicitMidpoint", "CrankNicolson", "Preconditioned"}
# not linear on a quadratic energy, so their laws have tests of their own; and no bath at all
NONLINEAR = {"SGNHT", "BADODAB", "NoseHooverChain", "MCLMC", "Preconditioned"}
BATHLESS = {"Verlet", "Omelyan", "Yoshida", "McLachlan", "Descent"}
METROPOLISED = [case for case in INTEGRATORS if case.name in ("HMC", "MALA", "GHMC")]  # exact, and not linear
BATHS = [case for case in INTEGRATORS if case.name not in BATHLESS | NONLINEAR and case not in METROPOLISED]
# the same class and path through its code as another member: one is enough where every member is compiled many times
ALIKE = {"BUB", "Omelyan", "McLachlan", "SivakChoderaCrooks"}

FEATURES = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
TARGETS = (FEATURES @ np.array([1.0, -1.0, 0.5], np.float32)).astype(np.float32)


def log_likelihood(position: Any, example: Any) -> Any:
    features, target = example
    return -0.5 * (target - features @ position) ** 2


def log_prior(position: Any) -> Any:
    return -0.5 * jnp.sum(position**2)


POTENTIALS = [
    Case("BetaLogit", lambda: potentials.BetaLogit(a=3.0, b=2.0)),
    Case("Cosine", lambda: potentials.Cosine(amplitude=1.5)),
    Case("DoubleWell", lambda: potentials.DoubleWell(barrier=1.5, tilt=0.2)),
    Case("Harmonic", lambda: potentials.Harmonic(stiffness=jnp.array([1.0, 2.0, 0.5]), center=0.3)),
    Case("Laplace", lambda: potentials.Laplace(scale=0.6)),
    Case("LogCosh", lambda: potentials.LogCosh(amplitude=2.0)),
    Case("LogGamma", lambda: potentials.LogGamma(a=3.0)),
    Case("Posterior", lambda **k: potentials.Posterior(log_likelihood, log_prior, data=(FEATURES, TARGETS), **k)),
    Case("Power", lambda: potentials.Power(exponent=1.5)),
    Case("Quartic", lambda: potentials.Quartic()),
    Case("Torus", lambda: potentials.Torus(length=3.0)),
    Case("TripleWell", lambda: potentials.TripleWell(barrier=1.2, tilt=0.3)),
    Case(
        "GaussianMixture", lambda: potentials.GaussianMixture(means=[-2.0, 1.5], scales=[0.5, 1.0], weights=[0.3, 0.7])
    ),
    Case("Ring", lambda: potentials.Ring(barrier=2.0)),
    Case("Rosenbrock", lambda: potentials.Rosenbrock(a=0.5, b=5.0)),
    Case("Funnel", lambda: potentials.Funnel(dimension=3, scale=1.5)),
    Case("MuellerBrown", lambda: potentials.MuellerBrown()),
    Case("Phi4Chain", lambda: potentials.Phi4Chain(sites=4, r=-1.0, u=1.0)),
    Case("RotorChain", lambda: potentials.RotorChain(sites=4, coupling=1.5, periodic=True)),
    Case("EntropicWell", lambda: potentials.EntropicWell(transverse=1)),
    Case("BayesianLinear", lambda: potentials.BayesianLinear(features=FEATURES, targets=TARGETS, prior_precision=2.0)),
]

OBSERVABLES = [
    Case("Autocorrelation", lambda: observables.Autocorrelation(observables.position, every=3)),
    Case("MeanSquaredDisplacement", lambda: observables.MeanSquaredDisplacement(every=3)),
    Case("Mean", lambda: observables.Mean(observables.position, every=3)),
    Case("Histogram", lambda: observables.Histogram(observables.position, bins=20, low=-3.0, high=3.0, every=5)),
    Case("Series", lambda: observables.Series(observables.position, every=4)),
    Case("FirstPassage", lambda: observables.FirstPassage(lambda x: x.ravel()[0], level=0.0)),
    Case("Histogram2D", lambda: observables.Histogram2D(lambda x: x.ravel()[:2], bins=(8, 9), low=-3.0, high=3.0)),
    Case("Quantiles", lambda: observables.Quantiles(observables.position, low=-3.0, high=3.0)),
    Case("Shape", lambda: observables.Shape(observables.position, every=3)),
    Case("Series of a Mean", lambda: observables.Series(observables.Mean(observables.potential_energy), every=2)),
]
