"""Writes docs/landscapes.md: every landscape that knows its equilibrium, in its own words and in one picture.

The words are those of the docstrings, so that they cannot drift apart; the pictures show the energy, exact densities and
exact thermodynamics. Nothing is simulated. Run by `make landscapes`; about a minute.
"""

import dataclasses
import inspect
import pathlib
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from pictures import BLUE, GOLD, GREEN, INK, RED, plt

from heatbath import engine, potentials

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "landscapes.md"
COLORS = (BLUE, GREEN, RED)  # cold to hot
DPI = 110
REJECTED = "by rejection under a histogram that bounds the density from above"
BENT = "Gaussians, bent"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """How a landscape is shown. x, y: ranges; draws: how they come about; top: of the energies shown, above the lowest."""

    landscape: Any = dataclasses.field(kw_only=False)
    draws: str
    temperatures: tuple[float, ...] = (0.25, 0.5, 1.0)
    x: tuple[float, float] = (-2.0, 2.0)
    y: tuple[float, float] | None = None
    top: float = 4.0
    panels: Callable | None = None  # draws what the energy and density panels cannot

    @property
    def name(self) -> str:
        return type(self.landscape).__name__


def regression() -> potentials.BayesianLinear:
    """A line through twelve points."""
    t = np.linspace(-1.0, 1.5, 12)
    noise = np.random.default_rng(0).normal(size=12)
    return potentials.BayesianLinear(
        features=np.column_stack([np.ones_like(t), t]), targets=0.5 - t + 0.5 * noise, noise_variance=0.25
    )


def phi4(axes: Any, entry: Entry) -> None:
    """The energy of a site, and its exact marginal density."""
    chain, x = entry.landscape, np.linspace(*entry.x, 300)
    axes[0].plot(x, chain.on_site(x), color=INK, lw=1.4)
    axes[0].set(xlabel="φ", ylabel="V(φ)", title="energy of a site")
    for t, color in zip(entry.temperatures, COLORS, strict=True):
        axes[1].plot(x, chain.equilibrium(t).density(x), color=color, lw=1.3, label=f"T = {t:g}")
    axes[1].set(xlabel="φ", title="density of a site", ylim=(0, None))


def rotors(axes: Any, entry: Entry) -> None:
    """The energy of a bond, and correlations: every angle is uniform."""
    chain, angle, r = entry.landscape, np.linspace(-np.pi, np.pi, 300), np.arange(entry.landscape.sites)
    axes[0].plot(angle, -chain.coupling * np.cos(angle), color=INK, lw=1.4)
    axes[0].set(xlabel="θᵢ - θᵢ₊₁", ylabel="energy", title="energy of a bond")
    for t, color in zip(entry.temperatures, COLORS, strict=True):
        axes[1].plot(r, chain.correlation(t), "o-", ms=3, color=color, lw=1, label=f"T = {t:g}")
    axes[1].set(xlabel="distance r", title="⟨cos(θ₀ - θᵣ)⟩", ylim=(0, 1.02))


