"""The grammar of splittings: fractions, orders, free motion, slow terms; and momenta drawn anew."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_linear_laws import STIFFNESS, near, phase_law, phase_matrix

from heatbath import engine, integrators, potentials
from heatbath.engine.linear import Quadratic, linear_map
from heatbath.engine.protocols import as_potential
from heatbath.engine.pytree import upcast
from heatbath.engine.transfer import NoTransfer, stationary_averages
from heatbath.integrators import Splitting
from heatbath.integrators.composition import cycle, is_symmetric, order

OMELYAN, YOSHIDA = (integrators.Omelyan(step_size=1.0).fractions, integrators.Yoshida(step_size=1.0).fractions)


def with_bath(fractions):
    """A word without bath between two halves of one."""
    return "OB" + "AB" * (len(fractions) // 2) + "O", (0.5, *fractions, 0.5)


@pytest.mark.parametrize("scheme, fractions, weak, stationary", [
    ("BAOAB", None, 2, 2), ("BAOA", None, 1, 2), ("OBA", None, 1, 1), ("AOBOA", None, 2, 2), ("BAB", None, 2, None),
    ("UBU", None, 2, 2), ("BUB", None, 2, 2), ("UB", None, 1, 2), ("SBAOABBAOABS", None, 2, 2), 
    ("OSBABS", None, 1, 2), ("OSBAB", None, 1, 1),
    ("BABAB", OMELYAN, 2, None), ("BABABAB", YOSHIDA, 4, None), (*with_bath(OMELYAN), 2, 2), (*with_bath(YOSHIDA), 2, 4),
    ("OBABO", (0.3, 0.5, 1, 0.5, 0.7), 1, 2), ("OBABO", (0.5, 0.3, 1, 0.7, 0.5), 1, 1),
    ("BAOAB", (0.5, 0.3, 1, 0.7, 0.5), 1, 1), ("UBU", (0.2, 1, 0.8), 1, 2),
])  # fmt: skip
def test_declared_orders(scheme, fractions, weak, stationary):
    word = Splitting(scheme=scheme, fractions=fractions, step_size=0.1)
    assert (word.weak_order, word.stationary_order) == (weak, stationary)


def series(word, terms):
    """The product of exponentials of matrices, by the letters' matrices."""
    from scipy.linalg import expm

    product = np.eye(4)
    for letter, fraction in word:
        product = expm(fraction * terms[letter]) @ product
    return product


@pytest.mark.parametrize("scheme", [integrators.Yoshida, integrators.McLachlan, integrators.Omelyan])
def test_orders_of_compositions(scheme):
    """Against matrices that do not commute, and by the energy of a pendulum; the weak order of those without bath."""
    word = scheme(step_size=1.0).word
    rng = np.random.default_rng(0)
    terms = {letter: rng.normal(size=(4, 4)) for letter in "AB"}
    from scipy.linalg import expm

    small = lambda h: {letter: h * matrix for letter, matrix in terms.items()}  # noqa: E731
    errors = [np.abs(series(word[::-1], small(h)) - expm(h * sum(terms.values()))).max() for h in (0.02, 0.01)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order(word) + 1, abs=0.15)
    with jax.enable_x64(True):
        energy = as_potential(lambda x: -jnp.sum(jnp.cos(x)))

        def drift_of_energy(h):
            bath = upcast(scheme(step_size=h))
            state = bath.init(energy, jnp.array([1.2]), engine.Noise((jnp.array([0.4]),)))
            total = lambda s: energy(s.position) + bath.kinetic_energy(s)  # noqa: E731
            final = jax.lax.fori_loop(0, round(3 / h), lambda _, s: bath.step(energy, s, engine.Noise()), state)
            return abs(float(total(final) - total(state)))

        found = math.log2(drift_of_energy(0.2) / drift_of_energy(0.1))
    assert found == pytest.approx(order(word), abs=0.3)


def test_errors_of_compositions():
    """What the docstrings say: Omelyan's error a third of Verlet's for the same gradients, limits of stability."""
    error = lambda scheme, h: np.abs(phase_matrix(scheme(step_size=h), np.eye(1)) - phase_exact(h)).max()  # noqa: E731
    assert error(integrators.Omelyan, 0.1) == pytest.approx(2 * error(integrators.Verlet, 0.05) / 3, rel=0.1)
    for scheme, limit in ((integrators.Omelyan, 2.553), (integrators.Yoshida, 1.573), (integrators.McLachlan, 3.036)):
        for factor, stable in ((0.998, True), (1.002, False)):
            matrix = phase_matrix(scheme(step_size=factor * limit), np.eye(1))
            assert (np.abs(np.linalg.eigvals(matrix)).max() < 1 + 1e-9) == stable


