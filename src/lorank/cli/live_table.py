"""The table of an experiment while it runs: drawn anew on a terminal, one line for each trial elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lorank.cli.progress import console
from lorank.progress import StageCallback

if TYPE_CHECKING:
    from lorank.compare.state import RowState, State

NUMBERS = 40
"""The columns that the numbers of a row take, less the name of the measure."""

Callbacks = tuple[Callable[["State"], None], StageCallback]


@contextmanager
def live_table(measure: str) -> Iterator[Callbacks]:
    """Yield what receives the state of an experiment, and what receives the stages of a trial.

    Args:
        measure: The name of the main measure.
    """
    if console.quiet:
        yield (lambda state: None), (lambda what, done, total: None)
        return
    if not console.is_terminal:
        yield _Lines(measure).on_state, _say
        return
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        stage = {"text": ""}
        shown: list[State] = []

        def draw() -> None:
            if shown:
                live.update(_table(shown[-1], measure, stage["text"], console.width, console.height))

        def on_state(state: "State") -> None:
            shown.append(state)
            draw()

        def on_progress(what: str, done: int, total: int) -> None:
            stage["text"] = what if total == 0 else f"{what}: {done} of {total}"
            draw()

        yield on_state, on_progress


def _say(what: str, done: int, total: int) -> None:
    """Say what is a message; the stages of a trial are too many for lines."""


def _table(state: "State", measure: str, stage: str, width: int, height: int) -> Group:
    """Return the rows, as many as fit on the screen, those that are under way first to be kept, and what is left."""
    several = len({row.data for row in state.rows}) > 1
    table = Table(box=None, pad_edge=False)
    table.add_column("row", no_wrap=True, overflow="ellipsis", max_width=max(12, width - NUMBERS - len(measure)))
    for name in ("trials", "chosen", "dev", f"test {measure}"):
        table.add_column(name, justify="right", no_wrap=True)
    most = max(4, height - 5)
    rows = list(state.rows)
    if len(rows) > most:
        rows = sorted(rows, key=lambda row: (row.running == 0, row.done == row.planned))[:most]
    for row in rows:
        name = f"{row.data} · {row.name}" if several else row.name
        table.add_row(name, f"{row.done} of {row.planned}", *_numbers(row))
    return Group(table, Text(stage, no_wrap=True, overflow="ellipsis"), Text(_left(state)))


def _numbers(row: "RowState") -> tuple[str, str, str]:
    if row.failed is not None:
        return "", "", "failed"
    value = "" if row.value is None else f"{row.value:g}"
    return value, *("" if number is None else f"{number:.4f}" for number in (row.dev, row.test))  # type: ignore[return-value]


def _left(state: "State") -> str:
    text = f"{state.done} of {state.planned} trials"
    if state.seconds_left is None or state.done >= state.planned:
        return text
    minutes = state.seconds_left / 60
    left = (
        f"{state.seconds_left:.0f} s"
        if minutes < 2
        else f"{minutes:.0f} min"
        if minutes < 120
        else f"{minutes / 60:.1f} h"
    )
    return f"{text}, about {left} left"


class _Lines:
    """One line whenever a row has ended one more trial."""

    def __init__(self, measure: str) -> None:
        self.measure, self.done = measure, dict[tuple[str, str], int]()
        self.begun = False

    def on_state(self, state: "State") -> None:
        """Print what ended since the last state."""
        for row in state.rows:
            key = (row.data, row.name)
            before = self.done.get(key, 0)
            self.done[key] = row.done
            if row.done > before and self.begun:
                console.print(
                    f"{row.name} on {row.data}: {self._describe(row)}; {_left(state)}", soft_wrap=True, markup=False
                )
        if not self.begun:
            console.print(_left(state), soft_wrap=True)
        self.begun = True

    def _describe(self, row: "RowState") -> str:
        if row.failed is not None:
            return f"failed: {row.failed}"
        parts = [f"{row.done} of {row.planned} trials"]
        if row.value is not None:
            parts.append(f"chosen {row.value:g}")
        parts += [f"{name} {value:.4f}" for name, value in (("dev", row.dev), ("test", row.test)) if value is not None]
        return ", ".join(parts)
