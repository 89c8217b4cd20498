"""The examples hold what they measure against what is exact, draw it, and fail when it is wrong; the gallery is complete."""

import importlib
import inspect
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from heatbath import potentials

ROOT = Path(__file__).parents[1]
SMALL = {
    "knob": {"particles": 64, "steps": 1_000},
    "relaxation": {"particles": 2_000, "names": ("harmonic, overdamped", "double well, from the top")},
    "phi4": {"particles": 64, "steps": 1_000},
    "kramers": {"particles": 1_000, "steps": 2_400, "frictions": np.array([1.0, 3.0, 8.0])},
}


@pytest.fixture
def example(monkeypatch):
    """Examples as modules; their names do not stay behind."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(ROOT / "examples") in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in ("phi4", "kramers"))) for name in SMALL]
)
def test_example(name, example, tmp_path, capsys):
    """At a small size; every line has an error and a verdict. Kramers' turnover is drawn, too."""
    out = tmp_path if name == "kramers" else None
    assert example(name).main(**SMALL[name], out=out)
    printed = capsys.readouterr().out
    assert "all passed (p-value 1e-06 a line)" in printed and "nan" not in printed
    assert len(list(tmp_path.glob("*.png"))) == (out is not None)


def test_an_example_fails_when_theory_and_measurement_differ(example, monkeypatch, capsys):
    """A mutant: the entropic force without its factor 1/2."""
    knob, judging = example("knob"), example("judging")
    force = knob.forces(64, 200)
    assert judging.report("right", knob.force_lines(force))
    monkeypatch.setattr(knob, "entropic", lambda t: knob.WELL.transverse * knob.WELL.softening * t)
    assert not judging.report("wrong", knob.force_lines(force))
    assert "NOT passed: force at x = -1" in capsys.readouterr().out


def test_a_line_without_an_error_does_not_pass(example):
    judge = example("judging").judge
    assert judge(1.0, 1.1, 0.05).passed and judge(1.0, 1.1, 0.03, dof=63).passed
    assert not judge(1.0, 1.1, 0.02).passed
    assert not judge(1.0, 1.1, np.nan).passed and not judge(np.nan, 1.1, 0.1).passed and not judge(1.0, 1.1, 0.0).passed


def test_the_gallery_shows_every_landscape(example):
    public = {
        name for name, value in vars(potentials).items()
        if inspect.isclass(value) and issubclass(value, potentials.Solvable) and not inspect.isabstract(value)
    }  # fmt: skip
    gallery = example("gallery")
    assert {entry.name for entry in gallery.ENTRIES} == public
    page = (ROOT / "docs" / "landscapes.md").read_text()
    assert set(re.findall(r"^## (\w+)$", page, re.M)) == public
    pictures = set(re.findall(r"\]\((landscapes/\w+\.png)\)", page))
    files = list((ROOT / "docs" / "landscapes").glob("*"))
    assert pictures == {f"landscapes/{path.name}" for path in files}
    assert (
        max(path.stat().st_size for path in files) < 60_000 and sum(path.stat().st_size for path in files) < 1_200_000
    )


def test_the_words_of_the_gallery_are_those_of_the_docstrings(example):
    gallery = example("gallery")
    page = (ROOT / "docs" / "landscapes.md").read_text()
    for entry in gallery.ENTRIES:
        assert gallery.words(type(entry.landscape)) in page, f"`make landscapes` was not run after {entry.name} changed"
