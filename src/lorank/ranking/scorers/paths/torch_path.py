r"""Scoring by torch: float32, bfloat16, and products in int8 with scales for every token and every output.

    y = (round(x / s_x) round(W / s_w)^T) s_x s_w + b,    s_x = max|x| / 127 of a token,   s_w = max|W| / 127 of a row

The int8 products sum in int32; norms, activations and attention stay in the format that is fastest without int8.
"""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from lorank.ranking.scorers.cross_encoder import CrossEncoder
from lorank.ranking.scorers.packed import PackedEncoder, Projections, projection
from lorank.ranking.scorers.paths.path import Logits, path
from lorank.ranking.scorers.precision import best_precision
from lorank.ranking.scorers.scoring_mode import scoring
from lorank.ranking.scorers.tokens import Ragged

Project = Callable[[Sequence[nn.Module], torch.dtype], Projections]


@path("torch-float32")
def open_float32(ranker: CrossEncoder) -> Logits:
    """Return float32 logits: what the other paths are compared with."""
    return _open(ranker, torch.float32, projection)


@path("torch-bfloat16")
def open_bfloat16(ranker: CrossEncoder) -> Logits:
    """Return logits of products in bfloat16; norms and the residual stream stay in float32."""
    return _open(ranker, torch.bfloat16, projection)


@path("torch-int8", packed=True)
def open_int8(ranker: CrossEncoder) -> Logits:
    """Return logits of products in int8."""
    return _open(ranker, best_precision("cpu"), int8_projection)


def _open(ranker: CrossEncoder, dtype: torch.dtype, project: Project) -> Logits:
    with scoring(ranker.module):
        packed = PackedEncoder(ranker.module.base_model, dtype, project) if ranker.can_pack() else None

    def logits(batch: Ragged) -> np.ndarray:
        with scoring(ranker.module):
            return ranker.logits(batch, packed, dtype).float().cpu().numpy()

    return logits


@cache
def weight_levels() -> int:
    """Return the largest int8 weight whose products this processor sums exactly: 127, or 63 where it lacks VNNI.

    Without these instructions two neighbouring products are added in 16 bits, where 255 w + 255 w stays below 2^15 only
    for w up to 64; larger sums are cut off, and scores would be wrong without a word.
    """
    largest = torch.full((32, 64), 127, dtype=torch.int8)
    exact = torch._int_mm(largest, largest.t().contiguous()).eq(64 * 127 * 127).all()
    return 127 if exact else 63


def int8_projection(modules: Sequence[nn.Module], dtype: torch.dtype) -> Projections:
    """Return x [tokens, in] -> the output of each linear layer, computed as one int8 product, in ``dtype``."""
    weight = torch.cat([module.weight.detach().float() for module in modules])
    bias = torch.cat([_bias(module) for module in modules])
    scale = weight.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / weight_levels()
    rounded = (weight / scale[:, None]).round().to(torch.int8).t().contiguous()
    sizes = [module.out_features for module in modules]

    def project(x: Tensor) -> Sequence[Tensor]:
        x = x.float()
        step = x.abs().amax(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny) / 127
        product = torch._int_mm((x / step).round_().to(torch.int8), rounded)
        return product.float().mul_(step).mul_(scale).add_(bias).to(dtype).split(sizes, dim=-1)

    return project


def _bias(module: nn.Module) -> Tensor:
    return torch.zeros(module.out_features) if module.bias is None else module.bias.detach().float()
