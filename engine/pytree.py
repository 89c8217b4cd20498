"""Configuration as pytrees: frozen, keyword-only dataclasses whose numbers are leaves and whose structure is static.

A changed number never recompiles, and any number can be swept, scheduled or differentiated. A field declared with
`number("positive")` carries its rule: plain Python numbers are checked when the object is made, arrays and schedules
when they enter a run.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

Class = TypeVar("Class", bound=type)

SYMMETRIC = 1e-6  # relative departure of a matrix from its transpose that is still rounding

RULES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "": np.isfinite,
    "positive": lambda a: np.isfinite(a) & (a > 0),
    "non-negative": lambda a: np.isfinite(a) & (a >= 0),
    "in [0, 1)": lambda a: np.isfinite(a) & (a >= 0) & (a < 1),
    "positive definite": lambda a: np.isfinite(a) & (a > 0),  # of a field that may be a matrix: see `check_matrix`
}


def static(*, kw_only: bool = True, **options: Any) -> Any:
    """A field that steers Python (a word, a count, a function): part of the structure, so a change of it recompiles."""
    return dataclasses.field(kw_only=kw_only, metadata={"static": True}, **options)


def number(rule: str = "", *, kw_only: bool = True, **options: Any) -> Any:
    """A field that is a number, an array, a schedule, `each(...)` or `sweep(...)`, under a rule of `RULES`."""
    return dataclasses.field(kw_only=kw_only, metadata={"rule": rule}, **options)


def check_number(name: str, rule: str, value: Any) -> None:
    """Raise ValueError if a concrete number or array breaks the rule of its field, TypeError if it is no number."""
    array = np.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.floating) and array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be a number; got {value!r}")
    numbers = array.astype(np.float64)
    good = RULES[rule](numbers)
    if np.all(good):
        return
    broken, rule = float(numbers[~good].flat[0]) if numbers.ndim else float(numbers), rule.removesuffix(" definite")
    words = rule if rule and np.isfinite(broken) else f"{rule} and finite" if rule else "finite"
    among = f" among {numbers.size} values" if numbers.size > 1 else ""
    raise ValueError(f"{name} must be {words}; got {broken:g}{among}")


def check_count(name: str, value: Any, least: int) -> None:
    """Raise ValueError for a static number that is no whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}; got {value!r}")


def check_matrix(name: str, value: Any) -> None:
    """Raise ValueError if one of the matrices (..., d, d) is not finite, symmetric and positive definite."""
    matrices = np.asarray(value, np.float64)
    check_number(name, "", matrices)
    apart = float(np.abs(matrices - matrices.swapaxes(-1, -2)).max())
    if apart > SYMMETRIC * np.abs(matrices).max():
        raise ValueError(f"{name} must be symmetric as a matrix; its entries depart from the transpose's by {apart:g}")
    lowest = float(np.linalg.eigvalsh(matrices).min())
    if not lowest > 0:
        raise ValueError(f"{name} must be positive definite as a matrix; got an eigenvalue of {lowest:g}")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(static, number, dataclasses.field))
def pytree(cls: Class) -> Class:
    """Class decorator: a frozen, keyword-only dataclass registered as a pytree; compared by identity."""
    own = cls.__dict__.get("__post_init__")
    inherited = getattr(cls, "__post_init__", None)  # with the checks of the class that it was written for

    def __post_init__(self: Any) -> None:
        for field in dataclasses.fields(self):
            if "rule" not in field.metadata:
                continue
            value = getattr(self, field.name)
            if isinstance(value, list | tuple) and all(isinstance(row, int | float) for row in value):
                object.__setattr__(self, field.name, value := np.asarray(value, float))
            if value is None and field.default is None:  # a number that may be left out
                continue
            if value is None or isinstance(value, str | bool):
                raise TypeError(f"{field.name} must be a number; got {value!r}")
            if isinstance(value, int | float):
                check_number(field.name, field.metadata["rule"], value)
        if own is not None:
            own(self)

    if own is not None or inherited is None:
        setattr(cls, "__post_init__", __post_init__)  # noqa: B010  (the dataclass decorator must find it)
    cls = dataclasses.dataclass(frozen=True, kw_only=True, eq=False)(cls)
    _register(cls)
    return cls


