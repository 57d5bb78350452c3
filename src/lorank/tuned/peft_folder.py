"""An adapter's folder where a ranker is asked for: PEFT's files, or lorank's own beside them, on the base they name.

Which kind of ranker it is stands in ``task_type``: SEQ_CLS is a cross-encoder, FEATURE_EXTRACTION a bi-encoder,
CAUSAL_LM a causal ranker. Without one the base decides. The files of sentence-transformers beside an adapter say how it
reads.
"""

from pathlib import Path
from typing import Any

from lorank import lowrank
from lorank.errors import UsageError
from lorank.manifest import CARD
from lorank.ranking.calibration.folder import read_calibration
from lorank.ranking.scorers import RANKERS
from lorank.ranking.scorers.pretrained import locate_base
from lorank.ranking.scorers.sentence_files import SentenceFiles
from lorank.ranking.scorers.text_ranker import check_head_is_there, check_head_is_trained
from lorank.tuned.naming import PEFT_CONFIG, read_object
from lorank.tuned.ranker import TunedRanker
from lorank.tuned.reading import ReadingSettings, check_reading

KINDS = {"SEQ_CLS": "cross-encoder", "FEATURE_EXTRACTION": "bi-encoder", "CAUSAL_LM": "causal"}
"""PEFT's task types, and the kind of ranker that each of them is."""


def base_of(folder: Path) -> str:
    """Return the base that an adapter's folder names, as it can be opened; raise UsageError where it names none."""
    config, own = read_object(folder / PEFT_CONFIG), read_object(folder / CARD)
    base = config.get("base_model_name_or_path") or own.get("base")
    if not base:
        raise UsageError(
            f"{folder / PEFT_CONFIG} names no base; write its folder or Hub name under base_model_name_or_path"
        )
    return locate_base(base, folder)


def kind_in(folder: Path) -> str | None:
    """Return the kind of ranker that an adapter's folder is of, None where only the base can say."""
    task = read_object(folder / PEFT_CONFIG).get("task_type") or read_object(folder / CARD).get("task_type")
    if task is None:
        return "bi-encoder" if (folder / "modules.json").is_file() else None
    if task not in KINDS:
        raise UsageError(
            f"{folder / PEFT_CONFIG}: the task type {task} is not one of a ranker ({', '.join(KINDS)}); choose --kind"
        )
    return KINDS[task]


def open_peft(folder: Path, kind: str, reading: ReadingSettings, options: dict[str, Any]) -> TunedRanker:
    """Return the base that the folder names with the folder's adapter on it, as a ranker without a first stage.

    Args:
        folder: The adapter's folder.
        kind: The kind of ranker.
        reading: How texts are read; it goes before what the folder says.
        options: Further options of the ranker.

    Raises:
        UsageError: For a base that cannot be opened, and for a setting that the kind does not take.
        LorankError: For an adapter that does not fit the base or has lost its head.
    """
    check_reading(kind, reading)
    read = {**(read_sentence_files(folder) if kind == "bi-encoder" else {}), **reading.as_options()}
    ranker = RANKERS[kind](base_of(folder), **{"dtype": "auto", **read, **options})
    adapter = lowrank.load(ranker.module, folder)
    check_head_is_there(ranker, [*adapter.trained, *adapter.forms], folder)
    check_head_is_trained(ranker)
    ranker.reference = adapter.disabled
    return TunedRanker(ranker, adapter, calibration=read_calibration(folder / CARD))


def read_sentence_files(folder: Path) -> dict[str, Any]:
    """Return the reading settings that the sentence-transformers files beside an adapter state."""
    files = SentenceFiles.read(str(folder))
    if not files.found:
        return {}
    from lorank.ranking.scorers.vector_modules import VectorModules

    said = {
        "max_length": files.max_length,
        "pooling": VectorModules.read(files, None).pooling,
        "similarity": files.similarity if files.similarity in ("cosine", "dot") else None,
        "query_prefix": files.query_prompt or None,
        "document_prefix": files.document_prompt or None,
    }
    return {key: value for key, value in said.items() if value is not None}
