"""The folder of a recommender's run: whose it is, and whether it may be begun, taken up or replaced."""

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lorank.data.interactions import Interactions
from lorank.errors import DataError, UsageError
from lorank.files import write_json
from lorank.ranking.recommendation.sasrec import SequenceSettings
from lorank.tuned.recommender import CARD, TRAINING, WEIGHTS

ADAPTERS = "adapters"
"""The folder, within that of the run, of metrics and checkpoints of Ada-Retrieval's adapters."""


def describe_run(
    log: Interactions,
    method: str,
    settings: SequenceSettings,
    loss: str,
    repeats: bool,
    seed: int,
    vectors: np.ndarray | None,
) -> dict[str, Any]:
    """Return all that decides a run, the log and given vectors by their SHA-256."""
    rows = hashlib.sha256(json.dumps([log.users, log.items]).encode())
    for row in log.sequences:
        rows.update(np.asarray(row, np.int64).tobytes() + b"|")
    return {
        "method": method,
        "loss": loss,
        "settings": {name: value for name, value in asdict(settings).items() if name != "checkpoint_seconds"},
        "repeats": repeats,
        "seed": seed,
        "data": rows.hexdigest(),
        "vectors": None if vectors is None else hashlib.sha256(np.ascontiguousarray(vectors).tobytes()).hexdigest(),
    }


def claim_folder(out: Path, plan: dict[str, Any], *, resume: bool, overwrite: bool) -> None:
    """Make the run's folder, or take up or empty that of an earlier run, and write what is run there.

    Args:
        out: The folder.
        plan: What decides the run.
        resume: Whether a run that stands there is taken up.
        overwrite: Whether it is replaced.

    Raises:
        UsageError: For a run that is neither to be taken up nor replaced, a run of another plan, and a folder of
            something else.
    """
    begun = (out / TRAINING).exists() or (out / CARD).exists()
    if not begun and out.is_dir() and any(out.iterdir()):
        raise UsageError(f"{out} holds something other than a recommender; name another folder")
    if begun and not (resume or overwrite):
        raise UsageError(
            f"{out} already holds a run; take it up with --resume, replace it with --overwrite, or choose another --out"
        )
    if begun and resume:
        _check_plan(out, plan)
        return
    for name in ("checkpoints", ADAPTERS):
        shutil.rmtree(out / name, ignore_errors=True)
    for name in (CARD, WEIGHTS, "metrics.jsonl"):
        (out / name).unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / TRAINING, plan)


def _check_plan(out: Path, plan: dict[str, Any]) -> None:
    if not (out / TRAINING).is_file():
        raise UsageError(f"{out} holds a recommender of an earlier version, without checkpoints; give --overwrite")
    try:
        begun = dict(json.loads((out / TRAINING).read_text("utf-8")))
        first, second = ({**each, **each["settings"]} for each in (begun, json.loads(json.dumps(plan))))
    except (OSError, ValueError, KeyError, TypeError) as error:
        remedy = "begin again with --overwrite"
        raise DataError(out / TRAINING, None, f"not the record of a run ({error})", remedy) from error
    changed = [name for name in second if name != "settings" and first.get(name) != second[name]]
    if changed:
        raise UsageError(
            f"the run in {out} was begun with other {', '.join(changed)}; repeat its command with --resume, or replace "
            "it with --overwrite"
        )
