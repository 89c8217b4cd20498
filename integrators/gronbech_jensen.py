"""Grønbech-Jensen's thermostats: Verlet with positions and half-step velocities that no friction disturbs."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from ..engine.protocols import Noise, NoiseSpec, Potential
from ..engine.pytree import pytree, static
from .free_motion import free_motion
from .underdamped import Underdamped


class Leapfrog(NamedTuple):
    """Position, the momentum of half a step before, and the normal that the next step uses again."""

    position: Any
    momentum: Any
    normal: Any


@pytree
class GronbechJensen(Underdamped):
    """The GJ family: Boltzmann's positions and momenta on Gaussians, and exact drift and diffusion, at any stable step.

        p' = c₂ p - √c₃ h ∇U(x) + √((1 - c₂)mT/2) (ξ + ξ'),    x' = x + √c₃ h p'/m,    c₂ = 1 - γh c₃

    p belongs to the middle of the step that led to x (2GJ); ξ' is the ξ of the next step. variant: c₃ as a function of γh,
    or a name: "I" for 1/(1 + γh/2), the scheme of Grønbech-Jensen and Farago (GJF); "II" for (1 - exp(-γh))/γh, which is
    BAOAB in the rescaled time of Sivak, Chodera and Crooks. All have BAOAB's errors in other units of time.
    step_size: h, time. friction: γ, a rate. temperature: T, energy. mass: m, a scalar, a diagonal or a matrix.
    Cost: 1 gradient, 1 normal. Weak order 1 for the momenta lag, stationary order 2; on U = kx²/2 positions and momenta are
    exact each, the lag-one autocorrelation is 1 - c₃h²ω²/2, and it is stable for c₃h²ω² < 2(1 + c₂): GJ-I for hω < 2.
    Raises ValueError for another name. Grønbech-Jensen and Farago, Mol. Phys. 111, 983 (2013); Grønbech-Jensen, Mol. Phys.
    118, e1662506 (2020); Jensen and Grønbech-Jensen, Mol. Phys. 117, 2511 (2019) for the momenta.
    """

    variant: str | Callable = static(default="I")
    weak_order = 1
    stationary_order = 2
    exact = frozenset({"positions", "momenta"})
    noise = NoiseSpec(normals=1)
    init_noise = NoiseSpec(normals=2)

    def __post_init__(self) -> None:
        if self.variant not in _VARIANTS and not callable(self.variant):
            raise ValueError(f"variant must be one of {(*_VARIANTS,)}, or c₃ as a function of γh; got {self.variant!r}")

    def init(self, potential: Potential, position: Any, noise: Noise) -> Leapfrog:
        # the momentum has already felt the normal that it will feel again: correlated so, it stays thermal
        memory = self._loss / 2
        normal = optax.tree.add_scale(
            optax.tree.scale(jnp.sqrt(memory), noise.normals[0]), jnp.sqrt(1 - memory), noise.normals[1]
        )
        return Leapfrog(position, self.thermal(noise), normal)

    def step(self, potential: Potential, state: Leapfrog, noise: Noise) -> Leapfrog:
        x, p, old = state
        (new,), h = noise.normals, jnp.sqrt(self._share) * self.step_size
        p = optax.tree.add_scale(optax.tree.add_scale(p, -self._loss, p), -h, potential.gradient(x))
        p = optax.tree.add(p, self.agitation(self._loss / 2, optax.tree.add(old, new)))
        return Leapfrog(optax.tree.add_scale(x, h, self.velocity(p)), p, new)

    @property
    def _share(self) -> Any:
        """c₃."""
        variant = self.variant if callable(self.variant) else _VARIANTS[self.variant]
        return variant(self.friction * self.step_size)

    @property
    def _loss(self) -> Any:
        """1 - c₂."""
        return self.friction * self.step_size * self._share


_VARIANTS: dict[str, Callable] = {"I": lambda u: 1 / (1 + u / 2), "II": lambda u: free_motion(u, 1.0).reach}


def SivakChoderaCrooks(
    *, step_size: Any, friction: Any = 1.0, temperature: Any = 1.0, mass: Any = 1.0
) -> GronbechJensen:
    """VRORV with its time rescaled by √(tanh(γh/2)/(γh/2)), so that free particles diffuse as they should: GJ-II.

    Sivak, Chodera and Crooks, J. Phys. Chem. B 118, 6466 (2014).
    """
    return GronbechJensen(variant="II", step_size=step_size, friction=friction, temperature=temperature, mass=mass)
