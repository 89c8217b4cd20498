"""Thermometers side by side with the bath: what disagrees with it by more than errors and the step allow."""

import numpy as np

from .compare import Estimates, Quantity, lines_of, means, origin_of
from .equilibrium import Solvable
from .law import Law, NoLaw, predict, thermometer
from .measured import plain, temperatures_of
from .run import Run
from .verdict import Line, Verdict

P_VALUE = 1e-6  # of a line


def thermometers(run: Run, *, after: int | None = None, p_value: float = P_VALUE) -> Verdict:
    """Every thermometer that a run measured, against the temperature of its bath. No simulation.

    A line passes when |measured - T - step bias| is within what its error allows at `p_value`. The bias is that of the exact
    discrete law or of the transfer matrix, where the potential has one; else it is taken for zero, and the line says so.
    Thermometers are local: all of them agree in a trapped population too. after: the step after which observations count;
    the second half of the run if not given. One set of lines a rung. Raises ValueError where the bath has no one
    temperature, or no thermometer was measured.
    """
    after = run.second_half() if after is None else after
    found = [(i, name, mean.measure) for i, name, mean in means(run) if mean.measure.is_thermometer]
    if not found:
        raise ValueError(
            "the run measured no thermometer: observables={'kinetic': observables.Mean(observables.kinetic_temperature)}, "
            "or give no observables to measure the standard ones"
        )
    lines: dict[str, Line] = {}
    estimates, methods, known = Estimates(run, after), set(), {}
    for rung, temperature in enumerate(temperatures_of(run, after)):
        suffix = f" [rung {rung}, T = {temperature:g}]" if run.ladder else ""
        for i, name, measure in found:
            reading = lambda law, m=measure: thermometer(law, m)  # noqa: E731
            quantity = Quantity(name, i, "mean", np.array([temperature]), of_law=reading, local=True)
            new = lines_of(estimates, quantity, rung, 0.0, 0.0, p_value, 0.0)
            if not all(line.passed for line in new.values()):  # only then is the law worth its price
                if rung not in known:
                    known[rung] = _law(run, rung, after)
                law = known[rung]
                methods.add("none predicted" if law is None else law.method)
                bias = 0.0 if law is None else np.ravel(np.asarray(reading(law))) - temperature
                new = lines_of(estimates, quantity, rung, bias, 0.0, p_value, 0.0)
                if law is None:
                    new = {key: line._replace(step_bias=None, note="no bias predicted") for key, line in new.items()}
            lines |= {key + suffix: line for key, line in new.items()}
    title = f"thermometers of {getattr(run.integrator, 'scheme', type(run.integrator).__name__)} against the bath"
    method = ", ".join(sorted(methods)) or "not needed"
    rule = f" (steps {after + 1} to {run.step}; p-value {p_value:g} a line; step bias: {method})"
    return Verdict(title, lines, (), rule)


def disagreements(run: Run) -> tuple[str, ...]:
    """A line for each thermometer that disagrees with the bath; none where they say nothing."""
    try:
        verdict = thermometers(run)
    except ValueError:  # nothing measured, temperature 0, a bath that is heated, or no observation in the window
        return ()
    return tuple(_warning(name, verdict[name]) for name in verdict.failures)


def _warning(name: str, line: Line) -> str:
    allowed = "no bias was predicted" if line.step_bias is None else f"the step explains {line.step_bias:+.3g} of it"
    return f"{name}: {line.measured:.6g} ± {line.error:.2g} in a bath of {line.exact:.6g}, p < {P_VALUE:g}; {allowed}"


def _law(run: Run, rung: int, after: int) -> Law | None:
    potential, integrator = plain(run, rung, after)
    if not isinstance(potential, Solvable):
        return None
    try:
        return predict(integrator, potential, run.position, origin=origin_of(run))
    except NoLaw:
        return None
