"""docs/performance.md, its picture and the README's table from results/performance.json; `make bench` runs it last."""

import itertools
import json
import pathlib
import statistics
from typing import Any

from performance import OVER, PEERS, RATE, SCHEMES

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent
DOCS = ROOT / "docs"
IMPORT = "import heatbath.engine adds"
SNIPPET = "README's first snippet"
CACHED = "the same, compiled before"
SCANS = ("scan", "scan, all devices", "scan, a key a particle", "scan, a key a particle, all devices")
BY_HAND = ("by hand, in pairs", "by hand, in blocks")
OURS = ("heatbath", "heatbath, not tuned")


def over(row: dict[str, Any], names: tuple[str, ...]) -> float | None:
    """heatbath's rate over that of the best of the named; None where none of them took part."""
    return min((row[OVER][name] for name in names if name in row[OVER]), default=None)


def best_ratios(rows: list[dict[str, Any]], names: tuple[str, ...]) -> list[float]:
    return [ratio for row in rows if (ratio := over(row, names)) is not None]


def worst_and_median(rows: list[dict[str, Any]], names: tuple[str, ...]) -> str:
    if not (found := best_ratios(rows, names)):
        return "not measured"
    return f"{min(found):.2f} × at least, {statistics.median(found):.2f} × in the median of {len(found)}"


def overheads(rows: list[dict[str, Any]]) -> str:
    """heatbath's time over the better scan by hand."""
    times = [1 / ratio for ratio in best_ratios(rows, BY_HAND)]
    return f"at most {max(times):.2f}, in the median {statistics.median(times):.2f},"


def flatness(rows: list[dict[str, Any]]) -> str:
    """Time per coordinate-step from 10⁴ to 10⁷ coordinates, worst over best, for each scheme and d."""
    spreads = [row["best over worst"] - 1 for row in rows]
    return f"within {max(spreads):.0%} at worst, {statistics.median(spreads):.0%} in the median; each scheme and d by itself"


def by_population(rows: list[dict[str, Any]]) -> tuple[list, list, list]:
    """Rows of 10,000 particles and more, of 100 to 1,000, and of one."""
    return tuple([row for row in rows if low <= row["n"] <= high] for low, high in ((1e4, 1e9), (100, 1e3), (1, 1)))