def phase_exact(h):
    return np.array([[math.cos(h), math.sin(h)], [-math.sin(h), math.cos(h)]])


def test_equal_fractions_are_no_fractions():
    plain = phase_matrix(integrators.BAOAB(step_size=0.7, friction=1.2), STIFFNESS)
    spelt = Splitting(scheme="BAOAB", fractions=(0.5, 0.5, 1, 0.5, 0.5), step_size=0.7, friction=1.2)
    np.testing.assert_allclose(phase_matrix(spelt, STIFFNESS), plain, atol=1e-15)


def test_cycles():
    word = (("O", 0.3), ("B", 0.5), ("A", 1.0), ("B", 0.5), ("O", 0.7))
    assert cycle(word) == (("O", 1.0), ("B", 0.5), ("A", 1.0), ("B", 0.5))
    assert is_symmetric((("B", 1.0), ("A", 0.5), ("O", 1.0), ("A", 0.5)))
    assert not is_symmetric((("O", 1.0), ("B", 1.0), ("A", 1.0)))
    assert not is_symmetric((("B", 1.0), ("A", 0.3), ("O", 1.0), ("A", 0.7)))


@pytest.mark.parametrize("fractions, bias", [(OMELYAN, 2), (YOSHIDA, 4)])
def test_a_composition_between_two_baths(fractions, bias):
    """Momenta exact, positions biased by the order of what is between the baths: log₂ of the bias at h = 0.1, 0.05."""
    scheme, fractions = with_bath(fractions)
    laws = [phase_law(Splitting(scheme=scheme, fractions=fractions, step_size=h), np.eye(1)) for h in (0.1, 0.05)]
    near(laws[0][1], np.eye(1))
    assert math.log2((laws[0][0][0, 0] - 1) / (laws[1][0][0, 0] - 1)) == pytest.approx(bias, abs=0.15)
    assert Splitting(scheme=scheme, fractions=fractions, step_size=0.1).exact == {"momenta"}


@engine.pytree
class Counted(potentials.Harmonic):
    """A harmonic term that notes when its gradient is asked for."""

    asked: list = engine.static()

    def value_and_gradient(self, position):
        self.asked.append(1)
        return super().value_and_gradient(position)


@pytest.mark.parametrize("slow", [(-1,), (0,), (0, 1)])
def test_gradients_of_multiple_time_steps(slow):
    terms = [Counted(stiffness=float(k), asked=[]) for k in (3, 2, 1)]
    scheme = integrators.MultipleTimeSteps(step_size=0.4, substeps=4, slow=slow)
    total = terms[0] + terms[1] + terms[2]
    state = scheme.init(total, jnp.ones(2), engine.Noise((jnp.zeros(2),)))
    for term in terms:
        term.asked.clear()
    jax.eval_shape(lambda s: scheme.step(total, s, engine.Noise((jnp.zeros(2),) * 4)), state)
    expensive = {i % 3 for i in slow}
    assert [len(term.asked) for term in terms] == [scheme.gradients if i in expensive else scheme.fast_gradients
                                                   for i in range(3)]  # fmt: skip
    assert (scheme.gradients, scheme.fast_gradients) == (1, 4)


FAST, SLOW = np.diag([9.0, 4.0, 1.0]), STIFFNESS


def split_matrix(scheme, fast, slow):
    """The step on (x, p) under the sum of two quadratic energies; gradients that the state keeps are K x."""
    step = linear_map(scheme, Quadratic(matrix=fast) + Quadratic(matrix=slow), np.zeros(3)).drift
    kept = (
        np.concatenate([fast, slow]) if len(step) == 12 else np.zeros((0, 3))
    )  # in the order of their letters, B and S
    return step[:6, :6] + step[:6, 6:] @ np.concatenate([kept, 0 * kept], axis=1)


