"""How fast heatbath is, against a plain `lax.scan`, other libraries, the physics without noise, and hand-written C.

`make bench` runs all of it (about half an hour on two cores), `make bench-quick` a corner of it, into results/quick.json.
Contestants live in processes of their own and take turns call by call; a figure is the median of five turns.
Only ratios mean anything on a shared machine: each row has those of heatbath to all others. The result goes to
benchmarks/results/performance.json, each part with its date, versions and device; `page.py` makes docs/performance.md of it.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from cold import memory, starting
from field import Field
from machine import CORES, stamp, vectors

RESULTS = pathlib.Path(__file__).parent / "results" / "performance.json"
RATIOS = RESULTS.with_name("ratios.json")  # to the best plain scan, for each kind of vectors: what a test holds us to
RATE, OVER = "million coordinate-steps/s", "heatbath over"
SCHEMES = ("overdamped", "BAOAB")
SIZES = {"full": (1, 100, 1_000, 16_384, 262_144, 1_000_000), "quick": (1, 1_000, 16_384)}
DIMENSIONS = {"full": (1, 2, 3, 10, 100), "quick": (2, 10)}
MOST_COORDINATES = 30_000_000
# scheme, energy, particles, coordinates
TESTED = [
    (scheme, "double well", n, d) for n, d in ((16_384, 2), (16_384, 10), (262_144, 2)) for scheme in ("HMC", "GHMC")
]
TESTED += [(scheme, "funnel", 16_384, 22) for scheme in ("HMC", "GHMC", "BAOAB")]
SAME_NOISE = ("overdamped", "BAOAB", "LeimkuhlerMatthews", "OBABO", "GronbechJensen", "SGHMC", "BADODAB")
PEERS = ("BlackJAX", "jax-md", "diffrax", "OpenMM Reference", "OpenMM CPU")
# roughly, only to choose how many steps a call takes
COORDINATE_STEPS = {"heatbath": 8e8, "C": 1.2e9}  # a second, of large populations
STEPS = {"OpenMM CPU": 1e4}  # a second, of small ones, where loops are all overhead; its threads meet in each
LONG = ("metropolised", "same noise", "guard")  # not in the corner

Kind = tuple[Any, ...]  # of a worker: devices, flags[, width of floats]
TUNED: Kind = (CORES, "tuned")
SILENT: Kind = (CORES, "silent")
ONE: Kind = (1, "plain")
ALL: Kind = (CORES, "plain")
WITH_SCANS = {"heatbath": TUNED, "scan": ONE, "scan, all devices": ALL}
TESTED_BY = {"heatbath": "metropolised", "scan": "metropolised scan", "scan, all devices": "metropolised scan"}


def steps_for(who: str, n: int, d: int, seconds: float) -> int:
    """A multiple of 16 steps that take about so long."""
    rate = COORDINATE_STEPS.get(who, 1.2e8)
    small = STEPS.get(who, 3e6 if n * d < 64 else 3e5)
    least = 64 if who == "heatbath" else 16  # `simulate` calls its block for half a second, not for a few steps
    return max(least, min(int(seconds * rate / (n * d)), int(seconds * small)) // 16 * 16)


def ratios(times: dict[str, float | str]) -> dict[str, float]:
    """The time of each other contestant that could take part over heatbath's."""
    mine, numbers = times["heatbath"], {name: t for name, t in times.items() if isinstance(t, float)}
    return {name: t / mine for name, t in numbers.items() if name != "heatbath"} if isinstance(mine, float) else {}


def race(field: Field, scheme: str, n: int, d: int, seconds: float, entrants: dict, **more: Any) -> dict[str, Any]:
    """A row of rates and ratios; entrants: name -> (kind of worker, maker)."""
    work = {}
    for name, (kind, maker) in entrants.items():
        options = {"scheme": scheme, "n": n, "d": d, "steps": steps_for(maker.split(",")[0], n, d, seconds), **more}
        work[name] = (kind, maker, options)
    times = field.race(work)
    rates = {name: n * d / t / 1e6 if isinstance(t, float) else t for name, t in times.items()}
    text = "  ".join(f"{name} {r:.1f}" if isinstance(r, float) else f"{name}: {r[:40]}" for name, r in rates.items())
    print(f"{scheme:<11} n = {n:<8} d = {d:<4} {text}", flush=True)
    return {"scheme": scheme, "n": n, "d": d, RATE: rates, OVER: ratios(times) if "heatbath" in times else {}}


def scans(n: int, maker: str = "scan") -> dict[str, tuple[Kind, str]]:
    """The same scan on one device, and split over all."""
    return {maker: (ONE, maker)} | ({f"{maker}, all devices": (ALL, maker)} if n >= CORES else {})


def grid(
    field: Field, size: str, seconds: float, rows: list[dict[str, Any]], keep: Callable[[], None]
) -> list[dict[str, Any]]:
    """The whole grid; takes long, so that rows are kept one by one, and those that are there are left."""
    there = {(row["scheme"], row["n"], row["d"]) for row in rows}
    for d in DIMENSIONS[size]:
        for n in SIZES[size]:
            for scheme in SCHEMES:
                if n * d > MOST_COORDINATES or (scheme, n, d) in there:
                    continue
                entrants = {"heatbath": (TUNED, "heatbath"), "heatbath, not tuned": (ONE, "heatbath")}
                entrants |= scans(n) | scans(n, "scan, a key a particle")
                if n % 64 == 0:  # whole vectors
                    entrants["C"] = (ALL, "C")
                entrants["without noise"] = (SILENT, "heatbath")
                rows.append(race(field, scheme, n, d, seconds, entrants))
                keep()
    return rows


def flatness(field: Field, seconds: float) -> list[dict[str, Any]]:
    """Populations from 10⁴ to 10⁷ coordinates in turns: a machine that drifts would change from row to row of the grid."""
    rows = []
    for d in DIMENSIONS["full"]:
        for scheme in SCHEMES:
            sizes = [10**k // d for k in (4, 5, 6, 7)]
            steps = {n: steps_for("heatbath", n, d, 2 * seconds) for n in sizes}
            times = field.race(
                {f"{n}": (TUNED, "heatbath", {"scheme": scheme, "n": n, "d": d, "steps": steps[n]}) for n in sizes}
            )
            rates = {n: int(n) * d / t / 1e6 if isinstance(t, float) else t for n, t in times.items()}
            found = [rate for rate in rates.values() if isinstance(rate, float)]
            rows.append({"scheme": scheme, "d": d, RATE: rates, "best over worst": max(found) / min(found)})
            print(rows[-1], flush=True)
    return rows


def peers(field: Field, size: str, seconds: float) -> list[dict[str, Any]]:
    """Other libraries: in three dimensions all and at all populations, and two more shapes."""
    rows = []
    for n, d in [(n, 3) for n in SIZES[size]] + [(16_384, 2), (4_096, 10)]:
        for scheme in SCHEMES:
            names = [name for name in PEERS if d == 3 or not name.startswith("OpenMM")]
            entrants = {"heatbath": (TUNED, "heatbath")} | {name: (ALL, name) for name in names}
            rows.append(race(field, scheme, n, d, seconds / 2, entrants))
    return rows


def metropolised(field: Field, seconds: float) -> list[dict[str, Any]]:
    """HMC, generalised HMC, and the funnel, against plain scans on one and on all devices."""
    rows = []
    for scheme, work, n, d in TESTED:
        # a step of HMC has ten gradients; `simulate` calls its block for half a second, not for a few steps
        steps = max(16, steps_for("scan", n, d, seconds) // (10 if scheme == "HMC" else 2))
        entrants = {who: (kind, TESTED_BY[who]) for who, kind in WITH_SCANS.items()}
        row = race(field, scheme, n, d, seconds, entrants, work=work, steps=steps)
        rows.append(row | {"scheme": f"{scheme}, {work}"})
    return rows


def same_noise(field: Field, seconds: float) -> list[dict[str, Any]]:
    """What the engine itself costs, over scans of the same scheme by hand that draw the same noise."""
    by_hand = {name: (TUNED, name) for name in ("by hand, in pairs", "by hand, in blocks")}
    return [
        race(field, scheme, n, d, 4 * seconds, {"heatbath": (TUNED, "engine")} | by_hand)  # the ratios are near 1
        for n, d in ((16_384, 2), (16_384, 10), (262_144, 2))
        for scheme in SAME_NOISE
    ]


def float64(field: Field, seconds: float) -> list[dict[str, Any]]:
    entrants = {"heatbath": (TUNED, "heatbath")} | scans(16_384)
    wide = {name: ((*kind, "float64"), maker) for name, (kind, maker) in entrants.items()}
    return [race(field, scheme, 16_384, d, seconds, wide) for scheme in SCHEMES for d in (2, 10)]


def networks(field: Field, seconds: float) -> list[dict[str, Any]]:
    works = [
        (f"{n} networks 64-64-10, batch 128", "networks", {"n": n, "steps": max(32, int(seconds * 4 / (n * 6e-5)))})
        for n in (8, 64)
    ]
    works += [
        (f"logistic regression 569 × 31, 1,000 particles, {text}", "regression", {
            "n": 1_000, "batch": batch, "steps": max(32, int(seconds * 1e3)),
        }) for batch, text in ((None, "all data"), (64, "batch 64"))
    ]  # fmt: skip
    rows = []
    for name, maker, options in works:
        kinds = dict(WITH_SCANS)
        if maker == "networks":
            kinds["without noise"] = SILENT
        entrants = {who: (kind, maker, options | {"who": who.split(",")[0]}) for who, kind in kinds.items()}
        times = field.race(entrants)
        scaled = {who: t * 1e3 if isinstance(t, float) else t for who, t in times.items()}
        rows.append({"work": name, "ms a step": scaled, OVER: ratios(times)})
        print(rows[-1], flush=True)
    return rows


def observing(field: Field, seconds: float) -> list[dict[str, Any]]:
    rows = []
    for d in (1, 2, 3):
        for scheme in SCHEMES:
            rows.append({"scheme": scheme, "d": d, "time over time without": observed(field, scheme, d, seconds)})
            print(rows[-1], flush=True)
    return rows


def observed(field: Field, scheme: str, d: int, seconds: float) -> float:
    """The time of a long run with observables over that of one without, in calls of `simulate` of a few seconds."""
    options = {"scheme": scheme, "n": 16_384, "d": d, "steps": int(seconds * 2.4e6 / d)}
    works = {who: (TUNED, "long run", options | {"observing": who == "observed"}) for who in ("none", "observed")}
    times = field.race(works)
    return float(np.divide(times["observed"], times["none"]))


def guarded() -> dict[str, dict[str, tuple[Kind, str, dict]]]:
    """What a test holds us to: entrants of which heatbath's speed over the best scan's is recorded."""
    kinds, found = WITH_SCANS, {}
    for scheme in SCHEMES:
        for n, d in ((1, 2), (1_000, 2), (16_384, 2), (16_384, 100)):
            options = {"scheme": scheme, "n": n, "d": d, "steps": steps_for("heatbath", n, d, 0.03)}
            found[f"{scheme}, {n:,} × {d}"] = {who: (kind, who.split(",")[0], options) for who, kind in kinds.items()}
    options = {"scheme": "BAOAB", "n": 16_384, "d": 10, "steps": 64}
    found["BAOAB, 16,384 × 10, float64"] = {
        who: ((*kind, "float64"), who.split(",")[0], options) for who, kind in kinds.items()
    }
    options = {"scheme": "GHMC", "work": "double well", "n": 16_384, "d": 2, "steps": 64}
    found["GHMC, 16,384 × 2"] = {who: (kind, TESTED_BY[who], options) for who, kind in kinds.items()}
    for name, maker, options in (
        ("64 networks", "networks", {"n": 64, "steps": 16}),
        ("regression, batch 64", "regression", {"n": 1_000, "steps": 256, "batch": 64}),
    ):
        found[name] = {who: (kind, maker, options | {"who": who.split(",")[0]}) for who, kind in kinds.items()}
    return found


def over_scans(field: Field, name: str) -> float:
    """heatbath's speed over the best scan's, in one of the guarded races."""
    times = field.race(guarded()[name])
    if len(over := ratios(times)) < len(times) - 1:
        raise RuntimeError(f"{name}: one of them could not take part: {times}")
    return min(over.values())


def guard(field: Field) -> dict[str, float]:
    """Record the ratios of this kind of processor, each the median of three races."""
    found = {name: float(np.median([over_scans(field, name) for _ in range(3)])) for name in guarded()}
    recorded = json.loads(RATIOS.read_text()) if RATIOS.exists() else {}
    before = recorded.get(vectors(), {})
    for name, ratio in found.items():
        slower = "  <- SLOWER THAN RECORDED: find out why" if ratio < 0.8 * before.get(name, 0) else ""
        print(f"{name:<40} {ratio:.2f} x the best scan, before {before.get(name, '-')}{slower}", flush=True)
    recorded[vectors()] = {name: round(ratio, 2) for name, ratio in found.items()}
    RATIOS.write_text(json.dumps(recorded, indent=1, ensure_ascii=False) + "\n")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a corner of the grid, fewer seconds")
    parser.add_argument("--only", nargs="+", default=(), help="some of the parts, by their names")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    options = parser.parse_args()
    size, seconds = ("quick", 0.06) if options.quick else ("full", 0.08)
    field, repeats = Field(), 3 if options.quick else 5
    parts: dict[str, Callable[[], Any]] = {
        "starting": lambda: starting(repeats),
        "memory": lambda: memory(repeats),
        "observing": lambda: observing(field, seconds),
        "flatness": lambda: flatness(field, seconds),
        "networks": lambda: networks(field, seconds),
        "peers": lambda: peers(field, size, seconds),
        "metropolised": lambda: metropolised(field, seconds),
        "same noise": lambda: same_noise(field, seconds),
        "float64": lambda: float64(field, seconds),
        "guard": lambda: guard(field),
        "grid": lambda: grid(field, size, seconds, found.setdefault("grid", []), keep),
    }
    if options.quick:
        parts = {name: part for name, part in parts.items() if name not in LONG}
    if unknown := set(options.only) - parts.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
    results = RESULTS.with_name("quick.json") if options.quick else RESULTS
    kept = results.exists() and (options.only or options.resume)
    found: dict[str, Any] = json.loads(results.read_text()) if kept else {"measured": {}}

    def keep() -> None:
        results.parent.mkdir(exist_ok=True)
        results.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")

    asked = [name for name in parts if name in options.only or not options.only]
    if options.resume:
        asked = [name for name in asked if name not in found["measured"]]
    elif "grid" in asked:
        found["grid"] = []
    try:
        for name in asked:
            print(f"# {name}", flush=True)
            found["measured"].pop(name, None)
            keep()
            found[name] = parts[name]()
            found["measured"][name] = stamp()
            field.close()
            keep()
    except KeyboardInterrupt:
        field.close()
        arguments = " ".join([*sys.argv, *({"--resume"} - set(sys.argv))])
        raise SystemExit(f"\ninterrupted in {name}; to go on with it: python {arguments}") from None


if __name__ == "__main__":
    main()
