"""LETOR folders and LightGBM's layout as collections of feature rows."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from lorank.data.bad_rows import collected
from lorank.data.collection import Collection, Split
from lorank.data.files import open_text
from lorank.data.numbers import Negative, as_whole
from lorank.data.svmlight import FeatureRows, read_feature_rows, write_feature_rows
from lorank.data.svmlight_blocks import stack_blocks
from lorank.data.svmlight_queries import groups_file
from lorank.errors import DataError, OnBad, UsageError
from lorank.reading import is_readable, local_file, plain_name


def feature_split(name: str, rows: FeatureRows) -> Split:
    """Return the split of ``rows``: labels as judgments, each query's rows as its candidates.

    The candidates' scores are all 0: the file states no first-stage order.
    """
    qrels, candidates = {}, {}
    labels = rows.labels.tolist()
    for query, start, stop in zip(rows.query_ids, rows.offsets[:-1].tolist(), rows.offsets[1:].tolist()):
        ids = rows.document_ids[start:stop]
        judged = zip(ids, labels[start:stop], strict=True)
        qrels[query] = {document: as_whole(label) for document, label in judged if label == label}
        candidates[query] = dict.fromkeys(ids, 0.0)
    return Split(name, {query: query for query in rows.query_ids}, qrels, candidates)


def feature_collection(name: str, files: dict[str, FeatureRows], card: str = "") -> Collection:
    """Return the collection of several files' rows, one split each, features padded with 0 to the widest.

    A query's text is its id. A query id that stands in two files gets its split's name in front in all files.
    """
    files = _with_unique_queries(files)
    features = [rows.features for rows in files.values()]
    documents = features[0] if len(features) == 1 else stack_blocks(list(features), max(f.shape[1] for f in features))
    ids = [document for rows in files.values() for document in rows.document_ids]
    return Collection(
        name, ids, documents, {split: feature_split(split, rows) for split, rows in files.items()}, card=card
    )


def _with_unique_queries(files: dict[str, FeatureRows]) -> dict[str, FeatureRows]:
    count = Counter(query for rows in files.values() for query in rows.query_ids)
    if not count or max(count.values()) == 1:
        return files
    return {
        split: FeatureRows(
            rows.features,
            rows.labels,
            [f"{split}-{query}" for query in rows.query_ids],
            rows.offsets,
            [f"{split}-{document}" for document in rows.document_ids],
        )
        for split, rows in files.items()
    }


_FILE_ENDS = (".txt", ".svm", ".svmlight", ".libsvm", ".letor", ".dat", ".train", ".vali", ".valid", ".test")
_SPLIT_WORDS = {"train": "train", "vali": "dev", "valid": "dev", "validation": "dev", "dev": "dev", "test": "test"}


def split_of_name(path: str | Path) -> str | None:
    """Return the split that a file name states, if any.

    >>> [split_of_name(name) for name in ("vali.txt", "rank.train.gz", "S1.txt")]
    ['dev', 'train', None]
    """
    words = re.split(r"[^a-z]+", Path(path).name.lower())
    return next((_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS), None)


_PART = re.compile(r"S[1-5]\.txt(\.|$)")
_FEATURE_ROW = re.compile(r"\s*[^\s:]+(\s+qid:\S+)?(\s+\d+:\S+|\s*$)")


def is_feature_file(path: Path) -> bool:
    """Return whether the first row of a file is one of features (LETOR, SVMLight)."""
    if not is_readable(path):
        return False
    with local_file(path).open("rb") as file:
        if file.read(4) in (b"PAR1", b"ARRO", b"\xff" * 4, b"%PDF"):
            return False
    first = next((text for text in islice(open_text(path), 100) if text.strip() and text.lstrip()[0] != "#"), "")
    return bool(_FEATURE_ROW.match(first)) and ":" in first


def feature_files(folder: str | Path) -> dict[str, Path]:
    """Return the folder's feature file of each split, found by name: train, vali (valid, dev), test."""
    found: dict[str, Path] = {}
    for path in sorted(Path(folder).iterdir()):
        split = split_of_name(path)
        name = plain_name(path)
        if split is None or not path.is_file() or not name.endswith(_FILE_ENDS):
            continue
        if split in found:
            raise DataError(
                folder,
                None,
                f"both {found[split].name} and {path.name} look like the {split} split",
                "keep one of them, or load a file",
            )
        found[split] = path
    return {split: found[split] for split in ("train", "dev", "test") if split in found}


