"""How fast a barrier is crossed, from low friction to high: Kramers' turnover, against the exact slowest rate.

    U = barrier (x² - 1)²,    <s(t)> ∝ exp(-λ t),    s = sign of x,    λ = 2k: both wells empty at the rate k

All particles start in the equilibrium of the right-hand well. λ is measured as the slope of log <s> between a quarter and
one and a quarter of 1/λ, when the faster modes are gone; the error is that of particles followed through both times.
With little friction a particle waits for energy (rate ∝ γ), with much it crawls (∝ 1/γ); transition-state theory is
above both. Run by `make examples`; the picture goes to out/kramers.png.
"""

import pathlib
from typing import NamedTuple

import numpy as np
from judging import OUT, judge, report, run

from heatbath import engine, integrators, potentials

BARRIER, TEMPERATURE = 4.0, 1.0
WELL = potentials.DoubleWell(barrier=BARRIER)
BOTTOM, TOP = np.sqrt(8 * BARRIER), np.sqrt(4 * BARRIER)  # frequencies of the wells and, imaginary, of the barrier
ACTION = 8 / 3 * np.sqrt(BARRIER)  # of the orbit in one well that just reaches the barrier
FRICTIONS = np.array([0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 12.0, 24.0])


def transition_state() -> float:
    """λ if every particle that reaches the top goes over and stays."""
    return BOTTOM / np.pi * np.exp(-BARRIER / TEMPERATURE)


ASYMPTOTES = {  # λ as a function of friction
    "low friction": lambda g: transition_state() * g * ACTION / TEMPERATURE,
    "Kramers": lambda g: transition_state() * (np.sqrt(g**2 / 4 + TOP**2) - g / 2) / TOP,
    "high friction": lambda g: transition_state() * TOP / g,
}


def solve(friction: float) -> engine.Kramers:
    """The exact generator; waiting for energy takes more functions."""
    sizes = {"functions": 100, "hermite": 120} if friction < 0.3 else {"functions": 80, "hermite": 80}
    return engine.Kramers(WELL, temperature=TEMPERATURE, friction=float(friction), **sizes)


class Escape(NamedTuple):
    """What was simulated: times (records, rungs), and signs (records, rungs, n)."""

    times: np.ndarray
    signs: np.ndarray

    def rate(self, rung: int, expected: float) -> tuple[float, float]:
        """λ and its error, from the two records nearest to a quarter and five quarters of the expected 1/λ."""
        t, s = self.times[:, rung], self.signs[:, rung]
        first, last = (int(np.argmin(np.abs(t * expected - at))) for at in (0.25, 1.25))
        a, b, width = s[first], s[last], t[last] - t[first]
        influence = a / a.mean() - b / b.mean()  # of each particle on the logarithm of the ratio
        return float(np.log(a.mean() / b.mean()) / width), float(influence.std() / np.sqrt(len(a)) / width)


