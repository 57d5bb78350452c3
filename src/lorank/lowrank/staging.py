"""Folders that appear whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lorank.errors import LorankError


@contextmanager
def staged(folder: str | Path, *, whole: bool = False) -> Iterator[Path]:
    """Give a temporary folder whose files move to ``folder`` when the block ends well, and vanish when not.

    A new ``folder`` is renamed into place as a whole; in one that exists the files written replace those of
    the same name, one rename each, and others are left alone. With ``whole`` a folder that exists goes with all it
    holds, once what was written is complete.
    """
    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise LorankError(f"{target} is a file; give the name of a folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield stage
        _publish(stage, target, whole)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _publish(stage: Path, target: Path, whole: bool) -> None:
    stage.chmod(0o777 & ~_umask())
    if whole and target.exists():
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as aside:
            old = target.rename(Path(aside) / target.name)
            try:
                stage.rename(target)
            except BaseException:  # what was there comes back
                old.rename(target)
                raise
        return
    if not target.exists():
        stage.rename(target)
        return
    for source in sorted(path for path in stage.rglob("*") if path.is_file()):
        place = target / source.relative_to(stage)
        place.parent.mkdir(parents=True, exist_ok=True)
        source.replace(place)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def staged_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary path whose file is renamed to ``path`` when the block ends well, and removed when not."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    os.close(handle)
    stage = Path(name)
    try:
        yield stage
        stage.chmod(0o666 & ~_umask())
        stage.replace(target)
    finally:
        stage.unlink(missing_ok=True)
