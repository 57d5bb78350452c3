"""Export an adapter for others to load, open what was written, and say what became of the scores."""

import copy
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils import parametrize

from lorank.errors import LorankError, UsageError, unknown_name
from lorank.files import replaced_folder
from lorank.layers import open_saved
from lorank.lowrank.adapter_files import FILES, write
from lorank.lowrank.agreement import Probe, ScoreChange, compare_scores, probe_scores
from lorank.lowrank.algebra.factors import plain_lora
from lorank.lowrank.folder import contents_of, reopened_scores
from lorank.lowrank.forms import Factors, Form
from lorank.lowrank.forms.peft_form import PeftForm
from lorank.lowrank.layer import Adapted
from lorank.lowrank.matrix_view import MatrixView
from lorank.lowrank.module_tree import replace_module
from lorank.lowrank.peft_tensors import MAGNITUDE, find_peft_obstacle
from lorank.lowrank.settings import LayerPlan, Settings
from lorank.lowrank.updates import Updates


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote and, where a probe was given, how the scores moved."""

    format: str
    files: list[Path]
    change: ScoreChange | None

    @property
    def largest_change(self) -> float | None:
        """The largest absolute change of a score."""
        return None if self.change is None else self.change.largest

    @property
    def kendall_tau(self) -> float | None:
        """Kendall's tau-b between the scores before and after."""
        return None if self.change is None else self.change.kendall_tau

    @property
    def flipped_pairs(self) -> int | None:
        """How many pairs of the probe changed their order."""
        return None if self.change is None else self.change.flipped_pairs


@dataclass(frozen=True)
class ExportOptions:
    """Options of the formats; see ``export``."""

    base_name: str | None = None
    task_type: str | None = None
    rank: int | None = None
    energy: float | None = None
    dtype: torch.dtype = torch.float32
    tokenizer: object | None = None


UNTIED = 1e-3
"""How far an output may move, relative to the largest, where a weight that was shared is written twice."""

Writer = Callable[[Updates, Path, ExportOptions], None]
Reader = Callable[[Updates, Path, Probe], object]

EXPORTS: dict[str, tuple[Writer, Reader]] = {}
"""Every format: how it is written, and how a probe's scores come out of what was written."""


def export_format(name: str, reader: Reader) -> Callable[[Writer], Writer]:
    """Decorate a writer to register it, with its ``reader``, as the format ``name``."""

    def enter(writer: Writer) -> Writer:
        EXPORTS[name] = (writer, reader)
        return writer

    return enter


def export(
    adapter: Updates,
    folder: str | Path,
    format: str = "peft",
    *,
    probe: Probe | None = None,
    limit: float | None = 1e-4,
    options: ExportOptions | None = None,
) -> ExportReport:
    """Write ``adapter`` in a format that other tools load.

    Args:
        adapter: as trained; not merged.
        folder: where to; appears only when all went well.
        format: ``peft``: faithful, for forms that PEFT has. ``portable``: plain LoRA of one rank, scale folded
            into B, alpha = r, modules trained whole in head.safetensors beside it; a form that is no LoRA is
            cut off by SVD at ``rank`` or ``energy``. ``merged``: the whole model, added in float32, cast to
            ``dtype``, with ``tokenizer`` where given.
        probe: scores a fixed set of inputs with the model it is given; without it scores are not compared.
        limit: the largest change of a score that is let through; None lets any.
        options: base name, task type, rank, energy in (0, 1], dtype, tokenizer.

    Raises:
        LorankError: where a score moves by more than ``limit``; nothing is left behind.
    """
    check_exportable(adapter, format)
    options = options or ExportOptions()
    with replaced_folder(folder, keep_others=True, own=FILES) as stage:
        report = export_into(adapter, stage, format, probe=probe, limit=limit, options=options)
    return replace(report, files=[Path(folder) / path.relative_to(stage) for path in report.files])


def check_exportable(adapter: Updates, format: str) -> None:
    """Raise UsageError for an unknown format, and for an adapter that is merged."""
    if format not in EXPORTS:
        raise unknown_name("export format", format, EXPORTS)
    if adapter.merged:
        raise UsageError("the adapter is merged; unmerge it before exporting")