def test_multiple_time_steps_between_kicks():
    """With nothing slow it is the word n times at h/n; with all slow, and one substep, the word itself; else both."""
    h, n, zero = 0.3, 3, np.zeros((3, 3))
    numbers = dict(friction=0.8, mass=1.7)
    scheme = integrators.MultipleTimeSteps(step_size=h, substeps=n, **numbers)
    word = phase_matrix(integrators.BAOAB(step_size=h / n, **numbers), FAST)
    near(split_matrix(scheme, FAST, zero), np.linalg.matrix_power(word, n))
    near(split_matrix(integrators.MultipleTimeSteps(step_size=h, substeps=1, **numbers), zero, SLOW),
         phase_matrix(integrators.BAOAB(step_size=h, **numbers), SLOW))  # fmt: skip
    kick = np.block([[np.eye(3), zero], [-h / 2 * SLOW, np.eye(3)]])
    near(split_matrix(scheme, FAST, SLOW), kick @ np.linalg.matrix_power(word, n) @ kick)


def test_multiple_time_steps_of_a_posterior():
    """A posterior's parts are its prior and its likelihood, also in minibatches and when scaled; the last is slow."""
    posterior = potentials.Posterior(
        lambda x, row: -((row - jnp.sum(x)) ** 2), lambda x: -2.0 * jnp.sum(x**2), data=np.arange(6.0, dtype=np.float32),
        batch_size=2,
    )  # fmt: skip
    x = jnp.array([0.3, -0.8])
    draws = (engine.Draw(jnp.array([5, 7], jnp.uint32), jnp.int32(0)),)
    for factor, whole in ((1.0, posterior), (0.5, 0.5 * posterior.at(draws))):
        terms = jax.jit(lambda x, whole=whole: [term.value_and_gradient(x) for term in (*whole.parts(), whole)])
        (prior, of_prior), (likelihood, of_likelihood), (total, gradient) = terms(x)
        assert float(prior) == pytest.approx(factor * 2 * float(jnp.sum(x**2)), rel=1e-6)
        assert float(prior + likelihood) == pytest.approx(float(total), rel=1e-6)
        np.testing.assert_allclose(np.asarray(of_prior) + np.asarray(of_likelihood), gradient, rtol=1e-6)
    scheme = integrators.MultipleTimeSteps(step_size=0.05, substeps=2)
    run = engine.simulate(posterior, scheme, jnp.zeros((4, 2)), steps=20, key=1, observables={}, progress=False)
    assert np.isfinite(np.asarray(run.positions)).all() and np.ptp(np.asarray(run.positions)) > 0


def test_redrawn_momenta():
    """√(TM) ξ for every particle, from the key alone; positions, kept gradients and later noise are untouched."""
    mass = np.array([[2.0, 0.5], [0.5, 1.0]], np.float32)
    bath = integrators.BAOAB(step_size=0.1, mass=mass, temperature=engine.sweep([0.5, 2.0]))
    start = engine.scatter(jnp.zeros(2), 4_000, key=1)
    run = engine.simulate(potentials.Harmonic(), bath, start, steps=3, key=2, observables={}, progress=False)
    new, again, other = (engine.redraw_momenta(run, key=key) for key in (7, 7, 8))
    np.testing.assert_array_equal(new.momenta, again.momenta)
    assert np.all(np.asarray(new.momenta) != np.asarray(other.momenta))
    np.testing.assert_array_equal(new.positions, run.positions)
    np.testing.assert_array_equal(new.state.gradient, run.state.gradient)
    assert new.step == run.step
    for momenta, temperature in zip(np.asarray(new.momenta, float), (0.5, 2.0), strict=True):
        found = momenta.T @ momenta / len(momenta)
        error = temperature * np.sqrt((np.outer(np.diag(mass), np.diag(mass)) + mass**2) / len(momenta))
        assert np.all(np.abs(found - temperature * mass) < 4.9 * error)  # p = 1e-6
        assert not np.all(np.abs(found - 1.3 * temperature * mass) < 4.9 * error)
    assert np.abs(np.corrcoef(np.ravel(new.momenta[0]), np.ravel(new.momenta[1]))[0, 1]) < 4.9 / np.sqrt(8_000)
    # the first momenta of a run with that key are others
    first = engine.simulate(potentials.Harmonic(), bath, start, steps=0, key=7, observables={}, progress=False)
    assert np.all(np.asarray(first.momenta) != np.asarray(new.momenta))


def test_redrawn_momenta_of_a_scheme_with_a_memory_stay_thermal():
    """Grønbech-Jensen's momentum and the normal that it has felt and will feel again are drawn together: else the next
    step is colder by c₂(1 - c₂), here 22 %. Free particles; p = 1e-6."""
    bath = integrators.GronbechJensen(step_size=0.2, friction=5.0, temperature=1.3)
    run = engine.simulate(
        lambda x: 0 * jnp.sum(x), bath, jnp.zeros((20_000, 1)), steps=3, observables={}, progress=False
    )
    run = engine.simulate(engine.redraw_momenta(run, key=7), steps=1, progress=False)
    p = np.asarray(run.momenta, float)
    assert np.mean(p**2) == pytest.approx(1.3, abs=4.9 * 1.3 * np.sqrt(2 / p.size))