def escape(frictions: np.ndarray, particles: int, steps: int, records: int = 24) -> Escape:
    """All frictions in one call, each with its own step."""
    # a splitting diffuses too fast by (γh)²/12, and at little friction crosses too rarely: by 2 % at h = 0.04
    step = np.minimum(0.025, 0.3 / frictions)
    bath = integrators.BAOAB(step_size=engine.sweep(step), friction=engine.sweep(frictions), temperature=TEMPERATURE)
    start = np.abs(WELL.equilibrium(TEMPERATURE).sample(1, particles))
    run = engine.simulate(WELL, bath, start, steps=0, key=2, observables=())
    times, signs = [], []
    for _ in range(records):
        run = engine.simulate(run, steps=steps // records)
        times.append(np.asarray(run.time))
        signs.append(np.sign(np.asarray(run.positions, float)[..., 0]))
    return Escape(np.array(times), np.array(signs))


def main(
    particles: int = 20_000, steps: int = 12_000, frictions: np.ndarray = FRICTIONS, out: pathlib.Path | None = OUT
) -> bool:
    """Whether every rate is the exact one. out: where the picture goes, if anywhere."""
    exact = [solve(friction) for friction in frictions]
    run = escape(frictions, particles, steps)
    measured = [run.rate(rung, kramers.gap) for rung, kramers in enumerate(exact)]
    lines = {}
    for friction, kramers, (rate, error) in zip(frictions, exact, measured, strict=True):
        nearest = min(ASYMPTOTES, key=lambda name: abs(np.log(ASYMPTOTES[name](friction) / kramers.gap)))
        note = f"{nearest} formula: {ASYMPTOTES[nearest](friction):.4g}"
        lines[f"λ, γ = {friction:g}"] = judge(rate, kramers.gap, np.hypot(error, kramers.gap_error), note=note)
    title = (
        f"escape over {BARRIER / TEMPERATURE:g} T, {particles:,} particles; transition states: {transition_state():.4g}"
    )
    passed = report(title, lines)
    if out is not None:
        draw(out / "kramers.png", frictions, run, exact, measured)
    return passed


def draw(path: pathlib.Path, frictions: np.ndarray, run: Escape, exact: list, measured: list) -> None:
    """The turnover, and the decays from which the rates are read."""
    from pictures import BLUE, GOLD, GREEN, INK, RED, plt
    from scipy.interpolate import PchipInterpolator

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), width_ratios=(1.35, 1))
    rate, error = np.array(measured).T
    gaps = [kramers.gap for kramers in exact]
    fine = np.geomspace(frictions[0], frictions[-1], 200)
    curve = np.exp(PchipInterpolator(np.log(frictions), np.log(gaps))(np.log(fine)))
    left.plot(fine, curve, color=INK, lw=1.3, label="exact: Kramers' equation")
    left.errorbar(frictions, rate, 2 * error, fmt="o", ms=4, color=BLUE, label="measured, ± 2 s.e.", zorder=4)
    left.axhline(transition_state(), color=GOLD, lw=1, ls="--", label="transition-state theory")
    for (name, formula), color in zip(ASYMPTOTES.items(), (GREEN, RED, RED), strict=True):
        left.plot(fine, formula(fine), color=color, lw=1, ls=":" if name == "high friction" else "--", label=name)
    left.set(xscale="log", yscale="log", xlabel="friction γ", ylabel="relaxation rate λ = 2k", ylim=(3.5e-3, 5e-2),
             title=f"the turnover: a barrier of {BARRIER / TEMPERATURE:g} T")  # fmt: skip
    left.set_xticks([0.1, 0.3, 1, 3, 10], labels=["0.1", "0.3", "1", "3", "10"])
    left.set_yticks([5e-3, 1e-2, 2e-2, 4e-2], labels=["0.005", "0.01", "0.02", "0.04"])
    left.minorticks_off()
    left.legend(fontsize=7.5, loc="lower center")

    for rung, color in zip((0, len(frictions) // 2, len(frictions) - 1), (GREEN, BLUE, RED), strict=True):
        mean = run.signs[:, rung].mean(-1)
        spread = run.signs[:, rung].std(-1) / np.sqrt(run.signs.shape[-1])
        seen = mean > 5 * spread
        label = f"γ = {frictions[rung]:g}, measured"
        right.errorbar(run.times[seen, rung], mean[seen], 2 * spread[seen], fmt="o", ms=3, color=color, label=label)
        t = np.linspace(0, run.times[seen, rung][-1], 50)
        at = int(np.argmin(np.abs(mean - 0.6)))
        right.plot(t, mean[at] * np.exp(-gaps[rung] * (t - run.times[at, rung])), color=color, lw=1)
    right.set(yscale="log", xlabel="time", ylabel="right minus left", ylim=(0.02, 1.1),
              title="the wells even out (lines: exact λ)")  # fmt: skip
    right.set_yticks([0.03, 0.1, 0.3, 1], labels=["0.03", "0.1", "0.3", "1"])
    right.minorticks_off()
    right.legend(fontsize=7.5)
    figure.savefig(path)
    plt.close(figure)


if __name__ == "__main__":
    run(main)
