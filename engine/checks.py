"""What arrives is checked before anything compiles: errors say what arrived, the rule and the fix."""

import math
import operator
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .linear import NotLinear, stability_limit
from .marks import is_mark, with_number
from .protocols import Draw, Integrator, Potential
from .pytree import is_configuration, named_leaves, size_of

DENSE = 100  # coordinates of a particle up to which the stability of a step is looked at, by dense matrices

UNTRACEABLE = (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError)  # numpy, and branches


def check_steps(steps: Any) -> int:
    """A number of steps: a non-negative integer; floats that are integers are taken."""
    if isinstance(steps, float) and steps.is_integer():
        steps = int(steps)
    try:
        if isinstance(steps, bool):
            raise TypeError
        steps = operator.index(steps)  # pyright: ignore[reportArgumentType]
    except TypeError:
        raise TypeError(f"steps must be a whole number; got {steps!r}") from None
    if steps < 0:
        raise ValueError(f"steps must not be negative; got {steps}")
    return steps


def check_positions(positions: Any) -> tuple[Any, int]:
    """Positions as floating arrays with one leading particle axis, and the number of particles."""
    leaves, treedef = jax.tree.flatten(positions)
    if not leaves:
        raise ValueError(f"positions must hold at least one array; got {positions!r}")
    arrays = []
    for leaf in leaves:
        array = leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)
        if array.dtype.kind == "c" or not (jnp.issubdtype(array.dtype, jnp.number) or array.dtype == bool):
            raise TypeError(f"positions must be real numbers; got dtype {array.dtype}")
        if array.ndim == 0:
            raise ValueError(
                "positions need a leading particle axis in every leaf, shape (n, ...); got a scalar "
                "(a list is a tree of its entries: pass an array)"
            )
        if array.dtype == np.float64 and not jax.config.read("jax_enable_x64"):
            _warn_truncation()
        floating = jnp.result_type(float) if array.dtype.kind in "iub" else jax.dtypes.canonicalize_dtype(array.dtype)
        arrays.append(jnp.asarray(array, floating))
    counts = sorted({len(array) for array in arrays})
    if len(counts) > 1:
        raise ValueError(f"positions disagree on the number of particles: leading axes of {counts}")
    if counts[0] == 0:
        raise ValueError("positions hold zero particles; at least one is needed")
    broken = np.zeros(counts[0], bool)
    for array in arrays:
        broken |= ~np.isfinite(np.asarray(array, np.float32)).reshape(len(array), -1).all(axis=1)
    if broken.any():
        first = np.flatnonzero(broken)[:5].tolist()
        raise ValueError(
            f"positions of {broken.sum()} of {len(broken)} particles are not finite; the first are {first}"
        )
    return jax.tree.unflatten(treedef, arrays), counts[0]


_truncation_warned = False


def _warn_truncation() -> None:
    global _truncation_warned
    if not _truncation_warned:
        _truncation_warned = True
        warnings.warn(
            "positions are float64 but JAX runs in float32, so they are truncated; pass float32, or set "
            'jax.config.update("jax_enable_x64", True) first',
            stacklevel=5,
        )


def check_integrator(integrator: Any) -> None:
    """An instance of `Integrator`."""
    if isinstance(integrator, type) and issubclass(integrator, Integrator):
        raise TypeError(f"integrator must be an instance: {integrator.__name__}(step_size=...); got the class itself")
    if not isinstance(integrator, Integrator) or not is_configuration(integrator):
        if callable(getattr(integrator, "update", None)):
            name = type(integrator).__name__
            raise TypeError(f"integrator must be an Integrator: wrap an optax optimiser in Descent(...); got {name}")
        raise TypeError(
            "integrator must be an instance of a @pytree subclass of heatbath.engine.Integrator, such as "
            f"integrators.BAOA(step_size=0.1); got {type(integrator).__name__}"
        )


def check_fit(integrator: Integrator, potential: Potential, position: Any) -> None:
    """Metropolis tests need the energy itself, not an estimate from some of the data; some dynamics several coordinates.

    position: the shapes of one particle.
    """
    if integrator.needs_exact_energy and potential.chance:
        raise ValueError(
            f"{type(integrator).__name__} tests exact energies, and {type(potential).__name__} draws minibatches: a test of "
            "a noisy energy samples no known law. Give it all data (batch_size=None), or take an integrator without a test"
        )
    if size_of(position) < integrator.least_coordinates:
        raise ValueError(
            f"{type(integrator).__name__} needs at least {integrator.least_coordinates} coordinates a particle; got "
            f"{size_of(position)}: take another integrator, BAOAB for one"
        )