def test_momenta_of_a_tree():
    """A mass for each leaf; alone or among others a particle gets the same momenta."""
    position = {"a": jnp.zeros((50, 2)), "b": jnp.zeros((50, 3))}
    bath = integrators.BAOA(step_size=0.1, mass={"a": 4.0, "b": np.array([1.0, 9.0, 16.0], np.float32)})
    energy = lambda x: jnp.sum(x["a"] ** 2) + jnp.sum(x["b"] ** 2)  # noqa: E731
    begin = lambda x, b: engine.simulate(energy, b, x, steps=0, observables={}, progress=False)  # noqa: E731
    all_of_them = engine.redraw_momenta(begin(position, bath), key=3).momenta
    few = engine.redraw_momenta(begin(jax.tree.map(lambda a: a[:5], position), bath), key=3).momenta
    unit = engine.redraw_momenta(begin(position, integrators.BAOA(step_size=0.1)), key=3).momenta
    np.testing.assert_array_equal(few["b"], all_of_them["b"][:5])
    np.testing.assert_allclose(all_of_them["a"], 2 * np.asarray(unit["a"]), rtol=1e-6)
    np.testing.assert_allclose(all_of_them["b"], np.array([1, 3, 4]) * np.asarray(unit["b"]), rtol=1e-6)


def test_momenta_that_are_not_there():
    run = engine.simulate(potentials.Harmonic(), integrators.EulerMaruyama(step_size=0.1), jnp.zeros((3, 1)), steps=0)
    with pytest.raises(ValueError, match="EulerMaruyama has no momenta to redraw"):
        engine.redraw_momenta(run, key=1)


RING = potentials.Cosine(amplitude=2.0)


def on_ring(potential, integrator, state):
    x, p = state.position[0], integrator.momentum(state)[0]
    return jnp.stack([jnp.cos(x), p * p])


def of_gj(potential, integrator, state):
    """With the on-site momentum of Grønbech-Jensen and Farago, from the half-step one and the normal that is kept."""
    x, (p,), (xi,) = state.position, state.momentum, state.normal
    u = integrator.friction * integrator.step_size
    late = (2 - u) / (2 + u) * jnp.sqrt(1 + u / 2) * p + jnp.sqrt(u / 2) * xi
    return jnp.stack([jnp.cos(x[0]), (late - integrator.step_size / 2 * potential.gradient(x)[0]) ** 2])


TABLE = {  # analytic.md F.3: V = 2, m = γ = T = 1: h, and the bias of <cos> and <p²>
    "GJ": (integrators.GronbechJensen, of_gj, 0.4, (-1.0526e-4, -5.5893e-2)),
    "SymplecticEuler": (integrators.SymplecticEuler, on_ring, 0.4, (-2.7060e-2, 0.34238)),
    "EM": (integrators.UnderdampedEulerMaruyama, on_ring, 0.2, (-0.13274, 0.45896)),
    "OBA": (lambda **k: Splitting(scheme="OBA", **k), on_ring, 0.4, (3.2914e-2, 7.6605e-2)),
}


def ring_bias(scheme, functions=on_ring):
    found = stationary_averages(scheme, RING, functions, mean=0.0, deviation=1.0, accuracy=1e-9, accept=1e-5)
    return found.values - np.array([0.697774657964008, 1.0])


@pytest.mark.parametrize("name", TABLE)
def test_table_of_the_ring(name):
    make, functions, h, expected = TABLE[name]
    for found, printed in zip(ring_bias(make(step_size=h), functions), expected, strict=True):
        digit = 10.0 ** (math.floor(math.log10(abs(printed))) - 4)
        assert found == pytest.approx(printed, abs=0.6 * digit + 1e-9)


def test_the_fourth_order_window():
    """At γ = 5 BAOAB's positions gain more than 2² from h = 0.4 to 0.2, and lose the gain once γh is small."""
    bias = [ring_bias(integrators.BAOAB(step_size=h, friction=5.0))[0] for h in (0.4, 0.2, 0.1)]
    np.testing.assert_allclose(bias, [1.302e-5, 2.066e-6, 4.36e-7], atol=6e-9, rtol=0)
    slopes = [math.log2(a / b) for a, b in itertools.pairwise(bias)]
    assert slopes[0] > 2.5 and slopes[1] < slopes[0]


