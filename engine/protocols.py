"""What a potential and an integrator must offer. The base classes give the identities, so nobody asks with `hasattr`."""

import abc
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .pytree import number, pytree, times

Tree = Any  # any pytree of floating arrays: one particle's position, momentum, gradient
Scalar = Any  # a number, a 0-d array, a schedule, `each(...)` or `sweep(...)`


class NoiseSpec(NamedTuple):
    """How much noise one call of `init` or `step` takes."""

    normals: int = 0  # standard normals shaped like the position
    scalars: int = 0  # standard normal scalars
    uniforms: int = 0  # uniform numbers in (0, 1)
    words: int = 0  # raw 32-bit words


class Noise(NamedTuple):
    """The noise of one call: already drawn, plain arrays."""

    normals: tuple[Tree, ...] = ()
    scalars: Any = ()  # (scalars,)
    uniforms: Any = ()  # (uniforms,)
    words: Any = ()  # (words,) uint32


class Chance(NamedTuple):
    """The randomness that a potential takes at a step (a minibatch)."""

    words: int  # 32-bit words
    period: int = 1  # steps for which the words stay the same (an epoch)
    shared: bool = False  # one draw for all particles, or one for each


class Draw(NamedTuple):
    """A realised `Chance`."""

    words: Any  # (words,) uint32
    phase: Any  # () int32: steps since the words last changed


class Potential(abc.ABC):
    """An energy U(position) -> scalar; the density at temperature T is proportional to exp(-U/T).

    A subclass is a `@pytree` with `__call__` for one particle. Everything that depends on time is a field: any number
    may be a schedule. Everything that depends on chance is declared in `chance` and realised by `at`.
    """

    quadratic: bool = (
        False  # U is a quadratic form: steps of linear schemes are linear maps, and the exact step is known
    )

    @abc.abstractmethod
    def __call__(self, position: Tree) -> jax.Array:
        """Energy of one particle, a real scalar."""

    def value_and_gradient(self, position: Tree) -> tuple[jax.Array, Tree]:
        """Energy and its gradient: the only way in which integrators and observables ask for a force.

        Overridden where the force is not the gradient of the value (clipping, control variates, a curl).
        """
        return jax.value_and_grad(self)(position)

    def gradient(self, position: Tree) -> Tree:
        """The gradient alone."""
        return self.value_and_gradient(position)[1]

    @property
    def chance(self) -> tuple[Chance, ...]:
        """The randomness taken at every step; none by default."""
        return ()

    def at(self, draws: tuple[Draw, ...]) -> "Potential":
        """The plain potential for these draws, one for each entry of `chance`; itself by default."""
        del draws
        return self

    def parts(self) -> tuple["Potential", ...]:
        """The terms of a sum, for schemes that treat them apart; itself alone by default."""
        return (self,)

    def __add__(self, other: Any) -> "Potential":
        return Sum(terms=(self, as_potential(other)))

    def __radd__(self, other: Any) -> "Potential":
        if isinstance(other, int | float) and other == 0:  # where `sum` starts
            return self
        return Sum(terms=(as_potential(other), self))

    def __mul__(self, factor: Scalar) -> "Potential":
        return Scaled(potential=self, factor=factor)

    __rmul__ = __mul__


@pytree
class Function(Potential):
    """A plain callable as an energy. A callable that is itself a pytree keeps its arrays as leaves."""

    function: Any

    def __call__(self, position: Tree) -> jax.Array:
        return self.function(position)


def as_potential(energy: Any) -> Potential:
    """Any callable as a `Potential`; a potential is returned as it is."""
    if isinstance(energy, Potential):
        return energy
    if not callable(energy):
        raise TypeError(f"potential must be callable, U(position) -> scalar; got {type(energy).__name__}")
    plain = jax.tree.leaves(energy) == [energy]
    return Function(function=jax.tree_util.Partial(energy) if plain else energy)


