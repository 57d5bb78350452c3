"""Spectra of updates that are written as factors, without ever forming the dense update.

With B = Q_B R_B and A^T = Q_A R_A, the singular values of s B A are those of the small s R_B R_A^T [r, r].

The effective rank is exp(H(p)) with p_i = sigma_i / sum sigma (Roy & Vetterli 2007, The Effective Rank).
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorank.lowrank.adapter_files import read
from lorank.lowrank.scaling import scaling_rule


def factor_spectrum(a: Tensor, b: Tensor, scaling: float = 1.0) -> Tensor:
    """Return the singular values [min(r, in, out)] of ``scaling`` B A, largest first, in float64.

    ``a`` is [r, in], ``b`` is [out, r].

    >>> factor_spectrum(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0], [0.0]]), 2.0)
    tensor([10.], dtype=torch.float64)
    """
    small_a = torch.linalg.qr(a.double().t(), mode="r").R
    small_b = torch.linalg.qr(b.double(), mode="r").R
    values: Tensor = torch.linalg.svdvals(small_b @ small_a.t())
    return abs(scaling) * values


def effective_rank(singular_values: Tensor) -> float:
    """Return exp of the entropy of the normalised singular values; 0 where all of them are 0.

    >>> effective_rank(torch.ones(4))
    4.0
    """
    total = singular_values.double().sum()
    if total == 0:
        return 0.0
    shares = singular_values.double() / total
    shares = shares[shares > 0]
    return round(float(torch.exp(-(shares * shares.log()).sum())), 9)


def adapter_spectra(folder: str | Path) -> list[dict[str, Any]]:
    """Return for every layer of an adapter folder: path, rank, shape, parameters, norm, spectrum, effective rank.

    A layer whose update is not written as ``lora_A`` and ``lora_B`` is listed with its sizes alone.
    """
    contents = read(Path(folder))
    rule = scaling_rule(contents.settings.scaling)
    rows = []
    for path, plan in contents.plan.items():
        tensors = contents.updates.get(path, {})
        row: dict[str, Any] = {
            "path": path,
            "rank": plan.rank,
            "parameters": sum(t.numel() for t in tensors.values()),
            "effective_rank": 0.0,
            "norm": 0.0,
            "singular_values": [],
        }
        if {"lora_A.weight", "lora_B.weight"} <= tensors.keys() and plan.rank:
            a, b = tensors["lora_A.weight"], tensors["lora_B.weight"]
            values = factor_spectrum(a, b, rule(plan.alpha, plan.rank))
            row |= {
                "shape": [b.shape[0], a.shape[1]],
                "effective_rank": effective_rank(values),
                "norm": float(values.norm()),
                "singular_values": values.tolist(),
            }
        rows.append(row)
    return rows
