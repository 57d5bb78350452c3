"""Which layers of a model are shrunk, and which cannot be: quantised, adapted, tied and shared ones."""

from collections import Counter
from collections.abc import Iterable, Mapping

from torch import nn
from torch.nn.utils import parametrize

from lorank.errors import UsageError
from lorank.layers import FactoredEmbedding, FactoredLinear, GridLinear
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.layer import Adapted
from lorank.lowrank.module_tree import find_paths
from lorank.lowrank.targets import ALL_LINEAR, is_linear, linear_layers, select_targets

OURS = (FactoredLinear, FactoredEmbedding, GridLinear)


def layers_to_shrink(
    model: nn.Module, targets: str | Iterable[str], exclude: Iterable[str], tables: bool
) -> dict[str, nn.Module]:
    """Return the linear layers to shrink by path, and with ``tables`` the embedding tables with more rows than columns.

    Args:
        model: The model.
        targets: The layers, as in `lorank.lowrank.attach`.
        exclude: The names of modules that are left alone.
        tables: Whether tables of vectors are shrunk too.

    Raises:
        UsageError: Where a layer cannot be shrunk; nothing has changed then.
    """
    factored = [path for path, module in model.named_modules() if isinstance(module, OURS)]
    if factored:
        raise UsageError(f"layer {factored[0]} is factored already; shrink the model that it was made of")
    exclude = list(exclude)
    if targets == ALL_LINEAR and not linear_layers(model):
        raise UsageError("the model has no linear layer to shrink")
    chosen = select_targets(model, targets, exclude)
    layers = {path: layer for path, layer in chosen.items() if is_linear(layer)}
    other = next((path for path in chosen if path not in layers and not isinstance(chosen[path], nn.Embedding)), None)
    if other is not None or (len(layers) < len(chosen) and not tables):
        path = other or next(path for path in chosen if path not in layers)
        raise UsageError(
            f"layer {path} is of type {type(chosen[path]).__name__}; linear layers are shrunk, and tables of vectors "
            "by ctr-lowrank-afm; leave it out of the targets"
        )
    if tables:
        layers = find_tables(model, exclude) | layers
    if not layers:
        raise UsageError(f"targets {targets!r} name no linear layer; name some, or write 'all-linear'")
    _check(model, layers)
    return layers


def find_tables(model: nn.Module, exclude: Iterable[str]) -> dict[str, nn.Module]:
    """Return the embedding tables of ``model`` that have more rows than columns, by path."""
    barred = tuple(exclude)
    return {
        path: module
        for path, module in model.named_modules()
        if type(module) is nn.Embedding
        and module.num_embeddings > module.embedding_dim
        and not any(path == name or path.endswith(f".{name}") for name in barred)
    }


def _check(model: nn.Module, layers: Mapping[str, nn.Module]) -> None:
    holders = Counter(
        parameter.data_ptr()
        for part in model.modules()
        for parameter in part._parameters.values()
        if parameter is not None
    )
    places = find_paths(model)
    for path, layer in layers.items():
        if isinstance(layer, Adapted):
            raise UsageError(f"layer {path} has an adapter; merge it into the weights first (adapter.export merged)")
        if BaseLinear.quantises(layer):
            raise UsageError(
                f"layer {path} is quantised; make it dense with lorank.lowrank.dequantise(model), or shrink the model "
                "that it was made of"
            )
        if parametrize.is_parametrized(layer, "weight"):
            raise UsageError(
                f"layer {path} computes its weight; call torch.nn.utils.parametrize.remove_parametrizations first"
            )
        if len(places[path]) > 1 or holders[layer.get_parameter("weight").data_ptr()] > 1:
            name = path.rpartition(".")[2]
            raise UsageError(
                f"the weight of layer {path} is tied to or shared with another module, which would keep the old one; "
                f"leave it out (exclude: {name}), or give it a weight of its own"
            )
