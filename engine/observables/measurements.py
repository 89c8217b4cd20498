"""What can be measured on one particle: functions of (potential, integrator, state), or of the position alone.

k_B = 1. A minibatch potential is measured on all its data. Thermometers are local: they tell that particles have the
bath's temperature where they are, not that they are where the equilibrium is.
"""

import abc
import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ..equilibrium import Solvable
from ..noise import Stream, threefry
from ..protocols import Integrator, Potential
from ..pytree import dot, named_leaves, number, pytree, ravel, size_of, static

EXACT_LAPLACIAN = 32  # coordinates; beyond, the Laplacian is Hutchinson's estimate
UNROLLED = 4  # coordinates up to which its products are written out, which vectorises better


class Measurement(abc.ABC):
    """A number, an array or a tree of arrays, for one particle at one step."""

    name: ClassVar[str] = ""
    exact_at: ClassVar[str] = ""  # the equilibrium quantity that its average estimates, as `compare` names it

    @property
    def is_thermometer(self) -> bool:
        """Whether its average is the bath's temperature."""
        return self.exact_at not in ("", "potential_energy")

    @abc.abstractmethod
    def __call__(self, potential: Potential, integrator: Integrator, state: Any) -> Any:
        """The value for one particle."""

    def finish(self, mean: Any) -> Any:
        """From the average of the values, along axis 0, to what is reported: for ratios of averages."""
        return mean

    def check(self, potential: Potential, integrator: Integrator, state: Any) -> None:  # noqa: B027
        """Raise or warn, before anything compiles, where the measurement has no meaning; it always has, by default."""


@pytree
class OfPosition(Measurement):
    """A user's function of the position."""

    function: Any

    def __call__(self, potential: Potential, integrator: Integrator, state: Any) -> Any:
        return self.function(state.position)


def as_measurement(measure: Any) -> Measurement:
    """A measurement as it is; any other callable as a function of the position."""
    if isinstance(measure, Measurement):
        return measure
    if not callable(measure):
        raise TypeError(f"a measurement is a function of the position or one of `observables`; got {measure!r}")
    plain = jax.tree.leaves(measure) == [measure]
    return OfPosition(function=jax.tree_util.Partial(measure) if plain else measure)


@pytree
class _Position(Measurement):
    name = "position"

    def __call__(self, potential: Potential, integrator: Integrator, state: Any) -> Any:
        return state.position


@pytree
class _Angles(Measurement):
    """cos and sin of 2π x/period, all cosines first: what has a mean where a coordinate is an angle."""

    name = "angles"

    def __call__(self, potential: Potential, integrator: Integrator, state: Any) -> Any:
        x = ravel(state.position)
        turned = 2 * np.pi * x / getattr(potential, "period", 2 * np.pi)
        return jnp.concatenate([jnp.cos(turned), jnp.sin(turned)])

    def check(self, potential: Potential, integrator: Integrator, state: Any) -> None:
        if getattr(potential, "period", None) is None:
            raise ValueError(f"angles are measured on a periodic landscape; {type(potential).__name__} has no period")


@pytree
class _PotentialEnergy(Measurement):
    name = exact_at = "potential_energy"

    def __call__(self, potential: Potential, integrator: Integrator, state: Any) -> Any:
        return potential.value_and_gradient(state.position)[0]


class _OfMomentum(Measurement):
    def check(self, potential: Potential, integrator: Integrator, state: Any) -> None:
        if not integrator.has_momentum:
            raise ValueError(f"{self.name} needs momenta; {type(integrator).__name__} is overdamped and has none")


@pytree
class _Momentum(_OfMomentum):
    name = "momentum"

    def __call__(self, potential: Potential, integrator: Integrator, state: Any) -> Any:
        return integrator.momentum(state)


@pytree
class _KineticEnergy(_OfMomentum):
    name = "kinetic_energy"

    def __call__(self, potential: Potential, integrator: Integrator, state: Any) -> Any:
        return integrator.kinetic_energy(state)


@pytree
class _KineticTemperature(_OfMomentum):
    name = exact_at = "kinetic_temperature"

    def __call__(self, potential: Potential, integrator: Integrator, state: Any) -> Any:
        return 2 * jnp.asarray(integrator.kinetic_energy(state)) / size_of(state.position)


