"""Where figures were measured: versions, processor, date."""

import datetime
import importlib.metadata
import pathlib
import platform
from typing import Any

from heatbath.engine.hardware import usable_cores

CORES = usable_cores()
PACKAGES = ("heatbath", "jax", "jaxlib", "numpy", "blackjax", "jax-md", "diffrax", "openmm")


def stamp() -> dict[str, Any]:
    """Date, device and versions."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    device = f"{CORES} cores of {model()}, {vectors()}"
    return {"date": datetime.datetime.now(datetime.UTC).date().isoformat(), "device": device, "versions": found}


def cpuinfo() -> str:
    path = pathlib.Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


def vectors() -> str:
    """The widest vectors of this processor."""
    return "AVX-512" if "avx512f" in cpuinfo() else "AVX2" if "avx2" in cpuinfo() else platform.machine()


def model() -> str:
    lines = [line.split(":")[1].strip() for line in cpuinfo().split("\n") if line.startswith("model name")]
    return lines[0] if lines else platform.processor()
