"""The table of a running experiment: it fits on 80 columns, and elsewhere each trial is one line."""

import io

import pytest
from rich.console import Console

from lorank.cli import live_table
from lorank.compare.state import RowState, State

ROWS = [
    RowState("lora, softmax", "pydocs", 3, 15, 1e-3, 0.4123, 0.3987),
    RowState("a method with a name that is far too long for any column of a table", "pydocs", 0, 15, running=2),
    RowState("wide", "pydocs", 15, 15, failed="no layer matches 'no such layer'"),
]


def drawn(state, height=24):
    out = io.StringIO()
    console = Console(file=out, width=80, height=height, force_terminal=False)
    console.print(live_table._table(state, "nDCG@10", "score dev: 3 of 9", 80, height))
    return out.getvalue()


def test_the_table_fits_and_says_what_is_left():
    text = drawn(State(ROWS, 600.0))
    assert max(map(len, text.splitlines())) <= 80
    assert "3 of 15" in text
    assert "0.4123" in text
    assert "failed" in text
    assert "18 of 45 trials, about 10 min left" in text
    assert "score dev: 3 of 9" in text


def test_what_is_under_way_stays_on_a_low_screen():
    many = [RowState(f"row {i}", "pydocs", 5, 5) for i in range(40)] + [RowState("busy", "pydocs", 1, 5, running=1)]
    text = drawn(State(many, None), height=20)
    assert "busy" in text
    assert len(text.splitlines()) <= 20


def test_elsewhere_each_trial_is_a_line(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(live_table, "console", Console(file=out, width=300, force_terminal=False))
    with live_table.live_table("nDCG@10") as (on_state, on_progress):
        on_state(State([RowState("lora", "pydocs", 0, 2)], None))
        on_progress("score dev", 1, 3)
        on_state(State([RowState("lora", "pydocs", 1, 2, running=1)], 30.0))
        on_state(State([RowState("lora", "pydocs", 2, 2, None, 0.5, 0.25)], 0.0))
    assert out.getvalue().splitlines() == [
        "0 of 2 trials",
        "lora on pydocs: 1 of 2 trials; 1 of 2 trials, about 30 s left",
        "lora on pydocs: 2 of 2 trials, dev 0.5000, test 0.2500; 2 of 2 trials",
    ]


@pytest.mark.parametrize(("seconds", "said"), [(20, "20 s"), (600, "10 min"), (4 * 3600, "4.0 h")])
def test_times_have_their_unit(seconds, said):
    assert said in live_table._left(State([RowState("a", "b", 1, 9)], seconds))


def test_quiet_says_nothing(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(live_table, "console", Console(file=out, quiet=True))
    with live_table.live_table("nDCG@10") as (on_state, on_progress):
        on_state(State(ROWS, 1.0))
        on_progress("x", 1, 1)
    assert out.getvalue() == ""
