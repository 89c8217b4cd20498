"""Posteriors: the estimator is unbiased, subsets are what they say, and data are stored once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from registry import FEATURES, TARGETS, log_likelihood, log_prior

from heatbath import engine, integrators, potentials
from heatbath.engine import Draw
from heatbath.potentials.subsets import mulhi, shuffle

KINDS = [
    {"batch_size": 8},
    {"batch_size": 8, "sampling": "replacement"},
    {"batch_size": 8, "sampling": "epoch"},
    {"batch_size": 8, "shared": True},
]


def posterior(**options):
    return potentials.Posterior(log_likelihood, log_prior, data=(FEATURES, TARGETS), **options)


def draws(count: int, phase: int = 0) -> Draw:
    words = np.random.default_rng(5).integers(0, 2**32, (count, 2), np.uint32)
    return Draw(jnp.asarray(words), jnp.full(count, phase, jnp.int32))


def test_energy_is_minus_the_log_of_likelihood_times_prior():
    w = np.array([0.3, -0.2, 1.1])
    x, y = FEATURES.astype(float), TARGETS.astype(float)
    expected = 0.5 * np.sum((y - x @ w) ** 2) + 0.5 * np.sum(w**2)
    assert float(posterior()(jnp.asarray(w, jnp.float32))) == pytest.approx(expected, rel=1e-6)
    tempered = posterior(likelihood_power=0.25)(jnp.asarray(w, jnp.float32))
    assert float(tempered) == pytest.approx(0.125 * np.sum((y - x @ w) ** 2) + 0.5 * np.sum(w**2), rel=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3, 16, 97, 569, 1000, 4097])
def test_shuffle_is_a_permutation(n):
    for seed in range(3):
        order = shuffle(jnp.asarray([seed, 99], jnp.uint32), jnp.arange(n, dtype=jnp.uint32), n)
        assert sorted(np.asarray(order).tolist()) == list(range(n))


@pytest.mark.parametrize("n", [5, 569, 65_536, 70_001, 2**31 + 5, 2**32 - 1])
def test_mulhi_is_exact(n):
    words = np.concatenate([np.random.default_rng(1).integers(0, 2**32, 2_000, np.uint32), np.uint32([0, 2**32 - 1])])
    assert np.array_equal(np.asarray(mulhi(jnp.asarray(words), n)), (words.astype(object) * n) >> 32)


def test_subsets_are_uniform_to_second_order():
    """Inclusion of each example and of each pair: chi-squared at p = 1e-6 over 40,000 subsets of 4 from 9."""
    count, n, b = 40_000, 9, 4
    subset = jax.vmap(lambda words: shuffle(words, jnp.arange(b, dtype=jnp.uint32), n))(draws(count).words)
    present = np.zeros((count, n))
    np.put_along_axis(present, np.asarray(subset), 1.0, axis=1)
    assert np.all(present.sum(1) == b)
    single = present.mean(0)
    assert np.abs(single - b / n).max() < 5.5 * np.sqrt(b / n * (1 - b / n) / count)
    pairs = (present.T @ present / count)[np.triu_indices(n, 1)]
    p = b * (b - 1) / (n * (n - 1))
    assert np.abs(pairs - p).max() < 5.5 * np.sqrt(p * (1 - p) / count)
    # places within a subset are uniform too: the mutant that reuses one key fails
    first = np.bincount(np.asarray(subset)[:, 0], minlength=n) / count
    assert np.abs(first - 1 / n).max() < 5.5 * np.sqrt(1 / n * (1 - 1 / n) / count)
    assert len(np.unique(np.asarray(subset[:, 0]))) == n


@pytest.mark.parametrize("options", KINDS[:3], ids=lambda o: o.get("sampling", "fresh"))
def test_gradient_estimate_is_unbiased_with_the_known_variance(options):
    """Variance of the gradient's estimate: N²s²/n, times (N - n)/(N - 1) without replacement; a factor dropped fails."""
    target, w, count = posterior(**options), jnp.asarray([0.3, -0.2, 1.1]), 20_000
    gradient = jax.jit(jax.vmap(lambda words, phase: target.at((Draw(words, phase),)).gradient(w)))
    found = np.asarray(gradient(*draws(count)), float)
    each = np.asarray(
        jax.vmap(lambda x, y: jax.grad(lambda w: -log_likelihood(w, (x, y)))(w))(FEATURES, TARGETS), float
    )
    total, n, b = len(FEATURES), len(FEATURES), 8
    factor = 1.0 if options.get("sampling") == "replacement" else (n - b) / (n - 1)
    variance = total**2 / b * each.var(0) * factor
    full = np.asarray(posterior().gradient(w), float)
    assert np.all(np.abs(found.mean(0) - full) < 5.5 * np.sqrt(variance / count))
    assert np.all(np.abs(found.var(0) / variance - 1) < 0.08)  # 5.5 √(2/20,000) with a margin for kurtosis
    assert not np.all(np.abs(found.var(0) / (variance * 1.3) - 1) < 0.08)


