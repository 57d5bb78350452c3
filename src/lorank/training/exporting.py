"""Export of a tuned ranker for others to load, each checked by scoring again what was written."""

from pathlib import Path

from lorank.errors import UsageError
from lorank.lowrank import ExportReport
from lorank.ranking.scorers.folders import write_card
from lorank.training.probe import Probe
from lorank.training.tuned import TunedRanker

TASK_TYPES = {"bi-encoder": "FEATURE_EXTRACTION", "cross-encoder": "SEQ_CLS"}


def export(tuned: TunedRanker, out: str | Path, format: str, *, limit: float | None = 1e-4,
           rank: int | None = None) -> ExportReport:
    """Write the learned part of ``tuned`` as a ``peft``, ``portable`` or ``merged`` folder.

    A merged folder is a whole model in the layout of transformers and sentence-transformers. The first stage is
    not part of any of these formats: their scores are the learned ones, without the offset.
    """
    if tuned.adapter is None:
        raise UsageError("this ranker was trained whole and has no adapter; its model/ folder is ready for others")
    ranker = tuned.ranker
    report = tuned.adapter.export(
        out, format, probe=Probe(ranker), limit=limit, rank=rank, base_name=str(ranker.base),
        task_type=TASK_TYPES.get(ranker.kind), tokenizer=getattr(ranker, "tokenizer", None))
    if format == "merged":
        ranker.write_peer_files(Path(out))
        write_card(Path(out), ranker.kind, ranker.options(), ranker.score_scale)
    return report
