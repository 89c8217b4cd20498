"""Metropolis tests round reversible words: kernels that sample the Gibbs state exactly, whatever the step."""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from ..engine.protocols import Integrator, Noise, NoiseSpec, Potential
from ..engine.pytree import outer, pytree, static
from .splitting import Splitting
from .underdamped import Phase

UNROLLED = 10  # applications of the word to a turn of the loop


class Judged(NamedTuple):
    """State of a Metropolised word: what it caches of the potential, and how the last test came out."""

    position: Any
    momentum: Any
    gradient: Any  # kept where the word begins with a kick, else None
    energy: Any  # U(position)
    energy_error: Any  # H' - H of the last proposal; the largest number where that was not finite
    accepted: Any  # whether it was taken


@pytree
class Metropolis(Integrator):
    """A reversible word as a proposal that is accepted or rejected: exact on every energy at every step, jointly in x, p.

        p ← noise,    (x', p') = word applied `steps` times to (x, p),    ΔH = H(x', p') - H(x, p)
        (x, p) ← (x', p') with probability min(1, exp(-ΔH/T)), else (x, -p)

    word: a `Splitting` whose letters A and B read the same backwards, so that it retraces its way when p is turned round,
    and which keeps volume. O's stand outside: those at the ends act before and after the test and keep part of the
    momentum (generalised HMC: "OBAB", "OBABO"); without any, momenta are drawn afresh (HMC: "BAB"). Its step size,
    friction, temperature and mass are used. steps: how often the word is applied before the test, or a pair (fewest, most)
    between which every particle draws a number at every step, uniformly.

    A proposal that is not finite is rejected. Cost: a gradient for each time that the word is applied (`most` of them where
    lengths are drawn, since particles run side by side), and one energy. Raises TypeError for anything but a `Splitting`,
    ValueError for a word that no Metropolis test makes exact. Minibatch energies are refused when a run starts.
    Duane, Kennedy, Pendleton and Roweth, Phys. Lett. B 195 (1987) 216; Horowitz, Phys. Lett. B 268 (1991) 247.
    """

    word: Splitting = dataclasses.field(kw_only=False)
    steps: int | tuple[int, int] = static(default=1)
    exact = frozenset({"positions", "momenta", "jointly"})
    stationary_order = math.inf
    needs_exact_energy = True
    has_momentum = True
    scheme = property(lambda self: f"Metropolis {self.word.scheme}")  # how tables name it
    step_size = property(lambda self: self.word.step_size)
    friction = property(lambda self: self.word.friction)
    temperature = property(lambda self: self.word.temperature)
    mass = property(lambda self: self.word.mass)
    init_noise = NoiseSpec(normals=1)

    def __post_init__(self) -> None:
        if not isinstance(self.word, Splitting):
            raise TypeError(
                f"Metropolis takes a reversible word, such as Splitting(scheme='BAB', step_size=0.1); got {self.word!r}"
            )
        scheme, moves = self.word.scheme, self.word.scheme.strip("O")
        if "O" in moves:
            raise ValueError(
                f"O stands outside of a Metropolis test, A and B inside, as in 'OBABO': noise within a proposal leaves its "
                f"probability unknown; got {scheme!r}"
            )
        if {*moves} - {*"ABS"}:
            raise ValueError(f"a Metropolised word moves by A, B and S alone, which keep volume; got {scheme!r}")
        if not self._moves.is_reversible:
            raise ValueError(
                f"the A's and B's of a Metropolised word must read the same backwards, as in 'OBAB': a proposal that "
                f"cannot go back the way it came has no acceptance probability; got {scheme!r}"
            )
        lengths = self._lengths
        if len(lengths) != 2 or any(type(n) is not int for n in lengths) or not 1 <= lengths[0] <= lengths[1]:
            raise ValueError(
                f"steps must be a positive whole number, or a pair (fewest, most) of them; got {self.steps!r}"
            )

    def with_step_size(self, step_size: Any) -> "Metropolis":
        return dataclasses.replace(self, word=self.word.with_step_size(step_size))

    @property
    def _lengths(self) -> tuple[int, int]:
        return self.steps if isinstance(self.steps, tuple) else (self.steps, self.steps)

    @property
    def _moves(self) -> Splitting:
        """The word without its O's."""
        scheme, fractions = self.word.scheme, self.word.fractions
        kept = fractions and tuple(f for f, letter in zip(fractions, scheme, strict=True) if letter != "O")
        return dataclasses.replace(self.word, scheme=scheme.strip("O"), fractions=kept)

    @property
    def _thermostats(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The fractions of the step of the O's before and after the test."""
        scheme, fractions = self.word.scheme, [fraction for _, fraction in self.word.word]
        before, after = len(scheme) - len(scheme.lstrip("O")), len(scheme.rstrip("O"))
        return tuple(fractions[:before]), tuple(fractions[after:])

    @property
    def gradients(self) -> int:
        return self._lengths[1] * self._moves.gradients

    @property
    def substeps(self) -> float:
        return sum(self._lengths) / 2

    @property
    def noise(self) -> NoiseSpec:
        low, high = self._lengths
        return NoiseSpec(normals=max(1, self.word.scheme.count("O")), uniforms=1 + (low < high))

    def init(self, potential: Potential, position: Any, noise: Noise) -> Judged:
        x, p, g = self._moves.init(potential, position, noise)
        energy = potential(x)
        return Judged(x, p, g, energy, jnp.zeros_like(energy), jnp.array(True))

    def refresh(self, potential: Potential, state: Judged) -> Judged:
        g = None if state.gradient is None else potential.gradient(state.position)
        return state._replace(gradient=g, energy=potential(state.position))

    def step(self, potential: Potential, state: Judged, noise: Noise) -> Judged:
        (before, after), h, xi = self._thermostats, self.word.step_size, iter(noise.normals)
        p = state.momentum if before + after else self.word.thermal(noise)
        for part in before:
            p = self.word.thermalise(p, h * part, next(xi))
        old = Phase(state.position, p, state.gradient)
        new = self._propose(potential, old, noise)
        energy = potential(new.position)
        error = (energy - state.energy) + self.word.kinetic_change(p, new.momentum)
        error = jnp.where(jnp.isfinite(error), error, jnp.finfo(error.dtype).max)
        accepted = noise.uniforms[0] < self._probability(error)
        taken = lambda a: outer(jnp.ones_like(a), accepted) > 0  # noqa: E731
        x, p, g, energy = jax.tree.map(
            lambda a, b: jnp.where(taken(a), a, b), (*new, energy), (*self._rejected(old), state.energy)
        )
        for part in after:
            p = self.word.thermalise(p, h * part, next(xi))
        return Judged(x, p, g, energy, error, accepted)

    def _propose(self, potential: Potential, start: Phase, noise: Noise) -> Phase:
        """The word as many times as the particle's length says."""
        (low, high), word, h = self._lengths, self._moves, self.word.step_size
        length = low + jnp.floor(noise.uniforms[1] * (high - low + 1)) if low < high else high

        def move(i: Any, state: Phase) -> Phase:  # beyond its length a particle stays where it is: by steps of size 0
            taken = h if low == high else jnp.where(i < length, h, 0)
            return dataclasses.replace(word, step_size=taken).step(potential, state, Noise())

        if high <= UNROLLED:
            return functools.reduce(lambda state, i: move(i, state), range(high), start)
        return lax.fori_loop(0, high, move, start, unroll=UNROLLED)

    def _rejected(self, old: Phase) -> Phase:
        """Momenta are turned round: kept as they are, the chain would not leave the Gibbs state invariant."""
        return old._replace(momentum=optax.tree.scale(-1, old.momentum))

    def _probability(self, error: Any) -> jax.Array:
        return jnp.where(error > 0, jnp.exp(-error / self.temperature), 1)

    def acceptance(self, state: Judged) -> jax.Array:
        return self._probability(state.energy_error)

    def energy_error(self, potential: Potential, state: Judged) -> jax.Array:
        return state.energy_error

    def momentum(self, state: Judged) -> Any:
        return state.momentum

    def kinetic_energy(self, state: Judged) -> jax.Array:
        return self.word.kinetic_energy(state)  # pyright: ignore[reportArgumentType]


def HMC(*, step_size: Any, steps: int | tuple[int, int], temperature: Any = 1.0, mass: Any = 1.0) -> Metropolis:
    """Hamiltonian Monte Carlo: long strides across smooth energies, fresh momenta; steps=(5, 15) draws lengths.

    Optimal near an acceptance of 0.65; a length of steps · step_size near a half period resonates unless it is drawn.
    On U = kx²/2 with hω < 2 it is accepted with probability 1 - (2/π) arctan S, S = |sin Lθ| (χ - 1/χ)/2,
    cos θ = 1 - (hω)²/2, χ = (1 - (hω)²/4)^-½.
    """
    return Metropolis(
        Splitting(scheme="BAB", step_size=step_size, friction=0.0, temperature=temperature, mass=mass), steps=steps
    )


def MALA(*, step_size: Any, temperature: Any = 1.0, mass: Any = 1.0) -> Metropolis:
    """Metropolis-adjusted Langevin: Euler-Maruyama made exact; HMC of length one. Optimal near an acceptance of 0.57.

    step_size: that of the leapfrog; the proposal is Euler-Maruyama's with μh = step_size²/2m.
    Roberts and Tweedie, Bernoulli 2 (1996) 341.
    """
    return HMC(step_size=step_size, steps=1, temperature=temperature, mass=mass)


def GHMC(*, step_size: Any, friction: Any = 1.0, temperature: Any = 1.0, mass: Any = 1.0) -> Metropolis:
    """Langevin dynamics made exact: momenta persist, and are turned round where a step is rejected.

    Underdamped Langevin as long as nearly all is accepted: keep that above 0.95, or turns undo the persistence.
    """
    return Metropolis(
        Splitting(scheme="OBAB", step_size=step_size, friction=friction, temperature=temperature, mass=mass)
    )