def test_an_epoch_sees_every_example_once():
    target = posterior(batch_size=8, sampling="epoch")
    words = jnp.asarray([7, 8], jnp.uint32)
    seen = [np.asarray(target.chosen(Draw(words, jnp.int32(phase)))) for phase in range(target.chance[0].period)]
    assert target.chance[0].period == 5
    assert sorted(np.concatenate(seen).tolist()) == list(range(40))


def test_epochs_change_their_order_and_go_on_after_a_restart():
    bath, start = integrators.SGLD(step_size=1e-3), engine.scatter(jnp.zeros(3), 5, key=1)
    target = posterior(batch_size=8, sampling="epoch")
    whole = engine.simulate(target, bath, start, steps=33, key=3, observables=())
    cut = engine.simulate(engine.simulate(target, bath, start, steps=13, key=3, observables=()), steps=20)
    assert np.array_equal(np.asarray(whole.positions), np.asarray(cut.positions))


def test_shared_minibatches_are_the_same_for_all_and_others_are_not():
    """At temperature 0 from one start, particles stay together exactly if they see the same examples."""
    bath, start = integrators.SGLD(step_size=1e-3, temperature=0.0), jnp.zeros((50, 3))
    spread = {}
    for shared in (True, False):
        run = engine.simulate(posterior(batch_size=8, shared=shared), bath, start, steps=20, key=3, observables=())
        spread[shared] = np.ptp(np.asarray(run.positions), axis=0).max()
    assert spread[True] == 0
    assert spread[False] > 1e-3


def test_a_minibatch_of_all_data_is_the_full_batch():
    bath, start = integrators.BAOAB(step_size=0.05), engine.scatter(jnp.zeros(3), 20, key=1)
    full = engine.simulate(posterior(), bath, start, steps=50, key=3, observables=())
    batch = engine.simulate(posterior(batch_size=40), bath, start, steps=50, key=3, observables=())
    assert np.allclose(full.positions, batch.positions, atol=2e-4)


def test_sums_of_posteriors_draw_apart():
    both = posterior(batch_size=8) + posterior(batch_size=4, sampling="epoch")
    assert len(both.chance) == 2
    plain = both.at(tuple(Draw(jnp.asarray([1, 2], jnp.uint32), jnp.int32(0)) for _ in range(2)))
    assert plain.chance == ()
    run = engine.simulate(both, integrators.SGLD(step_size=1e-3), engine.scatter(jnp.zeros(3), 8, key=1), steps=20)
    assert np.all(np.isfinite(np.asarray(run.positions)))


def test_labels_stay_integers():
    labels = np.arange(6) % 3
    target = potentials.Posterior(lambda w, y: jax.nn.log_softmax(w)[y], log_prior, data=labels, batch_size=2)
    run = engine.simulate(target, integrators.SGLD(step_size=0.01), jnp.zeros((4, 3)), steps=10)
    assert run.positions.shape == (4, 3)
