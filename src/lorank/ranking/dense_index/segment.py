"""A segment: some documents' vectors, ids and hashes in one folder, written once and read memory-mapped.

vectors.npy   float32 or float16 [parts, dim]       begins.npy   int64 [documents], the first part of each
titled.npy    bool [documents]                      hashes.npy   uint8 [documents, 16], of the texts
ids.json      the documents' ids                    alive-N.npy  bits [documents], 0 for a deleted document
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lorank.errors import DataError
from lorank.files import replaced_file, replaced_folder
from lorank.ranking.scorers.encoded import EncodedDocuments

HASH = 16
"""The bytes of the hash of a text."""


def hash_texts(texts: Sequence[str]) -> np.ndarray:
    """Return the hashes of texts, uint8 [texts, 16]."""
    rows = [hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=HASH).digest() for text in texts]
    return np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), HASH)


@dataclass(frozen=True)
class Segment:
    """The documents of one segment.

    Attributes:
        name: The name of its folder.
        ids: The ids of the documents.
        documents: Their vectors, memory-mapped.
        hashes: The hashes of their texts, uint8 [documents, 16].
        alive: False for a deleted document, bool [documents].
        alive_file: The file that ``alive`` was read from; None where nothing is deleted.
    """

    name: str
    ids: list[str]
    documents: EncodedDocuments
    hashes: np.ndarray
    alive: np.ndarray
    alive_file: str | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def width(self) -> int:
        """The number of values of a vector."""
        return int(self.documents.vectors.shape[1])


def write_segment(
    folder: Path, ids: Sequence[str], documents: EncodedDocuments, hashes: np.ndarray, dtype: str
) -> None:
    """Write a segment's folder, all or nothing.

    Args:
        folder: The folder, which does not exist.
        ids: The ids of the documents.
        documents: Their vectors.
        hashes: The hashes of their texts, uint8 [documents, 16].
        dtype: The format of the vectors, ``float32`` or ``float16``.
    """
    with replaced_folder(folder) as new:
        np.save(new / "vectors.npy", np.asarray(documents.vectors, dtype))
        write_tables(new, ids, documents.begins, documents.titled, hashes)


def write_tables(folder: Path, ids: Sequence[str], begins: np.ndarray, titled: np.ndarray, hashes: np.ndarray) -> None:
    """Write all of a segment but its vectors into ``folder``."""
    np.save(folder / "begins.npy", np.asarray(begins, np.int64))
    np.save(folder / "titled.npy", np.asarray(titled, bool))
    np.save(folder / "hashes.npy", hashes)
    (folder / "ids.json").write_text(json.dumps(list(ids), ensure_ascii=False), "utf-8")


def read_segment(folder: Path, alive_file: str | None, long: str, title_weight: float) -> Segment:
    """Return the segment of a folder, its vectors memory-mapped.

    Raises DataError for a file that is missing, or not of the others' size.
    """
    try:
        ids = json.loads((folder / "ids.json").read_text("utf-8"))
        vectors = np.load(folder / "vectors.npy", mmap_mode="r")
        begins, titled, hashes = (np.load(folder / f"{name}.npy") for name in ("begins", "titled", "hashes"))
        alive = np.ones(len(ids), bool)
        if alive_file is not None:
            alive = np.unpackbits(np.load(folder / alive_file), count=len(ids)).astype(bool)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(folder, None, f"the segment cannot be read ({error})", "build the index again") from error
    fits = len(ids) == len(begins) == len(titled) == len(hashes) == len(alive)
    if not fits or (len(begins) and begins[-1] >= len(vectors)):
        raise DataError(folder, None, "its files are not of one size", "build the index again")
    documents = EncodedDocuments(vectors, begins, titled, long, title_weight)  # type: ignore[arg-type]
    return Segment(folder.name, ids, documents, hashes, alive, alive_file)


def write_alive(folder: Path, name: str, alive: np.ndarray) -> None:
    """Write which documents are not deleted, bool [documents], as bits."""
    with replaced_file(folder / name) as stage, stage.open("wb") as file:
        np.save(file, np.packbits(alive))
