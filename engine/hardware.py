"""What the processor and its compiler offer."""

import contextlib
import ctypes
import functools
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

# four vectors of noise in flight: Threefry is one long chain of dependent operations, and LLVM by itself keeps one;
# and loops that touch up to 100,000 bytes a turn compiled whole, without a call for every operation: those of up to a
# thousand particles
LLVM_OPTIONS = "--force-vector-interleave=4,xla_cpu_small_while_loop_byte_threshold=100000"

# XLA hands small reductions to a kernel library whose dispatch costs more than the sums of a tile
ELEMENTWISE: dict[str, str | int] = {"xla_cpu_experimental_ynn_fusion_type": ""}
WIDE: dict[str, str | int] = {"xla_cpu_prefer_vector_width": 512}  # which it does not use unasked
# it would cut each loop into as many tasks as there are devices: half of a tile's noise would be drawn on the other core
# and lie in its cache, and every observation would wait for it
SHARED: dict[str, str | int] = {"xla_disable_hlo_passes": "cpu-parallel-task-assigner"}
# XLA's newer emitters take some 10 ms for each loop of a program. What they gain is lost where one moves data, or runs
# once; nor is it worth optimising, unless it may be large
PLAIN: dict[str, str | int] = {"xla_cpu_use_fusion_emitters": False}
ONCE: dict[str, str | int] = {**PLAIN, "xla_backend_optimization_level": 0}
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
GLIBC_SETTINGS = {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"}  # of a user
MOST_MMAP_THRESHOLD = 2**25  # that glibc takes, and to which it raises its own
MAPPED_BYTES = 2**18  # arrays: a million particles on 16 devices have parts of twice as much
LARGE_BYTES = 2**22  # of what a run carries: beside it the memory counts that the compiler had


def tune_cpu(devices: int | None = None) -> None:
    """One CPU device for each core, and vector loops interleaved: call it before JAX starts. Optional, for speed alone.

    devices: how many; by default the cores that this process may use. On two cores most runs take half of the time
    (docs/performance.md); the loops of up to a thousand particles are compiled whole. It sets `jax_num_cpu_devices` and
    appends to `XLA_FLAGS` of this process, since the compiler takes these options from nowhere else; an `XLA_FLAGS` that
    already has `xla_backend_extra_options` is left as it is. Raises RuntimeError if JAX has started, and ValueError for a
    number of devices below 1.
    """
    count = usable_cores() if devices is None else devices
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
        raise ValueError(f"devices must be a positive whole number; got {devices!r}")
    count = int(count)
    try:
        for value in (count + 1, count):  # a value that is there already would be taken even when it is too late
            jax.config.update("jax_num_cpu_devices", value)
    except RuntimeError as error:
        raise RuntimeError(
            "tune_cpu must be called before JAX starts: before the first array is made, right after the imports"
        ) from error
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_backend_extra_options" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_backend_extra_options={LLVM_OPTIONS}".strip()


def usable_cores() -> int:
    """Cores that this process may run on."""
    affinity: Any = getattr(os, "sched_getaffinity", None)  # Linux
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def is_large(arrays: Any) -> bool:
    """Whether a run that carries these arrays should mind the memory that is free but kept."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(arrays)) >= LARGE_BYTES


@contextlib.contextmanager
def mapped_arrays(wanted: bool) -> Iterator[None]:
    """Meanwhile each array has pages of its own, which go back to the system with it.

    In glibc's heap blocks of different lengths would leave holes. Afterwards the heap takes them again, and keeps up to
    64 MiB that are free, as it does by itself in a process that has freed an array of 32. Whoever has set glibc's thresholds
    keeps them.
    """
    wanted = wanted and not GLIBC_SETTINGS & os.environ.keys()
    try:
        if wanted:
            _glibc("mallopt", MMAP_THRESHOLD, MAPPED_BYTES)
        yield
    finally:
        if wanted:
            _glibc("mallopt", MMAP_THRESHOLD, MOST_MMAP_THRESHOLD)
            _glibc("mallopt", TRIM_THRESHOLD, 2 * MOST_MMAP_THRESHOLD)


def give_back_memory() -> None:
    """What is free, to the system: a compiler has had some hundred MiB, which glibc keeps."""
    _glibc("malloc_trim", 0)


def _glibc(name: str, *arguments: int) -> None:
    """Call a function of glibc; nothing where the C library is another."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # the last on Windows
        getattr(ctypes.CDLL(None), name)(*arguments)


@functools.cache
def cpu_options(*, elementwise: bool, shared: bool) -> dict[str, str | int]:
    """Compiler options for this CPU, as far as this jaxlib knows them.

    elementwise: for loops over elements. shared: for several devices at work at once.
    """
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    wide = elementwise and cpuinfo.exists() and "avx512f" in cpuinfo.read_text()
    return known(**(ELEMENTWISE if elementwise else {}), **(WIDE if wide else {}), **(SHARED if shared else {}))


def jit(options: dict[str, str | int], **keywords: Any) -> Callable[[Callable], Callable]:
    """`jax.jit` with those of the compiler options that this jaxlib knows: asked at the first call, since that starts JAX.

    As all of JAX's that have options, not to be called inside of a traced function.
    """

    def decorate(function: Callable) -> Callable:
        compiled = functools.cache(lambda: jax.jit(function, compiler_options=known(**options), **keywords))
        return functools.wraps(function)(lambda *arguments, **named: compiled()(*arguments, **named))

    return decorate


def known(**options: str | int) -> dict[str, str | int]:
    """Those of the options, all from above, that this jaxlib knows."""
    if _accepted(**ELEMENTWISE, **WIDE, **SHARED, **ONCE):  # one question instead of several
        return options
    return {name: value for name, value in options.items() if _accepted(**{name: value})}


@functools.cache
def _accepted(**options: str | int) -> bool:
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except Exception:  # jaxlib raises its own error types for an unknown option, which differ between versions
        return False
    return True
