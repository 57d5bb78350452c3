"""The number format in which this machine scores fastest."""

import functools
import platform
from pathlib import Path
from typing import Literal

import torch

from lorank.errors import UsageError

Dtype = Literal["float32", "bfloat16", "auto"]
DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def chosen_dtype(dtype: Dtype, device: torch.device) -> torch.dtype:
    """Return the torch dtype for a setting; ``auto`` asks ``best_precision``."""
    if dtype == "auto":
        return best_precision(device.type)
    if dtype not in DTYPES:
        raise UsageError(f"dtype {dtype!r}: choose one of {', '.join([*DTYPES, 'auto'])}")
    return DTYPES[dtype]


@functools.cache
def best_precision(device: str = "cpu") -> torch.dtype:
    """Return bfloat16 where the machine has fast products of it, else float32.

    CPU: AMX, or avx512_bf16 but for Intel's; CUDA: compute capability 8. Decided by what the hardware has and not by a
    trial, so that the same machine gives the same scores however busy it is.
    """
    if device == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if device == "cpu" and cpu_multiplies_bfloat16() else torch.float32


def cpu_multiplies_bfloat16() -> bool:
    """Return True where the CPU multiplies bfloat16 faster than float32.

    AMX, Arm's bf16 and AMD's avx512_bf16 do. Intel's avx512_bf16 without AMX, as virtual machines often show it, has
    half as many such instructions per cycle as products of float32: .58 of their speed (`benchmarks/cpu.md`).
    """
    able = capabilities()
    if able.get("amx_bf16") or able.get("bf16"):
        return True
    return bool(able.get("avx512_bf16")) and "intel" not in str(able.get("cpu_name", "")).lower()


def capabilities() -> dict[str, bool | int | str]:
    """Return what torch says of the CPU: flags of its instructions, and its name as ``cpu_name``."""
    if hasattr(torch.cpu, "get_capabilities"):
        return dict(torch.cpu.get_capabilities())
    asked = {"avx512_bf16": "_is_avx512_bf16_supported", "amx_bf16": "_is_amx_tile_supported"}
    found: dict[str, bool | int | str] = {flag: bool(getattr(torch.cpu, name, bool)()) for flag, name in asked.items()}
    return found | {"cpu_name": _name_of_kernel()}


def _name_of_kernel() -> str:
    """Return the CPU's name as Linux gives it, or Python's guess elsewhere."""
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text(errors="replace").splitlines() if listed.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("vendor_id", "model name"))]
    return " ".join(names[:2]) or platform.processor()