def export_into(
    adapter: Updates, folder: Path, format: str, *, probe: Probe | None, limit: float | None, options: ExportOptions
) -> ExportReport:
    """Write ``adapter`` into an empty ``folder``; see ``export``.

    Args:
        adapter: The trained updates, not merged.
        folder: The folder that receives the files.
        format: The name of a format in ``EXPORTS``.
        probe: It scores a fixed set of inputs, whose scores are compared; None compares none.
        limit: The largest change of a score, 0 or more, that is allowed; None allows any.
        options: The base's name, the task type, and what else the format takes.

    Raises:
        LorankError: If a score moves by more than ``limit``; the caller discards the folder then.
    """
    writer, reader = EXPORTS[format]
    writer(adapter, folder, options)
    change = None
    if probe is not None:
        change = compare_scores(probe_scores(probe, adapter.model), reader(adapter, folder, probe))
        if limit is not None and not change.largest <= limit:
            raise LorankError(
                f"the {format} export moves a score by {change.largest:.3g}, above the limit of {limit:.3g} "
                f"(Kendall tau {change.kendall_tau:.4f}, {change.flipped_pairs} of {change.pairs} pairs flipped)"
                "; nothing was written. Allow more with `limit`, or export at a higher rank or in float32"
            )
    return ExportReport(format, sorted(path for path in folder.rglob("*") if path.is_file()), change)


@export_format("peft", reopened_scores)
def write_peft(adapter: Updates, folder: Path, options: ExportOptions) -> None:
    """Write the folder that PEFT loads."""
    contents = contents_of(adapter)
    if not any(isinstance(form, PeftForm) for form in adapter.forms.values()):
        raise UsageError(f"PEFT has no form {adapter.settings.form!r}; export it as 'portable' or 'merged'")
    for path, tensors in contents.updates.items():
        obstacle = find_peft_obstacle(adapter.layers[path].frozen, MAGNITUDE in tensors)
        if obstacle is not None:
            raise UsageError(f"layer {path}: {obstacle}; export it as 'merged'")
    if not contents.updates:
        raise UsageError("every layer has rank 0 and PEFT needs one that is adapted; export it as 'merged'")
    write(contents, adapter.model, folder, base_name=options.base_name, task_type=options.task_type)


@export_format("portable", reopened_scores)
def write_portable(adapter: Updates, folder: Path, options: ExportOptions) -> None:
    """Write plain LoRA of one rank and scale 1, with the whole modules beside it."""
    for path, layer in adapter.layers.items():
        obstacle = find_peft_obstacle(layer.frozen)
        if isinstance(layer.frozen, MatrixView) and layer.frozen.groups > 1:
            obstacle = "the factors of a convolution in groups have a rank of their own"
        if obstacle is not None:
            raise UsageError(f"layer {path}: {obstacle}; export it as 'peft' or 'merged'")
    factors = {path: _plain_lora(path, adapter.layers[path], form, options) for path, form in adapter.forms.items()}
    rank = max(factor.A.shape[0] for factor in factors.values())
    if not rank:
        raise UsageError("every layer has rank 0; there is nothing to export")
    updates = {path: _pad(factor, rank) for path, factor in factors.items()}
    settings = Settings("lora", "lora", "zero", "lora", rank, float(rank), seed=adapter.settings.seed)
    contents = replace(
        contents_of(adapter),
        settings=settings,
        updates=updates,
        plan={path: LayerPlan(rank, float(rank)) for path in updates},
    )
    write(contents, adapter.model, folder, base_name=options.base_name, task_type=options.task_type, head_beside=True)


def _score_merged(adapter: Updates, folder: Path, probe: Probe) -> object:
    kept = next(adapter.model.parameters())
    return probe_scores(
        probe, open_saved(type(adapter.model), folder, adapter.model.config).to(kept.device, kept.dtype)
    )


