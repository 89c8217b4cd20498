"""Energies: landscapes that know their equilibrium, and losses over data."""

from ..engine.equilibrium import Equilibrium as Equilibrium
from ..engine.equilibrium import Solvable as Solvable
from .double_well import DoubleWell as DoubleWell
from .harmonic import Harmonic as Harmonic
from .posterior import Posterior as Posterior
