"""Configuration as pytrees: numbers are leaves, structure is static, and classes never pass for each other."""

import itertools

import jax
import jax.numpy as jnp
import pytest
from registry import INTEGRATORS, POTENTIALS

from heatbath import integrators
from heatbath.engine import each, number, pytree, static, sweep


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