def _register(cls: type) -> None:
    """Register a configuration as a pytree.

    Not by `jax.tree_util.register_dataclass`: in jax 0.10 the structures of two dataclasses with equal static fields
    compare equal whatever their classes, so a compiled step of one integrator would be run for another. And it calls the
    constructor on placeholders, which this does not, so `__post_init__` sees only what a user gave.
    """
    fields = dataclasses.fields(cls)
    leaves = [field.name for field in fields if not field.metadata.get("static")]
    fixed = [field.name for field in fields if field.metadata.get("static")]

    def flatten_with_keys(node: Any) -> tuple[list, tuple]:
        children = [(jax.tree_util.GetAttrKey(name), getattr(node, name)) for name in leaves]
        return children, tuple(getattr(node, name) for name in fixed)

    def flatten(node: Any) -> tuple[list, tuple]:
        return [getattr(node, name) for name in leaves], tuple(getattr(node, name) for name in fixed)

    def unflatten(aux: tuple, children: Any) -> Any:
        node = object.__new__(cls)
        for name, value in (*zip(leaves, children, strict=True), *zip(fixed, aux, strict=True)):
            object.__setattr__(node, name, value)
        return node

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)


def is_configuration(node: Any) -> bool:
    """Whether a node of a tree is an instance of a `@pytree` class."""
    return dataclasses.is_dataclass(node) and not isinstance(node, type)


def named_leaves(tree: Any, is_leaf: Callable[[Any], bool], name: str = "", rule: str | None = None) -> Iterator:
    """Leaves in JAX's order as `(name, rule, leaf)`; the rule is None outside fields declared by `number`."""
    if is_leaf(tree):
        yield name, rule, tree
    elif is_configuration(tree):
        for field in dataclasses.fields(tree):
            if not field.metadata.get("static"):
                yield from named_leaves(getattr(tree, field.name), is_leaf, field.name, field.metadata.get("rule"))
    else:
        stop = lambda node: node is not tree and (is_leaf(node) or is_configuration(node))  # noqa: E731
        for path, node in jax.tree_util.tree_flatten_with_path(tree, is_leaf=stop)[0]:
            if stop(node):
                yield from named_leaves(node, is_leaf, name + jax.tree_util.keystr(path), rule)
            else:
                yield name + jax.tree_util.keystr(path), rule, node


def times(coefficient: Any, tree: Any) -> Any:
    """Coefficient × tree, for a coefficient that is a scalar, a diagonal or a matrix.

    A diagonal has the tree's own structure and shapes, or is one array (d,) over the ravelled coordinates; a matrix is
    one array (d, d) over them. The shape tells which: d² numbers are no diagonal of d coordinates. So marks and
    schedules hold matrices as they hold numbers, and no wrapper is needed. Raises ValueError for other shapes.
    """
    return _act(coefficient, tree, lambda c, x: c * x, lambda m, x: jnp.matmul(m, x, precision="highest"))


def outer(array: Any, scalar: Any) -> jax.Array:
    """An array of one particle times a number of that particle.

    As `array * scalar`, but under `vmap` the axis of particles stays where it is: a product of two ranks, like a
    `jnp.where` on a truth of the particle, moves it to the front, and all that follows is transposed.
    """
    array, scalar = jnp.asarray(array), jnp.asarray(scalar)
    dtype = scalar.dtype if jnp.issubdtype(scalar.dtype, jnp.floating) else array.dtype
    return jax.lax.dot_general(array.astype(dtype), scalar.astype(dtype), (((), ()), ((), ())), precision="highest")


