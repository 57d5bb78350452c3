"""Model folders: transformers' layout, the files of sentence-transformers, and lorank.json."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lorank import __version__
from lorank.errors import DataError, LorankError
from lorank.files import replaced_folder
from lorank.manifest import CARD, add_manifest, check_manifest, read_unchanged

Value = TypeVar("Value")
PROBE_QUERIES = ("how are lists sorted", "what is low-rank adaptation?")
PROBE_DOCUMENTS = (
    "sorted() returns a new list in ascending order.",
    "A matrix of rank r is a sum of r outer products.",
    "",
    "Rankers order documents. " * 40,
)


@contextlib.contextmanager
def written_whole(folder: str | Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of ``folder`` on success, lorank.json with the list of its files.

    Files of ``folder`` that are not of an earlier save stay.
    """
    with replaced_folder(folder, keep_others=True, own=(CARD,)) as draft:
        yield draft
        if (draft / CARD).is_file():
            add_manifest(draft)


def read_whole(folder: str | Path, kind: str, build: Callable[[Path, dict[str, Any]], Value]) -> Value:
    """Return ``build(folder, card)`` of a saved ranker of ``kind``, all of it from one save."""
    return read_unchanged(Path(folder), lambda folder: build(folder, read_card(folder, kind)))


def write_json(path: Path, data: Any) -> None:
    """Write JSON, indented, with a final newline."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def write_card(folder: Path, kind: str, options: dict[str, Any], score: str) -> None:
    """Write lorank.json: the kind of ranker, its options, and the scale of its scores.

    Args:
        folder: The folder of the checkpoint.
        kind: The kind of ranker.
        options: The options that open the ranker again; they are written as JSON.
        score: The scale of the scores, in words.
    """
    write_json(folder / CARD, {"lorank": __version__, "kind": kind, "score": score, "options": options})


def read_card(folder: str | Path, kind: str | None = None) -> dict[str, Any]:
    """Return lorank.json of a saved ranker; raise DataError when it is missing, of another kind, or of another save."""
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
    if not isinstance(card, dict):
        raise DataError(path, 1, "not a JSON object", "save the ranker again")
    if kind is not None and card.get("kind") != kind:
        raise DataError(path, None, f"kind is {card.get('kind')!r}, not {kind!r}", "open it as what it is")
    check_manifest(Path(folder), card.get("files"), path)
    return card


BEFORE_PROMPTS = {"causal": {"family": "none"}, "cross-encoder": {"query_prefix": "", "family": "none"}}
"""Options that cards of version 0.1 lack, by kind, and what its rankers did: they read no prompt of a folder."""


def saved_options(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return the constructor's options of a card, with what older cards leave out.

    >>> saved_options({"kind": "causal", "options": {"view": "yes-no"}})
    {'family': 'none', 'view': 'yes-no'}
    """
    options: dict[str, Any] = card["options"]
    return BEFORE_PROMPTS.get(card["kind"], {}) | options


def check_same_scores(before: np.ndarray, after: np.ndarray, folder: Path, tolerance: float = 1e-6) -> None:
    """Raise LorankError unless a re-opened ranker gives the scores of the one that was saved.

    Args:
        before: The scores of the ranker that was saved.
        after: The scores of the ranker that was opened again, in the same order.
        folder: The folder that was opened, for the message.
        tolerance: The largest change that is accepted, relative to the largest score or to 1 if that is more.
    """
    scale = max(1.0, float(np.abs(before).max(initial=0.0)))
    worst = float(np.abs(before - after).max(initial=0.0))
    if not worst <= tolerance * scale:
        raise LorankError(
            f"the ranker re-opened from {folder} moves scores by up to {worst:.3g}: something in it is "
            "not part of the checkpoint (an adapter? merge or detach it, or save the adapter itself)"
        )
