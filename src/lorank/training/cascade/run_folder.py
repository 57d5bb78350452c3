"""The run folder of a cascade: which run it is, which of its steps are done, and what is written at its end.

``bi-encoder/`` and ``cross-encoder/`` are the run folders of the two steps, ``model/`` is the whole ranker. A step is
done once its run.json is there, which is written behind its model; a cascade that is taken up does not train it again.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from lorank.errors import DataError, UsageError
from lorank.files import write_json, write_text
from lorank.training.cascade.settings import BI_ENCODER, CROSS_ENCODER, flatten
from lorank.training.recipe import RECORD, RecipeFile
from lorank.training.settings import as_plain
from lorank.tuned.naming import CASCADE

RESULTS = "results.json"


def claim_folder(out: Path, plan: RecipeFile, resume: bool, overwrite: bool) -> None:
    """Make the folder the cascade's own, emptied of an earlier run where it is to be replaced.

    Raises:
        UsageError: Where it holds a run and neither ``resume`` nor ``overwrite`` is given, and where a cascade is
            resumed with other settings.
    """
    begun = any((out / name).exists() for name in (CASCADE, "model", "metrics.jsonl"))
    if begun and not (resume or overwrite):
        raise UsageError(
            f"{out} already holds a run; take it up with --resume, replace it with --overwrite, or choose another --out"
        )
    if overwrite and not resume:
        for name in (BI_ENCODER, CROSS_ENCODER, "model", "checkpoints"):
            shutil.rmtree(out / name, ignore_errors=True)
        for name in (CASCADE, RECORD, RESULTS, "metrics.jsonl"):
            (out / name).unlink(missing_ok=True)
    settings = json.loads(json.dumps(as_plain(plan)))
    settings.pop("out")
    out.mkdir(parents=True, exist_ok=True)
    if (out / CASCADE).exists():
        _check_same(out / CASCADE, settings)
    else:
        write_json(out / CASCADE, {"settings": settings})


def is_done(folder: Path) -> bool:
    """Return whether a step has been trained to its end."""
    return (folder / RECORD).is_file()


def write_card(out: Path, paragraphs: list[str]) -> None:
    """Write the model card: that of the bi-encoder, under the cascade's name, with what is said of the second stage."""
    card = (out / BI_ENCODER / "model" / "README.md").read_text(encoding="utf-8")
    card = card.replace(str(out / BI_ENCODER / "model"), str(out / "model"))
    card = card.replace(f"\n# {BI_ENCODER}\n", f"\n# {out.name}\n")
    write_text(out / "model" / "README.md", card + "\n## The steps of the cascade\n" + "\n\n".join(paragraphs) + "\n")


def _check_same(record: Path, settings: dict[str, Any]) -> None:
    """Raise UsageError where a cascade was begun with other settings than those that it is resumed with."""
    try:
        before = json.loads(record.read_text(encoding="utf-8"))["settings"]
        known = dict(flatten(before))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"not the record of a cascade ({error!r})"
        raise DataError(record, None, problem, "start anew with --overwrite") from error
    own = dict(flatten(settings))
    differs = next((key for key in {**own, **known} if own.get(key) != known.get(key)), None)
    if differs is not None:
        raise UsageError(
            f"{record.parent}: the cascade was begun with {differs} = {known.get(differs)}, and is resumed with "
            f"{own.get(differs)}; resume with the same, or start anew with --overwrite"
        )
