"""The adapter folder: PEFT's two files, and beside them what PEFT has no place for.

    adapter_config.json         PEFT's configuration, for forms that PEFT has
    adapter_model.safetensors   the updates, unscaled, and the modules trained whole, under PEFT's names
    lorank.json                 method, start, seed, rank and alpha of every layer, number of labels

Always against the model's original weights. Layers of rank 0 are in lorank.json alone, but
for DoRA's, whose magnitude is written beside factors of rank 1 that are 0.
"""

import json
import sys
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor, nn

from lorank import __version__, plugins
from lorank.errors import DataError, LorankError, UsageError
from lorank.lowrank import peft_config
from lorank.lowrank.derived import Sketch
from lorank.lowrank.forms.form import default_option, form_type
from lorank.lowrank.forms.peft_form import PeftForm
from lorank.lowrank.peft_tensors import MAGNITUDE, find_peft_obstacle, from_peft, to_peft
from lorank.lowrank.settings import LayerPlan, Settings
from lorank.manifest import add_manifest, check_manifest, read_bytes, read_unchanged

CONFIG, TENSORS, OWN, HEAD = "adapter_config.json", "adapter_model.safetensors", "lorank.json", "head.safetensors"
FILES = (CONFIG, TENSORS, OWN, HEAD)
"""The files of an adapter folder."""
PREFIX = "base_model.model."

LARGEST_JSON, LARGEST_HEADER = 1 << 26, 1 << 26
"""The most bytes of a description, and of a safetensors file's list of tensors."""
MOST_TENSORS, LONGEST_NAME = 1 << 17, 1000

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Contents:
    """What a folder holds: how it was made, each layer's rank, alpha and tensors, each whole module's tensors."""

    settings: Settings
    plan: Mapping[str, LayerPlan]
    updates: Mapping[str, Tensors]
    trained: Mapping[str, Tensors]
    sketches: Mapping[str, Sketch] = field(default_factory=dict)
    """Of updates whose factors are computed from W; see ``derived``."""
    bases: Mapping[str, Tensor] = field(default_factory=dict)
    """Weights of the base that PEFT wrote beside the updates of embeddings, by name; the model must have them too."""


def read(folder: Path) -> Contents:
    """Return the contents of an adapter folder: of one save, whatever happens to the folder meanwhile."""
    return read_unchanged(folder, _read)


def _read(folder: Path) -> Contents:
    if (folder / OWN).is_file():
        check_manifest(folder, read_json(folder / OWN).get("files"), folder / OWN)
        return _read_own(folder)
    if (folder / CONFIG).is_file():
        config = read_json(folder / CONFIG)
        settings, plan, updates, trained, bases = peft_config.parse(config, read_tensors(folder / TENSORS), folder)
        return Contents(settings, plan, updates, trained, bases=bases)
    raise DataError(folder, None, f"no adapter here: neither {OWN} nor {CONFIG}", "give a folder that `save` wrote")


def write(
    contents: Contents,
    model: nn.Module,
    folder: Path,
    *,
    base_name: str | None,
    task_type: str | None,
    head_beside: bool = False,
) -> None:
    """Write ``contents`` into ``folder``, open the files again and compare every tensor.

    Args:
        contents: The settings, plan and tensors of the adapter.
        model: The model that the adapter is on, which gives the names of layers and the number of labels.
        folder: The existing folder that receives the files.
        base_name: The base model's name, for ``base_model_name_or_path``.
        task_type: PEFT's task type; None takes SEQ_CLS for a sequence classifier.
        head_beside: True writes the modules trained whole into a file of their own instead of among the updates.
    """
    task_type = task_type or _task_type(model)
    layers = {path: peft_config.layer_at(model, path) for path in contents.updates}
    shaped = {path: to_peft(tensors, layers[path]) for path, tensors in contents.updates.items()}
    updates = {f"{PREFIX}{path}.{key}": tensor for path, tensors in shaped.items() for key, tensor in tensors.items()}
    heads = {f"{path}.{key}": tensor for path, tensors in contents.trained.items() for key, tensor in tensors.items()}
    if head_beside:
        _write_tensors(updates, folder / TENSORS)
        if heads:
            _write_tensors(heads, folder / HEAD)
    else:
        _write_tensors(updates | {PREFIX + key: tensor for key, tensor in heads.items()}, folder / TENSORS)
    strange = any(find_peft_obstacle(layers[path], MAGNITUDE in own) for path, own in contents.updates.items())
    if issubclass(form_type(contents.settings.form), PeftForm) and updates and not strange:
        trained = [] if head_beside else list(contents.trained)
        config = peft_config.build(
            contents.settings,
            contents.plan,
            shaped,
            trained,
            model,
            base_name,
            None if head_beside else task_type,
        )
        _write_json(config, folder / CONFIG)
    _write_json(_description(contents, model, base_name, task_type), folder / OWN)
    add_manifest(folder, OWN)


