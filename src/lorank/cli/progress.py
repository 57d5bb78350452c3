"""Progress on stderr: what is going on and how long is left; with ``--quiet`` only what went wrong."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from lorank.progress import StageCallback

console = Console(stderr=True, highlight=False)

OTHERS = ("torchao", "torch.utils._pytree")
"""Loggers whose warnings at import are about kernels that lorank does not use."""
COUNTS = 46
"""The columns that counts and times of a progress bar take."""


def report_notes(quiet: bool = False) -> None:
    """Let what the library notes go to stderr, each note once; with ``quiet`` warnings alone, and no progress."""
    console.quiet = quiet
    logger = logging.getLogger("lorank")
    for handler in [each for each in logger.handlers if isinstance(each, _Notes)]:
        logger.removeHandler(handler)
    logger.addHandler(_Notes())
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    for name in OTHERS:
        logging.getLogger(name).setLevel(logging.ERROR)


class _Notes(logging.Handler):
    """Prints a record's message; one that was printed before is left out."""

    def __init__(self) -> None:
        super().__init__()
        self.said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message once, also where progress is not shown."""
        message = record.getMessage()
        if message in self.said:
            return
        self.said.add(message)
        quiet, console.quiet = console.quiet, False
        try:
            console.print(message, soft_wrap=True, markup=False)
        finally:
            console.quiet = quiet


@contextmanager
def stage(what: str) -> Iterator[None]:
    """Say at once what is going on, while it does: a spinner on a terminal, one line elsewhere."""
    if console.is_terminal and not console.quiet:
        with console.status(what):
            yield
        return
    console.print(what, soft_wrap=True, markup=False)
    yield


@contextmanager
def progress_bars() -> Iterator[StageCallback]:
    """Yield a callback that draws one bar for each task that it receives; a plain log where stderr is no terminal."""
    if console.quiet:
        yield lambda what, done, total: None
        return
    if not console.is_terminal:
        yield _Log().on_progress
        return
    bar = max(4, min(30, console.width - COUNTS - 34))
    described = Column(no_wrap=True, overflow="ellipsis", max_width=max(12, console.width - COUNTS - bar))
    columns = (
        TextColumn("{task.description}", table_column=described),
        BarColumn(bar_width=bar),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=False) as bars:
        tasks: dict[str, TaskID] = {}

        def on_progress(what: str, done: int, total: int) -> None:
            if total == 0:
                bars.console.print(what, soft_wrap=True)
                return
            name, _, detail = what.partition(" · ")
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            shown = f"{name}  {detail}" if detail else name
            bars.update(tasks[name], completed=done, total=total, description=shown)

        yield on_progress


class _Log:
    """One line when a task begins, at each further fifth, and when it ends."""

    def __init__(self) -> None:
        self.fifths: dict[str, int] = {}

    def on_progress(self, what: str, done: int, total: int) -> None:
        if total == 0:
            console.print(what, soft_wrap=True)
            return
        name = what.partition(" · ")[0]
        fifth = 5 * done // max(total, 1)
        if self.fifths.get(name) != fifth:
            self.fifths[name] = fifth
            console.print(f"{what}: {done} of {total}", soft_wrap=True)
