"""What a checkpoint did not bring: new heads and poolers, which must be trained and saved whole."""

from collections.abc import Iterable

from torch import nn


def new_head_modules(model: nn.Module, missing_keys: Iterable[str]) -> list[str]:
    """Return the paths of the modules whose every weight is new, as high up as that holds.

    Loading tells the missing keys: ``from_pretrained(..., output_loading_info=True)[1]["missing_keys"]``.
    On a plain encoder's checkpoint that gives ``classifier`` for BERT (and ``bert.pooler`` where the
    checkpoint has none), the two-layer ``classifier`` for RoBERTa, ``pooler`` and ``classifier`` for
    DeBERTa-v2, ``head`` and ``classifier`` for ModernBERT. Pass them to ``attach`` as ``trained``.

    Args:
        model: the loaded model.
        missing_keys: names of parameters and buffers that the checkpoint did not hold.

    >>> model = nn.ModuleDict({"encoder": nn.Linear(2, 2), "head": nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))})
    >>> new_head_modules(model, ["head.0.weight", "head.0.bias", "head.1.weight", "head.1.bias"])
    ['head']
    >>> new_head_modules(model, ["head.1.weight", "head.1.bias"])
    ['head.1']
    """
    parameters = dict(model.named_parameters())
    missing = set(missing_keys) & parameters.keys()
    found: dict[str, None] = {}
    for key in (key for key in parameters if key in missing):
        path = key.rpartition(".")[0]
        while path and _all_new(parameters, missing, path.rpartition(".")[0]):
            path = path.rpartition(".")[0]
        found[path] = None
    return list(found)


def _all_new(parameters: Iterable[str], missing: set[str], path: str) -> bool:
    return bool(path) and all(key in missing for key in parameters if key.startswith(path + "."))
