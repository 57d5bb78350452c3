"""PEFT's adapter_config.json, in and out: what it says of ranks, scales, layers and whole modules.

The layers and ranks of a folder are read from its tensors; the configuration adds the scale. Only keys that
differ from PEFT's defaults are written, since versions of PEFT warn about keys they do not know.
"""

import math
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from torch import Tensor, nn

from lorank.errors import DataError, UsageError
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.forms import form_type
from lorank.lowrank.forms.peft_form import PeftForm
from lorank.lowrank.layer import Adapted
from lorank.lowrank.settings import LayerPlan, Settings
from lorank.lowrank.targets import pattern_value

FILE = "adapter_model.safetensors"
PREFIX = "base_model.model."
AUTOMATIC_HEADS = ("classifier", "score")
"""Modules that PEFT wraps by itself under SEQ_CLS and TOKEN_CLS, and then never targets."""

HARMLESS = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "revision",
        "task_type",
        "inference_mode",
        "peft_version",
        "peft_type",
        "r",
        "lora_alpha",
        "lora_dropout",
        "use_rslora",
        "use_dora",
        "fan_in_fan_out",
        "init_lora_weights",
        "bias",
        "target_modules",
        "exclude_modules",
        "layers_to_transform",
        "layers_pattern",
        "rank_pattern",
        "alpha_pattern",
        "modules_to_save",
        "megatron_config",
        "megatron_core",
        "loftq_config",
        "eva_config",
        "corda_config",
        "lora_ga_config",
        "ensure_weight_tying",
        "modules_to_tie",
        "qalora_group_size",
        "runtime_config",
    }
)
BY_ROOT = ("rslora", "rora-scaling")
MOVES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")

Parsed = tuple[Settings, dict[str, LayerPlan], dict[str, dict[str, Tensor]], dict[str, dict[str, Tensor]]]


def build(
    settings: Settings,
    plan: Mapping[str, LayerPlan],
    updates: Mapping[str, Mapping[str, Tensor]],
    trained: Collection[str],
    model: nn.Module,
    base_name: str | None,
    task_type: str | None,
) -> dict[str, object]:
    """Return the configuration of a folder with ``updates``; ranks are those of the tensors written.

    An update whose factors carry a start taken out of W has twice its layer's rank; its alpha grows so that
    the scale stays.

    Args:
        settings: The settings of the adapter, whose form PEFT has.
        plan: The rank and alpha of each layer, by path.
        updates: The tensors of each update under PEFT's names, by path.
        trained: The paths of the modules trained whole.
        model: The model that the adapter is on, in which names of layers must be unique.
        base_name: The base model's name; None where it is unknown.
        task_type: PEFT's task type; None leaves it open, as do updates on PEFT's automatic heads.
    """
    kind = form_type(settings.form)
    assert issubclass(kind, PeftForm)
    ranks = {path: tensors["lora_A.weight"].shape[0] for path, tensors in updates.items()}
    alphas = {path: _choose_written_alpha(plan[path], rank, settings.scaling) for path, rank in ranks.items()}
    rank, alpha = _commonest(ranks.values()), _commonest(alphas.values())
    if any(set(path.split(".")) & set(AUTOMATIC_HEADS) for path in updates):
        task_type = None
    config: dict[str, object] = {
        "peft_type": "LORA",
        "task_type": task_type,
        "base_model_name_or_path": base_name,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": _number(alpha),
        "lora_dropout": settings.dropout,
        "bias": "none",
        "target_modules": shortest_names(updates, model),
        "modules_to_save": [_unique_ending(path, model) for path in trained] or None,
    }
    optional = {
        "rank_pattern": _longest_first({path: own for path, own in ranks.items() if own != rank}),
        "alpha_pattern": _longest_first({path: _number(own) for path, own in alphas.items() if own != alpha}),
        "use_rslora": settings.scaling in BY_ROOT,
        "fan_in_fan_out": any(_layer(model, path).transposed for path in updates),
        **kind.peft_options,
    }
    return config | {key: value for key, value in optional.items() if value}


