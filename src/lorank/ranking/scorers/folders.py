"""Model folders: transformers' layout, the files of sentence-transformers, and lorank.json."""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lorank import __version__
from lorank.errors import DataError, LorankError

CARD = "lorank.json"
PROBE_QUERIES = ("how are lists sorted", "what is low-rank adaptation?")
PROBE_DOCUMENTS = (
    "sorted() returns a new list in ascending order.",
    "A matrix of rank r is a sum of r outer products.",
    "",
    "Rankers order documents. " * 40,
)


@contextlib.contextmanager
def written_whole(folder: str | Path) -> Iterator[Path]:
    """Yield an empty folder beside ``folder``; on success its files move there, lorank.json last.

    Other files that ``folder`` holds stay. A folder without lorank.json was not finished.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield draft
        (folder / CARD).unlink(missing_ok=True)
        files = sorted((p for p in draft.rglob("*") if p.is_file()), key=lambda p: (p.name == CARD, str(p)))
        for path in files:
            target = folder / path.relative_to(draft)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_json(path: Path, data: Any) -> None:
    """Write JSON, indented, with a final newline."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_card(folder: Path, kind: str, options: dict[str, Any], score: str) -> None:
    """Write lorank.json: the kind of ranker, its options, and the scale of its scores."""
    write_json(folder / CARD, {"lorank": __version__, "kind": kind, "score": score, "options": options})


def read_card(folder: str | Path, kind: str | None = None) -> dict[str, Any]:
    """Return lorank.json of a saved ranker; raise DataError when it is missing or of another kind."""
    path = Path(folder) / CARD
    if not path.is_file():
        raise DataError(
            folder,
            None,
            f"no {CARD}: not a folder that a ranker was saved to (or never finished)",
            "give the folder that save() wrote",
        )
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(path, error.lineno, f"not JSON: {error.msg}", "save the ranker again") from error
    if kind is not None and card.get("kind") != kind:
        raise DataError(path, None, f"kind is {card.get('kind')!r}, not {kind!r}", "open it as what it is")
    return card


def check_same_scores(before: np.ndarray, after: np.ndarray, folder: Path, tolerance: float = 1e-6) -> None:
    """Raise LorankError unless a re-opened ranker gives the scores of the one that was saved.

    The tolerance is relative to the largest score, at least 1.
    """
    scale = max(1.0, float(np.abs(before).max(initial=0.0)))
    worst = float(np.abs(before - after).max(initial=0.0))
    if not worst <= tolerance * scale:
        raise LorankError(
            f"the ranker re-opened from {folder} moves scores by up to {worst:.3g}: something in it is "
            "not part of the checkpoint (an adapter? merge or detach it, or save the adapter itself)"
        )
