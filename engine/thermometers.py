"""Thermometers side by side with the bath: what disagrees with it by more than errors and the step allow."""

from typing import Any

import numpy as np

from .compare import Estimates, Quantity, lines_of, means, origin_of
from .equilibrium import Solvable
from .law import Law, NoLaw, laws, step_bias, thermometer
from .measured import plain, temperatures_of
from .protocols import NoiseSpec
from .run import Run
from .verdict import Line, Verdict

P_VALUE = 1e-6  # of a line


def thermometers(run: Run, *, after: int | None = None, p_value: float = P_VALUE) -> Verdict:
    """Every thermometer that a run measured, against the temperature of its bath. No simulation.

    A line passes when |measured - T - step bias| is within what its error allows at `p_value`. The bias is that of the exact
    discrete law or of the transfer matrix, where there is one, and counts only where it shrinks with the step: what a wrong
    scheme shows at every step is no excuse. Where there is neither it is taken for zero, and the line says so; on an energy
    that is not `Solvable` a thermometer that disagrees is left undecided.
    Thermometers are local: all of them agree in a trapped population too. after: the step after which observations count;
    the second half of the run if not given. One set of lines a rung. Raises ValueError where the bath has no one
    temperature, or no thermometer was measured.
    """
    return _judge(run, run.second_half() if after is None else after, p_value)


def disagreements(run: Run) -> tuple[str, ...]:
    """A line for each thermometer that disagrees with the bath; none where they say nothing.

    A law is worked out only for rungs in which some thermometer does not read the bath's temperature as it is. A scheme that
    takes no noise may have no bath: its temperature is that of the start.
    """
    if run.integrator.noise == NoiseSpec():
        return ()
    try:
        verdict = _judge(run, run.second_half(), P_VALUE, frugal=True)
    except ValueError:  # nothing measured, temperature 0, a bath that is heated, or no observation in the window
        return ()
    return tuple(
        _warning(name, line)
        for name, line in verdict.lines.items()
        if not line.passed and np.isfinite(line.z or np.nan)
    )


def _judge(run: Run, after: int, p_value: float, *, frugal: bool = False) -> Verdict:
    found = [(i, name, mean.measure) for i, name, mean in means(run) if mean.measure.is_thermometer]
    if not found:
        raise ValueError(
            "the run measured no thermometer: observables={'kinetic': observables.Mean(observables.kinetic_temperature)}, "
            "or give no observables to measure the standard ones"
        )
    lines: dict[str, Line] = {}
    estimates, methods = Estimates(run, after), set()
    for rung, temperature in enumerate(temperatures_of(run, after)):
        read = {name: Quantity(name, i, "mean", np.array([temperature]), local=True) for i, name, _ in found}
        judge = lambda name, bias, r=rung, q=read: lines_of(estimates, q[name], r, bias, 0.0, p_value, 0.0)  # noqa: E731
        new = {key: line for name in read for key, line in judge(name, 0.0).items()}
        if not frugal or not all(line.passed for line in new.values()):
            potential, integrator = plain(run, rung, after)
            pair, note = _laws(run, potential, integrator), "no bias predicted"
            methods.add(pair[0].method if pair else note)
            biases = {name: _bias(pair, measure, temperature) for _, name, measure in found}
            new = {key: line for name in read for key, line in judge(name, biases[name]).items()}
            if not pair:  # of an energy that nothing is known of, the step may explain what disagrees
                wrong = False if isinstance(potential, Solvable) else None
                new = {key: _without_law(line, wrong, note) for key, line in new.items()}
        lines |= {
            key + (f" [rung {rung}, T = {temperature:g}]" if run.ladder else ""): line for key, line in new.items()
        }
    title = f"thermometers of {getattr(run.integrator, 'scheme', type(run.integrator).__name__)} against the bath"
    method = ", ".join(sorted(methods)) or "not needed"
    return Verdict(
        title, lines, (), f" (steps {after + 1} to {run.step}; p-value {p_value:g} a line; step bias: {method})"
    )


def _without_law(line: Line, wrong: bool | None, note: str) -> Line:
    """A line that no bias was predicted for; one that disagrees is `wrong`, one that is no number is not decided."""
    undefined = not isinstance(line.measured, str) and np.isnan(line.measured)
    passed = line.passed or (None if undefined else wrong)
    return line._replace(step_bias=None, passed=passed, note="undefined here" if undefined else note)


def _laws(run: Run, potential: Any, integrator: Any) -> tuple[Law, Law] | None:
    """What the scheme samples at its step and at a quarter of it; None where that cannot be told."""
    if not isinstance(potential, Solvable):
        return None
    try:
        return laws(integrator, potential, run.position, origin=origin_of(run))
    except NoLaw:
        return None


def _bias(pair: tuple[Law, Law] | None, measure: Any, temperature: float) -> np.ndarray:
    """What a thermometer reads beside the bath because of the step."""
    return step_bias(pair, lambda law: thermometer(law, measure), temperature) if pair else np.zeros(1)


def _warning(name: str, line: Line) -> str:
    allowed = "no bias was predicted" if line.step_bias is None else f"the step explains {line.step_bias:+.3g} of it"
    return f"{name}: {line.measured:.6g} ± {line.error:.2g} in a bath of {line.exact:.6g}, p < {P_VALUE:g}; {allowed}"
