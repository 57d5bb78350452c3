"""How a model says which of its layers are made of factors: in ``config.factored``, which a model folder keeps.

    "factored": {"encoder.layer.0.attention.self.query": {"kind": "linear", "rank": 96, "bias": true}, ...}

Whoever opens the folder builds these layers before the weights are read. A folder that is opened as another class of
the same family (an encoder as a classifier, and the other way round) names its layers with or without the prefix.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from lorank.errors import DataError
from lorank.layers.factored_embedding import FactoredEmbedding
from lorank.layers.factored_linear import FactoredLinear
from lorank.layers.grid_linear import GridLinear

KEY = "factored"
"""The attribute of a configuration, and the key in config.json."""


@dataclass(frozen=True)
class LayerDescription:
    """What a layer is built from, beside the shape of the one whose place it takes.

    Args:
        kind: ``linear``, ``embedding`` or ``grid``.
        rank: The rank of the factors.
        bias: Whether it has a bias.
        grid: The grid of a ``grid`` layer.
        group: The number of weights that share a scale there.
        round_inputs: Whether its inputs are rounded.
    """

    kind: str
    rank: int
    bias: bool = True
    grid: str | None = None
    group: int | None = None
    round_inputs: bool = False

    @classmethod
    def of(cls, layer: nn.Module) -> "LayerDescription | None":
        """Return the description of a layer, None where it is none of these kinds."""
        if isinstance(layer, FactoredLinear):
            return cls("linear", layer.rank, layer.bias is not None)
        if isinstance(layer, FactoredEmbedding):
            return cls("embedding", layer.rank)
        if isinstance(layer, GridLinear):
            return cls("grid", layer.rank, layer.bias is not None, layer.grid, layer.group, layer.round_inputs)
        return None

    def build(self, old: nn.Module) -> nn.Module:
        """Return an empty layer of this description for the place of ``old``."""
        if self.kind == "embedding":
            assert isinstance(old, nn.Embedding)
            return FactoredEmbedding(old.num_embeddings, old.embedding_dim, self.rank, old.padding_idx)
        out_features, in_features = shape_of(old)
        if self.kind == "grid":
            settings = self.grid or "fp4", self.group or 256, self.round_inputs
            return GridLinear(in_features, out_features, self.rank, self.bias, *settings)
        return FactoredLinear(in_features, out_features, self.rank, self.bias)


def shape_of(layer: nn.Module) -> tuple[int, int]:
    """Return [out, in] of a linear layer; transformers' ``Conv1D`` stores its weight the other way round."""
    rows, columns = layer.get_parameter("weight").shape
    return (columns, rows) if type(layer).__name__ == "Conv1D" else (rows, columns)


def describe_layers(model: nn.Module) -> dict[str, dict[str, Any]]:
    """Return the description of each layer of ``model`` that is made of factors, by path, as JSON-ready data.

    >>> describe_layers(nn.Sequential(FactoredLinear(4, 4, 1), nn.Linear(4, 4)))["0"]["rank"]
    1
    """
    found = {path: LayerDescription.of(layer) for path, layer in model.named_modules()}
    return {
        path: {key: value for key, value in asdict(each).items() if value is not None}
        for path, each in found.items()
        if each is not None
    }


def build_layers(model: nn.Module, described: Mapping[str, Mapping[str, Any]]) -> None:
    """Put empty layers of factors in their places of ``model``; places that it does not have are left out.

    >>> model = nn.Sequential(nn.Linear(4, 4)); build_layers(model, {"0": {"kind": "linear", "rank": 1}}); model[0].rank
    1
    """
    paths = dict(model.named_modules())
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    for stated, about in described.items():
        path = next((each for each in (stated, prefix + stated, stated.removeprefix(prefix)) if each in paths), None)
        if path is None:
            continue
        parent, _, name = path.rpartition(".")
        setattr(paths[parent], name, LayerDescription(**about).build(paths[path]))


def class_of_saved(kind: type[nn.Module], config: Any) -> type[nn.Module]:
    """Return a class that makes models of ``kind`` with the layers that ``config`` describes; ``kind`` without any.

    Args:
        kind: A model class of transformers.
        config: The configuration of the folder that is opened.
    """
    described = getattr(config, KEY, None)
    if not described:
        return kind
    if not isinstance(described, Mapping):
        where = getattr(config, "_name_or_path", "") or "config.json"
        raise DataError(where, None, f"{KEY!r} is not an object of layers", "fetch or write the folder again")

    def init(self: nn.Module, *values: Any, **named: Any) -> None:
        kind.__init__(self, *values, **named)
        build_layers(self, described)

    return type(kind.__name__, (kind,), {"__init__": init, "__module__": kind.__module__})


def open_saved(kind: Any, source: Any, described_by: Any, **options: Any) -> Any:
    """Return ``kind.from_pretrained(source, ...)``, with the layers of factors that a configuration describes.

    Args:
        kind: A model class of transformers, or one of its loaders where no layer is factored.
        source: The folder or Hub name.
        described_by: The configuration of what was saved there.
        options: Further arguments of ``from_pretrained``.
    """
    opened: Any = class_of_saved(kind, described_by)
    made = opened.from_pretrained(source, **options)
    if opened is not kind:
        (made[0] if isinstance(made, tuple) else made).__class__ = kind
    return made
