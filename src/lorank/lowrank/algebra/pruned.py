r"""LoRAM: train the update on a pruned base, scatter its factors back, and use it on the full base.

    pruned layer    W_p = W[rows, columns]            b_p = b[rows]
    recovered       A[:, columns] = A_p,  B[rows] = B_p,  0 elsewhere: dW[rows, columns] = s B_p A_p

Pruning is structured: whole hidden units go, so the pruned model is dense and small. A unit between two layers is
a row of the first and a column of the second (``prune_units``); it is kept where |row| |column| is large. The
small model can be quantised on top (``lorank.lowrank.quantise``), and aligned by training it whole on plain text
before the update is trained, as the paper does.

Zhang et al., Train Small, Infer Large: Memory-Efficient LoRA Training for Large Language Models, 2025,
arXiv:2502.13533.

*Deviations*: units between two named layers are pruned; heads of attention are left whole.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.algebra.sets import FactorSet
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.forms.form import Factors
from lorank.lowrank.module_tree import replace_module


class Kept(NamedTuple):
    """Rows and columns of a layer's W that its pruned twin has, ascending, and W's shape."""

    rows: Tensor
    columns: Tensor
    shape: tuple[int, int]


class Pruned(NamedTuple):
    """A smaller copy of a model, and what it kept of each layer that was cut."""

    model: nn.Module
    kept: dict[str, Kept]


@torch.no_grad()
def prune_units(model: nn.Module, pairs: Iterable[tuple[str, str]], share: float = 0.5) -> Pruned:
    """Return a copy of ``model`` without the weakest units between each pair of layers.

    Args:
        model: any module; it is left alone.
        pairs: (path of the layer that makes the units, path of the one that reads them), each layer once.
        share: of a pair's units that are kept, in (0, 1]; at least one is.

    >>> model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> small = prune_units(model, [("0", "2")], 0.25); small.model[0], small.kept["2"].shape
    (Linear(in_features=3, out_features=2, bias=True), (2, 8))
    """
    if not 0 < share <= 1:
        raise UsageError(f"share {share!r} is not in (0, 1]")
    kept: dict[str, Kept] = {}
    for first, second in pairs:
        one, two = (BaseLinear(model.get_submodule(path)) for path in (first, second))
        if one.out_features != two.in_features or {first, second} & kept.keys():
            raise UsageError(
                f"{first} makes {one.out_features} units and {second} reads {two.in_features}, or one of them is "
                "in two pairs; name the two layers around each hidden layer"
            )
        strength = one.weight.double().norm(dim=1) * two.weight.double().norm(dim=0)
        units = strength.topk(max(round(share * len(strength)), 1)).indices.sort().values
        kept[first] = Kept(units, torch.arange(one.in_features), (one.out_features, one.in_features))
        kept[second] = Kept(torch.arange(two.out_features), units, (two.out_features, two.in_features))
    small = copy.deepcopy(model)
    for path, own in kept.items():
        replace_module(small, path, _cut(BaseLinear(model.get_submodule(path)), own))
    return Pruned(small, kept)


def _cut(base: BaseLinear, kept: Kept) -> nn.Linear:
    weight = base.weight[kept.rows][:, kept.columns]
    outputs, inputs = weight.shape
    linear = nn.Linear(inputs, outputs, bias=base.bias is not None, device="meta", dtype=weight.dtype)
    linear.weight = nn.Parameter(weight.clone())
    if base.bias is not None:
        linear.bias = nn.Parameter(base.bias[kept.rows].clone())
    return linear.train(base.module.training)


@catalogued(
    "loram",
    area="adapters.merge",
    title="Train Small, Infer Large: Memory-Efficient LoRA Training for Large Language Models",
    reach="Python alone: it takes the pruned and the whole model together",
)
def recover(factors: FactorSet, kept: Mapping[str, Kept]) -> dict[str, Factors]:
    """Return the factors of updates trained on the pruned model, at the full model's shapes.

    Args:
        factors: the updates on the pruned model; layers that were not cut stay as they are.
        kept: what ``prune_units`` kept of each layer.

    >>> small = {"layer": Factors(torch.ones(1, 1), torch.ones(1, 1), 1.0)}
    >>> full = recover(small, {"layer": Kept(torch.tensor([1]), torch.tensor([2]), (2, 3))})["layer"]
    >>> (full.B @ full.A).tolist()
    [[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    return {path: _scatter(own, kept[path]) if path in kept else own for path, own in factors.items()}


def _scatter(factors: Factors, kept: Kept) -> Factors:
    A, B, scaling = factors
    if (B.shape[0], A.shape[1]) != (len(kept.rows), len(kept.columns)):
        raise UsageError(
            f"factors of a [{B.shape[0]}, {A.shape[1]}] weight do not fit one pruned to "
            f"[{len(kept.rows)}, {len(kept.columns)}]"
        )
    full_A, full_B = A.new_zeros(len(A), kept.shape[1]), B.new_zeros(kept.shape[0], B.shape[1])
    full_A[:, kept.columns], full_B[kept.rows] = A, B
    return Factors(full_A, full_B, scaling)


def feed_forward_pairs(model: nn.Module, first: str, second: str) -> Sequence[tuple[str, str]]:
    """Return the pairs of layers whose paths end in ``first`` and ``second``, block by block.

    >>> block = lambda: nn.ModuleDict({"up": nn.Linear(2, 4), "down": nn.Linear(4, 2)})
    >>> feed_forward_pairs(nn.ModuleList([block(), block()]), "up", "down")
    [('0.up', '0.down'), ('1.up', '1.down')]
    """
    found: dict[str, list[str]] = {first: [], second: []}
    for path, _ in model.named_modules():
        for ending, paths in found.items():
            if path == ending or path.endswith("." + ending):
                paths.append(path)
    if len(found[first]) != len(found[second]) or not found[first]:
        raise UsageError(f"the model has {len(found[first])} layers {first!r} and {len(found[second])} {second!r}")
    return list(zip(found[first], found[second], strict=True))