ENTRIES = (
    Entry(potentials.Harmonic(stiffness=2.0, center=0.5), draws="Gaussian", x=(-3.0, 4.0), top=6.0),
    Entry(potentials.Quartic(), draws=REJECTED, x=(-3.0, 3.0), top=5.0),
    Entry(potentials.Power(exponent=1.5), draws=REJECTED, x=(-4.0, 4.0)),
    Entry(potentials.Laplace(scale=0.5), draws=REJECTED, x=(-2.5, 2.5)),
    Entry(potentials.LogCosh(amplitude=2.0), draws=REJECTED, x=(-4.0, 4.0), top=6.0),
    Entry(potentials.LogGamma(a=1.5), draws=REJECTED, x=(-4.0, 3.0), top=7.0),
    Entry(potentials.BetaLogit(a=3.0, b=1.0), draws=REJECTED, x=(-3.0, 6.0), top=6.0),
    Entry(potentials.DoubleWell(barrier=1.0, tilt=0.2), draws=REJECTED),
    Entry(potentials.TripleWell(barrier=1.0), draws=REJECTED, x=(-1.5, 1.5), temperatures=(0.2, 0.4, 1.0)),
    Entry(potentials.Cosine(amplitude=1.0), draws=REJECTED, x=(-np.pi, np.pi)),
    Entry(potentials.Torus(length=2.0), draws="uniform", x=(0.0, 2.0)),
    Entry(
        potentials.GaussianMixture(
            means=[[-1.5, 0.0], [1.0, 1.2], [1.2, -1.0]], scales=[0.6, 0.4, 0.8], weights=[0.4, 0.2, 0.4]
        ),
        draws="by rejection from a power of the mixture, multiplied out",
        x=(-4.0, 4.0), y=(-4.0, 3.5), temperatures=(0.5, 1.0, 2.0), top=8.0,
    ),
    Entry(potentials.Ring(barrier=2.0), draws="r² is a Gaussian cut off at 0, the angle uniform", y=(-2.0, 2.0), top=6.0),
    Entry(potentials.Rosenbrock(a=0.5, b=5.0), draws=BENT, x=(-2.5, 3.5), y=(-1.5, 8.0), top=12.0),
    Entry(potentials.Funnel(dimension=2, scale=1.5), draws=BENT, x=(-6.0, 5.0), y=(-6.0, 6.0), top=9.0),
    Entry(
        potentials.MuellerBrown(), draws="by rejection from cells of a grid", x=(-1.7, 1.3), y=(-0.5, 2.1),
        temperatures=(10.0, 20.0, 40.0), top=180.0,
    ),
    Entry(
        potentials.EntropicWell(barrier=2.0, transverse=1), draws="x as in the double well, y Gaussian given x",
        x=(-1.9, 1.9), y=(-4.0, 4.0), temperatures=(0.25, 0.5, 1.0), top=6.0,
    ),
    Entry(regression(), draws="Gaussian", x=(-0.3, 1.3), y=(-1.9, 0.0), temperatures=(0.25, 0.5, 1.0), top=8.0),
    Entry(
        potentials.Phi4Chain(sites=16), draws="a chain of cells site by site, then rejection", x=(-2.5, 2.5),
        temperatures=(0.25, 0.5, 1.0), panels=phi4,
    ),
    Entry(
        potentials.RotorChain(sites=16, periodic=True), draws="independent von Mises bonds; on a ring the last is rejected",
        panels=rotors,
    ),
)  # fmt: skip


def energies(landscape: Any, points: np.ndarray) -> np.ndarray:
    """U at points (..., d), in float64."""
    with jax.enable_x64(True):
        return np.asarray(jax.vmap(landscape)(jnp.asarray(points.reshape(-1, points.shape[-1])))).reshape(
            points.shape[:-1]
        )


def on_a_line(axes: Any, entry: Entry) -> None:
    """Energy and densities of one coordinate."""
    x = np.linspace(*entry.x, 400)
    energy = energies(entry.landscape, x[:, None])
    axes[0].plot(x, energy, color=INK, lw=1.4)
    low = energy.min() - 0.05 * entry.top
    axes[0].set(xlabel="x", ylabel="U", title="energy", ylim=(low, min(energy.min() + entry.top, energy.max() + 0.2)))
    for t, color in zip(entry.temperatures, COLORS, strict=True):
        density = np.exp(-energy / t - entry.landscape.equilibrium(t).log_partition)
        axes[1].plot(x, density, color=color, lw=1.3, label=f"T = {t:g}")
    axes[1].set(xlabel="x", title="density", ylim=(0, None))


def on_a_plane(axes: Any, entry: Entry) -> None:
    """Contours of the energy, and the density at the coldest and the hottest temperature under exact draws."""
    assert entry.y is not None
    x, y = np.linspace(*entry.x, 121), np.linspace(*entry.y, 121)
    energy = energies(entry.landscape, np.stack(np.meshgrid(x, y), -1))
    above = np.minimum(energy - energy.min(), entry.top * 1.001)
    axes[0].contourf(x, y, above, levels=np.linspace(0, entry.top, 13), cmap="YlGnBu_r")
    axes[0].contour(x, y, above, levels=np.linspace(0, entry.top, 13)[1:], colors=INK, linewidths=0.3)
    axes[0].set(title="energy")
    for axis, t, color in zip(axes[1:], (entry.temperatures[0], entry.temperatures[-1]), (BLUE, RED), strict=True):
        state = entry.landscape.equilibrium(t)
        density = np.exp(-energy / t - state.log_partition)
        axis.contourf(x, y, density, levels=density.max() * np.linspace(0.03, 1, 9), cmap="Greys")
        draws = np.asarray(state.sample(1, 250))
        axis.plot(draws[:, 0], draws[:, 1], ".", ms=2, color=color)
        axis.set(title=f"density and draws, T = {t:g}")
    for axis in axes:
        axis.set(xlim=entry.x, ylim=entry.y, xlabel="first coordinate", ylabel="second" if axis is axes[0] else "")


