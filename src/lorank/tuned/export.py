"""Export of a tuned ranker for others to load, each checked by scoring again what was written."""

from dataclasses import replace
from pathlib import Path

from torch import nn

from lorank.errors import LorankError, UsageError
from lorank.files import replaced_folder
from lorank.layers import describe_layers
from lorank.lowrank import ExportReport
from lorank.lowrank.export import ExportOptions, check_exportable, export_into
from lorank.manifest import add_manifest
from lorank.ranking.scorers.folders import write_card
from lorank.ranking.scorers.pretrained import quiet_transformers
from lorank.tuned.probe import Probe
from lorank.tuned.ranker import TunedRanker

MERGING = 0.01
"""The limit for a policy that is merged to be trained on: sums over a reply's tokens move further than logits do."""

TASK_TYPES = {"bi-encoder": "FEATURE_EXTRACTION", "cross-encoder": "SEQ_CLS"}


WRITTEN = ("adapter_config.json", "lorank.json", "config.json")
"""One of these is in every folder that an export wrote; others are never replaced."""


def export(
    tuned: TunedRanker,
    out: str | Path,
    format: str,
    *,
    limit: float | None = 1e-4,
    rank: int | None = None,
    overwrite: bool = False,
) -> ExportReport:
    """Write the learned part of ``tuned`` in a format that other tools load.

    A merged folder is a whole model in the layout of transformers and sentence-transformers. The first stage is
    not part of any of these formats: their scores are the learned ones alone. The folder appears whole or not at all.

    Args:
        tuned: The ranker, which has an adapter; it is unmerged first.
        out: The folder to write.
        format: The name of a format: ``peft``, ``portable`` or ``merged``.
        limit: The largest change of a score, 0 or more, that is allowed; None allows any.
        rank: The highest rank of a ``portable`` update; None keeps a LoRA's own, and another form requires one.
        overwrite: True lets an earlier export be replaced.

    Raises:
        LorankError: If ``out`` exists and ``overwrite`` is False, or a score moves by more than ``limit``; nothing is
            written or replaced then.
        UsageError: If the ranker has no adapter, or the format is unknown.
    """
    tuned.refuse_cascade("exported")
    if format != "merged" or tuned.adapter is None:  # what is merged is a folder that lorank reads
        check_layers_are_known(tuned)
    if tuned.adapter is None:
        raise UsageError("this ranker was trained whole and has no adapter; its model/ folder is ready for others")
    tuned.unmerge()
    out, ranker = Path(out), tuned.trainable
    if getattr(ranker, "adapted", "both") == "queries":
        raise UsageError(
            "this ranker's adapter is for queries alone, and other tools would encode documents with it too; use its "
            "folder with lorank"
        )
    _check_free(out, overwrite)
    check_exportable(tuned.adapter, format)
    with replaced_folder(out) as stage, quiet_transformers():
        options = ExportOptions(
            base_name=str(ranker.base),
            task_type=TASK_TYPES.get(ranker.kind),
            rank=rank,
            tokenizer=getattr(ranker, "tokenizer", None),
        )
        report = export_into(tuned.adapter, stage, format, probe=Probe(ranker), limit=limit, options=options)
        if format == "merged":
            ranker.write_peer_files(stage)
            write_card(stage, ranker.kind, ranker.options(), ranker.score_scale)
            add_manifest(stage)
        names = sorted(path.relative_to(stage) for path in stage.rglob("*") if path.is_file())
    return replace(report, files=[out / name for name in names])


def check_layers_are_known(tuned: TunedRanker) -> None:
    """Raise UsageError where a ranker has layers that `lorank shrink` made: other tools cannot build them."""
    module = getattr(tuned.ranker, "module", None)
    layers = describe_layers(module) if isinstance(module, nn.Module) else {}
    if layers:
        raise UsageError(
            f"{len(layers)} layers of this ranker are products of factors, which other tools do not know; use its "
            "folder with lorank, which serves and reranks with it, or export the ranker that it was shrunk from"
        )


def _check_free(out: Path, overwrite: bool) -> None:
    if not out.exists():
        return
    if not overwrite:
        raise LorankError(f"{out} exists; replace it with --overwrite, or give another --out")
    if not out.is_dir() or not any((out / name).is_file() for name in WRITTEN):
        raise LorankError(f"{out} is no folder that an export wrote, and stays as it is; give another --out")
