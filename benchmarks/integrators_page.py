"""docs/integrators.md and its pictures from benchmarks/results/integrators/; `make bench-integrators` runs it last."""

import functools
import json
import pathlib
from typing import Any

import numpy as np
import problems

from heatbath import engine

DOCS = pathlib.Path(__file__).parent.parent / "docs"
PICTURES = DOCS / "integrators"
SHOWN = 10  # schemes in a picture
CAP = 100.0  # of a ratio to the best, for those that never get there
PRECISIONS = (0.3, 0.1, 0.05, 0.03)
PEER = ("BlackJAX", "jax-md")
RIVALS = ("BlackJAX SGHMC", "BlackJAX MALA")


def number(value: float, digits: int = 3) -> str:
    if not np.isfinite(value):
        return "–"
    return f"{value:,.0f}" if 1_000 <= abs(value) < 1e7 else f"{value:.{digits}g}"


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def overall(found: engine.Benchmark) -> str:
    """Gradients of every scheme on every energy, sorted by the geometric mean of the ratio to the best."""
    ranks = found.ranking()
    best = {p: np.min(ranks["gradients"][ranks["potential"] == p]) for p in found.potentials}
    needed = {(r["potential"], r["integrator"]): float(r["gradients"]) for r in ranks}
    names = {}
    for name in found.integrators:
        ratios = [
            min(needed[p, name] / best[p], CAP)
            for p in found.potentials
            if (p, name) in needed and np.isfinite(best[p])
        ]
        if len(ratios) == sum(map(np.isfinite, best.values())) or name.startswith(PEER):
            names[name] = float(np.exp(np.mean(np.log(ratios))))
    rows = []
    for name in sorted(names, key=lambda name: names[name]):
        cells = []
        for p in found.potentials:
            value = needed.get((p, name))
            cells.append("" if value is None else f"**{number(value)}**" if value == best[p] else number(value))
        rows.append([name, f"{names[name]:.1f}", *cells])
    return table(["", "times the best", *found.potentials], rows)


def of_one(found: engine.Benchmark, potential: str) -> str:
    ranks = found.ranking()
    rows = []
    for r in ranks[ranks["potential"] == potential]:
        mark = "*" if r["law"] else " ~" if r["short"] else ""
        order = f"{r['order']:.2f} ± {r['order_error']:.2f}" if np.isfinite(r["order"]) else "–"
        rows.append([
            str(r["rank"]), r["integrator"], number(r["gradients"]), number(r["seconds"] * 1e6), number(r["step_size"]),
            number(r["bias"], 2) + mark, order, number(r["samples_per_gradient"]), number(r["divergence"], 2),
            number(r["largest_step"]) + ("*" if r["reach"] == "exact" else ""),
        ])  # fmt: skip
    head = ["", "scheme", "gradients", "µs", "step", "bias/σ", "order", "samples/gradient", "KL", "largest step"]
    return table(head, rows)


def against_peers(found: engine.Benchmark) -> str:
    """Gradients for several errors of the mean energy: the best of ours against BlackJAX."""
    rows = []
    for potential in found.potentials:
        there = [n for n in found.integrators if len(found.rows[(found.rows["potential"] == potential)
                                                                & (found.rows["integrator"] == n)])]  # fmt: skip
        if not all(rival in there for rival in RIVALS):
            continue
        for precision in PRECISIONS:
            least = {n: float(np.min(found.gradients_for(potential, n, precision=precision))) for n in there}
            ours = min((n for n in there if not n.startswith(PEER)), key=lambda n: least[n])
            row = [potential, f"{precision:g} σ", f"{number(least[ours])} ({ours})"]
            for rival in RIVALS:
                ratio = least[rival] / least[ours]
                row.append(f"{number(least[rival])} ({ratio:.1f} ×)" if np.isfinite(ratio) else "never, biased")
            rows.append(row)
    return table(["energy", "error", "best of heatbath", *RIVALS], rows)


def temperatures(rows: list[list[Any]]) -> str:
    lines = [
        [kernel, f"{t:g}", f"{measured:.4g} ± {error:.1g}", f"{bias:+.2g}", "yes" if passed else "**no**"]
        for kernel, t, measured, error, bias, passed in rows
    ]
    return table(["kernel", "T asked", "T sampled (virial)", "of which the step's", "right"], lines)


def pictures(found: engine.Benchmark, name: str, potential: str) -> None:
    """The ten best, by rank, and Euler and Maruyama's and BlackJAX's."""
    ranks = found.ranking()
    here = [str(r["integrator"]) for r in ranks[ranks["potential"] == potential]]
    only = [*here[:SHOWN], *(n for n in ("EulerMaruyama", *RIVALS) if n in here[SHOWN:])]
    found.plot(PICTURES / f"{name}.png", potential=potential, only=only)


