"""`engine.benchmark` against exact answers: orders, work and ranks; what it saves, prints, draws and refuses."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from heatbath import engine, integrators, potentials
from heatbath.engine.fits import error_after, order_of, work
from heatbath.engine.reach import largest_step
from heatbath.engine.target import problem

SMALL = {"particles": 64, "gradients": 400, "progress": False}
EULER, BAOAB = integrators.EulerMaruyama, integrators.BAOAB
SPRING = potentials.Harmonic(stiffness=jnp.array([1.0, 4.0]), center=0.5)


@pytest.fixture(scope="module")
def found():
    """Three schemes where everything is known, one where nothing but the equilibrium is."""
    known = engine.benchmark([BAOAB, EULER, integrators.OBABO], {"spring": SPRING}, **SMALL)
    return known + engine.benchmark([EULER], {"ring": potentials.Ring(barrier=2.0)}, **SMALL)


def test_biases_are_the_closed_forms(found):
    """analytic.md A.2, A.3: <U> = T/2 Σ 1/(1 - hkᵢ/2) for Euler and Maruyama, 1/(1 - h²kᵢ/4) for OBABO, exact for BAOAB."""
    k = np.array([1.0, 4.0])
    for name, ratio in (("EulerMaruyama", lambda h: 1 / (1 - h * k / 2)), ("OBABO", lambda h: 1 / (1 - h**2 * k / 4)),
                        ("BAOAB", lambda h: np.ones(2))):  # fmt: skip
        rows = found.of("spring", name)
        exact = [np.sum(ratio(h) - 1) / 2 for h in rows["step_size"]]
        np.testing.assert_allclose(rows["predicted"], exact, rtol=1e-6, atol=1e-9)
        assert set(rows["law"]) == {"exact discrete law"}
    assert found.verdict.passed, found.verdict  # what was measured is what the laws say
    assert len(found.verdict.lines) == 3 * 3 * 6  # energy, position, square


def test_orders_are_the_declared_ones(found):
    for name, order in (("EulerMaruyama", 1), ("OBABO", 2)):
        fit = found.order("spring", name)
        assert abs(fit.value - order) < 0.15, fit
        assert found.of("spring", name)["declared_order"][0] == order
    assert np.isnan(found.order("spring", "BAOAB").value)  # no bias, no order


def test_largest_steps_on_a_quadratic_are_the_limits(found):
    """μhk < 2 and hω < 2, with k = 4."""
    for name, limit in (("EulerMaruyama", 0.5), ("BAOAB", 1.0), ("OBABO", 1.0)):
        rows = found.of("spring", name)
        assert set(rows["reach"]) == {"exact"}
        np.testing.assert_allclose(rows["largest_step"], limit, rtol=1e-6)
        np.testing.assert_allclose(np.sort(rows["step_size"] / limit), [0.08, 0.125, 0.2, 0.32, 0.5, 0.8], rtol=1e-6)
    searched = found.of("ring", "EulerMaruyama")
    assert set(searched["reach"]) == {"searched"}
    assert 0.2 < searched["largest_step"][0] * 16 < 2.5  # curvature across is 8 × barrier


def test_efficiency_is_the_closed_form(found):
    """Euler and Maruyama's energy forgets by (1 - z)² a step: e = (1 - ρ)/(1 + ρ), weighted by each mode's variance."""
    for row in found.of("spring", "EulerMaruyama")[2:5]:
        z = row["step_size"] * np.array([1.0, 4.0])
        rho, variance = (1 - z) ** 2, 1 / (1 - z / 2) ** 2 / 2
        exact = 1.0 / np.sum(variance * (1 + rho) / (1 - rho))  # V = 2 · T²/2 over the variance of a long mean
        # the error is of 64 groups: √(2/63) of its square
        assert abs(row["samples_per_gradient"] / exact - 1) < 5 * np.sqrt(2 / 63), (row, exact)


def test_it_ranks_by_work(found):
    """The exact scheme first, the first order last; better precision widens the gap."""
    ranks = found.ranking()
    assert [str(r["integrator"]) for r in ranks[ranks["potential"] == "spring"]] == ["BAOAB", "OBABO", "EulerMaruyama"]
    assert ranks["rank"].tolist() == [1, 2, 3, 1]
    ratio = [np.min(found.gradients_for("spring", "EulerMaruyama", precision=p))
             / np.min(found.gradients_for("spring", "BAOAB", precision=p)) for p in (0.3, 0.1)]  # fmt: skip
    assert ratio[1] > ratio[0] > 1
    by_time = found.ranking(by="seconds")
    assert np.all(np.isfinite(by_time["seconds"][by_time["rank"] == 1]))
    assert np.all(found.samples_per_second()[found.rows["potential"] == "spring"] > 0)
    text = repr(found)
    assert text.count("gradients and time for the mean energy") == 2 and "* exact, not measured" in text


def test_a_scheme_at_the_wrong_temperature_is_last_and_seen(found):
    @engine.pytree
    class Hot(EULER):
        """Noise of 1.3 T."""

        def step(self, potential, state, noise):
            return super().step(potential, state, engine.Noise((noise.normals[0] * np.sqrt(1.3),)))

    hot = engine.benchmark([Hot], {"spring": SPRING}, step_sizes=[0.04, 0.02], **SMALL)
    last = (found + hot).ranking()[3]
    assert last["potential"] == "spring" and last["rank"] == 4 and last["integrator"] == "Hot"
    assert not np.isfinite(last["gradients"]) and abs(last["bias"] - 0.3) < 0.1
    measured = hot.of("spring", "Hot")
    assert np.all(measured["bias"] > 5 * measured["bias_error"])


def test_a_target_of_ones_own_and_a_run_that_is_lost():
    """An energy that knows nothing of itself; at h = 3 nothing stays finite."""
    target = engine.Target(
        lambda x: jnp.sum(x**2) / 2, exact={"energy": (0.5, 0.001), "cos": np.exp(-0.5)}, name="plain",
        observables={"cos": lambda x: jnp.cos(x[0])}, start=np.random.default_rng(0).normal(size=(64, 1)).astype(np.float32),
    )  # fmt: skip
    made = engine.benchmark({"EM": EULER(step_size=1.0, temperature=9.0)}, [target], step_sizes=[3.0, 0.2], **SMALL)
    assert made.potentials == ["plain"] and made.integrators == ["EM"] and len(made.rows) == 4
    lost, kept = made.rows[made.rows["step_size"] == 3], made.rows[made.rows["step_size"] == 0.2]
    assert np.isnan(lost["bias"]).all() and np.isfinite(kept["bias"]).all()
    energy = kept[kept["observable"] == "energy"][0]
    assert abs(energy["bias"] - 0.5 * (1 / 0.9 - 1)) < 5 * energy["bias_error"]  # at T = 1, not at 9
    assert not kept["law"][0] and np.isnan(kept["divergence"]).all()
    assert np.isfinite(made.ranking("cos")["gradients"]).all()


def test_rows_come_back_from_files(found, tmp_path):
    for name in ("rows.csv", "rows.json"):
        found.save(tmp_path / name)
        again = engine.Benchmark.load(tmp_path / name)
        assert again.rows.dtype == found.rows.dtype
        for field in found.rows.dtype.names:
            np.testing.assert_array_equal(again.rows[field], found.rows[field])
        assert repr(again) == repr(found)
    twice = found + again
    assert len(twice.rows) == 2 * len(found.rows)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="no benchmark of this version"):
        engine.Benchmark.load(tmp_path / "other.csv")
    for call in (found.save, engine.Benchmark.load):
        with pytest.raises(ValueError, match=r"\.csv or \.json"):
            call(tmp_path / "rows.npz")


def test_the_picture_opens(found, tmp_path):
    from PIL import Image

    figure = found.plot(tmp_path / "all.png")
    assert len(figure.axes) == 8
    with Image.open(tmp_path / "all.png") as image:
        assert image.size[0] > 1_000
    legends = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    assert len(legends) == 2, "one of each potential"
    labels = [text.get_text() for text in legends[0].get_texts()]
    assert "EulerMaruyama, order 1.0" in labels or "EulerMaruyama, order 1.1" in labels
    assert len(found.plot(potential="ring", only=["EulerMaruyama"]).axes[0].lines) == 1
    names = found.integrators[::-1]  # a legend in the order that is asked for, and of what is exact it says so
    listed = [text.get_text() for text in found.plot(only=names).axes[3].get_legend().get_texts()]
    assert [label.split(",")[0] for label in listed] == names and "BAOAB, no bias" in listed
    with pytest.raises(ValueError, match="no rows of nowhere"):
        found.plot(potential="nowhere")
    with pytest.raises(ValueError, match="only names none"):
        found.plot(only=["nobody"])


def test_one_noise_for_all_that_take_the_same():
    """A scheme under two names: not one bit of its averages differs; nor from one call to the next."""
    pair = [engine.benchmark(names, [SPRING], step_sizes=[0.05], **SMALL).rows
            for names in ({"a": EULER, "b": EULER}, {"b": EULER(step_size=9.0)})]  # fmt: skip
    a, b = (pair[0][pair[0]["integrator"] == name]["bias"] for name in "ab")
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(pair[1]["bias"], b)


def test_orders_of_known_slopes():
    h = np.array([0.4, 0.2, 0.1, 0.05])
    assert order_of(h, 3 * h**2, np.zeros(4)).value == pytest.approx(2, abs=1e-9)
    assert order_of(h, 3 * h**2, np.zeros(4)).prefactor == pytest.approx(3)
    noisy = [order_of(h, 3 * h**2 * (1 + 0.05 * e), 0.15 * h**2)
             for e in np.random.default_rng(1).normal(size=(200, 4))]  # fmt: skip
    z = [(fit.value - 2) / fit.error for fit in noisy]
    assert abs(np.mean(z)) < 5 / np.sqrt(200) and 0.5 < np.std(z) < 1.2  # errors are errors
    assert np.isnan(order_of(h, np.zeros(4), np.zeros(4)).value)
    assert np.isnan(order_of(h, 3 * h**2, np.ones(4)).value)  # nothing is resolved
    assert np.isnan(order_of(h, np.array([1.0, 1, 1, -1]), np.zeros(4)).value)


def test_work_inverts_the_error():
    """G gradients give √(b² + V/(eG)); a bias above the error is never averaged away."""
    bias, variance, efficiency = np.array([0.0, 0.1, 0.5]), np.full(3, 2.0), np.array([0.01, 0.1, 0.5])
    needed = work(bias, variance, efficiency, 0.3)
    assert np.isinf(needed[2])
    for i in range(2):
        got = error_after(needed[i : i + 1], bias[i : i + 1], variance[i : i + 1], efficiency[i : i + 1])
        assert got[0] == pytest.approx(0.3)
    assert error_after(np.array([1e9]), bias, variance, efficiency)[0] == pytest.approx(np.sqrt(2 / 1e7))
    assert error_after(np.array([1.0]), bias, variance, efficiency)[0] == pytest.approx(
        np.sqrt(2)
    )  # one sample at least


def test_work_is_the_error_of_a_particle(found):
    """√(b² + V/(eG)) against the root mean square error of every particle's own mean, bias and all."""
    row = found.of("spring", "EulerMaruyama")[[-1]]
    energy = engine.observables.Series(engine.observables.potential_energy, every=1, burn_in=80)
    bath, start = EULER(step_size=float(row["step_size"][0])), SPRING.equilibrium(1.0).sample(3, 512)
    run = engine.simulate(SPRING, bath, start, steps=400, key=7, observables=energy, progress=False)
    direct = np.sqrt(np.mean((np.asarray(run.observables.values, float).mean(0) - 1.0) ** 2))
    model = error_after(row["work"], row["predicted"], row["variance"], row["samples_per_gradient"])[0]
    assert direct == pytest.approx(model, rel=0.1)


