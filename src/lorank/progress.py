"""Types of the functions that long work calls to report its progress."""

from collections.abc import Callable

ProgressCallback = Callable[[int, int], None]
"""Called with the number of units done and the total."""

StageCallback = Callable[[str, int, int], None]
"""Called with the stage's name, the number of units done and the total; a total of 0 makes the name a message."""
