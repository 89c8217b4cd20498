"""What a run measures when nothing is asked."""

from typing import Any

from ..equilibrium import Solvable
from ..protocols import Integrator, Potential
from ..pytree import size_of
from .mean import Mean
from .measurements import (
    UNROLLED,
    angles,
    configurational_temperature,
    kinetic_temperature,
    position,
    potential_energy,
    virial_temperature,
)
from .observable import Observable

MOST_COORDINATES = 256  # of which the position is averaged unasked


def standard(potential: Potential, integrator: Integrator, like: Any, *, every: int = 10) -> dict[str, Observable]:
    """The energy, the three thermometers and the position, as far as each is defined and cheap; `like` is a particle.

    On a minibatch potential only what needs no data; at temperature 0 no thermometers.
    """
    chosen: dict[str, Observable] = {}
    hot = not (isinstance(integrator.temperature, int | float) and integrator.temperature == 0)
    if not potential.chance:
        chosen["potential_energy"] = Mean(potential_energy, every=every)
    if integrator.has_momentum:
        chosen["kinetic_temperature"] = Mean(kinetic_temperature, every=every)
    angular = isinstance(potential, Solvable) and potential.period is not None
    if hot and not potential.chance:
        if not angular:
            chosen["virial_temperature"] = Mean(virial_temperature, every=every)
        if size_of(like) <= UNROLLED or (isinstance(potential, Solvable) and potential.separable):
            chosen["configurational_temperature"] = Mean(configurational_temperature, every=every)
    if size_of(like) <= MOST_COORDINATES:
        chosen["angles" if angular else "position"] = Mean(angles if angular else position, every=every)
    return chosen
