"""The number format in which this machine scores fastest."""

import functools
import time
from typing import Literal

import torch
from torch import nn

from lorank.errors import UsageError

Dtype = Literal["float32", "bfloat16", "auto"]
DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}
LEAST_GAIN = 1.15


def chosen_dtype(dtype: Dtype, device: torch.device) -> torch.dtype:
    """Return the torch dtype for a setting; ``auto`` asks ``best_precision``."""
    if dtype == "auto":
        return best_precision(device.type)
    if dtype not in DTYPES:
        raise UsageError(f"dtype {dtype!r}: choose one of {', '.join([*DTYPES, 'auto'])}")
    return DTYPES[dtype]


@functools.cache
def best_precision(device: str = "cpu") -> torch.dtype:
    """Return bfloat16 where the machine gains from it, else float32; decided once a process.

    The hardware must have bfloat16 matrix products (CPU: avx512_bf16 or AMX; CUDA: compute capability 8), and
    on a CPU one layer must run at least 1.15 times as fast in a trial of some tens of milliseconds.
    """
    if device == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if device != "cpu" or not cpu_multiplies_bfloat16():
        return torch.float32
    gain = layer_seconds(torch.float32) / layer_seconds(torch.bfloat16)
    return torch.bfloat16 if gain >= LEAST_GAIN else torch.float32


def cpu_multiplies_bfloat16() -> bool:
    """Return True where the CPU has instructions for bfloat16 products."""
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    flags = ("avx512_bf16", "amx_bf16", "bf16")
    if able:
        return any(able.get(flag, False) for flag in flags)
    return any(getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))


def layer_seconds(dtype: torch.dtype, rounds: int = 5) -> float:
    """Return the fastest of some timings of a feed-forward layer, 384 to 1536 and back on 512 tokens."""
    layer = nn.Sequential(nn.Linear(384, 1536), nn.GELU(), nn.Linear(1536, 384)).to(dtype)
    tokens = torch.ones(512, 384, dtype=dtype)
    seconds = []
    with torch.inference_mode():
        layer(tokens)
        for _ in range(rounds):
            start = time.perf_counter()
            layer(tokens)
            seconds.append(time.perf_counter() - start)
    return min(seconds)
