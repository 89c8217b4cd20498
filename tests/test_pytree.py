"""Configuration as pytrees: numbers are leaves, structure is static, and classes never pass for each other."""

import itertools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from registry import INTEGRATORS, POTENTIALS

from heatbath import integrators
from heatbath.engine import each, number, pytree, static, sweep
from heatbath.engine.configuration import configure, evaluate_first
from heatbath.engine.pytree import ravel, root_times, solve, times


def test_structures_of_different_classes_differ():
    """With `register_dataclass` of jax 0.10 they compare equal, and one scheme's compiled step runs for another."""
    structures = {case.name: jax.tree.structure(case.make()) for case in INTEGRATORS + POTENTIALS}
    for (a, first), (b, second) in itertools.combinations(structures.items(), 2):
        assert first != second, (a, b)


def test_a_compiled_function_is_not_reused_for_another_class():
    compiled = jax.jit(lambda integrator: jnp.zeros(len(type(integrator).__name__)))
    first, second = integrators.EulerMaruyama(step_size=0.1), integrators.LeimkuhlerMatthews(step_size=0.1)
    assert len(compiled(first)) == len("EulerMaruyama")
    assert len(compiled(second)) == len("LeimkuhlerMatthews")


def test_numbers_are_leaves_and_statics_are_structure():
    a, b = integrators.BAOAB(step_size=0.1), integrators.BAOAB(step_size=0.2, temperature=3.0)
    assert jax.tree.structure(a) == jax.tree.structure(b)
    assert jax.tree.structure(a) != jax.tree.structure(integrators.BAOA(step_size=0.1))
    assert jax.tree.leaves(b) == [0.2, 1.0, 3.0, 1.0]


def test_configurations_are_frozen_and_keyword_only():
    bath = integrators.BAOAB(step_size=0.1)
    with pytest.raises(AttributeError):
        bath.step_size = 0.2
    with pytest.raises(TypeError):
        integrators.EulerMaruyama(0.1)


def test_rules_are_checked_for_what_the_user_gives_and_not_for_what_jax_makes():
    @pytree
    class Probe:
        kind: str = static(default="a")
        size: float = number("positive")

    with pytest.raises(ValueError, match=r"size must be positive; got -0\.1"):
        Probe(size=-0.1)
    with pytest.raises(ValueError, match="size must be positive and finite; got nan"):
        Probe(size=float("nan"))
    negative = jax.tree.map(lambda leaf: -leaf, Probe(size=0.5))
    assert negative.size == -0.5
    assert negative.kind == "a"


@pytest.mark.parametrize("mark", [each, sweep])
def test_marks_take_arrays_only(mark):
    with pytest.raises(ValueError, match="non-empty array of numbers"):
        mark(1.0)
    with pytest.raises(ValueError, match="non-empty array of numbers"):
        mark([])


TREE = {"a": np.array([[1.0, 2.0], [3.0, 4.0]]), "b": np.array([5.0, 6.0])}  # six coordinates
MATRIX = np.random.default_rng(2).normal(size=(6, 6)) @ np.diag([1, 2, 3, 1, 2, 3.0])
MATRIX = MATRIX @ MATRIX.T + np.eye(6)
DIAGONAL = np.linspace(0.5, 3, 6)
COEFFICIENTS = {
    "scalar": (2.5, 2.5 * np.eye(6)),
    "tree": ({"a": DIAGONAL[:4].reshape(2, 2), "b": DIAGONAL[4:]}, np.diag(DIAGONAL)),
    "ravelled": (DIAGONAL, np.diag(DIAGONAL)),
    "matrix": (MATRIX, MATRIX),
}


@pytest.mark.parametrize("name", COEFFICIENTS)
def test_coefficients_are_matrices_over_the_ravelled_coordinates(name):
    """Against plain linear algebra; the root is any R with R Rᵀ = coefficient."""
    with jax.enable_x64(True):
        coefficient, full = COEFFICIENTS[name]
        act = lambda of: jax.jacfwd(lambda x: ravel(of(coefficient, x)))(TREE)  # noqa: E731
        columns = lambda tree: np.concatenate([np.reshape(tree[k], (6, -1)) for k in "ab"], axis=1)  # noqa: E731
        np.testing.assert_allclose(columns(act(times)), full, rtol=1e-13)
        np.testing.assert_allclose(columns(act(solve)) @ full, np.eye(6), atol=1e-12)
        factor = columns(act(root_times))
        np.testing.assert_allclose(factor @ factor.T, full, rtol=1e-12, atol=1e-12)
        assert jax.tree.map(jnp.shape, times(coefficient, TREE)) == jax.tree.map(np.shape, TREE)


