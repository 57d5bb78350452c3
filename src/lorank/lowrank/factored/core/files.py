"""A folder of factored layers: factored.json says what they are, factored.safetensors holds their tensors."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lorank.errors import DataError, UsageError
from lorank.files import replaced_folder
from lorank.lowrank.factored.core.layer import FACTORED, factored_options
from lorank.lowrank.factored.core.model import Factored
from lorank.lowrank.factored.core.replacing import make_factored
from lorank.lowrank.module_tree import replace_modules, unwrap_model

CARD, TENSORS = "factored.json", "factored.safetensors"


def save_factored(factored: Factored, folder: str | Path) -> None:
    """Write the layers, all or nothing.

    Args:
        factored: The layers.
        folder: The folder; other files in it stay.
    """
    card = {
        "method": factored.method,
        "options": factored.options,
        "seed": factored.seed,
        "ranks": {path: layer.rank for path, layer in factored.layers.items()},
    }
    with replaced_folder(folder, keep_others=True, own=(CARD, TENSORS)) as stage:
        save_file({name: value.detach().contiguous().cpu() for name, value in factored.state()}, stage / TENSORS)
        (stage / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


def open_factored(model: nn.Module, folder: str | Path) -> Factored:
    """Put the factored layers of a folder into ``model``, whose other weights must be those they were saved beside.

    Args:
        model: A model with an ``nn.Linear`` of the same shape at every path.
        folder: What ``save_factored`` wrote.

    Raises:
        DataError: Where the folder is not readable, or does not belong to the model.
    """
    folder = Path(folder)
    card, tensors = _read(folder)
    layers = dict(unwrap_model(model).named_modules())
    for path in card["ranks"]:
        if not isinstance(layers.get(path), nn.Linear):
            raise DataError(folder, None, f"the model has no linear layer {path}", "open the model that it was made of")
    for name, value in tensors.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise DataError(folder / TENSORS, None, f"{name} holds values that are no numbers", "save the layers again")
    before = [(path, layers[path]) for path in card["ranks"]]
    try:
        made = make_factored(
            model, card["method"], rank=card["ranks"], targets=list(card["ranks"]), seed=card["seed"], **card["options"]
        )
    except UsageError as error:
        raise DataError(folder / CARD, None, str(error), "open the model that it was made of") from error
    try:
        for path, layer in made.layers.items():
            own = {k.removeprefix(f"{path}."): v for k, v in tensors.items() if k.rpartition(".")[0] == path}
            _load(layer, own)
    except (KeyError, RuntimeError) as error:
        replace_modules(made.model, [(made.layers[path], layer) for path, layer in before])
        raise DataError(folder / TENSORS, None, f"it does not fit {CARD} ({error})", "save the layers again") from error
    return made


def _load(layer: nn.Module, tensors: dict[str, Tensor]) -> None:
    whole = {**layer.state_dict(), **tensors}
    missing = {name for name in layer.state_dict() if name != "bias"} - tensors.keys()
    if missing:
        raise KeyError(f"no {sorted(missing)[0]}")
    layer.load_state_dict(whole)


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        tensors = load_file(folder / TENSORS)
        method, ranks, options = card["method"], card["ranks"], card["options"]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise DataError(
            folder, None, f"holds no factored layers ({error!r})", "give a folder that save_factored wrote"
        ) from error
    sound = (
        isinstance(ranks, dict) and all(type(rank) is int for rank in ranks.values()) and type(card.get("seed")) is int
    )
    if (
        method not in FACTORED
        or not sound
        or not isinstance(options, dict)
        or set(options) - set(factored_options(method))
    ):
        raise DataError(folder / CARD, None, "its content is not that of factored layers", "save the layers again")
    return card, tensors