def thermodynamics(axis: Any, entry: Entry) -> None:
    """F, ⟨U⟩, S and C against the temperature."""
    low, high = entry.temperatures[0] / 1.6, entry.temperatures[-1] * 1.6
    temperatures = np.geomspace(low, high, 21)
    states = [entry.landscape.equilibrium(t) for t in temperatures]
    scale = entry.temperatures[-1] if entry.temperatures[-1] > 5 else 1.0
    unit = f"/{scale:g}" if scale != 1 else ""
    for name, label, color in (
        ("free_energy", "F", INK), ("mean_energy", "⟨U⟩", BLUE), ("entropy", "S", GREEN), ("heat_capacity", "C", RED),
    ):  # fmt: skip
        by = scale if "energy" in name else 1.0
        axis.plot(temperatures, [getattr(s, name) / by for s in states], color=color, lw=1.3,
                  label=label + (unit if by != 1 else ""))  # fmt: skip
    axis.axhline(0, color=INK, lw=0.4)
    axis.set(xscale="log", xlabel="temperature", title="thermodynamics")
    axis.set_xticks(entry.temperatures, labels=[f"{t:g}" for t in entry.temperatures])
    axis.minorticks_off()
    above(axis, 4)


def above(axis: Any, columns: int) -> None:
    """A legend in one row over the curves, which make room for it."""
    low, high = axis.get_ylim()
    axis.set_ylim(low, high + 0.16 * (high - low))
    axis.legend(fontsize=7, ncols=columns, loc="upper center", columnspacing=1.0, handlelength=1.3, borderaxespad=0.1)


def picture(entry: Entry, folder: pathlib.Path) -> pathlib.Path:
    """Energy, densities, thermodynamics."""
    figure, axes = plt.subplots(
        1, 3 if entry.y is None else 4, figsize=(9.6 if entry.y is None else 11.6, 2.7), dpi=DPI
    )
    shown = entry.panels or (on_a_line if entry.y is None else on_a_plane)
    shown(axes[:-1], entry)
    if entry.y is None:
        above(axes[1], len(entry.temperatures))
    thermodynamics(axes[-1], entry)
    return saved(figure, folder / f"{entry.name}.png")


def washboard(folder: pathlib.Path) -> pathlib.Path:
    """The tilted cosine: energy, steady density, and what its particles do for ever."""
    tilts, x = (0.0, 0.5, 1.0, 1.5), np.linspace(-np.pi, np.pi, 200)
    figure, axes = plt.subplots(1, 4, figsize=(11.6, 2.7), dpi=DPI)
    long = np.linspace(-2 * np.pi, 2 * np.pi, 300)
    for tilt, color in zip(tilts, (INK, *COLORS), strict=True):
        landscape = potentials.Cosine(amplitude=1.0, tilt=tilt)
        axes[0].plot(long, landscape.one(long), color=color, lw=1.2, label=f"tilt {tilt:g}")
        axes[1].plot(x, landscape.steady_state(0.3).density(x), color=color, lw=1.2)
    forces = np.linspace(0, 2, 41)
    for t, color in zip((0.1, 0.3, 1.0), COLORS, strict=True):
        states = [potentials.Cosine(amplitude=1.0, tilt=f).steady_state(t) for f in forces]
        axes[2].plot(forces, [s.current for s in states], color=color, lw=1.2, label=f"T = {t:g}")
        axes[3].plot(forces, [s.diffusion / t for s in states], color=color, lw=1.2)
    axes[0].legend(fontsize=7)
    axes[2].legend(fontsize=7)
    axes[0].set(xlabel="x", ylabel="U", title="energy")
    axes[1].set(xlabel="x", title="steady density, T = 0.3", ylim=(0, None))
    axes[2].set(xlabel="tilt", title="current")
    axes[3].axhline(1, color=GOLD, lw=0.8, ls="--")
    axes[3].set(xlabel="tilt", title="diffusion / free diffusion")
    return saved(figure, folder / "Cosine_tilted.png")


