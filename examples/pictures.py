"""The demo's pictures."""

import pathlib
from typing import Any

import matplotlib

matplotlib.use("Agg")

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

INK, BLUE, RED, GREEN, GOLD = "#222222", "#2b6cb0", "#c0392b", "#2e8b57", "#d69e2e"
plt.rcParams.update({
    "figure.dpi": 130, "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": INK,
    "axes.titlesize": 10, "axes.titleweight": "bold", "legend.frameon": False, "figure.constrained_layout.use": True,
})  # fmt: skip


def relaxation(path: pathlib.Path, run: Any, early: Any, snapshots: dict, state: Any, step_size: float) -> None:
    """The histogram over the exact density; the energy and the thermometers as time goes."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.8), width_ratios=(1.3, 1, 1))
    density = run.observables["histogram"]
    x = np.linspace(density.edges[0], density.edges[-1], 600)
    exact = np.exp(np.asarray([state.log_density(jnp.asarray([float(at)])) for at in x]))
    centers, measured, error = density.centers, density.density[0], density.error[0]
    left.plot(x, exact, color=INK, lw=1.2, label="exact", zorder=3)
    left.errorbar(centers, measured, error, fmt="o", ms=2.5, color=BLUE, lw=0.8, label="measured, ± 1 s.e.", zorder=4)
    for (step, positions), color in zip(snapshots.items(), (GREEN, GOLD, RED), strict=False):
        label = f"t = {step * step_size:g}" + (" (released)" if step == 0 else "")
        how = {"bins": 90, "range": (-2.2, 2.2), "density": True, "color": color}
        left.hist(positions, histtype="stepfilled", alpha=0.18, **how)
        left.hist(positions, histtype="step", lw=0.9, label=label, **how)
    left.set(xlim=(-2.2, 2.2), ylim=(0, 1.25), xlabel="x", ylabel="density", title="20,000 particles find their law")
    left.legend(loc="upper center", fontsize=7.5)

    time = early["energy"].steps * step_size
    energy = early["energy"]
    middle.fill_between(
        time, energy.mean - 2 * energy.error, energy.mean + 2 * energy.error, color=BLUE, alpha=0.25, lw=0
    )
    middle.plot(time, energy.mean, color=BLUE, lw=1.2, label="measured, ± 2 s.e.")
    middle.axhline(state.mean_energy, color=INK, lw=1, ls="--", label="exact at equilibrium")
    middle.set(xscale="log", xlabel="time", ylabel="⟨U⟩", title="energy")
    middle.legend(fontsize=7.5)

    for name, color in (("kinetic", GREEN), ("virial", GOLD), ("configurational", RED)):
        right.plot(time, early[name].mean, color=color, lw=1.2, label=name)
    right.axhline(state.temperature, color=INK, lw=1, ls="--", label="bath")
    right.set(xscale="log", xlabel="time", ylabel="temperature", title="three thermometers")
    right.legend(fontsize=7.5)
    figure.savefig(path)
    plt.close(figure)


def integrated_entropy(temperatures: np.ndarray, energy: Any, state_at_top: Any) -> tuple[np.ndarray, np.ndarray]:
    """Entropy and its error down a ladder from the exact one at its top, by thermodynamic integration in β = 1/T.

    d(ln Z)/dβ = -⟨U⟩; the trapezoid rule corrected by the slopes dU/dβ = -Var U at both ends is of fourth order.
    """
    beta, u, variance = 1 / temperatures, energy.mean, energy.variance
    width = np.diff(beta)
    rise = -width * (u[1:] + u[:-1]) / 2 + width**2 / 12 * (variance[:-1] - variance[1:])
    log_z = state_at_top.log_partition - (np.cumsum(rise[::-1])[::-1])
    log_z = np.append(log_z, state_at_top.log_partition)
    spread = np.append(
        (np.cumsum(((width / 2) ** 2 * (energy.error[1:] ** 2 + energy.error[:-1] ** 2))[::-1]))[::-1], 0
    )
    return log_z + beta * u, np.sqrt(spread + (beta * energy.error) ** 2)


def ladder(path: pathlib.Path, run: Any, temperatures: np.ndarray, well: Any) -> None:
    """Energy, entropy and heat capacity of the rungs over the exact curves."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6))
    fine = np.geomspace(temperatures[0] * 0.9, temperatures[-1] * 1.1, 60)
    curves = [well.equilibrium(t) for t in fine]
    energy = run.results(run.second_half())["potential_energy"]
    entropy, entropy_error = integrated_entropy(temperatures, energy, well.equilibrium(temperatures[-1]))
    panels = (
        ("mean_energy", "energy ⟨U⟩", energy.mean, energy.error, BLUE),
        ("entropy", "entropy S (from ⟨U⟩ down the ladder)", entropy, entropy_error, GREEN),
        ("heat_capacity", "heat capacity Var U/T²", energy.variance / temperatures**2,
         energy.variance_error / temperatures**2, RED),
    )  # fmt: skip
    for axis, (name, title, value, error, color) in zip(axes, panels, strict=True):
        axis.plot(fine, [getattr(state, name) for state in curves], color=INK, lw=1.2, label="exact")
        axis.errorbar(temperatures, value, 2 * error, fmt="o", ms=4, color=color, label="measured, ± 2 s.e.")
        axis.set(xscale="log", xlabel="temperature", title=title)
        axis.set_xticks([0.25, 0.5, 1, 2, 4], labels=["0.25", "0.5", "1", "2", "4"])
        axis.minorticks_off()
        axis.legend(fontsize=7.5)
    figure.savefig(path)
    plt.close(figure)


