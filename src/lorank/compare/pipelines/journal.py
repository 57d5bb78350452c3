"""The scores of a pipeline's ranker, kept in a folder, so that a search that was stopped scores nothing twice."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lorank.data.collection import Collection
from lorank.errors import DataError, UsageError
from lorank.files import write_json, write_text
from lorank.ranking.dense_index.segment import hash_texts
from lorank.ranking.types import Run

ABOUT, SCORES = "scores.json", "scores.jsonl"


@dataclass
class ScoreJournal:
    """Scores of queries and documents; a journal without a ``path`` keeps them in memory alone."""

    path: Path | None = None
    scores: dict[tuple[str, str], float] = field(default_factory=dict)

    def add(self, found: Run) -> None:
        """Take in the scores of a run."""
        self.scores |= {(query, document): score for query, row in found.items() for document, score in row.items()}
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps([q, row], ensure_ascii=False) + "\n" for q, row in found.items())


def open_journal(
    folder: Path, ranker: str | None, collection: Collection, queries: Mapping[str, str], *, overwrite: bool = False
) -> ScoreJournal:
    """Return the journal in a folder, begun anew where there is none.

    Args:
        folder: The folder, which is made where there is none.
        ranker: The name of the ranker.
        collection: The texts.
        queries: The text of each query, by id.
        overwrite: Whether scores that are there are dropped.

    Raises:
        UsageError: Where the folder holds scores of another ranker, of one that was trained again, or of other texts.
        DataError: For a damaged row that is not the last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    about, path = folder / ABOUT, folder / SCORES
    texts = hash_texts([f"{name} {text}" for name, text in queries.items()] + [str(t) for t in collection.documents])
    now = {"ranker": ranker, "files": _stamp(ranker), "texts": hashlib.sha256(texts.tobytes()).hexdigest()}
    if overwrite:
        path.unlink(missing_ok=True)
    elif path.exists() and (not about.exists() or json.loads(about.read_text("utf-8")) != now):
        raise UsageError(
            f"{folder} holds scores of another ranker, of one that was trained again, or of other texts; give another "
            "--out, or --overwrite"
        )
    write_json(about, now)
    return ScoreJournal(path, _read(path))


def _stamp(ranker: str | None) -> str:
    """Return a digest of the names, sizes and times of a ranker's files; "" where it is no folder."""
    folder = Path(ranker or "")
    if ranker is None or not folder.is_dir():
        return ""
    files = [(str(path.relative_to(folder)), path.stat()) for path in sorted(folder.rglob("*")) if path.is_file()]
    rows = [[name, about.st_size, about.st_mtime_ns] for name, about in files]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _read(path: Path) -> dict[tuple[str, str], float]:
    """Return the scores of a file; a last line that a crash cut off is dropped."""
    if not path.exists():
        return {}
    text = path.read_text("utf-8", errors="replace")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        write_text(path, whole)
    scores: dict[tuple[str, str], float] = {}
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            query, row = json.loads(line)
            scores |= {(query, document): float(score) for document, score in row.items()}
        except (ValueError, TypeError, AttributeError) as error:
            remedy = "give --overwrite to begin anew"
            raise DataError(path, number, f"this is no row of scores ({error})", remedy) from error
    return scores
