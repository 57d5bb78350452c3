"""Ctrl-C between two steps: the step under way is finished and saved; a second Ctrl-C stops at once."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

logger = logging.getLogger("lorank")


class Interruption:
    """Whether Ctrl-C was pressed since the run began."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Note the first Ctrl-C, and raise KeyboardInterrupt at the second."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        logger.warning("stopping after this step, with a checkpoint; Ctrl-C again stops at once, without one")


@contextmanager
def note_interruption() -> Iterator[Interruption]:
    """Within it Ctrl-C is noted and not raised, where this thread may say so and nobody else handles it."""
    interruption = Interruption()
    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if not ours:
        yield interruption
        return
    before = signal.signal(signal.SIGINT, interruption)
    try:
        yield interruption
    finally:
        signal.signal(signal.SIGINT, before)
