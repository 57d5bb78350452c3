"""Folders that the package datasets writes (``save_to_disk``): Arrow files named by state.json, read without it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from lorank.data.importing.found import Found, Record
from lorank.data.importing.readers.arrow import arrow_rows
from lorank.data.importing.records import read_records
from lorank.data.importing.registry import Options, Source, reader
from lorank.data.letor import split_of_name
from lorank.errors import DataError, OnBad
from lorank.reading import read_whole

REMEDY = "save the data set again with save_to_disk"


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_whole(path))
    except (ValueError, RecursionError) as error:
        raise DataError(path, None, f"broken JSON ({error})", REMEDY) from error
    if not isinstance(found, dict):
        raise DataError(path, None, "no JSON object", REMEDY)
    return found


def _list(path: Path, key: str) -> list[Any]:
    found = _json(path).get(key, [])
    if not isinstance(found, list):
        raise DataError(path, None, f"{key!r} is {str(found)[:60]}, not a list", REMEDY)
    return found


def _name(path: Path, value: object) -> str:
    """Return a name of a file or folder that ``path`` gives; raise DataError for what can be none."""
    if not isinstance(value, str) or value in ("", ".", "..") or "/" in value or len(value.encode()) > 255:
        raise DataError(path, None, f"{str(value)[:60]!r} is no name of a file", REMEDY)
    return value


def parts_of(folder: Path) -> list[tuple[str | None, Path]]:
    """Return the split, None where it is not known, and the folder of each part of a data set."""
    if (folder / "dataset_dict.json").is_file():
        path = folder / "dataset_dict.json"
        names = [_name(path, name) for name in _list(path, "splits")]
        return [(split_of_name(name) or name, folder / name) for name in names]
    name = _json(folder / "state.json").get("_split")
    return [(split_of_name(str(name)) if name else None, folder)]


def _rows(folder: Path) -> Iterator[tuple[int, Record]]:
    state = _json(folder / "state.json")
    if state.get("_indices_data_files"):
        remedy = "write the rows as they stand: dataset.flatten_indices().save_to_disk(...)"
        raise DataError(folder, None, "the data set is a selection of rows by an index", remedy)
    number = 0
    for file in _list(folder / "state.json", "_data_files"):
        name = file.get("filename") if isinstance(file, dict) else file
        for _, row in arrow_rows(folder / _name(folder / "state.json", name)):
            number += 1
            yield number, row


def _fits(source: Source) -> bool:
    return any((source.path / name).is_file() for name in ("dataset_dict.json", "state.json"))


@reader("datasets", "folders of the package datasets (save_to_disk)", fits=_fits, folder=True)
def read_datasets_folder(source: Source, options: Options, on_bad: OnBad) -> Iterator[Found]:
    """Yield what the rows of all parts say; a part's name is its split."""
    for split, folder in parts_of(source.path):
        if not (folder / "state.json").is_file():
            raise DataError(folder, None, "there is no state.json", REMEDY)
        part = replace(source, path=folder, split=split)
        for found in read_records(_rows(folder), part, options, on_bad):
            yield of_split(found, split)


def of_split(found: Found, split: str | None) -> Found:
    """Return what was found as one of a split, where it says none itself."""
    about = getattr(found, "about", None)
    if split is None or about is None or about.split is not None:
        return found
    return replace(found, about=replace(about, split=split))