def read_tensors(path: Path) -> Tensors:
    """Return the tensors of a safetensors file."""
    if not path.is_file():
        pickled = path.with_suffix(".bin")
        if pickled.is_file():
            raise DataError(
                pickled, None, "pickled tensors are not read", "save the adapter again with safe_serialization=True"
            )
        raise DataError(path, None, "the file is missing", "give a folder with a complete adapter")
    data = read_bytes(path)
    check_header(data, path)
    try:
        return load(data)
    except SafetensorError as error:
        raise DataError(path, None, f"not a whole safetensors file ({error})", "copy or save it again") from error


def check_header(data: bytes, path: Path, most: int = MOST_TENSORS) -> None:
    """Raise DataError for a safetensors file with more than ``most`` tensors, or a name that no module can have."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(len(data) - 8, LARGEST_HEADER):
        raise DataError(path, None, "not a whole safetensors file (its header is cut off)", "copy or save it again")
    try:
        names = json.loads(data[8 : 8 + size])
    except (ValueError, RecursionError) as error:
        raise DataError(path, None, "not a whole safetensors file (no JSON in its header)", "save it again") from error
    if not isinstance(names, dict) or len(names) > most:
        raise DataError(path, None, f"it has {len(names)} tensors, more than {most}", "is this an adapter?")
    for name in names:
        if len(name) > LONGEST_NAME or not name.isprintable():
            raise DataError(
                path,
                None,
                f"the tensor name {name[:40]!r}... of {len(name)} characters is no module's",
                f"names have at most {LONGEST_NAME} printable characters",
            )


def read_json(path: Path) -> dict[str, object]:
    """Return the object in a JSON file."""
    try:
        value = json.loads(read_bytes(path, LARGEST_JSON).decode("utf-8"))
    except RecursionError as error:
        raise DataError(path, None, "JSON nested too deep", "save the adapter again") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(
            path, getattr(error, "lineno", None), f"not JSON ({error})", "save the adapter again"
        ) from error
    if not isinstance(value, dict):
        raise DataError(path, 1, "not a JSON object", "save the adapter again")
    return value


def _read_own(folder: Path) -> Contents:
    about = read_json(folder / OWN)
    for module, source in dict(about.get("imports") or {}).items():  # type: ignore[call-overload]
        if module not in sys.modules:
            raise UsageError(plugins.needed(str(module), str(source), folder))
    try:
        layers = about["layers"]
        settings = _with_earlier_defaults(Settings(**about["settings"]))
        plan = {path: LayerPlan(int(layer["rank"]), float(layer["alpha"])) for path, layer in layers.items()}
        heads, sketches = list(about["trained"]), dict(about.get("sketches") or {})
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(folder / OWN, None, f"not what lorank writes ({error!r})", "save the adapter again") from error
    tensors = {_strip_prefix(key, folder): tensor for key, tensor in read_tensors(folder / TENSORS).items()}
    if (folder / HEAD).is_file():
        tensors |= read_tensors(folder / HEAD)
    updates: dict[str, Tensors] = {}
    trained: dict[str, Tensors] = {path: {} for path in heads}
    owners = {*plan, *heads}
    for key, tensor in tensors.items():
        owner = owner_of(key, owners)
        if owner is None:
            raise DataError(
                folder / TENSORS, None, f"{key} belongs to no layer named in {OWN}", "save the adapter again"
            )
        place = trained if owner in trained else updates
        place.setdefault(owner, {})[key[len(owner) + 1 :]] = tensor
    return Contents(settings, plan, _in_matrix_shape(updates, folder), trained, sketches)


def _in_matrix_shape(updates: Mapping[str, Tensors], folder: Path) -> dict[str, Tensors]:
    """Return ``updates`` in the shapes of matrices, from PEFT's shapes for embeddings and convolutions."""
    found = {}
    for path, tensors in updates.items():
        try:
            found[path] = from_peft(tensors)
        except ValueError as error:
            raise DataError(folder / TENSORS, None, f"layer {path}: {error}", "save the adapter again") from error
    return found