def read_letor(
    path: str | Path,
    name: str | None = None,
    *,
    fold: int = 1,
    negative: Negative = "error",
    on_bad: OnBad | None = None,
) -> Collection:
    """Read LETOR data as a collection of feature rows.

    Where LightGBM's ``<file>.query`` lies beside a file, it gives the queries.

    Args:
        path: One file (its split taken from its name, else ``train``), a folder with train, vali and test files, or a
            folder with ``Fold1`` to ``Fold5``.
        name: The collection's name; None takes it from the path.
        fold: The number of the fold that is read of a folder with several, 1 or more.
        negative: What a label below 0 is (:mod:`lorank.data.numbers`).
        on_bad: What is called with each bad row, which is left out.

    Raises:
        DataError: If a folder holds no file of a split, and with one report of the bad rows of all files where
            ``on_bad`` is None.
    """
    path = Path(path)
    if path.is_dir() and (path / f"Fold{fold}").is_dir():
        return read_letor(path / f"Fold{fold}", name or f"{path.name}/Fold{fold}", negative=negative, on_bad=on_bad)
    files = feature_files(path) if path.is_dir() else {split_of_name(path) or "train": path}
    if not files and (parts := letor_parts(path)):
        return _pooled(read_letor_files(parts, negative, on_bad), name or path.name)
    if not files:
        raise DataError(
            path, None, "no train, vali or test file in this folder", "name the files train.txt, vali.txt, test.txt"
        )
    return feature_collection(name or plain_name(path), read_letor_files(files, negative, on_bad))


def read_letor_files(files: Mapping[str, Path], negative: Negative, on_bad: OnBad | None) -> dict[str, FeatureRows]:
    """Return the rows of several files, with one report of the bad rows of all of them."""
    with collected(on_bad) as found:
        return {
            part: read_feature_rows(file, groups_file(file), negative=negative, on_bad=found)
            for part, file in files.items()
        }


def letor_parts(folder: Path) -> dict[str, Path]:
    """Return LETOR's own five parts S1 to S5, or those of them that a folder holds, by their names."""
    found = {plain_name(path).partition(".")[0]: path for path in sorted(folder.iterdir()) if _PART.match(path.name)}
    return {part: path for part, path in found.items() if is_feature_file(path)}


def _pooled(rows: dict[str, FeatureRows], name: str) -> Collection:
    """Return the parts as one split, train, which folds divide; the parts themselves are no splits."""
    parts = feature_collection(name, rows)
    splits = list(parts.splits.values())
    train = Split(
        "train",
        {query: text for split in splits for query, text in split.queries.items()},
        {query: row for split in splits for query, row in split.qrels.items()},
        {query: row for split in splits for query, row in (split.candidates or {}).items()},
    )
    return replace(parts, splits={"train": train})


def read_folds(path: str | Path, *, negative: Negative = "error") -> list[Collection]:
    """Read ``Fold1``, ``Fold2``, ... of a LETOR folder, in order, as many as there are."""
    path = Path(path)
    folds: list[Collection] = []
    while (path / f"Fold{len(folds) + 1}").is_dir():
        folds.append(read_letor(path, fold=len(folds) + 1, negative=negative))
    if not folds:
        raise DataError(path, None, "there is no Fold1 in this folder", "name the folds Fold1 to Fold5")
    return folds


def write_letor(collection: Collection, folder: str | Path, *, compress: bool = False) -> None:
    """Write each split of a feature collection to ``train.txt``, ``vali.txt`` and ``test.txt``."""
    if not collection.has_features:
        raise UsageError(f"collection {collection.name!r} holds texts; LETOR files hold features")
    names = {"train": "train", "dev": "vali", "test": "test"}
    for split in collection.splits.values():
        path = Path(folder) / f"{names.get(split.name, split.name)}.txt{'.gz' if compress else ''}"
        write_feature_rows(feature_rows(collection, split), path)


def feature_rows(collection: Collection, split: Split) -> FeatureRows:
    """Return the lists of a split of a feature collection as rows; documents that nobody judged are labelled 0.

    Features are a view of the collection's where they stand there in one piece, as they do in what was read.
    """
    lists = split.candidates if split.candidates is not None else split.qrels
    ids = [document for query in split.queries for document in lists[query]]
    positions = np.array([collection.position[document] for document in ids], np.int64)
    labels = [split.qrels[query].get(document, 0) for query in split.queries for document in lists[query]]
    sizes = [len(lists[query]) for query in split.queries]
    whole = len(positions) > 0 and bool((np.diff(positions) == 1).all())
    chosen = slice(int(positions[0]), int(positions[-1]) + 1) if whole else positions
    return FeatureRows(
        np.asarray(collection.documents)[chosen],
        np.asarray(labels, np.float64 if any(isinstance(label, float) for label in labels) else np.int64),
        list(split.queries),
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        ids,
    )
