"""Energies: landscapes that know their equilibrium, and losses over data."""

from ..engine.equilibrium import Equilibrium as Equilibrium
from ..engine.equilibrium import Solvable as Solvable
from .bayesian_linear import BayesianLinear as BayesianLinear
from .beta_logit import BetaLogit as BetaLogit
from .coordinatewise import Coordinatewise as Coordinatewise
from .cosine import Cosine as Cosine
from .double_well import DoubleWell as DoubleWell
from .entropic_well import EntropicWell as EntropicWell
from .funnel import Funnel as Funnel
from .gaussian_mixture import GaussianMixture as GaussianMixture
from .harmonic import Harmonic as Harmonic
from .laplace import Laplace as Laplace
from .log_cosh import LogCosh as LogCosh
from .log_gamma import LogGamma as LogGamma
from .mueller_brown import MuellerBrown as MuellerBrown
from .phi4_chain import Phi4Chain as Phi4Chain
from .posterior import Posterior as Posterior
from .power import Power as Power
from .quartic import Quartic as Quartic
from .ring import Ring as Ring
from .rosenbrock import Rosenbrock as Rosenbrock
from .rotor_chain import RotorChain as RotorChain
from .steady_state import SteadyState as SteadyState
from .torus import Torus as Torus
from .triple_well import TripleWell as TripleWell
