"""Run the tests as other processors would: other vector widths, other kernels, other numbers of threads, busy cores.

    python tools/portable_passes.py [--pass NAME] [--workers N] [PATH or pytest option...]

Each pass is one run of pytest over all tests that are not slow (or over the given paths), with the libraries told to
use less than this processor has, so that sums run in another order and end in other digits:

    oldest    no vector kernels: torch's plain ones, oneDNN and XLA at SSE4, MKL's compatible branch, OpenBLAS's
              Nehalem, numpy and the C library without AVX2 and FMA; one thread; seed 1
    avx2      256-bit kernels everywhere, OpenBLAS's Haswell; two threads, and every core busy; seed 2

A variable that is already set stays as it is: the machine may need it. The exit code is 1 when a pass failed.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class PortablePass:
    """One way in which another processor computes.

    Attributes:
        variables: What the libraries read when they are loaded.
        threads: Of torch and of OpenMP in each test process.
        busy: Whether every core also runs a process that only counts.
        capability: What torch then says of itself.
    """

    variables: dict[str, str]
    threads: int
    busy: bool
    capability: str

    def environment(self, given: dict[str, str]) -> dict[str, str]:
        """Return the environment of the pass; what ``given`` already says wins."""
        return {**self.variables, "LORANK_TEST_THREADS": str(self.threads), **given}


PASSES = {
    "oldest": PortablePass(
        {
            "ATEN_CPU_CAPABILITY": "default",
            "ONEDNN_MAX_CPU_ISA": "SSE41",
            "MKL_CBWR": "COMPATIBLE",
            "OPENBLAS_CORETYPE": "Nehalem",
            "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL",
            "XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2",
            "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX512F",
            "LORANK_TEST_SEED": "1",
        },
        threads=1,
        busy=False,
        capability="DEFAULT",
    ),
    "avx2": PortablePass(
        {
            "ATEN_CPU_CAPABILITY": "avx2",
            "ONEDNN_MAX_CPU_ISA": "AVX2",
            "MKL_CBWR": "AVX2",
            "OPENBLAS_CORETYPE": "Haswell",
            "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL",
            "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
            "LORANK_TEST_SEED": "2",
        },
        threads=2,
        busy=True,
        capability="AVX2",
    ),
}


def capability(environment: dict[str, str]) -> str:
    """Return the vector width that torch chooses under an environment, such as ``AVX2``."""
    code = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@contextmanager
def busy_cores(count: int) -> Iterator[None]:
    """Keep ``count`` cores busy for as long as the context lasts."""
    parent = os.getpid()
    code = f"import os\nwhile os.getppid() == {parent}:\n    sum(range(100_000))"
    counting = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(count)]
    try:
        yield
    finally:
        for process in counting:
            process.kill()
            process.wait()


def run_pass(name: str, workers: int, arguments: list[str]) -> int:
    """Run pytest as the pass says, and return its exit code."""
    chosen = PASSES[name]
    environment = chosen.environment(dict(os.environ))
    found = capability(environment)
    if found != chosen.capability:
        print(f"pass {name}: torch computes with {found}, not {chosen.capability}, on this processor", flush=True)
    print(f"== pass {name}: {chosen.threads} thread(s), {'busy' if chosen.busy else 'idle'} cores, {found}", flush=True)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", str(workers), "-m", "not slow"]
    with busy_cores((os.cpu_count() or 1) if chosen.busy else 0):
        return subprocess.run([*command, *arguments], env=environment, cwd=ROOT, check=False).returncode


def main() -> int:
    """Run the chosen passes and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pass", dest="passes", action="append", choices=list(PASSES), help="all, unless it is named")
    parser.add_argument("--workers", type=int, default=2, help="test processes")
    options, arguments = parser.parse_known_args()
    codes = {name: run_pass(name, options.workers, arguments) for name in options.passes or PASSES}
    for name, code in codes.items():
        print(f"pass {name}: {'passed' if code == 0 else f'failed, exit code {code}'}")
    return int(any(codes.values()))


if __name__ == "__main__":
    raise SystemExit(main())