@pytree
class _Acceptance(Measurement):
    """The probability with which the last step was accepted: its average has a smaller error than that of the outcomes."""

    name = "acceptance"

    def __call__(self, potential: Potential, integrator: Integrator, state: Any) -> Any:
        return integrator.acceptance(state)

    def check(self, potential: Potential, integrator: Integrator, state: Any) -> None:
        if jax.eval_shape(integrator.acceptance, state) is None:
            raise ValueError(f"acceptance needs a Metropolis test; {type(integrator).__name__} accepts every step")


@pytree
class _EnergyError(Measurement):
    """The change of the total energy over one step without its bath."""

    name = "energy_error"

    def __call__(self, potential: Potential, integrator: Integrator, state: Any) -> Any:
        return integrator.energy_error(potential, state)

    def check(self, potential: Potential, integrator: Integrator, state: Any) -> None:
        if jax.eval_shape(integrator.energy_error, potential, state) is None:
            raise ValueError(f"energy_error needs a Hamiltonian part; {type(integrator).__name__} declares none")


class _Virial(Measurement):
    origin: Any

    def terms(self, potential: Potential, state: Any) -> jax.Array:
        """(x - c) ∂U/∂x of each ravelled coordinate, (d,)."""
        return (ravel(state.position) - self.origin) * ravel(potential.gradient(state.position))

    def check(self, potential: Potential, integrator: Integrator, state: Any) -> None:
        if isinstance(potential, Solvable) and potential.period is not None:
            raise ValueError(
                f"{self.name} needs confined coordinates; those of {type(potential).__name__} are periodic (its `period` is "
                "set), and <x ∂U/∂x> of an angle is no temperature: measure configurational_temperature"
            )


@pytree
class VirialTemperature(_Virial):
    """⟨(x - c)·∇U⟩/d: the bath's temperature for any confined energy and any origin c (scalar or ravelled position).

    Raises ValueError on periodic coordinates.
    """

    origin: Any = number(default=0.0)
    name = exact_at = "virial_temperature"

    def __call__(self, potential: Potential, integrator: Integrator, state: Any) -> Any:
        terms = self.terms(potential, state)
        return jnp.sum(terms) / terms.size


@pytree
class Equipartition(_Virial):
    """⟨(xᵢ - cᵢ) ∂U/∂xᵢ⟩, (d,): the bath's temperature in every coordinate, stiff or soft, for any confined energy.

    Shows which coordinates are not in equilibrium with the bath. Raises ValueError on periodic coordinates.
    """

    origin: Any = number(default=0.0)
    name = exact_at = "equipartition"

    def __call__(self, potential: Potential, integrator: Integrator, state: Any) -> Any:
        return self.terms(potential, state)


@pytree
class EnergyDerivative(Measurement):
    """∂U/∂λ and ∂²U/∂λ² (2,) for a number λ of the potential, by the name of its field: what its free energy integrates.

    For `likelihood_power` the former is minus the log likelihood of all data. `thermodynamic_integration` takes its
    average. Raises ValueError where the potential has no such number, or several.
    """

    parameter: str = static(kw_only=False)
    name = "energy_derivative"

    def __call__(self, potential: Potential, integrator: Integrator, state: Any) -> Any:
        place, leaves, treedef = self._find(potential)

        def energy(value: Any) -> jax.Array:
            return jax.tree.unflatten(treedef, [*leaves[:place], value, *leaves[place + 1 :]])(state.position)

        now = jnp.asarray(leaves[place], jnp.result_type(float, *jax.tree.leaves(state.position)))
        first = lambda value: jax.jvp(energy, (value,), (jnp.ones_like(value),))[1]  # noqa: E731
        return jnp.stack(jax.jvp(first, (now,), (jnp.ones_like(now),)))

    def _find(self, potential: Potential) -> tuple[int, list, Any]:
        """Where the number is among the potential's leaves, and how to put these together again."""
        named = list(named_leaves(potential, lambda node: False))
        places = [i for i, (name, rule, leaf) in enumerate(named) if name == self.parameter and rule is not None]
        if len(places) != 1 or jnp.ndim(named[places[0]][2]):
            numbers = sorted(name for name, rule, leaf in named if rule is not None and not jnp.ndim(leaf))
            raise ValueError(
                f"EnergyDerivative takes one number of the potential by its field; {type(potential).__name__} has "
                f"{numbers}; got {self.parameter!r}"
            )
        return places[0], [leaf for _, _, leaf in named], jax.tree.structure(potential)

    def check(self, potential: Potential, integrator: Integrator, state: Any) -> None:
        self._find(potential)