def test_nothing_bears_nothing():
    up = problem(engine.Target(lambda x: -jnp.sum(x**4), exact={"energy": 0.0}, start=jnp.ones((64, 1))),
                 temperature=1.0, particles=64, key=0)  # fmt: skip
    assert largest_step(lambda h: EULER(step_size=h), up, 0)[0] < 1e-3


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"integrators": []}, ValueError, "at least one"),
        ({"integrators": EULER}, TypeError, "must be a list"),
        ({"integrators": [EULER, EULER]}, ValueError, "same name"),
        ({"integrators": [3]}, TypeError, "take step_size and temperature"),
        ({"integrators": [lambda h: h]}, TypeError, "must take step_size and temperature by name"),
        ({"integrators": [EULER(step_size=engine.sweep([1.0]))]}, ValueError, "plain numbers; step_size"),
        ({"potentials": SPRING}, TypeError, "must be a list"),
        ({"potentials": [lambda x: jnp.sum(x**2)]}, ValueError, "give positions"),
        (
            {"potentials": [engine.Target(lambda x: jnp.sum(x**2), start=jnp.ones((64, 1)))]},
            ValueError,
            "no exact average of",
        ),
        ({"step_sizes": []}, ValueError, "step_sizes must be positive"),
        ({"step_sizes": [0.1, -0.1]}, ValueError, "step_sizes must be positive"),
        ({"particles": 10}, ValueError, "particles must be a whole number, at least 64"),
        ({"gradients": 0.5}, ValueError, "gradients must be"),
        ({"precision": 0}, ValueError, "precision must be positive"),
        ({"temperature": 0.0}, ValueError, "temperature must be one positive number"),
        ({"key": -1}, ValueError, "key must be in"),
    ],
)
def test_bad_input(change, error, words):
    asked = {"integrators": [EULER], "potentials": [SPRING], **SMALL} | change
    with pytest.raises(error, match=words):
        engine.benchmark(asked.pop("integrators"), asked.pop("potentials"), **asked)


def test_an_optimiser_is_not_ranked():
    import optax

    with pytest.raises(ValueError, match="no step size"):
        engine.benchmark([integrators.Descent(optax.sgd(0.1))], [SPRING])


def test_unknown_names_are_refused(found):
    with pytest.raises(KeyError, match="no rows of 'nobody'"):
        found.of("spring", "nobody")
    with pytest.raises(ValueError, match="by must be"):
        found.ranking(by="beauty")
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.precision = 0.2
