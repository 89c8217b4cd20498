"""Observables: measurements on a particle, and reducers over particles and time."""

from .autocorrelation import Autocorrelation as Autocorrelation
from .autocorrelation import Correlation as Correlation
from .autocorrelation import green_kubo as green_kubo
from .displacement import Displacement as Displacement
from .displacement import MeanSquaredDisplacement as MeanSquaredDisplacement
from .histogram import Density as Density
from .histogram import Histogram as Histogram
from .mean import Average as Average
from .mean import History as History
from .mean import Mean as Mean
from .measurements import Measurement as Measurement
from .measurements import VirialTemperature as VirialTemperature
from .measurements import angles as angles
from .measurements import configurational_temperature as configurational_temperature
from .measurements import kinetic_energy as kinetic_energy
from .measurements import kinetic_temperature as kinetic_temperature
from .measurements import momentum as momentum
from .measurements import position as position
from .measurements import potential_energy as potential_energy
from .measurements import virial_temperature as virial_temperature
from .observable import Observable as Observable
from .series import Recording as Recording
from .series import Series as Series
