"""One call: is this integrator right? Every line holds what was measured against what is exact or declared."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..checks import check_integrator
from ..linear import NoStationary, NotLinear
from ..marks import is_mark
from ..protocols import Integrator
from ..pytree import named_leaves
from ..transfer import NoTransfer
from ..verdict import Line, Verdict
from .montecarlo import on_populations
from .nonlinear import SHAPES, VARIANTS, Table, on_landscapes
from .quadratic import on_quadratics, reach_of, sampled, show_limit, stability
from .scheme import declared, free_limit, on_mode
from .strong import strong_order
from .structure import count_gradients, phase_space

METHODS = ("linear", "transfer", "montecarlo")


@dataclass(frozen=True, repr=False)
class Certificate(Verdict):
    """A verdict on an integrator, with what was used and the numbers behind its lines.

    methods: of each that was asked for, what it did or why it could not. tables: averages by landscape and step.
    power: the relative error of a variance that Monte Carlo would see with 99 %; None where there was none.
    """

    methods: dict[str, str] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)
    power: float | None = None


def certify(
    integrator: Integrator,
    *,
    methods: tuple[str, ...] = METHODS,
    landscapes: dict[str, Sequence[float]] | None = None,
    key: Any = 0,
) -> Certificate:
    """Certify an integrator: exact laws at finite steps, orders, structure, transport, populations; pass or fail.

    methods: which to use, as far as the scheme lets them.
    "linear": on quadratic energies a step is a linear map of state and noise, so that its law is linear algebra: the
    limit of stability, temperatures as h → 0, the stationary order, which of positions, momenta, both jointly, and
    transients are exact, how T enters, three coupled coordinates off centre with unequal masses, free diffusion and
    drift, strong order.
    "transfer": averages on 2 log cosh x, -2 cos x on the circle, and (x² - 1)² for one coordinate, by Gauss and Hermite:
    the stationary order, that at a fixed time, and that symmetric landscapes have symmetric laws. "montecarlo": a
    population under `simulate` that starts at exact draws must stay in its law (that of the scheme at its step where it is
    linear, whose temperature is then looked at too; the Gibbs state for an exact kernel, and extrapolated for the rest), and
    its particles must be independent; p = 1e-6 a line. In several wells too, where no transfer matrix saw a landscape.
    With momenta, also the volume of phase space, symplecticity and time reversal at friction 0. Gradients are counted.

    landscapes: instead of the verdicts of "transfer", `.tables` of these landscapes at these steps, in units in which
    T = μ = 1 or T = m = γ = 1; for example {"x²/2 + x⁴/4": (0.05, 0.025)}. key: of the population, an integer.

    The integrator's own step size, temperature, friction and mass are used, and set the units; they must be plain
    numbers. A few seconds, most of them to compile; "linear" alone takes a part of one once compiled. Raises TypeError or
    ValueError for anything else. `.passed` says whether every line holds; `.require()` raises if not.
    """
    check_integrator(integrator)
    for name, _, leaf in named_leaves(integrator, is_mark):
        if is_mark(leaf) or callable(leaf) or np.size(leaf) != 1:
            raise ValueError(f"certify takes an integrator of plain numbers; {name} is {leaf!r}")
    if isinstance(methods, str) or not methods or not {*methods} <= {*METHODS}:
        raise ValueError(f"methods must be some of {METHODS}; got {methods!r}")
    lines: dict[str, Line] = {"gradients a step": count_gradients(integrator)}
    used: dict[str, str] = {}
    tables: dict[str, Table] = {}
    bath = integrator.temperature is not None and float(integrator.temperature) > 0 and any(integrator.noise)
    shapes = (*SHAPES, *VARIANTS)
    if landscapes is not None and not {*landscapes} <= {*shapes}:
        raise ValueError(f"landscapes must be some of {shapes}; got {tuple(landscapes)}")
    title = f"certificate of {getattr(integrator, 'scheme', type(integrator).__name__)}"
    title += "" if bath else "; no bath, hence no stationary law"
    if integrator.temperature is None and any(integrator.noise):
        lines["declares its temperature"] = Line("no", "yes", passed=False, note="it draws noise")
    transport, reach = None, None
    try:
        on_mode(integrator, 1e-3)
        limit = stability(integrator)
        lines["linear"] = Line("yes", "", passed=None)
        if limit is None:
            lines["stable"] = Line("never", "for small steps", passed=False)
            return Certificate(title, lines, methods=used)
        reach, transport = reach_of(integrator, limit), free_limit(integrator)
        if "linear" in methods:
            lines |= show_limit(integrator, limit)
            lines |= on_quadratics(integrator, limit, transport) if bath else {}
            lines |= strong_order(integrator, reach)
            used["linear"] = "exact, on quadratic energies"
        elif (
            "montecarlo" in methods and bath
        ):  # a population that stays in the scheme's own law says nothing of that law
            lines |= sampled(integrator, reach)
    except NotLinear as error:
        lines["linear"], used["linear"] = Line("no", "", passed=None), str(error)
    except NoStationary as error:  # a state that counts its steps never rests: its law is left to the other methods
        reach, lines["linear"], used["linear"] = None, Line("no", "", passed=None), str(error)
    if "linear" in methods:
        lines |= phase_space(integrator, transport)
    if "transfer" in methods and bath:
        try:
            found, tables = on_landscapes(integrator, transport or declared(integrator), landscapes)
            lines, used["transfer"] = lines | found, "exact in one coordinate"
        except NoTransfer as error:
            used["transfer"] = str(error)
    power = None
    if "montecarlo" in methods and bath:
        found, power, used["montecarlo"] = on_populations(integrator, reach, key, landscapes=bool(tables))
        lines |= found
    judged = any(line.passed is not None for name, line in lines.items() if name != "gradients a step")
    if bath and not judged and landscapes is None:
        lines["linear"] = Line("no", "yes", passed=False, note=f"nothing else could be used: {used.get('linear', '')}")
    said = [f"{name}: {used[name]}" for name in METHODS if name in used]
    return Certificate("\n  ".join([title, *said]), lines, methods=used, tables=tables, power=power)
