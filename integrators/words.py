"""Splittings with a name."""

import math
from typing import Any

from .splitting import Splitting


def BAOAB(*, step_size: Any, friction: Any = 1.0, temperature: Any = 1.0, mass: Any = 1.0) -> Splitting:
    """The best positions for the price; exact on Gaussians; the kinetic temperature reads T(1 - h²ω²/4)."""
    return Splitting(scheme="BAOAB", step_size=step_size, friction=friction, temperature=temperature, mass=mass)


def BAOA(*, step_size: Any, friction: Any = 1.0, temperature: Any = 1.0, mass: Any = 1.0) -> Splitting:
    """BAOAB's positions with momenta seen where they are exact too (leap-frog middle; GROMACS, OpenMM LangevinMiddle)."""
    return Splitting(scheme="BAOA", step_size=step_size, friction=friction, temperature=temperature, mass=mass)


def OBABO(*, step_size: Any, friction: Any = 1.0, temperature: Any = 1.0, mass: Any = 1.0) -> Splitting:
    """Velocity Verlet between two half thermostats (also VVVR): momenta exact, positions hot by 1/(1 - h²ω²/4)."""
    return Splitting(scheme="OBABO", step_size=step_size, friction=friction, temperature=temperature, mass=mass)


def ABOBA(*, step_size: Any, friction: Any = 1.0, temperature: Any = 1.0, mass: Any = 1.0) -> Splitting:
    """BAOAB with drift and kick exchanged: positions exact on Gaussians, larger errors elsewhere."""
    return Splitting(scheme="ABOBA", step_size=step_size, friction=friction, temperature=temperature, mass=mass)


def Verlet(*, step_size: Any, temperature: Any = 1.0, mass: Any = 1.0) -> Splitting:
    """Velocity Verlet, no bath: energy is conserved to second order; the temperature only draws the first momenta."""
    return Splitting(scheme="BAB", step_size=step_size, friction=0.0, temperature=temperature, mass=mass)


def UBU(*, step_size: Any, friction: Any = 1.0, temperature: Any = 1.0, mass: Any = 1.0) -> Splitting:
    """Half a free motion, a kick, half a free motion: strong order 2, the contraction of choice for unbiased couplings.

    One gradient, four normals. Exact without a force, transients too. Zapatero (2017); Chada, Leimkuhler, Paulin and
    Whalley, arXiv 2311.05025.
    """
    return Splitting(scheme="UBU", step_size=step_size, friction=friction, temperature=temperature, mass=mass)


def BUB(*, step_size: Any, friction: Any = 1.0, temperature: Any = 1.0, mass: Any = 1.0) -> Splitting:
    """A free motion between two half kicks: UBU's error constants exchanged, two normals instead of four.

    Exact without a force, transients too. Skeel and Izaguirre, Mol. Phys. 100, 3885 (2002): Langevin impulse.
    """
    return Splitting(scheme="BUB", step_size=step_size, friction=friction, temperature=temperature, mass=mass)


def Omelyan(*, step_size: Any, temperature: Any = 1.0, mass: Any = 1.0) -> Splitting:
    """BABAB, no bath, second order with the least error: a third of Verlet's for the same gradients.

    Stable for hω < 2.553. McLachlan, SIAM J. Sci. Comput. 16, 151 (1995); Omelyan, Mryglod and Folk, Comput. Phys.
    Commun. 151, 272 (2003), eq. (31).
    """
    b = 0.1931833275037836
    return _compose("BABAB", (b, 0.5, 1 - 2 * b, 0.5, b), step_size, temperature, mass)


def Yoshida(*, step_size: Any, temperature: Any = 1.0, mass: Any = 1.0) -> Splitting:
    """Verlet forwards, backwards, forwards, no bath: fourth order at three gradients, and unstable early (hω < 1.573).

    Forest and Ruth, Physica D 43, 105 (1990); Yoshida, Phys. Lett. A 150, 262 (1990), eq. (2.11).
    """
    a = 1 / (2 - 2 ** (1 / 3))
    return _compose("BABABAB", (a / 2, a, 0.5 - a / 2, 1 - 2 * a, 0.5 - a / 2, a, a / 2), step_size, temperature, mass)


def McLachlan(*, step_size: Any, temperature: Any = 1.0, mass: Any = 1.0) -> Splitting:
    """Fourth order at five gradients, no bath: errors far smaller than Yoshida's, and stable for hω < 3.03.

    McLachlan, SIAM J. Sci. Comput. 16, 151 (1995), the method of five stages.
    """
    r = math.sqrt(19)
    a, b, c = (14 - r) / 108, (20 - 7 * r) / 108, (25 + 10 * r) / 135
    fractions = (a, 0.4, b, -0.1, c, 0.4, c, -0.1, b, 0.4, a)
    return _compose("ABABABABABA", fractions, step_size, temperature, mass)


def _compose(scheme: str, fractions: tuple, step_size: Any, temperature: Any, mass: Any) -> Splitting:
    return Splitting(
        scheme=scheme, fractions=fractions, step_size=step_size, friction=0.0, temperature=temperature, mass=mass
    )


def MultipleTimeSteps(
    *, step_size: Any, substeps: int, scheme: str = "BAOAB", slow: tuple[int, ...] = (-1,), friction: Any = 1.0,
    temperature: Any = 1.0, mass: Any = 1.0,
) -> Splitting:  # fmt: skip
    """Cheap terms of a sum inside, expensive ones outside: for a likelihood over much data beside a stiff prior (RESPA).

    Half a kick by the slow terms, `substeps` times the scheme under the others, half a kick by the slow terms. The
    potential is a sum (`prior + likelihood`, or a `Posterior`, whose last part is the likelihood); slow: which of its
    terms. step_size: h, from one slow kick to the next. Cost: one gradient of the slow terms, `substeps` of the others.
    Resonances make it unstable where h comes near half a period of the fast terms, or a multiple, at low friction.
    Raises ValueError if substeps is not a positive whole number.
    Tuckerman, Berne and Martyna, J. Chem. Phys. 97, 1990 (1992).
    """
    if isinstance(substeps, bool) or not isinstance(substeps, int) or substeps < 1:
        raise ValueError(f"substeps must be a positive whole number; got {substeps!r}")
    return Splitting(
        scheme="S" + scheme * substeps + "S", slow=slow, step_size=step_size, friction=friction,
        temperature=temperature, mass=mass,
    )  # fmt: skip