def _with_earlier_defaults(settings: Settings) -> Settings:
    """Return the settings with the options that a folder without them was written under."""
    earlier = {**form_type(settings.form).earlier_options}
    return replace(settings, options={**earlier, **settings.options}) if earlier else settings


def owner_of(key: str, owners: Collection[str]) -> str | None:
    """Return the longest of ``owners`` that is a path above ``key``, or None; ``owners`` is asked once a dot.

    >>> owner_of("bert.layer.0.query.lora_A.weight", {"bert.layer.0.query", "bert"})
    'bert.layer.0.query'
    """
    end = key.rfind(".")
    while end > 0 and key[:end] not in owners:
        end = key.rfind(".", 0, end)
    return key[:end] if end > 0 else None


def _strip_prefix(key: str, folder: Path) -> str:
    if not key.startswith(PREFIX):
        raise DataError(folder / TENSORS, None, f"key {key!r} does not start with {PREFIX!r}", "save the adapter again")
    return key[len(PREFIX) :]


def _description(
    contents: Contents, model: nn.Module, base_name: str | None, task_type: str | None
) -> dict[str, object]:
    config = getattr(model, "config", None)
    kind = form_type(contents.settings.form)
    defaults = {name: default_option(kind, name) for name in kind.earlier_options}
    settings = asdict(replace(contents.settings, options=defaults | dict(contents.settings.options)))
    imports = plugins.modules_of(kind)
    return {
        "lorank": __version__,
        "settings": settings,
        "layers": {path: asdict(layer) for path, layer in contents.plan.items()},
        "trained": list(contents.trained),
        "base": base_name,
        "architecture": type(model).__name__,
        "task_type": task_type,
        "num_labels": getattr(config, "num_labels", None),
        **({"imports": imports} if imports else {}),
        **({"sketches": dict(contents.sketches)} if kind.derived else {}),
    }


def _task_type(model: nn.Module) -> str | None:
    return "SEQ_CLS" if type(model).__name__.endswith("ForSequenceClassification") else None


def _write_tensors(tensors: Tensors, path: Path) -> None:
    plain = torch.contiguous_format
    copies = {key: tensor.detach().cpu().clone(memory_format=plain) for key, tensor in tensors.items()}
    save_file(copies, path, metadata={"format": "pt"})
    again = read_tensors(path)
    changed = [
        key
        for key, tensor in copies.items()
        if key not in again or again[key].dtype != tensor.dtype or not _bit_equal(again[key], tensor)
    ]
    if changed or len(again) != len(copies):
        raise LorankError(
            f"{path.name}: {changed[:3]} were not written as they are; nothing was kept, is the disk full?"
        )


def _bit_equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(
        a.reshape(-1).contiguous().view(torch.uint8), b.reshape(-1).contiguous().view(torch.uint8)
    )


def _write_json(value: dict[str, object], path: Path) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
