"""What the processor and its compiler offer."""

import functools
import pathlib

import jax


@functools.cache
def cpu_options() -> dict[str, str | int]:
    """Compiler options for loops over elements on this CPU, as far as this jaxlib knows them.

    XLA hands small reductions to a kernel library whose dispatch costs more than the sums of a tile; and it does not use
    512-bit registers unasked.
    """
    wanted: dict[str, str | int] = {"xla_cpu_experimental_ynn_fusion_type": ""}
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists() and "avx512f" in cpuinfo.read_text():
        wanted["xla_cpu_prefer_vector_width"] = 512
    return {name: value for name, value in wanted.items() if _known(name, value)}


def _known(name: str, value: str | int) -> bool:
    try:
        jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
    except Exception:  # jaxlib raises its own error types for an unknown option, which differ between versions
        return False
    return True