@pytree
class Sum(Potential):
    """The sum of potentials; each term keeps its own forces and its own draws."""

    terms: tuple[Potential, ...]

    @property
    def quadratic(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return all(term.quadratic for term in self.terms)

    def __call__(self, position: Tree) -> jax.Array:
        return sum((term(position) for term in self.terms), start=jnp.zeros(()))

    def value_and_gradient(self, position: Tree) -> tuple[jax.Array, Tree]:
        pairs = [term.value_and_gradient(position) for term in self.terms]
        return jax.tree.map(lambda *values: sum(values[1:], start=values[0]), *pairs)

    @property
    def chance(self) -> tuple[Chance, ...]:
        return tuple(chance for term in self.terms for chance in term.chance)

    def at(self, draws: tuple[Draw, ...]) -> Potential:
        rest, terms = draws, []
        for term in self.terms:
            mine, rest = rest[: len(term.chance)], rest[len(term.chance) :]
            terms.append(term.at(mine))
        return Sum(terms=tuple(terms))

    def parts(self) -> tuple[Potential, ...]:
        return tuple(part for term in self.terms for part in term.parts())


@pytree
class Scaled(Potential):
    """factor × potential; a multiple by 1/T is the energy whose density at temperature 1 is the original's at T."""

    potential: Potential
    factor: Scalar = number()

    @property
    def quadratic(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.potential.quadratic

    def __call__(self, position: Tree) -> jax.Array:
        return self.factor * self.potential(position)

    def value_and_gradient(self, position: Tree) -> tuple[jax.Array, Tree]:
        value, gradient = self.potential.value_and_gradient(position)
        return self.factor * value, times(self.factor, gradient)

    @property
    def chance(self) -> tuple[Chance, ...]:
        return self.potential.chance

    def at(self, draws: tuple[Draw, ...]) -> Potential:
        return Scaled(potential=self.potential.at(draws), factor=self.factor)

    def parts(self) -> tuple[Potential, ...]:
        return tuple(Scaled(potential=part, factor=self.factor) for part in self.potential.parts())


class Integrator(abc.ABC):
    """A pure map from one particle's state to the next, given the potential and noise already drawn.

    A subclass is a `@pytree` whose fields are plain numbers when `step` sees them, and whose state is a NamedTuple
    with a field `position`. It inherits every test of the project by being listed in `tests/registry.py`.
    """

    # what a scheme declares of itself; `engine.certify` holds it to that. A property where it depends on the fields
    weak_order: int | None = None  # order in the step size of averages at a fixed time
    stationary_order: float | None = None  # of the bias of position averages at equilibrium; inf where there is none on
    # any energy (a Metropolis test); None without such a law
    strong_order: float | None = None  # of paths driven by one noise, for schemes that offer `coarsen`
    exact: frozenset[str] = (
        frozenset()
    )  # of "positions", "momenta", "jointly", "transients": on Gaussians, at any stable step
    gradients: int = 1  # a step: one for each distinct position at which the particle is kicked
    noise: NoiseSpec = NoiseSpec()  # what `step` takes
    init_noise: NoiseSpec = NoiseSpec()  # what `init` takes; at most normals
    has_momentum: bool = False  # whether `momentum` and `kinetic_energy` are defined
    needs_exact_energy: bool = False  # whether a step tests the energy itself: minibatches are refused
    step_size: Any = None  # h, a time; None for an optimiser, whose steps are its own
    substeps: float = 1  # how many step sizes a step covers
    temperature: Any = None  # of the bath
    mobility: Any = None  # μ; None where the dynamics is not overdamped Langevin
    friction: Any = None  # γ, a rate; None where the dynamics is not underdamped Langevin
    mass: Any = None  # a scalar, or a diagonal shaped like the position
    least_coordinates: int = 1  # of a particle: some dynamics need more than one
    increments: bool = False  # whether the normals of a step are increments of its Brownian path, over √h

    @abc.abstractmethod
    def init(self, potential: Potential, position: Tree, noise: Noise) -> Any:
        """The state of a particle that is at `position`."""

    @abc.abstractmethod
    def step(self, potential: Potential, state: Any, noise: Noise) -> Any:
        """The state one step later: the same tree, shapes and dtypes."""

    def with_step_size(self, step_size: Any) -> "Integrator":
        """The same scheme at another step size: overridden where that is no field of this name."""
        return dataclasses.replace(self, step_size=step_size)  # pyright: ignore[reportArgumentType]

    def refresh(self, potential: Potential, state: Any) -> Any:
        """The state with what it caches of the potential recomputed; called each step for potentials driven in time."""
        del potential
        return state

    def coarsen(self, first: Noise, second: Noise) -> Noise | None:
        """The noise of one step along the path of two half steps; None where normals do not determine a path."""
        if not self.increments:
            return None
        return Noise(jax.tree.map(lambda a, b: (a + b) / jnp.sqrt(2.0), first.normals, second.normals))

    def momentum(self, state: Any) -> Tree | None:
        """The particle's momentum; None where the dynamics is overdamped."""
        del state
        return None

    def kinetic_energy(self, state: Any) -> jax.Array | None:
        """p·M⁻¹p/2; None where the dynamics is overdamped."""
        del state
        return None

    def acceptance(self, state: Any) -> jax.Array | None:
        """The probability with which the last step was accepted; None where nothing is tested."""
        del state
        return None

    def energy_error(self, potential: Potential, state: Any) -> jax.Array | None:
        """The change of the total energy over a step without its bath; None where that has no meaning.

        Of the step that led here where it is at hand, else of the step that would lead on from here.
        """
        del potential, state
        return None
