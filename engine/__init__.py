"""Runs ensembles: noise, the loop, observables, comparison with theory, storage."""

from importlib.metadata import PackageNotFoundError as _NotFound
from importlib.metadata import version as _version

from . import observables as observables
from .adapt import Adapted as Adapted
from .adapt import adapt as adapt
from .advance import advance as advance
from .benchmark import benchmark as benchmark
from .certify import certify as certify
from .checks import Interrupted as Interrupted
from .checks import NonFiniteError as NonFiniteError
from .compare import compare as compare
from .cyclical import cyclical as cyclical
from .ensemble import scatter as scatter
from .entropy import entropy as entropy
from .entropy import free_energy_of as free_energy_of
from .fokker_planck import FokkerPlanck as FokkerPlanck
from .free_energy_profile import FreeEnergyProfile as FreeEnergyProfile
from .free_energy_profile import free_energy_profile as free_energy_profile
from .hardware import tune_cpu as tune_cpu
from .integration import Integration as Integration
from .integration import thermodynamic_integration as thermodynamic_integration
from .kramers import Kramers as Kramers
from .marks import each as each
from .marks import sweep as sweep
from .measured import Measured as Measured
from .momenta import redraw_momenta as redraw_momenta
from .multistate import Multistate as Multistate
from .multistate import Reweighted as Reweighted
from .multistate import mbar as mbar
from .multistate import reweight as reweight
from .protocols import Chance as Chance
from .protocols import Draw as Draw
from .protocols import Integrator as Integrator
from .protocols import Noise as Noise
from .protocols import NoiseSpec as NoiseSpec
from .protocols import Potential as Potential
from .pytree import number as number
from .pytree import pytree as pytree
from .pytree import static as static
from .relaxation import Relaxation as Relaxation
from .relaxation import relaxation as relaxation
from .response import Response as Response
from .response import response as response
from .run import Run as Run
from .scores import Benchmark as Benchmark
from .simulate import simulate as simulate
from .storage import load as load
from .target import Exact as Exact
from .target import Target as Target
from .thermometers import thermometers as thermometers
from .verdict import Line as Line
from .verdict import Verdict as Verdict

try:
    __version__ = _version("heatbath")
except _NotFound:  # used from a source tree that was never installed
    __version__ = "0"
