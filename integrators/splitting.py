"""Underdamped Langevin dynamics by splitting: a scheme is a word in three letters."""

import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ..engine.protocols import Integrator, Noise, NoiseSpec, Potential
from ..engine.pytree import dot, number, pytree, root, static, times


class Phase(NamedTuple):
    """State of a splitting; the gradient is kept where the next step begins at the same position, else None."""

    position: Any
    momentum: Any
    gradient: Any


@pytree
class Splitting(Integrator):
    """Any word of drifts A, kicks B and Ornstein-Uhlenbeck parts O, read from left to right.

        dx = p/m dt,    dp = -∇U dt - γp dt + √(2γmT) dW

        A: x ← x + (h/nA) p/m      B: p ← p - (h/nB) ∇U(x)      O: p ← cp + √(mT(1 - c²)) ξ,  c = exp(-γh/nO)

    scheme: the word; a letter that occurs n times acts for h/n. step_size: h, time. friction: γ, a rate.
    temperature: T, energy. mass: m, a scalar or a diagonal shaped like the position.
    Cost: one gradient for each distinct position at which B acts; a gradient at the end of a word that the next word
    begins with is kept. Stationary order 2 for palindromes and their cyclic shifts (BAOA), else 1; on U = kx²/2 palindromes
    with one O or with O outside (and BAOA) are stable for hω < 2, ω² = k/m.
    Raises ValueError for a letter other than A, B, O, or a word without A and B.
    Leimkuhler and Matthews, "Molecular Dynamics" (Springer 2015), ch. 7.
    """

    scheme: str = static(default="BAOAB")
    step_size: Any = number("positive")
    friction: Any = number("non-negative", default=1.0)
    temperature: Any = number("non-negative", default=1.0)
    mass: Any = number("positive", default=1.0)
    has_momentum = True

    def __post_init__(self) -> None:
        if not isinstance(self.scheme, str) or not re.fullmatch("[ABO]+", self.scheme) or not {*"AB"} <= {*self.scheme}:
            raise ValueError(
                f"scheme must be a word in the letters A (drift), B (kick), O (Ornstein-Uhlenbeck) with at least one A "
                f"and one B, such as 'BAOAB'; got {self.scheme!r}"
            )

    @property
    def _caches(self) -> bool:
        """Whether a step ends with a gradient that the next step begins with (O does not move the position)."""
        forces = self.scheme.replace("O", "")
        return forces[0] == forces[-1] == "B"

    @property
    def gradients(self) -> int:
        # each run of B's between A's is one position; a run that goes on into the next word counts once
        runs = [run for run in self.scheme.replace("O", "").split("A") if run]
        return len(runs) - self._caches

    @property
    def weak_order(self) -> int:
        return 2 if self.scheme == self.scheme[::-1] else 1

    @property
    def stationary_order(self) -> int | None:
        if "O" not in self.scheme:
            return None
        # a cyclic shift of a palindrome is the same dynamics seen at another moment; both marginals stay second order
        shifts = [self.scheme[i:] + self.scheme[:i] for i in range(len(self.scheme))]
        symmetric = any(word == word[::-1] or word[1:] == word[:0:-1] for word in shifts)
        return 2 if symmetric else 1

    @property
    def exact(self) -> frozenset[str]:
        return _EXACT.get(self.scheme, frozenset())

    @property
    def noise(self) -> NoiseSpec:
        return NoiseSpec(normals=self.scheme.count("O"))

    @property
    def init_noise(self) -> NoiseSpec:
        return NoiseSpec(normals=1)

    def init(self, potential: Potential, position: Any, noise: Noise) -> Phase:
        momentum = optax.tree.scale(jnp.sqrt(self.temperature), times(root(self.mass), noise.normals[0]))
        return Phase(position, momentum, potential.gradient(position) if self._caches else None)

    def refresh(self, potential: Potential, state: Phase) -> Phase:
        return state._replace(gradient=potential.gradient(state.position)) if self._caches else state

    def step(self, potential: Potential, state: Phase, noise: Noise) -> Phase:
        x, p, g = state
        xi = iter(noise.normals)
        for letter in self.scheme:
            h = self.step_size / self.scheme.count(letter)
            if letter == "A":
                x, g = optax.tree.add_scale(x, h, self._velocity(p)), None  # the gradient is stale from here on
            elif letter == "B":
                g = potential.gradient(x) if g is None else g
                p = optax.tree.add_scale(p, -h, g)
            else:
                # as increments: in c p + s ξ either product may be contracted into the sum, here only one way is left,
                # and loops of different length round alike
                loss = jnp.expm1(-self.friction * h)
                spread = jnp.sqrt(self.temperature * -jnp.expm1(-2 * self.friction * h))  # 1 - c² without cancellation
                p = optax.tree.add_scale(optax.tree.add_scale(p, loss, p), spread, times(root(self.mass), next(xi)))
        return Phase(x, p, g if self._caches else None)

    def momentum(self, state: Phase) -> Any:
        return state.momentum

    def kinetic_energy(self, state: Phase) -> jax.Array:
        return dot(state.momentum, self._velocity(state.momentum)) / 2

    def _velocity(self, momentum: Any) -> Any:
        return times(jax.tree.map(lambda m: 1 / m, self.mass), momentum)


# what a word samples exactly on U = kx²/2 at every stable step, at the end of the word
_EXACT = {
    **dict.fromkeys(("BAOAB", "ABOBA"), frozenset({"positions"})),
    **dict.fromkeys(("BAOA", "AOAB"), frozenset({"positions", "momenta"})),
    **dict.fromkeys(("OBABO", "OBAB", "BABO", "OABAO", "OABA", "ABAO"), frozenset({"momenta"})),
}


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
