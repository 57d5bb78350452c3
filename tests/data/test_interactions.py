"""Logs of interactions: MovieLens's three formats and plain ones give the same sequences; bad rows are named."""

import pytest

from lorank.data.interactions import read_interactions
from lorank.errors import DataError

EVENTS = [("7", "b", 3), ("9", "a", 1), ("7", "a", 1), ("7", "c", 2), ("9", "b", 5)]
FORMATS = {
    "header,comma": ("userId,movieId,rating,timestamp\n", "{},{},4.5,{}\n"),
    "header,tab": ("time\tuser_id\titem_id\n", "{2}\t{0}\t{1}\n"),
    "u.data": ("", "{}\t{}\t3\t{}\n"),
    "ratings.dat": ("", "{}::{}::3::{}\n"),
}


@pytest.mark.parametrize("form", FORMATS)
def test_all_formats_give_the_sequences_in_the_order_of_time(form, tmp_path):
    head, row = FORMATS[form]
    (tmp_path / "log").write_text(head + "".join(row.format(*event) for event in EVENTS))
    log = read_interactions(tmp_path / "log")
    named = {
        user: [log.items[place - 1] for place in sequence]
        for user, sequence in zip(log.users, log.sequences, strict=True)
    }
    assert named == {"7": ["a", "c", "b"], "9": ["a", "b"]}


def test_without_a_time_rows_stand_in_its_order_and_places_of_other_items_are_found(tmp_path):
    (tmp_path / "log").write_text("u\tx\nu\ty\nv\tz\nu\tx\n")
    log = read_interactions(tmp_path / "log")
    assert [row.tolist() for row in log.sequences] == [[1, 2, 1], [3]]
    other = log.of(["y", "x"])
    assert (other.users, [row.tolist() for row in other.sequences]) == (["u"], [[2, 1, 2]])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("user,item,time\nu,a,1\nu,,2\n", "log:3: no user or no item"),
        ("user,item,time\nu,a,soon\n", "log:2: the time is no number"),
        ("user,item,time\nu,a\n", "log:2: too few columns"),
        ("u\ta\t3\n", "3 columns without a header"),
        ("user,item\n", "no interaction"),
    ],
)
def test_what_is_wrong_is_named(text, problem, tmp_path):
    (tmp_path / "log").write_text(text)
    with pytest.raises(DataError, match=problem):
        read_interactions(tmp_path / "log")


def test_bad_rows_can_be_left_out(tmp_path):
    (tmp_path / "log").write_text("user,item\nu,a\nu,\nu,b\n")
    bad = []
    log = read_interactions(tmp_path / "log", lambda error, row: bad.append(row))
    assert (log.items, bad) == (["a", "b"], ["u,"])