def check_energy(potential: Potential, position: Any, draws: tuple[Draw, ...] = ()) -> None:
    """The energy of one particle, under draws where it takes chance, is a real floating scalar, and can be traced."""
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(position)]
    try:
        energy = jax.eval_shape(_energy, potential, draws, position)
    except UNTRACEABLE as error:
        raise untraceable("the potential", error) from error
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"the potential could not be evaluated on one particle (shapes {shapes}): {_first_line(error)}. It sees one "
            "particle, without the particle axis; a value for each particle is marked with engine.each(values)"
        ) from error
    leaves = jax.tree.leaves(energy)
    if len(leaves) != 1 or leaves[0].shape != ():
        got = [leaf.shape for leaf in leaves]
        raise ValueError(f"the potential must return one scalar for one particle (shapes {shapes}); got shapes {got}")
    if not jnp.issubdtype(leaves[0].dtype, jnp.floating):
        raise TypeError(f"the potential must return a real floating scalar; got dtype {leaves[0].dtype}")


def _energy(potential: Potential, draws: tuple[Draw, ...], position: Any) -> Any:
    return (potential.at(draws) if draws else potential)(position)


def check_step(integrator: Integrator, state: Any, new: Any) -> None:
    """A step returns a state of the same tree, shapes and dtypes, with a position."""
    name = type(integrator).__name__
    if not isinstance(state, tuple) or not hasattr(state, "position"):
        raise TypeError(f"{name}.init must return a NamedTuple with a field `position`; got {type(state).__name__}")
    before, after = (jax.tree.structure(s) for s in (state, new))
    leaves = [[f"{leaf.dtype}{list(leaf.shape)}" for leaf in jax.tree.leaves(s)] for s in (state, new)]
    if before != after or leaves[0] != leaves[1]:
        raise TypeError(
            f"{name}.step must return a state of the same tree, shapes and dtypes as it was given; it got {before} of "
            f"{leaves[0]} and returned {after} of {leaves[1]}"
        )


def check_stability(integrator: Integrator, potential: Potential, position: Any) -> None:
    """Warn of a step beyond the limit of stability: of linear schemes on a quadratic energy, the largest step of many.

    position: the shapes of one particle, of at most `DENSE` coordinates. A temperature, of whatever kind, does not matter;
    where other numbers are schedules or one a particle or rung, nothing is said.
    """
    if not potential.quadratic or potential.chance or integrator.step_size is None or size_of(position) > DENSE:
        return
    if is_mark(integrator.step_size):
        integrator = with_number(integrator, "step_size", float(np.max(integrator.step_size.values)))
    if any(
        is_mark(leaf) or callable(leaf) for name, _, leaf in named_leaves(integrator, is_mark) if name == "temperature"
    ):
        integrator = with_number(integrator, "temperature", 1.0)
    leaves = [leaf for part in (integrator, potential) for _, _, leaf in named_leaves(part, is_mark)]
    if any(is_mark(leaf) or callable(leaf) for leaf in leaves):
        return
    try:
        limit = stability_limit(integrator, potential, position)
    except NotLinear:
        return
    if limit is not None:
        scheme = getattr(integrator, "scheme", type(integrator).__name__)
        warnings.warn(
            f"step_size {float(integrator.step_size):.6g} is beyond {scheme}'s limit of stability on this quadratic energy, "
            f"{limit:.6g}: the population will leave the finite numbers; take a smaller step_size",
            stacklevel=5,
        )


def untraceable(what: str, error: Exception) -> TypeError:
    """For an error of UNTRACEABLE: what cannot be compiled, and how it is written instead."""
    found = "uses numpy (or float()) on" if isinstance(error, UNTRACEABLE[0]) else "branches on, or converts,"
    return TypeError(
        f"{what} {found} traced values; write it with jax.numpy, jnp.where and lax.cond: {_first_line(error)}"
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


class NonFiniteError(ArithmeticError):
    """A run that left the finite numbers. `particles` are the ids, `step` when the first of them did."""

    def __init__(self, *, particles: np.ndarray, of: int, step: int, step_size: float | None, detail: str) -> None:
        self.particles, self.step = particles, step
        many = f"{len(particles)} of {of} particles" if len(particles) > 1 else f"1 of {of} particles"
        text = f"{many} became non-finite at step {step}; the first is particle {particles[0]}{detail}. "
        if step_size is not None and math.isfinite(step_size):
            text += f"The step is probably too large: try step_size = {step_size / 4:.3g} (now {step_size:.3g}), "
            text += "or look at the energy there: a logarithm or a root outside its domain"
        else:
            text += "Try a smaller learning rate, or look at the energy there"
        super().__init__(text)


class Interrupted(KeyboardInterrupt):
    """A run stopped by the user between two blocks; `run` holds everything up to there and can go on."""

    def __init__(self, run: Any, asked: int) -> None:
        self.run = run
        super().__init__(f"stopped at step {run.step} of {asked}; `.run` of this exception can be saved or continued")
