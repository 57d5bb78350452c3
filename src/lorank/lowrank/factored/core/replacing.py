"""Which layers of a model may be factored, and putting factored layers in their places: all of them, or none."""

from collections import Counter
from collections.abc import Iterable, Mapping

import torch
from torch import nn
from torch.nn.utils import parametrize

from lorank.errors import UsageError, unknown_name
from lorank.lowrank.base import QUANTISED, weight_reader
from lorank.lowrank.factored.core.layer import FactoredLayer, factored_kind, factored_options, rank_of
from lorank.lowrank.factored.core.model import Factored
from lorank.lowrank.layer import Adapted
from lorank.lowrank.module_tree import replace_modules, unwrap_model
from lorank.lowrank.offload import refuse_offloaded
from lorank.lowrank.targets import ALL_LINEAR, select_targets

USUAL_RANK = 0.5
"""The share of the break-even rank that a layer gets where none is stated."""


def make_factored(
    model: nn.Module,
    method: str = "sltrain",
    *,
    rank: float | Mapping[str, int] = USUAL_RANK,
    targets: str | Iterable[str] = ALL_LINEAR,
    exclude: Iterable[str] = (),
    start: str | None = None,
    seed: int = 0,
    **options: object,
) -> Factored:
    """Put factored layers in the place of linear ones, and return them.

    Args:
        model: Any module with ``nn.Linear`` layers; it is changed in place, or not at all where anything is refused.
        method: A name of ``FACTORED``.
        rank: A whole number of ranks, a share below 1 of each layer's break-even rank out in / (out + in), or the rank
            of each layer by path.
        targets: ``"all-linear"``, a regular expression, or names, as in `lorank.lowrank.attach`.
        exclude: Names of modules that are left alone.
        start: Where the tensors start, one of the method's ``starts``; None is the first of them.
        seed: The seed of all draws.
        **options: The method's own options, see ``factored_options``.

    Raises:
        UsageError: For an unknown name, a rank that a layer cannot have, and a layer that is no plain ``nn.Linear``,
            is quantised, or shares its weight.

    >>> model = nn.Sequential(nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 20))
    >>> found = make_factored(model, "greenformers-lrt", rank=3)
    >>> found.num_parameters(), [row.rank for row in found.report()]
    (240, [3, 3])
    """
    kind, known = factored_kind(method), factored_options(method)
    for option in options:
        if option not in known:
            raise unknown_name(f"option of factored layer {method!r}:", option, known)
    chosen_start = kind.starts[0] if start is None else start
    if chosen_start not in kind.starts:
        raise UsageError(f"start {chosen_start!r} does not suit {method!r}; choose {' or '.join(kind.starts)}")
    inner = unwrap_model(model)
    layers = linear_targets(inner, targets, exclude)
    ranks = {path: _rank(path, layer, rank) for path, layer in layers.items()}
    generator = torch.Generator().manual_seed(seed)
    made: dict[str, FactoredLayer] = {
        path: kind(layer, ranks[path], start=chosen_start, generator=generator, **options)
        for path, layer in layers.items()
    }
    for path, layer in layers.items():
        made[path].train(layer.training)
    replace_modules(inner, [(layers[path], made[path]) for path in made])
    return Factored(inner, method, made, {**known, **options}, seed)


def linear_targets(model: nn.Module, targets: str | Iterable[str], exclude: Iterable[str] = ()) -> dict[str, nn.Linear]:
    """Return the layers by path that may be factored.

    Raises:
        UsageError: For a layer that may not, with what to do about it.
    """
    shared = Counter(id(own) for module in model.modules() for own in module._parameters.values() if own is not None)
    found: dict[str, nn.Linear] = {}
    for path, layer in select_targets(model, targets, exclude).items():
        reason = find_reason_against(layer, shared)
        if reason:
            raise UsageError(f"layer {path} cannot be factored: {reason}, or exclude it (exclude=[{path!r}])")
        refuse_offloaded(path, layer, "factored")
        assert isinstance(layer, nn.Linear)
        found[path] = layer
    return found


def find_reason_against(layer: nn.Module, uses: Mapping[int, int]) -> str | None:
    """Return why ``layer`` cannot be factored and what to do about it, None where it can; ``uses`` counts weights."""
    if isinstance(layer, FactoredLayer):
        return "it is factored already; merge it first"
    if isinstance(layer, Adapted):
        return "an adapter stands on it; merge and detach the adapter first"
    kind = type(layer)
    reads = weight_reader(layer)
    weight = layer._parameters.get("weight")
    if kind in QUANTISED or type(weight).__module__.startswith("torchao."):
        return f"its weight is quantised ({kind.__name__}); dequantise the model first (lowrank.dequantise)"
    if reads is not None and parametrize.is_parametrized(layer, "weight"):
        return "its weight is computed by a parametrization; remove it with torch.nn.utils.parametrize first"
    if kind is not nn.Linear or weight is None:
        what = "is no linear layer" if reads is None else "stores its weight in a way of its own"
        return f"a {kind.__name__} {what}, and factored layers take the place of nn.Linear; put one there"
    if not weight.dtype.is_floating_point:
        return f"its weight is of dtype {weight.dtype}, which is quantised; dequantise it first"
    if uses[id(weight)] > 1:
        return "its weight is tied to that of another module, which would keep the old one; untie them first"
    return None


def _rank(path: str, layer: nn.Linear, rank: float | Mapping[str, int]) -> int:
    if isinstance(rank, Mapping):
        if path not in rank:
            raise UsageError(f"no rank is stated for layer {path}; state one, or exclude the layer")
        rank = rank[path]
    return rank_of(path, layer.out_features, layer.in_features, rank)
