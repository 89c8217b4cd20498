"""What the standing page of integrators is made of: eight energies, and every integrator that is shipped."""

import inspect
import pathlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from heatbath import engine, integrators, potentials

HERE = pathlib.Path(__file__).parent
ENERGY = HERE / "results" / "breast_cancer_energy.npz"  # by `reference_posterior.py`
LEFT_OUT = {
    "Descent": "an optimiser; at a temperature plain descent is EulerMaruyama, and the heavy ball a kin of SymplecticEuler",
    "Verlet": "conserves the energy, no bath",
    "Splitting": "its words are listed by their names",
    "Metropolis": "HMC, MALA and GHMC are made of it",
    "MultipleTimeSteps": "for sums of a cheap and an expensive energy, and each of these is one",
}


class Problem(NamedTuple):
    """An energy of the page: what it is called there, a sentence, and how to make it."""

    title: str
    words: str
    make: Callable[[], engine.Target]
    friction: float  # of all schemes that take one
    length: float  # √d times the width, of those that move by lengths
    peers: bool = False
    share: float = 1.0  # of the particles: data cost


def logistic() -> engine.Target:
    """The posterior of examples/breast_cancer.py; its mean energy, and where to start, from a long run of NUTS."""
    sys.path.insert(0, str(HERE.parent / "examples"))
    import breast_cancer

    found = np.load(ENERGY)
    mean, error, variance = found["energy"]
    posterior = breast_cancer.posterior(breast_cancer.load())
    known = {"energy": engine.Exact(float(mean), float(error), float(variance))}
    return engine.Target(posterior, exact=known, start=found["start"])


def double_well() -> engine.Target:
    """Of two coordinates, which what moves on spheres needs at least."""
    well = potentials.DoubleWell(barrier=3.0)
    return engine.Target(well, start=well.equilibrium(1.0, like=jnp.zeros(2)).sample(1, 256))


first = lambda x: jnp.ravel(x)[0]  # noqa: E731
PROBLEMS = {
    "harmonic": Problem(
        "Harmonic, condition number 1", "ten coordinates of stiffness 1.",
        lambda: engine.Target(potentials.Harmonic(stiffness=jnp.ones(10))), 1.0, 3.0, peers=True),
    "stiff": Problem(
        "Harmonic, condition number 10⁴", "ten coordinates of stiffness 1 to 10⁴, evenly spaced in the logarithm.",
        lambda: engine.Target(potentials.Harmonic(stiffness=jnp.geomspace(1.0, 1e4, 10))), 1.0, 3.0),
    "double_well": Problem(
        "Double well", "two coordinates, each with a barrier of 3 T.", double_well, 2.0, 1.5),
    "mueller_brown": Problem(
        "Müller–Brown", "three wells in the plane at T = 20, deep by 2 to 5 T; curvatures from 400 to 4,000.",
        lambda: engine.Target(potentials.MuellerBrown(), temperature=20.0), 20.0, 1.0),
    "funnel": Problem(
        "Funnel", "Neal's in ten dimensions, with s = 1.5: the right step differs by a factor 100 from neck to mouth.",
        lambda: engine.Target(potentials.Funnel(dimension=10, scale=1.5), observables={"v": first}), 1.0, 3.0),
    "ring": Problem(
        "Ring", "a circular valley, stiff across by 32, free along.",
        lambda: engine.Target(potentials.Ring(barrier=4.0)), 2.0, 1.5),
    "phi4": Problem(
        "φ⁴ chain", "100 sites with two shallow wells each (r = -1, u = 1), coupled by springs.",
        lambda: engine.Target(potentials.Phi4Chain(sites=100)), 1.0, 8.0, peers=True),
    "logistic": Problem(
        "Logistic regression", "31 weights given 427 patients (breast-cancer data of scikit-learn), prior N(0, 1); held "
        "against a long run of BlackJAX's NUTS.", logistic, 1.0, 4.0, peers=True, share=0.5),
}  # fmt: skip


# what a scheme needs beside a step size and a temperature; the rest is picked up as it is
OPTIONS: dict[str, Callable[[Problem], dict[str, Any]]] = {
    "HMC": lambda problem: {"steps": 10},
    "MCLMC": lambda problem: {"persistence_length": problem.length},
}


def shipped(problem: Problem) -> tuple[dict[str, Any], dict[str, str]]:
    """Factories of all integrators with a bath, by name, and those left out with the reason."""
    found, left_out = {}, {name: why for name, why in LEFT_OUT.items() if hasattr(integrators, name)}
    for name, value in vars(integrators).items():
        kind = inspect.isfunction(value) or (inspect.isclass(value) and issubclass(value, engine.Integrator))
        if name.startswith("_") or not kind or name in LEFT_OUT:
            continue
        if value.__name__ != name:
            left_out[name] = f"another name of {value.__name__}"
            continue
        factory = _factory(name, value, problem)
        try:
            made = factory(step_size=0.1, temperature=1.0)
        except (TypeError, ValueError) as error:
            left_out[name] = f"needs more than a step size and a temperature: {error}"
            continue
        if not isinstance(made, engine.Integrator) or (not any(made.noise) and made.stationary_order is None):
            left_out[name] = "no bath"
            continue
        found[name] = factory
    return found, left_out


def _factory(name: str, value: Any, problem: Problem) -> Callable[..., Any]:
    more = OPTIONS[name](problem) if name in OPTIONS else {}
    if "friction" in inspect.signature(value).parameters:
        more = {**more, "friction": problem.friction}
    return lambda *, step_size, temperature: value(step_size=step_size, temperature=temperature, **more)


def peers(problem: Problem) -> dict[str, Any]:
    """Other libraries' kernels by name, as far as they are installed."""
    import adapters

    found: dict[str, Any] = {}
    for library, kernels in (("blackjax", adapters.BLACKJAX), ("jax_md", adapters.JAX_MD)):
        try:
            __import__(library)
        except ImportError:
            continue
        for kernel in kernels:
            title = kernel.__name__.replace("BlackJax", "BlackJAX ").replace("JaxMd", "jax-md ")
            found[title] = _factory(title, kernel, problem)
    return found