def saved(figure: Any, path: pathlib.Path) -> pathlib.Path:
    """Written with few colours, which keeps it small."""
    from PIL import Image

    figure.savefig(path, dpi=DPI)
    plt.close(figure)
    with Image.open(path) as image:
        small = image.convert("RGB").quantize(256)
    small.save(path, optimize=True)
    return path


def parameters(landscape: Any) -> str:
    """The call that makes it; long arrays as their shapes."""
    shown = []
    for field in dataclasses.fields(landscape):
        value = getattr(landscape, field.name)
        array = np.asarray(value)
        short = str(value if array.ndim == 0 else np.round(array, 6).tolist())
        shown.append(
            f"{field.name}={short if (array.size <= 12 and array.ndim != 1) or array.size < 5 else array.shape}"
        )
    return f"{type(landscape).__name__}({', '.join(shown)})"


def words(cls: type) -> str:
    """A docstring as Markdown: indented lines are formulas, and averages in words need brackets that are no tags."""
    blocks = re.split(r"\n\n+", inspect.cleandoc(cls.__doc__ or ""))
    parts: list[str] = []
    for block in blocks:
        if block.startswith("    "):
            formula = inspect.cleandoc(block)
            if parts and parts[-1].endswith("```"):
                parts[-1] = parts[-1].removesuffix("```") + formula + "\n```"
            else:
                parts.append(f"```text\n{formula}\n```")
        else:
            parts.append(re.sub(r"<(\S[^<>]*)>", r"⟨\1⟩", block))
    return "\n\n".join(part.strip() for part in parts)


def section(entry: Entry) -> str:
    """What a landscape says of itself, its picture, and its digits."""
    t = entry.temperatures[-1] if 1.0 not in entry.temperatures else 1.0
    state = entry.landscape.equilibrium(t)
    numbers = {"F": state.free_energy, "⟨U⟩": state.mean_energy, "S": state.entropy, "C": state.heat_capacity}
    digits = ", ".join(f"{name} = {round(value, 12) + 0.0:.8g}" for name, value in numbers.items())
    lines = [
        f"## {entry.name}", words(type(entry.landscape)), f"Draws: exact, {entry.draws}.",
        f"![{entry.name}](landscapes/{entry.name}.png)", f"`{parameters(entry.landscape)}` at T = {t:g}: {digits}",
    ]  # fmt: skip
    if isinstance(entry.landscape, potentials.Cosine):
        tilted = potentials.Cosine(amplitude=1.0, tilt=0.5).steady_state(1.0)
        lines += [
            "### Tilted",
            "With a tilt there is no equilibrium but a steady state of overdamped motion, `Cosine.steady_state`:",
            words(potentials.SteadyState), "![Cosine, tilted](landscapes/Cosine_tilted.png)",
            f"`Cosine(amplitude=1.0, tilt=0.5).steady_state(1.0)`: velocity {tilted.velocity:.8g}, current "
            f"{tilted.current:.8g}, diffusion {tilted.diffusion:.8g}, entropy production {tilted.entropy_production:.8g}",
        ]  # fmt: skip
    return "\n\n".join(lines)


HEAD = """# Landscapes

Every energy of `heatbath.potentials` that knows its equilibrium. Each answers `landscape.equilibrium(T)` with the free
energy F, mean energy ⟨U⟩, entropy S, heat capacity C, means and covariances, marginal densities, and exact draws.
Density ∝ exp(-U/T), k_B = 1; all quantities are configurational. `make landscapes` writes this page: the words are the
docstrings', the curves and digits are exact, and nothing is simulated."""


def main(page: pathlib.Path = PAGE) -> None:
    """Write the page and its pictures."""
    folder = page.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    pictures = [picture(entry, folder) for entry in ENTRIES] + [washboard(folder)]
    index = " · ".join(f"[{entry.name}](#{entry.name.lower()})" for entry in ENTRIES)
    page.write_text("\n\n".join([HEAD, index, *(section(entry) for entry in ENTRIES)]) + "\n")
    size = sum(path.stat().st_size for path in pictures)
    print(
        f"{page}: {len(pictures)} pictures, {size / 1e3:.0f} kB, the largest {max(p.stat().st_size for p in pictures)} bytes"
    )


if __name__ == "__main__":
    engine.tune_cpu()
    main()