@pytree
class _ConfigurationalTemperature(Measurement):
    """⟨|∇U|²⟩/⟨∇²U⟩: a ratio of averages, from pooled sums."""

    name = exact_at = "configurational_temperature"

    def __call__(self, potential: Potential, integrator: Integrator, state: Any) -> Any:
        gradient = potential.gradient(state.position)
        return dot(gradient, gradient), laplacian(potential, state.position)

    def finish(self, mean: Any) -> Any:
        with np.errstate(divide="ignore", invalid="ignore"):  # a flat energy, or a corner, has none
            return mean[:1] / mean[1:2]

    def check(self, potential: Potential, integrator: Integrator, state: Any) -> None:
        if potential.chance:
            raise ValueError(
                "configurational_temperature is not measured on a minibatch potential: |gradient|² of noisy gradients "
                "is biased. Measure it on the full-batch potential (batch_size=None)"
            )
        kinks = find_kinks(potential, state.position)
        if kinks:
            warnings.warn(
                f"configurational_temperature needs a twice differentiable energy; this one uses {sorted(kinks)}, whose "
                "kinks carry curvature that no derivative sees, so the temperature will read wrong",
                stacklevel=2,
            )


acceptance = _Acceptance()
energy_error = _EnergyError()
position = _Position()
angles = _Angles()
momentum = _Momentum()
potential_energy = _PotentialEnergy()
kinetic_energy = _KineticEnergy()
kinetic_temperature = _KineticTemperature()
virial_temperature = VirialTemperature()
equipartition = Equipartition()
configurational_temperature = _ConfigurationalTemperature()


def laplacian(potential: Potential, x: Any) -> jax.Array:
    """∇²U: exact, d Hessian products, up to 32 coordinates; above, v·Hv for one vector v of random signs.

    The signs are hashed from the bits of the position, so the estimate is a pure function and averages over particles.
    """
    flat, unravel = ravel_pytree(x)
    force = lambda y: ravel(potential.gradient(unravel(y)))  # noqa: E731
    along = lambda v: dot(v, jax.jvp(force, (flat,), (v,))[1])  # noqa: E731
    if isinstance(potential, Solvable) and potential.separable:
        return along(jnp.ones_like(flat))  # a diagonal Hessian needs one product
    if flat.size <= UNROLLED:
        return sum((along(row) for row in np.eye(flat.size, dtype=flat.dtype)), start=jnp.zeros((), flat.dtype))
    if flat.size <= EXACT_LAPLACIAN:
        return jnp.sum(jax.vmap(along)(jnp.eye(flat.size, dtype=flat.dtype)))
    bits = jax.lax.bitcast_convert_type(flat.astype(jnp.float32), jnp.uint32)
    index = jnp.arange(flat.size, dtype=jnp.uint32)
    seed = jnp.sum(threefry(bits, index, index, np.uint32(Stream.PROBE))[0], dtype=jnp.uint32)
    signs = threefry(seed, np.uint32(Stream.PROBE), index, index)[0] >> np.uint32(31)
    return along(1 - 2 * signs.astype(flat.dtype))


KINKED = frozenset({"abs", "max", "min", "sign", "floor", "round", "reduce_max", "reduce_min"})


def find_kinks(potential: Callable, x: Any) -> set[str]:
    """Primitives in the energy that have no second derivative, on the way from the position to the value.

    What only steers a stop_gradient (the shift of a logsumexp), the modulus within a logarithm, and compositions whose
    derivative JAX is told (softplus, logaddexp) are smooth; relu is not.
    """
    found: set[str] = set()

    def search(jaxpr: Any) -> None:
        live = {v for v in jaxpr.outvars if not hasattr(v, "val")}
        inside_log: set[Any] = set()
        for equation in reversed(jaxpr.eqns):
            name = equation.primitive.name
            if not live & set(equation.outvars) or name == "stop_gradient":
                continue
            inputs = {v for v in equation.invars if not hasattr(v, "val")}
            live |= inputs
            if name == "log":
                inside_log |= inputs
            elif name in KINKED and not (name == "abs" and set(equation.outvars) <= inside_log):
                if any(jnp.issubdtype(v.aval.dtype, jnp.floating) for v in equation.invars):
                    found.add(name)
            elif not name.startswith("custom_jvp") or "relu" in str(equation.params):
                for inner in jax.tree.leaves(equation.params, is_leaf=lambda p: hasattr(p, "eqns")):
                    if hasattr(inner, "eqns"):
                        search(getattr(inner, "jaxpr", inner))

    search(jax.make_jaxpr(potential)(x).jaxpr)
    return found
