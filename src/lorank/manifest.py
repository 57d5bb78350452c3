"""What tells the files of one save from those of another: a *manifest* of sizes and SHA-256, checked by every load.

A manifest is kept under the key ``files`` of a folder's own description (lorank.json mostly), which it does not list:
a calibration can be added to a description, and nothing takes the place of a file unseen.
"""

import hashlib
import json
import os
import stat
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from lorank.errors import DataError, LorankError

Value = TypeVar("Value")

CARD = "lorank.json"
"""The description that folders of lorank hold, and in it, mostly, the manifest."""
LOOKS = 50
"""How often a folder that changes all the time is read before its reader gives up."""

Manifest = Mapping[str, Mapping[str, Any]]
"""Size and SHA-256 of files by their place in a folder: ``{"a.json": {"bytes": 12, "sha256": "..."}}``."""


def manifest_of(folder: Path, *, besides: str = "") -> dict[str, dict[str, Any]]:
    """Return the manifest of all files below ``folder`` but the one called ``besides``.

    A folder in it that has a manifest of its own stands for its files by its description alone.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        parents = [folder / parent for parent in path.relative_to(folder).parents if parent.name]
        covered = any(path.relative_to(parent).as_posix() in listed(parent) for parent in parents)
        if name != besides and not covered and path.is_file():
            found[name] = {"bytes": path.stat().st_size, "sha256": hash_of(path)}
    return found


def add_manifest(folder: Path, description: str = CARD) -> None:
    """Put the manifest of ``folder`` into its description, a JSON object, under the key ``files``."""
    about = json.loads((folder / description).read_text(encoding="utf-8"))
    files = manifest_of(folder, besides=description)
    text = json.dumps(about | {"files": files}, indent=2, ensure_ascii=False)
    (folder / description).write_text(text + "\n", "utf-8")


def listed(folder: Path) -> Collection[str]:
    try:
        about = json.loads((folder / CARD).read_text(encoding="utf-8"))
        return list(about["files"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []


def check_manifest(folder: Path, manifest: object, described_in: Path) -> None:
    """Raise DataError unless every file that ``manifest`` lists is in ``folder`` as it was saved.

    None, which folders of lorank 0.1 and of other tools have, says nothing and is let through.
    """
    if manifest is None:
        return
    if not isinstance(manifest, dict) or not all(isinstance(row, dict) for row in manifest.values()):
        raise DataError(described_in, None, "its list of files is not one that lorank writes", "save it again")
    for name, row in manifest.items():
        path = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise DataError(described_in, None, f"its list of files names {name[:80]!r}", "save it again")
        if not path.is_file():
            raise DataError(path, None, "the file is missing", "copy the whole folder, or save it again")
        size = path.stat().st_size
        if size != row.get("bytes"):
            problem = f"it has {size} bytes where {row.get('bytes')} were saved: not whole, or of another save"
            raise DataError(path, None, problem, "copy the whole folder, or save it again")
        if hash_of(path) != row.get("sha256"):
            raise DataError(
                path,
                None,
                f"it is not the file that was saved with {described_in.name} (another SHA-256)",
                f'copy the whole folder, save it again, or take its row out of "files" in {described_in.name}',
            )


def read_bytes(path: Path, most: int = 1 << 40) -> bytes:
    """Return a regular file's bytes, read once and not mapped, so that a file cut off meanwhile harms nobody.

    Raises DataError for what is no regular file, has more than ``most`` bytes, or changes its size while it is read.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise DataError(path, None, "not a regular file", "give a file")
        if found.st_size > most:
            raise DataError(path, None, f"{found.st_size} bytes, more than the {most} that are read", "make it smaller")
        data = file.read(found.st_size + 1)
        if len(data) != found.st_size:
            raise DataError(path, None, "the file changed while it was read", "read it again when its writer is done")
        return data


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_unchanged(folder: Path, read: Callable[[Path], Value]) -> Value:
    """Return ``read(folder)``; where another folder took its place meanwhile, read that one.

    So whoever reads beside a writer gets the old or the new folder, and neither an error nor a mixture.
    """
    for _ in range(LOOKS):
        before = _identity(folder)
        try:
            value = read(folder)
        except (OSError, LorankError, ValueError, KeyError):
            if _identity(folder) == before:
                raise
            continue
        if _identity(folder) == before:
            return value
    raise LorankError(f"{folder} is written to all the time; read it again when its writer rests")


def _identity(folder: Path) -> tuple[int, ...] | None:
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns
