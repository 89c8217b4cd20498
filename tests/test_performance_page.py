"""docs/performance.md and the README's table of speeds say what benchmarks/results/performance.json says."""

import json
import statistics
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import page
import performance

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def found():
    return json.loads(performance.RESULTS.read_text())


def test_the_page_is_of_the_results(found):
    assert (ROOT / "docs" / "performance.md").read_text() == page.page(found)
    text = (ROOT / "README.md").read_text()
    assert page.readme(text, found) == text
    assert text.count("| overdamped |") == 2 and " × |" in text


def test_every_ratio_is_kept(found):
    """Rates over rates, for every contestant that took part."""
    for part in ("grid", "peers", "metropolised", "same noise", "float64"):
        assert found[part]
        for row in found[part]:
            rates = row[performance.RATE]
            others = {name for name, rate in rates.items() if isinstance(rate, float)} - {"heatbath"}
            assert row[performance.OVER].keys() == others
            for name in others:
                assert row[performance.OVER][name] == pytest.approx(rates["heatbath"] / rates[name])
    assert found["measured"].keys() == found.keys() - {"measured"}


def test_what_is_asked_is_reached(found):
    """The figures of the last full run hold the table's "at least"."""
    large, some, one = page.by_population(found["grid"])
    large_peers, *_ = page.by_population(found["peers"])
    assert {row["n"] for row in large_peers} >= {16_384, 262_144} and {row["n"] for row in large} >= {16_384, 262_144}
    assert {row["n"] for row in some} == {100, 1_000} and {row["n"] for row in one} == {1}
    least = lambda rows, names: min(page.best_ratios(rows, names))  # noqa: E731
    median = lambda rows, names: statistics.median(page.best_ratios(rows, names))  # noqa: E731
    assert least(large, page.SCANS) >= 4.5 and median(large, page.SCANS) >= 6
    assert least(some, page.SCANS) >= 3
    assert least(one, page.SCANS) >= 2
    assert least(large, ("C",)) >= 0.35 and median(large, ("C",)) >= 0.5
    assert least(large_peers, page.PEERS) >= 4.5
    assert max(row["time over time without"] for row in found["observing"]) <= 1.2
    assert max(row["best over worst"] for row in found["flatness"]) <= 1.4
    networks, memory, starting = found["networks"][1], found["memory"], found["starting"]
    assert networks["work"].startswith("64 networks")
    assert 1 / page.over(networks, ("without noise",)) <= 1.25 and page.over(networks, page.SCANS) >= 1.3
    assert max(memory["above JAX"][kind] for kind in ("loop", "loop, tuned")) <= 2 * memory["state"] + 64
    assert starting[page.IMPORT] <= 0.3 and starting[page.SNIPPET] <= 2.5