def classifier(path: pathlib.Path, run: Any, reference: dict, scores: dict, data: Any) -> None:
    """Weights against the reference run; calibration of the point and of the ensemble; who is sure of what."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.8), width_ratios=(1.2, 1, 1))
    weights = run.observables["weights"]
    order, deviation = np.argsort(reference["mean"]), np.sqrt(reference["variance"])
    rows = np.arange(len(order))
    left.errorbar(
        rows - 0.18, reference["mean"][order], deviation[order], fmt="_", color=INK, lw=1, label="NUTS, ± 1 sd"
    )
    left.errorbar(rows + 0.18, weights.mean[order], np.sqrt(weights.variance[order]), fmt="o", ms=3, color=BLUE, lw=1,
                  label="256 Langevin particles, ± 1 sd")  # fmt: skip
    left.set(xlabel="weight, sorted", ylabel="posterior", title="posterior of 31 weights")
    left.legend(fontsize=7.5, loc="upper left")

    edges = np.linspace(0.5, 1, 6)
    middle.plot([0.5, 1], [0.5, 1], color=INK, lw=1, ls="--")
    for (name, (p, score)), color in zip(scores.items(), (RED, BLUE), strict=True):
        confidence, right_answers = np.maximum(p, 1 - p), (p > 0.5) == (data.test[1] > 0.5)
        place = np.clip(np.digitize(confidence, edges) - 1, 0, 4)
        filled = [b for b in range(5) if np.any(place == b)]
        shown = [(confidence[place == b].mean(), right_answers[place == b].mean(), np.sum(place == b)) for b in filled]
        at, accuracy, many = map(np.asarray, zip(*shown, strict=True))
        middle.errorbar(
            at,
            accuracy,
            np.sqrt(np.maximum(accuracy * (1 - accuracy), 0.02) / many),
            fmt="o-",
            color=color,
            lw=1,
            ms=4,
            label=f"{name}\nnll {score['nll']:.3f}, ece {score['calibration error']:.3f}",
        )
    middle.set(
        xlabel="confidence", ylabel="share of right answers", title="calibration on the test part", ylim=(0, 1.05)
    )
    middle.legend(fontsize=7.5, loc="lower right")

    for (name, (p, _)), color in zip(scores.items(), (RED, BLUE), strict=True):
        wrong = (p > 0.5) != (data.test[1] > 0.5)
        confidence = np.sort(np.maximum(p, 1 - p))
        right.plot(np.arange(len(p)) / len(p), confidence, color=color, lw=1.4, label=name)
        marks = np.searchsorted(confidence, np.maximum(p, 1 - p)[wrong])
        right.plot(marks / len(p), np.maximum(p, 1 - p)[wrong], "x", color=color, ms=6, label=f"{wrong.sum()} wrong")
    right.set(xlabel="test examples, sorted", ylabel="confidence", title="how sure, and where wrong", ylim=(0.48, 1.02))
    right.legend(fontsize=7.5, loc="lower right")
    figure.savefig(path)
    plt.close(figure)
