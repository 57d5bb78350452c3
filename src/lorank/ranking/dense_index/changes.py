"""One writer of an index at a time, and nothing left of those that died."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lorank.errors import LorankError
from lorank.ranking.dense_index.description import Description


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the lock of an index; raise LorankError where another process writes to it."""
    try:
        import fcntl
    except ImportError:  # a system without such locks
        yield
        return
    with (folder / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LorankError(f"another process writes to {folder}; wait until it is done") from error
        yield


def remove_unnamed(folder: Path, description: Description) -> None:
    """Remove the segments and the files of deletions that the index of ``folder`` does not name."""
    known = dict(description.segments)
    for path in folder.iterdir():
        if not path.is_dir() or not path.name.startswith("segment-"):
            continue
        if path.name not in known:
            shutil.rmtree(path, ignore_errors=True)
            continue
        for old in path.glob("alive-*.npy"):
            if old.name != known[path.name]:
                old.unlink(missing_ok=True)
