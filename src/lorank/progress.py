"""Types of the functions that long work calls to report its progress, and progress bars of forked processes."""

import sys
import threading
from collections.abc import Callable

ProgressCallback = Callable[[int, int], None]
"""Called with the number of units done and the total."""

StageCallback = Callable[[str, int, int], None]
"""Called with the stage's name, the number of units done and the total; a total of 0 makes the name a message."""


def unshare_progress_lock() -> None:
    """Give this process a lock of its own for the progress bars of libraries; call it in a forked child.

    tqdm takes a lock for each bar, hidden ones included, and shares it among forked processes: a child that is killed
    while it holds the lock would stop its siblings and its parent for ever.
    """
    tqdm = sys.modules.get("tqdm")
    if tqdm is not None:
        tqdm.tqdm.set_lock(threading.RLock())