PAGE = """# Integrators, ranked

Made by `make bench-integrators` on {date}, {device}; Python {python}, jax {jax}, heatbath {heatbath},
BlackJAX {blackjax}, jax-md {jax_md}.

**Best in the geometric mean over all energies: {best}.** Peers ran on three of them.

## How to read it

A scheme's mean energy after G gradients has the mean square error b² + V/(eG): b is the bias of its step, V the variance of
the energy, e the independent samples a gradient gives. For each scheme and energy six steps are tried, from 0.8 to 0.08 of
the largest step it bears; **gradients** is the least G, over these steps, for a root mean square error of
{precision:g} σ, σ = √V. A dash: none of the steps has a bias that small. Particles start in equilibrium, so the way
there is not counted.

- **µs**: time of as many gradients for one particle among {particles}, nothing observed; two processes ran at a time, so
  only ratios mean anything. **step**: the best of the six. **bias/σ**: there; * from the scheme's exact law (linear
  algebra on quadratic energies, a transfer matrix on separable ones), else measured, ~ where a particle gave fewer than
  five independent samples, too few to tell.
- **order**: slope of the bias against the step, where it is resolved. **samples/gradient**: e, from the
  spread of 64 groups of particles, so known to 18 %, and with it the gradients and the ranks: one kernel in two libraries
  may differ by that, and the best of six steps is on the lucky side. **KL**: divergence of the last snapshot's histograms
  from the exact marginals, corrected for its bias, so it scatters around 0.
- **largest step**: * the exact limit of stability; else searched: all particles stay finite for 100 gradients, the energy
  within 10 σ, and a tenth of the particles move in a step.

All schemes with the same noise get the same noise. Friction is one number for all schemes that take one, stated with each
energy; everything else is the default of the class. Left out:

{left_out}

## Gradients for the mean energy to {precision:g} σ

Bold: the best. "Times the best" is the geometric mean over the energies (peers: over those they ran on), with never counted
as {cap:g}.

{overall}

## Against BlackJAX

Gradients for the same error of the mean energy.

{peers}

`sghmc` (BlackJAX {blackjax}) does not have the temperature it is given: its momentum is redrawn at unit temperature, and the
argument only scales the noise of a friction of 0.01. It drifts before its first kick, so even at T = 1 and vanishing step it
samples at L/(L - 1) times that for L leapfrog steps (10 by default). {wrong}
Held against the quadratic energy, h = 0.05:

{temperatures}

{certificates}

## Energy by energy

{energies}
"""


def write(results: pathlib.Path) -> None:
    """The page, from what is there."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    parts = {
        n: engine.Benchmark.load(results / f"{n}.json") for n in problems.PROBLEMS if (results / f"{n}.json").exists()
    }
    found = functools.reduce(lambda a, b: a + b, parts.values())
    energies = []
    for name, part in parts.items():
        problem = problems.PROBLEMS[name]
        pictures(part, name, problem.title)
        picture = f"![{problem.title}](integrators/{name}.png)"
        words = f"U: {problem.words} Friction {problem.friction:g}."
        energies.append("\n\n".join([f"### {problem.title}", words, of_one(part, problem.title), picture]))
    made = json.loads((results / "machine.json").read_text())  # when and where the figures are from, not the page
    versions = made["versions"]
    checked = results / "temperatures.json"
    rows = json.loads(checked.read_text()) if checked.exists() else []
    judged = results / "certificates.json"
    certificates = json.loads(judged.read_text()) if judged.exists() else []
    wrong = sorted({f"{kernel} at T = {t:g}" for kernel, t, *_, passed in rows if not passed})
    ranked = [line.split("|")[1].strip() for line in overall(found).split("\n")[2:]]
    best = next(name for name in ranked if not name.startswith(PEER))  # peers ran on some energies only
    text = PAGE.format(
        date=made["date"], device=made["device"], python=versions["python"],
        jax=versions["jax"], heatbath=versions["heatbath"], blackjax=versions["blackjax"], jax_md=versions["jax-md"],
        precision=found.precision, particles=256, cap=CAP, best=best, overall=overall(found), peers=against_peers(found),
        left_out="\n".join(f"- {name}: {why}" for name, why in problems.shipped(problems.PROBLEMS["harmonic"])[1].items()),
        wrong=f"Wrong: {'; '.join(wrong)}." if wrong else "", temperatures=temperatures(rows),
        certificates=table(["kernel", "certificate", "lines that failed"], certificates), energies="\n\n".join(energies),
    )  # fmt: skip
    (DOCS / "integrators.md").write_text(text)


if __name__ == "__main__":
    write(pathlib.Path(__file__).parent / "results" / "integrators")
