r"""AdamW with moments of 8 or 4 bits, by torchao's block-wise codes.

    8 bit: dynamic maps of 256 values, blocks of 256;  4 bit: 16 values, blocks of 128, two codes a byte
    each block keeps its largest magnitude in float32

The moments are read, stepped as AdamW's and written back as codes. The state holds plain tensors, codes and scales,
not torchao's tensor classes, so that a checkpoint is safetensors. Moments of fewer than 4096 values stay whole, as in
torchao and bitsandbytes.

*Deviations*: torchao's and bitsandbytes' map of 8 bits holds a 0 for second moments. Where one is coded by it, the next
step is divided by little but that step's own gradient, and training diverges at rates that whole moments bear. Here
the lowest code is half of the next in place of 0, as the map of 4 bits has no 0 either.

Dettmers et al., 8-bit Optimizers via Block-wise Quantization, ICLR 2022, arXiv:2110.02861; Li, Chen, Zhu, Memory
Efficient Optimizers with 4-bit States, NeurIPS 2023, arXiv:2309.01507.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from lorank.errors import UsageError
from lorank.lowrank.projected.inner.adamw import AdamW
from lorank.lowrank.projected.inner.inner import INNERS
from lorank.lowrank.projected.projectors.projector import State
from lorank.lowrank.projected.registry import entry

LEAST = 4096
"""Moments of fewer values are kept whole."""
SLICE = 1 << 18
"""How many values are coded at once: the search for a code takes several whole numbers for each of them."""


@lru_cache(maxsize=1)
def torchao_codes() -> Any:
    """Return torchao's module of codes.

    Raises:
        UsageError: Where torchao is not installed.
    """
    try:
        from torchao.optim import quant_utils
    except ImportError as error:
        raise UsageError(
            "moments of 8 and 4 bits are torchao's, which is not installed: pip install 'lorank[quantised]', or "
            "choose the inner rule adamw"
        ) from error
    return quant_utils


@entry(INNERS, "adamw8bit")
class AdamW8bit(AdamW):
    """Moments of one byte.

    State: ``2 * rank * long`` bytes and ``2 * rank * long / 256`` scales a matrix.
    """

    bits, block = 8, 256

    def __init__(self) -> None:
        torchao_codes()

    def read(self, state: State, name: str, like: Tensor, dtype: torch.dtype) -> Tensor:
        if like.numel() < LEAST:
            return super().read(state, name, like, dtype)
        if f"{name}_scale" not in state or int(state[f"{name}_values"]) != like.numel():
            return torch.zeros_like(like)
        packed = state[f"{name}_codes"]
        codes = packed if self.bits == 8 else torch.stack([packed >> 4, packed & 15], -1).view(-1)
        flat = torchao_codes().dequant_with_qmap(codes, self._map(name, like.device), state[f"{name}_scale"])
        whole: Tensor = flat[: like.numel()].view(like.shape).to(like.dtype)
        return whole

    def write(self, state: State, name: str, value: Tensor) -> None:
        if value.numel() < LEAST:
            super().write(state, name, value)
            return
        flat = pad(value.flatten().float(), (0, -value.numel() % self.block))
        scaled, scale = torchao_codes().scale_tensor(flat, self.block)
        quantise, values = self._quantise(), self._map(name, value.device)
        codes = torch.cat([quantise(part, values) for part in scaled.flatten().split(SLICE)])
        state[f"{name}_codes"] = codes if self.bits == 8 else (codes[::2] << 4) | codes[1::2]
        state[f"{name}_scale"], state[f"{name}_values"] = scale, torch.tensor(value.numel())

    def rotate(self, state: State, change: Tensor) -> None:
        super().rotate(state, change)
        for name, matrix in (("exp_avg", change), ("exp_avg_sq", change.square())):
            if f"{name}_scale" in state:
                rows = matrix.shape[1]
                like = matrix.new_zeros(rows, int(state[f"{name}_values"]) // rows)
                self.write(state, name, matrix @ self.read(state, name, like, matrix.dtype))

    def _quantise(self) -> Callable[[Tensor, Tensor], Tensor]:
        codes: Callable[[Tensor, Tensor], Tensor] = getattr(torchao_codes(), f"quantize_{self.bits}bit_with_qmap")
        return codes

    def _map(self, name: str, device: torch.device) -> Tensor:
        return value_map(self.bits, not name.endswith("_sq"), device)


@entry(INNERS, "adamw4bit")
class AdamW4bit(AdamW8bit):
    """Moments of half a byte.

    State: ``rank * long`` bytes and ``2 * rank * long / 128`` scales a matrix.
    """

    bits, block = 4, 128


@lru_cache(maxsize=8)
def value_map(bits: int, signed: bool, device: torch.device) -> Tensor:
    """Return the value of each code; without a sign none is 0, so that nothing is divided by it."""
    if bits == 4 and not signed:
        return torch.linspace(0, 1, 17, device=device)[1:]
    exponents = 7 if bits == 8 else 3
    values = torch.tensor(torchao_codes().create_dynamic_map(signed, exponents, bits), device=device)
    if not signed:
        values[0] = values[1] / 2
    return values