def test_the_shape_tells_a_matrix_from_a_diagonal():
    """(2, 2) is a diagonal for a position of that shape, and a matrix for one of two coordinates."""
    square, two = np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([1.0, 10.0])
    np.testing.assert_allclose(times(square, square), square * square)
    np.testing.assert_allclose(times(square, two), square @ two)
    np.testing.assert_allclose(times(np.full((1, 1), 2.0), np.full((1, 1), 3.0)), [[6.0]])


@pytest.mark.parametrize("shape", [(3,), (6, 5), (2, 6, 6), (5, 5), (6, 1)])
@pytest.mark.parametrize("act", [times, root_times, solve])
def test_coefficients_of_other_shapes_are_refused(act, shape):
    with pytest.raises(
        ValueError, match=r"coefficient must be a scalar.*\(6,\) or \(6, 6\).*got shapes.*" + re.escape(str(shape))
    ):
        act(np.ones(shape), TREE)


@pytree
class Tensor:
    """A field that may be a matrix, one that may not."""

    mass: Any = number("positive definite", default=1.0)
    step_size: Any = number("positive", default=1.0)


SKEW, SADDLE = (
    np.array([[2.0, 1.0], [-1.0, 2.0]]),
    np.array([[1.0, 2.0], [2.0, 1.0]]),
)  # all of SADDLE's entries are positive
GOOD = np.array([[2.0, -1.0], [-1.0, 2.0]])  # and not all of these
BROKEN = {
    "not symmetric": (SKEW, "mass.* must be symmetric as a matrix; .* by 2"),
    "indefinite": (SADDLE, "mass.* must be positive definite as a matrix; got an eigenvalue of -1"),
    "not finite": (GOOD * np.nan, "mass.* must be finite; got nan"),
}
WAYS = {
    "plain": lambda m: m,
    "each": lambda m: each(np.stack([GOOD, m, GOOD])),
    "sweep": lambda m: sweep(np.stack([GOOD, m])),
    "schedule": lambda m: lambda step: jnp.asarray(m) * (1 + step),
}


def enter(tensor):
    """As a configuration enters a run of three particles of two coordinates."""
    found = configure(tensor, jnp.zeros(2), 3, jnp.float32)
    return found, evaluate_first(found.schedules, 0, jnp.zeros(2), jnp.float32)


@pytest.mark.parametrize("way", WAYS)
def test_matrices_enter_as_numbers_do(way):
    found, values = enter(Tensor(mass=WAYS[way](GOOD)))
    shapes = [a.shape for a in (found.particle or values or found.shared[:1])]
    assert shapes == [{"plain": (2, 2), "each": (3, 2, 2), "sweep": (2, 3, 2, 2), "schedule": (2, 2)}[way]]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fault", BROKEN)
def test_broken_matrices_are_refused(way, fault):
    matrix, says = BROKEN[fault]
    with pytest.raises(ValueError, match=says):
        enter(Tensor(mass=WAYS[way](matrix)))


def test_a_matrix_is_refused_where_none_is_wanted():
    with pytest.raises(ValueError, match=r"step_size must be a scalar or shaped like .*\(2,\)\]; got shape \(2, 2\)"):
        enter(Tensor(step_size=GOOD + 2))
    with pytest.raises(ValueError, match=r"mass must be .*or a matrix \(2, 2\); got shape \(3, 3\)"):
        enter(Tensor(mass=np.eye(3)))
    with pytest.raises(ValueError, match=r"mass must be positive; got -1 among 2 values"):
        enter(Tensor(mass=np.array([1.0, -1.0])))


def test_checks_are_inherited():
    """A subclass without checks of its own keeps those of its base, and adds to them where it has some."""

    @pytree
    class Even:
        count: int = static(default=2)
        width: Any = number("positive", default=1.0)

        def __post_init__(self) -> None:
            if self.count % 2:
                raise ValueError("count must be even")

    @pytree
    class Plain(Even):
        height: Any = number("positive", default=1.0)

    assert Plain(count=4).count == 4
    with pytest.raises(ValueError, match="count must be even"):
        Plain(count=3)
    for name in ("width", "height"):
        with pytest.raises(ValueError, match=f"{name} must be positive"):
            Plain(**{name: -1.0})