@pytest.mark.parametrize("make", [integrators.BBK, integrators.SivakChoderaCrooks])
def test_memories_by_transfer_matrix(make):
    """Two normals at the start: against the Lyapunov law on a quadratic energy."""
    stiffness, temperature = 1.7, 0.6
    well, scheme = potentials.Harmonic(stiffness=stiffness), make(step_size=0.5, friction=0.8, temperature=temperature)
    moments = lambda potential, integrator, state: jnp.stack(  # noqa: E731
        [state.position[0] ** 2, state.position[0] * state.momentum[0], state.momentum[0] ** 2]
    )
    found = stationary_averages(scheme, well, moments, mean=0.0, deviation=math.sqrt(temperature / stiffness),
                                accuracy=1e-9).values  # fmt: skip
    xx, pp, xp = phase_law(scheme, np.array([[stiffness]]))
    np.testing.assert_allclose(found, [xx[0, 0], xp[0, 0], pp[0, 0]], atol=1e-8)


@engine.pytree
class Two(integrators.GronbechJensen):
    """A scheme that reads its momentum and its stored normal each in a way of its own."""

    def step(self, potential, state, noise):
        new = super().step(potential, state, noise)
        return new._replace(position=new.position + 0.1 * state.normal)


def test_a_scheme_that_reads_two_gaussians_has_no_transfer_matrix():
    with pytest.raises(NoTransfer, match="reads more than the position and one Gaussian"):
        ring_bias(Two(step_size=0.1))


@pytest.mark.parametrize("options, says", [
    (dict(fractions=(0.5, 0.5, 1.0, 0.5, 0.4)), r"must sum to 1; those of B are \[0.5, 0.4\], sum 0.9"),
    (dict(fractions=(0.5, 0.5)), "one for each of the 5 letters of BAOAB; got 2"),
    (dict(fractions=1.0), "one for each of the 5 letters of BAOAB; got 1"),
    (dict(fractions=(float("nan"), 0.5, 1, 0.5, 0.5)), "must sum to 1; those of B"),
    (dict(scheme="OBAOB", fractions=(1.5, 0.5, 1, -0.5, 0.5)), r"run backwards: fractions of O .*got \[1.5, -0.5\]"),
    (dict(scheme="UBUA"), "with U for A and O.*got 'UBUA'"),
    (dict(scheme="OBU"), "got 'OBU'"),
    (dict(scheme="UU"), "got 'UU'"),
    (dict(scheme="SAS"), "got 'SAS'"),
])  # fmt: skip
def test_words_that_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        Splitting(step_size=0.1, **options)


@pytest.mark.parametrize("substeps", [0, -1, 2.0, True])
def test_substeps_that_are_refused(substeps):
    with pytest.raises(ValueError, match=f"substeps must be a positive whole number; got {substeps}"):
        integrators.MultipleTimeSteps(step_size=0.1, substeps=substeps)


def test_slow_terms_that_are_not_there():
    scheme = integrators.MultipleTimeSteps(step_size=0.1, substeps=2, slow=(2,))
    with pytest.raises(ValueError, match=r"slow must number terms of the potential, which has 2; got \(2,\)"):
        engine.simulate(potentials.Harmonic() + potentials.Quartic(), scheme, jnp.zeros((3, 1)), steps=1)


@pytest.mark.parametrize("variant", ["III", None, 0.5])
def test_variants_that_are_refused(variant):
    with pytest.raises(ValueError, match=r"variant must be one of \('I', 'II'\)"):
        integrators.GronbechJensen(step_size=0.1, variant=variant)


@pytest.mark.parametrize("mass", [{"a": 1.0}, {"a": 1.0, "c": 1.0}, {"a": np.ones(2), "b": np.ones(2)}, [1.0, 1.0]])
@pytest.mark.parametrize("make", [integrators.BAOAB, integrators.BBK, integrators.QUICSORT])
def test_a_mass_that_does_not_fit_the_tree(make, mass):
    positions = {"a": jnp.zeros((4, 2)), "b": jnp.zeros((4, 3))}
    with pytest.raises(
        ValueError, match=r"mass must be .*got PyTreeDef\(.*for a position PyTreeDef\({'a': \*, 'b': \*}\)"
    ):
        engine.simulate(lambda x: jnp.sum(x["a"]) ** 2, make(step_size=0.1, mass=mass), positions, steps=1)
