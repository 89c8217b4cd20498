"""The main job: a population relaxes to a Boltzmann law that is known; a ladder of temperatures; a Bayesian classifier.

Run by `make demo`; about a minute on two cores. Pictures go to out/.
"""

import pathlib
import time

import breast_cancer
import jax.numpy as jnp
import numpy as np
import optax
import pictures

from heatbath import engine, integrators, potentials
from heatbath.engine import observables

engine.tune_cpu()  # all cores; before JAX starts

OUT = pathlib.Path(__file__).parent.parent / "out"


def relaxation() -> bool:
    """20,000 particles released in the shallow well find their equilibrium."""
    temperature = 0.5
    well = potentials.DoubleWell(barrier=1.0, tilt=0.3)
    bath = integrators.BAOAB(step_size=0.1, friction=1.0, temperature=temperature)
    start = engine.scatter(jnp.ones(1), 20_000, scale=0.1, key=1)
    watched = {
        "energy": observables.potential_energy,
        "kinetic": observables.kinetic_temperature,
        "virial": observables.virial_temperature,
        "configurational": observables.configurational_temperature,
    }
    means = {name: observables.Mean(measure) for name, measure in watched.items()}
    early = {name: observables.Series(observables.Mean(measure), every=5) for name, measure in watched.items()}
    histogram = observables.Histogram(observables.position, bins=80, low=-2.2, high=2.2, every=10)
    state = well.equilibrium(temperature)
    print(f"\n1. {len(start):,} particles released in the shallow well, T = {temperature}. {state}")
    print(f"{'step':>6} {'<x>':>9} {'<U>':>9} {'T kin':>9} {'T vir':>9} {'T conf':>9}")

    run = engine.simulate(well, bath, start, steps=0, key=0, observables=early)
    snapshots = {0: np.ravel(run.positions)}
    for until in (5, 10, 20, 50, 100, 200, 400, 800):
        run = engine.simulate(run, steps=until - run.step)
        now = [float(run.observables[name].mean[-1]) for name in watched]
        print(f"{run.step:>6} {float(jnp.mean(run.positions)):>9.4f} " + " ".join(f"{value:>9.4f}" for value in now))
        if until in (20, 200):
            snapshots[until] = np.ravel(run.positions)
    path = run.observables
    measured = {**means, "position": observables.Mean(observables.position), "histogram": histogram}
    run = engine.simulate(run, steps=8_000, observables=measured)  # equilibrated: now measure
    verdict = engine.compare(run, after=run.step - 8_000)
    print(f"{run}\n\n{verdict}")
    pictures.relaxation(OUT / "relaxation.png", run, path, snapshots, state, bath.step_size)
    return verdict.passed


def ladder() -> bool:
    """Sixteen temperatures in one call: energy, entropy and heat capacity against the exact curves."""
    temperatures = np.geomspace(0.25, 4.0, 16)
    well = potentials.DoubleWell(barrier=1.0, tilt=0.3)
    bath = integrators.BAOA(step_size=0.05, friction=1.0, temperature=engine.sweep(temperatures))
    start = engine.scatter(jnp.zeros(1), 2_000, scale=0.7, key=2)
    print(f"\n2. A ladder of {len(temperatures)} temperatures, {len(start):,} particles on each rung, in one call")
    run = engine.simulate(well, bath, start, steps=20_000, key=3)
    verdict = engine.compare(run)
    print(
        "\n".join(
            line
            for line in str(verdict).split("\n")
            if "energy" in line or "capacity" in line or line.startswith("all passed") or line.startswith("NOT")
        )
    )
    pictures.ladder(OUT / "ladder.png", run, temperatures, well)
    return verdict.passed


def classifier() -> bool:
    """Bayesian logistic regression on real data: a point against an ensemble."""
    data = breast_cancer.load()
    posterior = breast_cancer.posterior(data)
    start = engine.scatter(jnp.zeros(data.parameters), 256, scale=0.1, key=4)
    print(f"\n3. Logistic regression on {len(data.train[1])} tumours, {data.parameters} parameters, 256 particles")
    point = engine.simulate(posterior, integrators.Descent(optax.adam(0.05)), start, steps=1_500, key=5, observables=())
    bath = integrators.BAOA(step_size=0.05, friction=2.0)
    measured = {
        "weights": observables.Mean(observables.position),
        "kinetic_temperature": observables.Mean(observables.kinetic_temperature),
        "virial_temperature": observables.Mean(observables.virial_temperature),
        "probability": observables.Mean(breast_cancer.predictor(data.test[0])),
    }
    warm = engine.simulate(posterior, bath, start, steps=500, key=6, observables=())
    run = engine.simulate(warm, steps=4_000, observables=measured)
    print(run)
    reference = breast_cancer.reference()
    exact = {
        "weights": (reference["mean"], reference["mean_error"]),
        "weights.variance": (reference["variance"], reference["variance_error"]),
    }
    # the step is finite: its bias is allowed for as a tolerance in units of the posterior's own width
    verdict = engine.compare(run, exact=exact, after=warm.step, tolerance=0.02 * float(np.min(reference["variance"])))
    print(verdict)
    at_point = np.asarray(breast_cancer.predictor(data.test[0])(point.positions[0]))
    of_ensemble = np.asarray(run.observables["probability"].mean)
    scores = {}
    for name, p in (("gradient descent (point)", at_point), ("Langevin (ensemble)", of_ensemble)):
        scores[name] = (p, breast_cancer.score(p, data.test[1]))
        print(f"  {name:<26} " + "  ".join(f"{key} {value:.4f}" for key, value in scores[name][1].items()))
    pictures.classifier(OUT / "classifier.png", run, reference, scores, data)
    return verdict.passed


def main() -> None:
    began = time.monotonic()
    OUT.mkdir(exist_ok=True)
    passed = [relaxation(), ladder(), classifier()]
    print(f"\npictures: {', '.join(str(path.relative_to(OUT.parent)) for path in sorted(OUT.glob('*.png')))}")
    print(f"{time.monotonic() - began:.0f} s; " + ("all verdicts passed" if all(passed) else "NOT all verdicts passed"))
    raise SystemExit(0 if all(passed) else 1)


if __name__ == "__main__":
    main()
