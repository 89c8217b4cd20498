"""A value per particle is marked, never guessed: `each` gives every particle its own, `sweep` makes a ladder."""

from typing import Any

import jax
import numpy as np

from .pytree import named_leaves


@jax.tree_util.register_pytree_node_class
class Each:
    """One value for each particle, shape (n, ...); made by `each`."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def tree_flatten(self) -> tuple[tuple[Any], Any]:
        return (self.values,), None

    @classmethod
    def tree_unflatten(cls, aux: Any, children: Any) -> Any:
        mark = object.__new__(cls)
        mark.values = children[0]
        return mark

    def __repr__(self) -> str:
        return f"each(<{np.shape(self.values)}>)"


@jax.tree_util.register_pytree_node_class
class Sweep:
    """One value for each rung of a ladder, shape (rungs, ...); made by `sweep`."""

    def __init__(self, values: Any, *, shared_noise: bool = False) -> None:
        self.values, self.shared_noise = values, shared_noise

    def tree_flatten(self) -> tuple[tuple[Any], Any]:
        return (self.values,), self.shared_noise

    @classmethod
    def tree_unflatten(cls, aux: Any, children: Any) -> Any:
        mark = object.__new__(cls)
        mark.values, mark.shared_noise = children[0], aux
        return mark

    def __repr__(self) -> str:
        return f"sweep(<{np.shape(self.values)}>)"


def each(values: Any) -> Each:
    """Mark `values`, shape (n, ...), as one value for each of the n particles."""
    return Each(_values("each", values))


def sweep(values: Any, *, shared_noise: bool = False) -> Sweep:
    """Mark `values`, shape (rungs, ...), as a ladder: every rung is an ensemble of its own, in one call.

    Results gain a leading axis of rungs. Several sweeps in one call move together and must have one length. The
    rungs draw different noise unless `shared_noise` is set.
    """
    return Sweep(_values("sweep", values), shared_noise=shared_noise)


def is_mark(node: Any) -> bool:
    """Whether a node of a tree is marked."""
    return isinstance(node, Each | Sweep)


def with_number(configuration: Any, name: str, value: Any) -> Any:
    """The configuration with the number in a field changed; the field may lie in a configuration that it wraps."""
    leaves = [value if name == field else leaf for field, _, leaf in named_leaves(configuration, is_mark)]
    return jax.tree.unflatten(jax.tree.structure(configuration, is_leaf=is_mark), leaves)


def _values(name: str, values: Any) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim == 0 or array.size == 0 or array.dtype.kind not in "fiu":
        raise ValueError(f"{name}(values) takes a non-empty array of numbers, one row a {_ROW[name]}; got {values!r}")
    return array.astype(float) if array.dtype.kind in "iu" else array


_ROW = {"each": "particle", "sweep": "rung"}