def parse(config: Mapping[str, object], tensors: Mapping[str, Tensor], folder: Path) -> Parsed:
    """Return settings, plan, updates and whole modules of a folder that PEFT wrote."""
    _check_options(config, folder)
    updates: dict[str, dict[str, Tensor]] = {}
    others: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        if not key.startswith(PREFIX):
            raise DataError(
                folder / FILE, None, f"key {key!r} does not start with {PREFIX!r}", "save it with PEFT again"
            )
        name = key[len(PREFIX) :]
        found = re.fullmatch(r"(.+)\.(lora_A\.weight|lora_B\.weight|lora_magnitude_vector)", name)
        if found:
            updates.setdefault(found[1], {})[found[2]] = tensor
        elif ".lora_" in name:
            raise UsageError(
                f"{folder / FILE}: {name} is an embedding's or a biased LoRA; lorank reads those of linear "
                "layers; merge it with PEFT instead"
            )
        else:
            others[name] = tensor
    dora = bool(config.get("use_dora"))
    wanted = {"lora_A.weight", "lora_B.weight"} | ({"lora_magnitude_vector"} if dora else set())
    for path, own in updates.items():
        if own.keys() != wanted:
            raise DataError(
                folder / FILE,
                None,
                f"layer {path} holds {sorted(own)}, not {sorted(wanted)}",
                "save it with PEFT again",
            )
    scaling = "rslora" if config.get("use_rslora") else "lora"
    rank, alpha = int(config.get("r", 8)), float(config.get("lora_alpha", 8))
    plan = {}
    for path, own in updates.items():
        layer_rank = own["lora_A.weight"].shape[0]
        stated = pattern_value(config.get("rank_pattern") or {}, path, rank)
        if layer_rank != stated:
            raise DataError(
                folder / FILE,
                None,
                f"layer {path} has rank {layer_rank}, the configuration says {stated}",
                "correct r or rank_pattern in adapter_config.json",
            )
        plan[path] = LayerPlan(layer_rank, float(pattern_value(config.get("alpha_pattern") or {}, path, alpha)))
    form = "dora" if dora else "lora"
    settings = Settings(form, form, "zero", scaling, rank, alpha, float(config.get("lora_dropout", 0.0)))
    return settings, plan, updates, _whole_modules(config, others, folder)


def shortest_names(paths: Collection[str], model: nn.Module) -> list[str]:
    """Return suffixes that name exactly ``paths`` among all modules of ``model``, as short as they can be."""
    others = [path for path, _ in model.named_modules() if path and path not in paths]
    others = [path for path in others if not any(path.startswith(own + ".") for own in paths)]
    taken = {".".join(parts[start:]) for parts in (path.split(".") for path in others) for start in range(len(parts))}
    names: dict[str, None] = {}
    for path in paths:
        parts = path.split(".")
        suffixes = (".".join(parts[start:]) for start in reversed(range(len(parts))))
        names[next((suffix for suffix in suffixes if suffix not in taken), path)] = None
    return list(names)


def _choose_written_alpha(layer: LayerPlan, rank: int, scaling: str) -> float:
    if layer.rank in (0, rank):
        return layer.alpha
    growth = rank / layer.rank
    return layer.alpha * (math.sqrt(growth) if scaling in BY_ROOT else growth)


def _commonest(values: Collection[float]) -> float:
    values = list(values)
    return max(dict.fromkeys(values), key=values.count)


def _longest_first(patterns: dict[str, float]) -> dict[str, float]:
    return dict(sorted(patterns.items(), key=lambda item: -len(item[0])))


def _number(value: float) -> float | int:
    return int(value) if float(value).is_integer() else value


def _layer(model: nn.Module, path: str) -> BaseLinear:
    module = model.get_submodule(path)
    return module.frozen if isinstance(module, Adapted) else BaseLinear(module)


def _unique_ending(path: str, model: nn.Module) -> str:
    """Return ``path``, checked to be the only module whose path ends with it: PEFT wraps every one that does."""
    clash = [other for other, _ in model.named_modules() if other != path and other.endswith(path)]
    if clash:
        raise UsageError(f"PEFT would wrap {clash[0]!r} for {path!r} too, since its name ends alike; rename the module")
    return path


def _check_options(config: Mapping[str, object], folder: Path) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise UsageError(
            f"{folder}: PEFT type {kind!r} is not read; lorank reads LORA (with rsLoRA, DoRA, rank_pattern, "
            "alpha_pattern, modules_to_save)"
        )
    if config.get("bias", "none") != "none":
        raise UsageError(
            f"{folder}: bias={config['bias']!r} changes the base's biases; lorank reads bias='none'; merge it "
            "with PEFT instead"
        )
    unknown = sorted(key for key, value in config.items() if value and key not in HARMLESS)
    if unknown:
        raise UsageError(
            f"{folder}: option {unknown[0]!r} of adapter_config.json is not known to lorank; merge the adapter "
            "with PEFT instead"
        )
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.startswith(MOVES_BASE):
        raise UsageError(
            f"{folder}: init_lora_weights={start!r} moved the base's weights and the folder was not converted; "
            "save it with PEFT's path_initial_model_for_weight_conversion"
        )


def _whole_modules(
    config: Mapping[str, object], tensors: Mapping[str, Tensor], folder: Path
) -> dict[str, dict[str, Tensor]]:
    listed = tuple(config.get("modules_to_save") or [])
    trained: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        parts = name.split(".")
        heads = (".".join(parts[:end]) for end in range(1, len(parts)))
        head = next((path for path in heads if path.endswith(listed)), None)
        if head is None:
            raise DataError(
                folder / FILE,
                None,
                f"{name} is neither an update nor in modules_to_save {list(listed)}",
                "list its module in modules_to_save",
            )
        trained.setdefault(head, {})[name[len(head) + 1 :]] = tensor
    return trained
