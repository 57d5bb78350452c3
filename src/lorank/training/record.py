"""run.json: everything needed to understand a run and to run it again."""

import json
import math
import os
import platform
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from lorank import __version__
from lorank.data.collection import Collection
from lorank.data.files import write_text
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.training.gain import Gain, as_record
from lorank.training.loop.run_state import Outcome
from lorank.training.movement import relative_movement, update_norms
from lorank.training.plan import Plan
from lorank.training.settings import Recipe, as_plain
from lorank.training.weights import AdapterWeights, WholeWeights
from lorank.tuned.mix import Mix

PACKAGES = ("torch", "transformers", "safetensors", "accelerate", "bm25s", "ir-measures", "numpy", "scipy")


def write_record(
    out: Path,
    plan: Plan,
    outcome: Outcome,
    mix: Mix,
    gains: Sequence[Gain],
    command: str | None,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write ``out/run.json``.

    Args:
        out: The run folder.
        plan: The run before its first step.
        outcome: How its loop ended.
        mix: The mix that was chosen.
        gains: What training gained.
        command: The command line.
        more: Further entries: the value on dev, the estimate of the time, the folds.
    """
    ranker, recipe = plan.ranker, plan.recipe
    record = {
        **circumstances(plan.data, recipe.seed, command),
        "settings": {"ranker": {"kind": ranker.kind, "base": ranker.base, **ranker.options()}, **as_plain(recipe)},
        "rate": {"lr": plan.rate.lr, "head_lr": plan.rate.head_lr, "from": plan.rate.source},
        "adapter": adapter_record(ranker, plan.weights, recipe, out / "model"),
        "movement": None
        if plan.movement is None
        else plan.movement.as_record() | {"sentence": plan.describe_movement()},
        "outcome": {
            "steps": outcome.steps,
            "best_step": outcome.best_step,
            "train_seconds": outcome.seconds,
            "stopped_early": outcome.stopped_early,
            "out_of_time": outcome.out_of_time,
        },
        **({} if plan.compress is None else {"compress": plan.compress.record()}),
        **({} if plan.debias is None else {"debias": plan.debias.record()}),
        **(more or {}),
        "gain": [as_record(gain) for gain in gains],
        "mix": {
            "first_stage": plan.found.source,
            "first_stage_weight": mix.first_stage,
            "weight": mix.weight,
            "spread": mix.spread,
            "dev_curve": [["inf" if math.isinf(g) else g, value] for g, value in mix.curve],
        },
    }
    write_text(out / "run.json", json.dumps(record, indent=1) + "\n")


def write_own_record(
    out: Path,
    recipe: Recipe,
    data: Collection,
    ranker: Any,
    seconds: float,
    mix: Mix,
    command: str | None,
    dev: Mapping[str, Any],
) -> None:
    """Write ``out/run.json`` of a ranker that learned by its own objective.

    Args:
        out: The run folder.
        recipe: The recipe, of which only the loss and the seed are used.
        data: The collection that the ranker was trained on.
        ranker: The ranker, which knows its options and its dev curve.
        seconds: The time that it learned, in seconds.
        mix: The mix, with its curve.
        command: The command line; None where there was none.
        dev: The value on dev and what it was measured on.
    """
    settings: dict[str, Any] = {"ranker": {"kind": ranker.kind, **ranker.options()}}
    if ranker.takes_loss:
        settings["loss"] = as_plain(recipe.loss)
    if hasattr(ranker, "settings"):
        settings["learning"] = as_plain(ranker.settings)
    best = max(ranker.dev_curve, key=lambda point: point[1], default=(0, 0.0))
    record = {
        **circumstances(data, recipe.seed, command),
        "recipe": as_plain(recipe),
        "settings": settings,
        "outcome": {
            "steps": max((step for step, _ in ranker.dev_curve), default=0),
            "best_step": best[0],
            "train_seconds": seconds,
        },
        "dev": dict(dev),
        "mix": {
            "first_stage": "given with the data",
            "first_stage_weight": mix.first_stage,
            "weight": mix.weight,
            "spread": mix.spread,
            "dev_curve": [["inf", value] for _, value in mix.curve],
        },
    }
    write_text(out / "run.json", json.dumps(record, indent=1) + "\n")


def circumstances(data: Collection, seed: int, command: str | None) -> dict[str, Any]:
    """Return under what circumstances a run was made: the version, the command, the machine, the collection."""
    return {
        "lorank": __version__,
        "command": command,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "seed": seed,
        "machine": machine(),
        "packages": packages(),
        "collection": {
            "name": data.name,
            "documents": len(data.document_ids),
            "card": data.card,
            "queries": {name: len(split) for name, split in data.splits.items()},
        },
    }


def adapter_record(
    ranker: TrainableRanker, weights: AdapterWeights | WholeWeights, recipe: Recipe, folder: Path
) -> dict[str, Any]:
    """Return the adapter's name, ranks, sizes and layers.

    Args:
        ranker: The tuned ranker.
        weights: What was trained.
        recipe: The recipe of the run.
        folder: The model folder, whose bytes are counted.
    """
    trained = sum(p.numel() for group in weights.parameter_groups() for p in group["params"])
    total = sum(p.numel() for p in ranker.module.parameters())
    record: dict[str, Any] = {
        "name": recipe.adapter.name,
        "rank": recipe.adapter.rank,
        "alpha": recipe.adapter.alpha,
        "trained_parameters": trained,
        "total_parameters": total,
        "bytes": folder_bytes(folder),
    }
    if weights.adapter is not None:
        norms = update_norms(weights.adapter)
        record["layers"] = [
            {"path": path, "rank": form.rank, "shape": [form.out_features, form.in_features], **norms.get(path, {})}
            for path, form in weights.adapter.forms.items()
        ]
        record["moved"] = relative_movement(norms)
    return record


def folder_bytes(folder: Path) -> int:
    """Return the size of a folder's files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def machine() -> dict[str, Any]:
    """Return what the numbers were measured on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def packages() -> dict[str, str]:
    """Return the versions of the packages that numbers depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def _cpu_name() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
