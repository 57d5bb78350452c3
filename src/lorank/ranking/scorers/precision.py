"""The number format in which this machine scores fastest."""

import functools
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

    CPU: avx512_bf16 or AMX; CUDA: compute capability 8. Decided by what the hardware has and not by a trial, so
    that the same machine gives the same scores however busy it is.
    """
    if device == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if device == "cpu" and cpu_multiplies_bfloat16() else torch.float32


def cpu_multiplies_bfloat16() -> bool:
    """Return True where the CPU has instructions for bfloat16 products."""
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    flags = ("avx512_bf16", "amx_bf16", "bf16")
    if able:
        return any(able.get(flag, False) for flag in flags)
    return any(getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
