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
from lorank.lowrank.matrix_view import base_of
from lorank.lowrank.peft_tensors import MAGNITUDE, TABLE_A, TABLE_B, A, B, from_peft
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

Tensors = dict[str, Tensor]
Parsed = tuple[Settings, dict[str, LayerPlan], dict[str, Tensors], dict[str, Tensors], Tensors]
"""Settings, plan, updates, whole modules, and weights of the base that were written beside them."""

EMBEDDINGS = ("embed_tokens.weight", "lm_head.weight")
"""Weights of the base that PEFT writes where an embedding is adapted, besides ``*.base_layer.weight``."""


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
        updates: The tensors of each update under PEFT's names and in its shapes, by path.
        trained: The paths of the modules trained whole.
        model: The model that the adapter is on, in which names of layers must be unique.
        base_name: The base model's name; None where it is unknown.
        task_type: PEFT's task type; None leaves it open, as do updates on PEFT's automatic heads.
    """
    kind = form_type(settings.form)
    assert issubclass(kind, PeftForm)
    ranks = {path: tensors[A if A in tensors else TABLE_A].shape[0] for path, tensors in updates.items()}
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
        "fan_in_fan_out": any(layer_at(model, path).transposed for path in updates),
        **kind.peft_options,
    }
    return config | {key: value for key, value in optional.items() if value}


def parse(config: Mapping[str, object], tensors: Mapping[str, Tensor], folder: Path) -> Parsed:
    """Return settings, plan, updates, whole modules and weights of the base of a folder that PEFT wrote."""
    _check_options(config, folder)
    updates: dict[str, dict[str, Tensor]] = {}
    others: dict[str, Tensor] = {}
    bases: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        if not key.startswith(PREFIX):
            raise DataError(
                folder / FILE, None, f"key {key!r} does not start with {PREFIX!r}", "save it with PEFT again"
            )
        name = key[len(PREFIX) :]
        found = re.fullmatch(rf"(.+)\.({A}|{B}|{TABLE_A}|{TABLE_B}|{MAGNITUDE})", name)
        if found:
            updates.setdefault(found[1], {})[found[2]] = tensor
        elif ".lora_" in name:
            raise UsageError(
                f"{folder / FILE}: {name} belongs to a LoRA with a bias, which changes more than a weight; merge it "
                "with PEFT instead"
            )
        elif name.endswith((".base_layer.weight", *EMBEDDINGS)):
            bases[name.replace(".base_layer.", ".")] = tensor
        else:
            others[name] = tensor
    dora = bool(config.get("use_dora"))
    wanted = {A, B} | ({MAGNITUDE} if dora else set())
    written = {path: len(own[A if A in own else TABLE_A]) for path, own in updates.items() if {A, TABLE_A} & own.keys()}
    for path, own in updates.items():
        try:
            updates[path] = own = from_peft(own)
        except ValueError as error:
            raise DataError(folder / FILE, None, f"layer {path}: {error}", "or merge the adapter with PEFT") from error
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
        layer_rank = own[A].shape[0]
        stated = pattern_value(config.get("rank_pattern") or {}, path, rank)
        if written[path] != stated:
            raise DataError(
                folder / FILE,
                None,
                f"layer {path} has rank {written[path]}, the configuration says {stated}",
                "correct r or rank_pattern in adapter_config.json",
            )
        own_alpha = float(pattern_value(config.get("alpha_pattern") or {}, path, alpha))
        plan[path] = LayerPlan(layer_rank, _at_rank(own_alpha, stated, layer_rank, scaling))
    form = "dora" if dora else "lora"
    settings = Settings(form, form, "zero", scaling, rank, alpha, float(config.get("lora_dropout", 0.0)))
    return settings, plan, updates, _whole_modules(config, others, folder), bases


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
    return _at_rank(layer.alpha, layer.rank, rank, scaling)


def _at_rank(alpha: float, rank: int, other: int, scaling: str) -> float:
    """Return the alpha that gives rank ``other`` the scale that ``alpha`` gives ``rank``."""
    if rank == other:
        return alpha
    return alpha * (math.sqrt(other / rank) if scaling in BY_ROOT else other / rank)


def _commonest(values: Collection[float]) -> float:
    values = list(values)
    return max(dict.fromkeys(values), key=values.count)


def _longest_first(patterns: dict[str, float]) -> dict[str, float]:
    return dict(sorted(patterns.items(), key=lambda item: -len(item[0])))


def _number(value: float) -> float | int:
    return int(value) if float(value).is_integer() else value


def layer_at(model: nn.Module, path: str) -> BaseLinear:
    """Return the layer at ``path`` of ``model`` as updates see it."""
    module = model.get_submodule(path)
    return module.frozen if isinstance(module, Adapted) else base_of(module)


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