def like(coefficient: Any, tree: Any) -> Any:
    """A scalar or diagonal coefficient with the tree's structure; a scalar stays one in every leaf."""
    if jax.tree.structure(coefficient) == jax.tree.structure(tree):
        return coefficient
    return jax.tree.map(lambda _: coefficient, tree)


def root_times(coefficient: Any, tree: Any) -> Any:
    """√coefficient × tree; of a matrix the Cholesky factor L, LLᵀ = coefficient: what makes noise of that covariance."""
    factor: Callable = lambda m, x: jnp.matmul(jnp.linalg.cholesky(m), x, precision="highest")  # noqa: E731
    return _act(coefficient, tree, lambda c, x: jnp.sqrt(c) * x, factor)


def solve(coefficient: Any, tree: Any) -> Any:
    """Coefficient⁻¹ × tree."""
    by_cholesky: Callable = lambda m, x: jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(m), True), x)  # noqa: E731
    return _act(coefficient, tree, lambda c, x: (1 / c) * x, by_cholesky)


def is_matrix(shape: tuple[int, ...], tree: Any) -> bool:
    """Whether a coefficient of this shape is a matrix over the ravelled coordinates of a tree."""
    d = size_of(tree)
    return shape == (d, d) and shape not in [jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]


def _act(coefficient: Any, tree: Any, entries: Callable, matrix: Callable) -> Any:
    """A scalar or diagonal coefficient on each entry of a tree, a matrix on all of them as one vector."""
    if jax.tree.structure(coefficient) == jax.tree.structure(tree) and all(
        map(_fits, jax.tree.leaves(coefficient), jax.tree.leaves(tree))
    ):
        return jax.tree.map(entries, coefficient, tree)
    if jax.tree.structure(coefficient) == jax.tree.structure(0):
        if all(_fits(coefficient, leaf) for leaf in jax.tree.leaves(tree)):
            return jax.tree.map(lambda leaf: entries(coefficient, leaf), tree)
        x, unravel = ravel_pytree(tree)
        if is_matrix(jnp.shape(coefficient), tree):
            return unravel(matrix(coefficient, x))
        if jnp.shape(coefficient) == x.shape:
            return unravel(entries(coefficient, x))
    arrived, shapes = ([jnp.shape(leaf) for leaf in jax.tree.leaves(t)] for t in (coefficient, tree))
    d = size_of(tree)
    raise ValueError(
        f"a coefficient must be a scalar, shaped like the position {shapes}, or an array ({d},) or ({d}, {d}) over its "
        f"{d} coordinates; got shapes {arrived}"
    )


def _fits(coefficient: Any, leaf: Any) -> bool:
    """Whether a product has the leaf's shape."""
    try:
        return np.broadcast_shapes(jnp.shape(coefficient), jnp.shape(leaf)) == jnp.shape(leaf)
    except ValueError:
        return False


def size_of(tree: Any) -> int:
    """Number of coordinates of one particle."""
    return sum(math.prod(jnp.shape(leaf)) for leaf in jax.tree.leaves(tree))


def upcast(tree: Any) -> Any:
    """Every floating leaf, and every plain integer, in float64; call under `jax.enable_x64(True)`."""
    floats = lambda leaf: type(leaf) is int or jnp.issubdtype(jnp.result_type(leaf), jnp.floating)  # noqa: E731
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64) if floats(leaf) else leaf, tree)


def dot(a: Any, b: Any) -> jax.Array:
    """The inner product of two trees of one structure.

    Sums of products and not `vdot`: XLA makes no vector loop of the contractions of many short particles.
    """
    first, *rest = jax.tree.leaves(jax.tree.map(lambda x, y: jnp.sum(x * y), a, b))
    for term in rest:
        first = first + term
    return first


def ravel(tree: Any) -> jax.Array:
    """All coordinates of one particle as one vector."""
    return ravel_pytree(tree)[0]
