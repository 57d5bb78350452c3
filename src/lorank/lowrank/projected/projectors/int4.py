r"""The leading singular vectors in four bits: P = s (q - z), q in 0..15, a scale s and a zero z per 256 values.

    s = (max - min) / 15,   q = round((p - min) / s)     hence |P - P_exact| <= s / 2

Two codes lie in a byte. P is nearly, not exactly, orthonormal.

Zhang et al., Q-GaLore: Quantized GaLore with INT4 Projection and Layer-Adaptive Low-Rank Gradients, 2024,
arXiv:2407.08296.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import pad

from lorank.lowrank.projected.projectors.projector import PROJECTORS
from lorank.lowrank.projected.projectors.svd import ExactSVD
from lorank.lowrank.projected.registry import entry

GROUP = 256


def pack_int4(values: Tensor) -> dict[str, Tensor]:
    """Return ``values`` as two codes a byte, with the step and the lowest value of each group of 256."""
    flat = values.flatten()
    groups = pad(flat, (0, -len(flat) % GROUP), mode="constant").view(-1, GROUP)
    lowest = groups.amin(1, keepdim=True)
    step = ((groups.amax(1, keepdim=True) - lowest) / 15).clamp_min(1e-12)
    codes = ((groups - lowest) / step).round().to(torch.uint8).view(-1, 2)
    return {
        "codes": codes[:, 0] | (codes[:, 1] << 4),
        "code_step": step.flatten(),
        "code_lowest": lowest.flatten(),
        "code_rows": torch.tensor(values.shape[0]),
        "code_columns": torch.tensor(values.shape[1]),
    }


def unpack_int4(state: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
    """Return the values that ``pack_int4`` wrote.

    >>> kept = pack_int4(torch.arange(15.0).view(3, 5))  # a padding of zeros changes nothing: 0 is among the values
    >>> round(float((unpack_int4(kept, torch.float32) - torch.arange(15.0).view(3, 5)).abs().max()), 1)
    0.5
    """
    packed, rows, columns = state["codes"], int(state["code_rows"]), int(state["code_columns"])
    codes = torch.stack([packed & 15, packed >> 4], 1).view(-1, GROUP).to(dtype)
    values = codes * state["code_step"].to(dtype)[:, None] + state["code_lowest"].to(dtype)[:, None]
    return values.flatten()[: rows * columns].view(rows, columns)


@entry(PROJECTORS, "int4")
class FourBitSVD(ExactSVD):
    """P in four bits.

    Kept: ``short * rank / 2`` bytes, and two values for each 256.
    """

    def find(self, gradient: Tensor, rank: int, generator: torch.Generator) -> dict[str, Tensor]:
        return pack_int4(super().find(gradient, rank, generator)["basis"])

    def basis(self, state: Mapping[str, Tensor], gradient: Tensor) -> Tensor:
        return unpack_int4(state, gradient.dtype)
