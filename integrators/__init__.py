"""Maps from a state to the next: descent, overdamped and underdamped Langevin dynamics, thermostats, unit speed."""

from .descent import Descending as Descending
from .descent import Descent as Descent
from .microcanonical import MCLMC as MCLMC
from .microcanonical import Isokinetic as Isokinetic
from .nose_hoover_chain import Chained as Chained
from .nose_hoover_chain import NoseHooverChain as NoseHooverChain
from .overdamped import SGLD as SGLD
from .overdamped import EulerMaruyama as EulerMaruyama
from .overdamped import LeimkuhlerMatthews as LeimkuhlerMatthews
from .overdamped import Position as Position
from .overdamped import Smoothed as Smoothed
from .sghmc import SGHMC as SGHMC
from .splitting import ABOBA as ABOBA
from .splitting import BAOA as BAOA
from .splitting import BAOAB as BAOAB
from .splitting import OBABO as OBABO
from .splitting import Phase as Phase
from .splitting import Splitting as Splitting
from .splitting import Verlet as Verlet
from .symplectic_euler import SymplecticEuler as SymplecticEuler
from .thermostats import BADODAB as BADODAB
from .thermostats import SGNHT as SGNHT
from .thermostats import Thermostatted as Thermostatted
