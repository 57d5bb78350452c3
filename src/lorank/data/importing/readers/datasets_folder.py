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


def _json(path: Path) -> Any:
    try:
        return json.loads(read_whole(path))
    except ValueError as error:
        raise DataError(path, None, f"broken JSON ({error})", "save the data set again with save_to_disk") from error


def parts_of(folder: Path) -> list[tuple[str | None, Path]]:
    """Return the split, None where it is not known, and the folder of each part of a data set."""
    if (folder / "dataset_dict.json").is_file():
        names = _json(folder / "dataset_dict.json").get("splits", [])
        return [(split_of_name(str(name)) or str(name), folder / str(name)) for name in names]
    name = _json(folder / "state.json").get("_split")
    return [(split_of_name(str(name)) if name else None, folder)]


def _rows(folder: Path) -> Iterator[tuple[int, Record]]:
    state = _json(folder / "state.json")
    if state.get("_indices_data_files"):
        remedy = "write the rows as they stand: dataset.flatten_indices().save_to_disk(...)"
        raise DataError(folder, None, "the data set is a selection of rows by an index", remedy)
    number = 0
    for file in state.get("_data_files", []):
        for _, row in arrow_rows(folder / file["filename"]):
            number += 1
            yield number, row


def _fits(source: Source) -> bool:
    return any((source.path / name).is_file() for name in ("dataset_dict.json", "state.json"))


@reader("datasets", "folders of the package datasets (save_to_disk)", fits=_fits, folder=True)
def read_datasets_folder(source: Source, options: Options, on_bad: OnBad) -> Iterator[Found]:
    """Yield what the rows of all parts say; a part's name is its split."""
    for split, folder in parts_of(source.path):
        if not (folder / "state.json").is_file():
            raise DataError(folder, None, "there is no state.json", "save the data set again with save_to_disk")
        part = replace(source, path=folder, split=split)
        for found in read_records(_rows(folder), part, options, on_bad):
            yield of_split(found, split)


def of_split(found: Found, split: str | None) -> Found:
    """Return what was found as one of a split, where it says none itself."""
    about = getattr(found, "about", None)
    if split is None or about is None or about.split is not None:
        return found
    return replace(found, about=replace(about, split=split))
