"""Maps from a state to the next: descent, overdamped and underdamped Langevin dynamics."""

from .descent import Descending as Descending
from .descent import Descent as Descent
from .overdamped import SGLD as SGLD
from .overdamped import EulerMaruyama as EulerMaruyama
from .overdamped import LeimkuhlerMatthews as LeimkuhlerMatthews
from .overdamped import Position as Position
from .overdamped import Smoothed as Smoothed
from .splitting import ABOBA as ABOBA
from .splitting import BAOA as BAOA
from .splitting import BAOAB as BAOAB
from .splitting import OBABO as OBABO
from .splitting import Phase as Phase
from .splitting import Splitting as Splitting
from .splitting import Verlet as Verlet