def headline(found: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """(work, what is asked at least, aimed at, measured)."""
    grid = found["grid"]
    large, some, one = by_population(grid)
    networks = found["networks"][1]
    large_peers, *_ = by_population(found["peers"])
    observed = [row["time over time without"] for row in found["observing"]]
    memory = found["memory"]
    return [
        ("≥ 10,000 particles, against the best plain scan", "4.5 ×, 6 × median", "10 ×", worst_and_median(large, SCANS)),
        ("≥ 10,000 particles, against the fastest peer", "4.5 ×", "10 ×", worst_and_median(large_peers, PEERS)),
        ("≥ 10,000 particles, against the C kernel", "0.35, 0.5 median", "0.75", worst_and_median(large, ("C",))),
        ("HMC, generalised HMC and the 22-d funnel, against the best plain scan", "3 ×", "",
         worst_and_median(found["metropolised"], SCANS)),
        ("100 to 1,000 particles, against the best plain scan", "3 ×", "8 ×", worst_and_median(some, SCANS)),
        ("one particle, against the plain scan", "2 ×", "5 ×", worst_and_median(one, SCANS)),
        ("64 networks, against the same without noise", "1.25 × its time", "1.05 ×",
         f"{1 / networks[OVER]['without noise']:.2f} ×"),
        ("64 networks, against the best plain scan", "1.3 × faster", "2 ×",
         f"{over(networks, SCANS):.2f} ×"),
        ("observed every 10 steps, d ≤ 3, against not", "1.2 × the time", "1.05 ×",
         f"{max(observed):.2f} × at most, {statistics.median(observed):.2f} × in the median"),
        ("memory at 10⁶ × 2 (BAOAB), above JAX", f"{2 * memory['state'] + 64:.0f} MiB: two states and 64", "",
         f"{memory['above JAX']['loop, tuned']:.0f} MiB; with the default observables "
         f"{memory['above JAX']['observed, tuned']:.0f}"),
        ("time per coordinate-step, 10⁴ to 10⁷ coordinates", "within 40 %", "15 %", flatness(found["flatness"])),
        ("`import heatbath.engine` after `import jax`", "0.3 s", "", f"{found['starting'][IMPORT]:.2f} s"),
        ("README's first snippet, cold", "2.5 s", "", f"{found['starting'][SNIPPET]:.2f} s"),
    ]  # fmt: skip


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def shown(rate: Any) -> str:
    """Three digits; a dash for a contestant that could not take part."""
    if not isinstance(rate, float):
        return "–"
    return f"{rate:,.0f}" if rate >= 99.5 else f"{rate:#.3g}"


def turns_table(rows: list[dict[str, Any]]) -> str:
    body = [
        [row["scheme"], str(row["d"]), *map(shown, row[RATE].values()), shown(row["best over worst"])] for row in rows
    ]
    return table(["scheme", "d", *(f"10{power} coordinates" for power in "⁴⁵⁶⁷"), "best over worst"], body)


def rates_table(rows: list[dict[str, Any]], names: list[str], best: str, of: tuple[str, ...]) -> str:
    """Rates, and last heatbath's over the best of some contestants."""
    body = [
        [
            row["scheme"], str(row["d"]), f"{row['n']:,}",
            *(shown(row[RATE].get(name)) for name in names), shown(over(row, of)),
        ] for row in rows
    ]  # fmt: skip
    return table(["scheme", "d", "particles", *names, best], body)


def memory_table(memory: dict[str, Any]) -> str:
    columns = ["above JAX", "above 64 particles"]
    return table(
        ["", *columns], [[name, *(shown(memory[c].get(name)) for c in columns)] for name in memory["above JAX"]]
    )


def span(rows: list[dict[str, Any]], names: tuple[str, ...]) -> str:
    return f"{min(best_ratios(rows, names)):.1f} to {max(best_ratios(rows, names)):.1f}"


def picture(found: dict[str, Any]) -> None:
    """Throughput against population for each contestant: in three dimensions, as OpenMM has them, and in a hundred."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(12, 9), sharex=True, sharey="row", layout="constrained")
    names = ("C", "without noise", *OURS, *SCANS, *PEERS)
    colours = ["black", *plt.get_cmap("tab20").colors[1:]]
    for line, d in zip(axes, (3, 100), strict=True):
        for axis, scheme in zip(line, SCHEMES, strict=True):
            for number, name in enumerate(names):
                rows = found["peers" if name in PEERS else "grid"]
                rows = [row for row in rows if (row["scheme"], row["d"]) == (scheme, d)]
                points = [(row["n"], row[RATE][name]) for row in rows if isinstance(row[RATE].get(name), float)]
                if points:
                    style = {
                        "ls": "--" if name in PEERS else "-",
                        "lw": 2.6 if name == "heatbath" else 1.2,
                        "zorder": 3 if name == "C" else 2,
                    }
                    axis.loglog(
                        *zip(*points, strict=True), marker="o", ms=4, color=colours[number], label=name, **style
                    )
            axis.set(title=f"{scheme}, d = {d}")
            axis.grid(alpha=0.3)
        line[0].set_ylabel("million coordinate-steps a second")
    for axis in axes[-1]:
        axis.set_xlabel("particles")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=9)
    figure.savefig(DOCS / "performance.png", dpi=110)


def measured(found: dict[str, Any]) -> tuple[str, str]:
    """When, and on what; where parts differ, for each of them."""
    if undated := found.keys() - found["measured"].keys() - {"measured"}:
        raise SystemExit(f"no date of {', '.join(undated)}: a run was interrupted; go on with performance.py --resume")
    told = {}
    for name, part in found["measured"].items():
        versions = ", ".join(f"{package} {version}" for package, version in part["versions"].items())
        told.setdefault((f"on {part['date']}", f"{part['device']}; {versions}"), []).append(name)
    if len(told) == 1:
        return next(iter(told))
    return "in parts", "; ".join(f"{', '.join(names)} {when}: {where}" for (when, where), names in told.items())


def page(found: dict[str, Any]) -> str:
    when, where = measured(found)
    grid, starting = found["grid"], found["starting"]
    share = 1 - starting[CACHED] / starting[SNIPPET]
    names = [*OURS, *SCANS, "C", "without noise"]
    contestants = ("heatbath", "without noise", "scan", "scan, all devices")
    networks = [
        [row["work"], *(shown(row["ms a step"].get(who)) for who in contestants), shown(over(row, SCANS))]
        for row in found["networks"]
    ]
    return f"""# Performance

Made by `make bench` (`benchmarks/performance.py`, then `benchmarks/page.py`) {when}: {where}. Float32 unless said. Only
ratios mean anything: machines differ, and are noisy.

{table(["work", "asked", "aim", "measured"], [list(line) for line in headline(found)])}

![throughput against population](performance.png)

## How to read it

A coordinate-step is one coordinate of one particle through one step. Contestants sit in processes of their own and take
turns, call by call; a figure is the median of five turns. Compilation is not in it. The ratios of every row are in
`benchmarks/results/performance.json`, with date, versions and device of each part.

- **heatbath**: the compiled block after `engine.tune_cpu()`, on all cores, without what `simulate` does around it;
  **not tuned**: on one device, as a process has it that does nothing, and with XLA's threads.
- **scan**: a `lax.scan` with `jax.random.normal` for the whole array, one key a step; **all devices**: the population split
  over the cores; **a key a particle**: the same under `vmap` with keys of its own for each particle. "Best" is the best of
  the four.
- **C**: `benchmarks/kernel.c`, the same arithmetic with vectors written by hand, multiply-adds contracted as XLA does, all
  cores: the hardware's reference. It is compiled for one energy and keeps noise in registers. A test holds its
  trajectories to heatbath's.
- **without noise**: heatbath's loop with a constant for every normal: what the physics costs.

Tables are minutes apart, and a row can meet a moment in which something else has a core: rates compare within a row alone.
A dash: one particle cannot be split; C takes whole vectors of 64 particles; OpenMM's particles have three coordinates.
A million particles of 100 coordinates are left out: an array of them takes 400 MB, and a call of a scan half a minute.

## Where the time goes

In the noise. Threefry-2x32-20 is 20 rounds of an addition, a rotation and an exclusive or, each waiting for the one
before: about 115 integer operations a block on AVX2, which has no rotation, and 60 more for Box and Muller, for two normals.
One such chain leaves the vector units idle most of the time. LLVM interleaves chains only when asked, and XLA asks
only through `XLA_FLAGS`: that is what `engine.tune_cpu()` is for. The layout (`engine/layout.py` states the rule) keeps
state and noise of a tile in the cache, so that time per coordinate-step does not grow with the population.

A step of one particle is as short as the loop around it: its noise is drawn for many steps at once. Not tuned, that of
BAOAB in one or two dimensions takes as long as a scan's or a quarter longer: the loop is then not compiled whole, and each
operation of a step is a call.

Figures in the rest of this section, what is said of AVX2 and of other libraries on one device, and the last paragraph of the
page were measured apart when those parts were written; `make bench` does not renew them.

XLA cuts a long loop into tasks for its thread pool, also on one device. Where each core is a device of its own that
only makes them wait for one another, and leaves half of a tile's noise in the other core's cache: there it is
switched off (`cpu_options` in `engine/hardware.py`). 16,384 particles at d = 1, 3 and 10 took 0.85 to 1.03 of the
time before in five alternated pairs of runs, medians on a machine that varies by 20 %.

Observing is timed in calls of `simulate` that go on with a long run, host included. On one core, host apart, energy, two
temperatures and a histogram of 8,192 particles take 10 to 13 µs of kernels beside some 80 µs for ten steps at d = 1, and 2
to call them: one loop sums four components with their squares; the histogram counts bits, eight members of 64 groups at a
time. The device adds up 64 observations before the host sees them, whose work takes a core from the devices: 3 to 5 µs an
observation.

On a GPU the same code runs with one large tile. Two bounds, for an H200 with 4.8 TB/s and 132 × 64 integer lanes at
1.7 GHz: noise that goes through memory once costs 24 bytes a coordinate-step, 200 billion a second; Threefry with one
instruction a rotation costs 40 integer operations a normal, 360 billion a second. It is still to be measured.

## Whole grid

Millions of coordinate-steps a second.

{rates_table(grid, names, "over the best scan", SCANS)}

## From 10⁴ to 10⁷ coordinates

Millions of coordinate-steps a second, all populations of a line in turns: the machine drifts from one line of the grid to
the next.

{turns_table(found["flatness"])}

## Other libraries

{rates_table(found["peers"], ["heatbath", *PEERS], "over the best of them", PEERS)}

BlackJAX `sgld` and `sghmc` under `vmap`, jax-md `brownian` and `nvt_langevin`, diffrax Euler and ShARK with
`UnsafeBrownianPath`, OpenMM `BrownianIntegrator` and `LangevinMiddleIntegrator` on both CPU platforms. Those of JAX have the
population split over the cores, which makes them up to twice as fast as their own examples, that run on one device; OpenMM's
CPU platform has threads of its own. OpenMM's Reference platform computes in double precision; ShARK takes two gradients and
more noise a step than the others.

## Metropolised, and the funnel

HMC with ten gradients a step, generalised HMC with one, in the double well; and Neal's funnel in 22 dimensions, against
scans that keep gradient and energy of where a particle stands.

{rates_table(found["metropolised"], ["heatbath", *SCANS[:2]], "over the best scan", SCANS)}

## The same noise

What the engine itself costs: against scans written by hand (`benchmarks/same_noise.py`) that draw the very same numbers, two
steps at a time or in blocks of sixteen, with the same devices and compiler flags, and have no observables, schedules or
restarts. heatbath takes {overheads(found["same noise"])} of the time of the better of the two. Two steps
written as one keep their noise in registers: with the narrow vectors of AVX2 that beat the engine's Euler and Maruyama,
whose time was 1.14 of it. The engine does not do so, since two steps in one body round otherwise than one and one, and
results would depend on where a run is cut.

{rates_table(found["same noise"], ["heatbath", *BY_HAND], "over the better", BY_HAND)}

## Float64

heatbath is {span(found["float64"], SCANS)} times as fast as the better scan: a vector has half as many numbers, the
logarithm, sine and cosine are the compiler's, and both pay for the same words.

{rates_table(found["float64"], ["heatbath", *SCANS[:2]], "over the best scan", SCANS)}

## Networks and regression

Milliseconds a step.

{table(["work", *contestants, "over the best scan"], networks)}

## Memory

Peaks of resident memory in 1,000 steps of a million particles, in MiB, above a process that has started JAX and run one
small program; and, of heatbath, above one that does the same with 64 particles, and so imports and compiles as much:

{memory_table(found["memory"])}

Most of what observing takes is the compiler's, which has its memory before the block runs: what it had is given back then.
After `tune_cpu` it compiles for each device, but 64 particles have only one. A call that goes on with a run adds the state
that the caller still holds. Where a run carries 4 MiB and takes 1,000 steps, arrays have pages of their own until it ends
(`mapped_arrays` in `engine/hardware.py`): elsewhere that would cost time.

## Starting

`import jax` {starting["import jax"]:.2f} s, `import heatbath.engine` {starting[IMPORT]:.2f} s more; the README's first
snippet from a cold process {starting[SNIPPET]:.2f} s from its start to its end, {share:.0%} of it to compile. Set
`JAX_COMPILATION_CACHE_DIR`, with `JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0`, to keep compiled code for the next process:
where it finds all of it the snippet takes {starting[CACHED]:.2f} s. Python's own bytecode is there, as it is from the second
time on that a package is imported.

A loop takes some 10 ms to compile, of one number as of many: XLA emits each by a pipeline of MLIR passes before LLVM sees
it. So the host computes what it can and tells the block, which has some 45 loops; a test counts them. What runs once or only
moves data is compiled by XLA's older emitters, in a third of the time. For the block they will not do: they make the same
loop of the noise, but that of a step takes seven times as long, since they read complex numbers one by one. Less
optimisation of the block would save 0.15 s more, change no bit and slow no step, but observing would take up to 1.3 times as
long.
"""


def readme(text: str, found: dict[str, Any]) -> str:
    """The README with its table of speeds anew."""
    lines = []
    for d, scheme in itertools.product((2, 10), SCHEMES):
        (row,) = (row for row in found["grid"] if (row["scheme"], row["d"], row["n"]) == (scheme, d, 16_384))
        scan, mine = over(row, SCANS), row[RATE]["heatbath"]
        untuned = scan / row[OVER]["heatbath, not tuned"]
        rates = [shown(mine / scan), shown(mine), f"{scan:.1f} ×", f"{untuned:.1f} ×", f"{row[OVER]['C']:.2f} ×"]
        lines.append([scheme, str(d), *rates])
    begin = text.index("| scheme | d | `lax.scan` |")
    end = text.index("\n\n", begin)
    return text[:begin] + table(text[begin:].split("\n")[0].strip("| ").split(" | "), lines) + text[end:]


def main() -> None:
    found = json.loads((HERE / "results" / "performance.json").read_text())
    picture(found)
    (DOCS / "performance.md").write_text(page(found))
    (ROOT / "README.md").write_text(readme((ROOT / "README.md").read_text(), found))
    for work, asked, _, measured in headline(found):
        print(f"{work:<58} {asked:<28} {measured}")


if __name__ == "__main__":
    main()
