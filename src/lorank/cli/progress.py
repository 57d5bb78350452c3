"""Progress on stderr: what is going on and how long is left."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from lorank.progress import StageCallback

console = Console(stderr=True, highlight=False)


@contextmanager
def progress_bars() -> Iterator[StageCallback]:
    """Yield a callback that draws one bar for each task that it receives; a plain log where stderr is no terminal."""
    if not console.is_terminal:
        yield _Log().on_progress
        return
    columns = (
        TextColumn("{task.description:34}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=False) as bars:
        tasks: dict[str, int] = {}

        def on_progress(what: str, done: int, total: int) -> None:
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
        name = what.partition(" · ")[0]
        fifth = 5 * done // max(total, 1)
        if self.fifths.get(name) != fifth:
            self.fifths[name] = fifth
            console.print(f"{what}: {done} of {total}", soft_wrap=True)
