"""The description of a dense index, ``index.json``: whose vectors it holds, and which segments make it up.

Replacing this one file is what commits a change: folders and files that it does not name are of no index.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lorank.errors import DataError
from lorank.files import write_json

FILE = "index.json"
FORMAT = 1


@dataclass(frozen=True)
class Description:
    """What ``index.json`` says.

    Attributes:
        ranker: The hash of the ranker (`fingerprint_encoder`).
        name: What the ranker was called when the index was made.
        dimension: The number of values of a vector.
        dtype: The format of the vectors, ``float32`` or ``float16``.
        long: How documents in several parts are scored.
        title_weight: The weight of a title beside the best passage.
        reading: The settings with which the ranker was opened.
        kind: The kind of ranker that was asked for; None where none was.
        generation: How often the index has changed.
        segments: The names of the segments, each with the file that says what of it is deleted, or None.
    """

    ranker: str
    name: str
    dimension: int
    dtype: str = "float32"
    long: str = "truncate"
    title_weight: float = 0.0
    reading: dict[str, Any] = field(default_factory=dict)
    kind: str | None = None
    generation: int = 0
    segments: tuple[tuple[str, str | None], ...] = ()

    def after(self, segments: tuple[tuple[str, str | None], ...]) -> "Description":
        """Return the description of the next generation, with these segments."""
        return replace(self, generation=self.generation + 1, segments=segments)


def write_description(folder: Path, description: Description) -> None:
    """Write ``index.json``, all or nothing."""
    write_json(folder / FILE, {"format": FORMAT, **asdict(description)})


def read_description(folder: Path) -> Description:
    """Return what ``index.json`` says; raise DataError where it is missing, damaged or of another format."""
    path = folder / FILE
    try:
        data = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise DataError(path, None, "there is no dense index here", "make one with `lorank index build`") from error
    except ValueError as error:
        raise DataError(path, None, f"the description is damaged ({error})", "build the index again") from error
    if not isinstance(data, dict) or data.pop("format", None) != FORMAT:
        raise DataError(path, None, f"this is no dense index of format {FORMAT}", "build the index again")
    try:
        segments = tuple((str(name), alive) for name, alive in data.pop("segments"))
        return Description(**data, segments=segments)
    except (TypeError, ValueError, KeyError) as error:
        raise DataError(path, None, f"the description is not whole ({error})", "build the index again") from error