@export_format("merged", _score_merged)
def write_merged(adapter: Updates, folder: Path, options: ExportOptions) -> None:
    """Write the whole model, transformers' layout, with W + dW as its weights."""
    model = adapter.model
    if not hasattr(model, "save_pretrained"):
        raise UsageError(f"a {type(model).__name__} has no save_pretrained; merge() it and save its state_dict")
    adapted = {path: layer for path, layer in model.named_modules() if isinstance(layer, Adapted)}
    for path, layer in adapted.items():
        if parametrize.is_parametrized(layer.base):
            raise UsageError(
                f"layer {path} computes its weight (torch.nn.utils.parametrize), which the merged files have no place "
                "for; call torch.nn.utils.parametrize.remove_parametrizations on it before the adapter is attached"
            )
    untied = find_tied(model, adapted)
    try:
        for path, layer in adapted.items():
            layer.merge()
            replace_module(model, path, layer.base)
        _save_model(model, folder, options.dtype, untied)
    finally:
        for path, layer in adapted.items():
            replace_module(model, path, layer)
            layer.unmerge()
    if options.tokenizer is not None:
        options.tokenizer.save_pretrained(folder)


def find_tied(model: nn.Module, layers: Mapping[str, Adapted]) -> list[str]:
    """Return the paths of those ``layers`` whose weight another module of ``model`` holds as well.

    >>> model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)); model[1].weight = model[0].weight
    >>> layer = Adapted(model[1], "1"); model[1] = layer; find_tied(model, {"1": layer})
    ['1']
    """
    holders = Counter(id(own) for part in model.modules() for own in part._parameters.values() if own is not None)
    return [path for path, layer in layers.items() if holders[id(layer.base._parameters.get("weight"))] > 1]


def _save_model(model: nn.Module, folder: Path, dtype: torch.dtype, untied: Sequence[str]) -> None:
    """Write ``model`` as ``dtype``; where merging has given the ``untied`` layers weights of their own, check it."""
    if next(model.parameters()).dtype != dtype:
        model = copy.deepcopy(model).to(dtype)
    if not untied:
        model.save_pretrained(folder)
        return
    config = model.config
    configs = list({id(own): own for own in (config, config.get_text_config(decoder=True))}.values())
    tied = [(own, own.tie_word_embeddings) for own in configs if hasattr(own, "tie_word_embeddings")]
    try:
        for own, _ in tied:
            own.tie_word_embeddings = False
        model.save_pretrained(folder)
    finally:
        for own, was in tied:
            own.tie_word_embeddings = was
    if not _reopens_alike(model, folder):
        raise LorankError(
            f"{', '.join(untied)} shares its weight with another module, and a {type(model).__name__} cannot be saved "
            "with the update on one of the two alone; nothing was written. Leave it out when attaching "
            f"(exclude={list(untied)}), or export as 'peft' or 'portable'"
        )


@torch.no_grad()
def _reopens_alike(model: nn.Module, folder: Path) -> bool:
    """Return whether what lies in ``folder`` opens with the weights of ``model``, and computes as it does."""
    device, dtype = next(model.parameters()).device, next(model.parameters()).dtype
    again = open_saved(type(model), folder, model.config).to(device, dtype)
    own, other = dict(model.named_parameters()), dict(again.named_parameters())
    if own.keys() != other.keys() or not all(torch.equal(tensor, other[key]) for key, tensor in own.items()):
        return False
    inputs = {key: value.to(device) for key, value in model.dummy_inputs.items()}
    before, after = (probe_scores(lambda one: one(**inputs)[0], own) for own in (model, again))
    return compare_scores(before, after).largest <= UNTIED * max(1.0, float(abs(before).max()))


def _plain_lora(path: str, layer: Adapted, form: Form, options: ExportOptions) -> Factors:
    factors = plain_lora(form, layer.frozen.weight, options.rank, options.energy)
    if factors is None:
        raise UsageError(f"{type(form).__name__} on {path} is no plain LoRA; say at which rank or energy to cut it off")
    return factors


def _pad(factors: Factors, rank: int) -> dict[str, torch.Tensor]:
    A, B, scaling = factors
    extra = rank - A.shape[0]
    return {
        "lora_A.weight": torch.cat([A, A.new_zeros(extra, A.shape[1])]),
        "lora_B.weight": torch.cat([scaling * B, B.new_zeros(B.shape[0], extra)], dim=1),
    }


__all__ = ["EXPORTS", "ExportOptions", "ExportReport", "check_exportable", "export", "export_format", "export_into"]
