"""Logs in the formats that people have: read, counted, refused with file and line."""

import random
import re

import pytest

import lorank
from lorank.data.click_logs import LOG_FORMATS, LogCounts, guess_format, read_log, sessions_of_log
from lorank.data.click_logs.formats.baidu_ultr import read_judged
from lorank.data.click_logs.propensity_files import read_propensities
from lorank.data.click_logs.summary import PairSample, summarise
from lorank.data.clicks import Impression, read_clicks, write_clicks
from lorank.errors import DataError, UsageError

YANDEX = [
    "1\t0\tQ\t7\t0\tu1\tu2\tu3",
    "1\t5\tC\tu2",
    "1\t9\tQ\t8\t0\tu2\tu4",
    "1\t12\tC\tu4",
    "1\t13\tC\tu1",
    "1\t14\tC\tu9",
    "2\t0\tQ\t7\t1\tu3\tu1",
    "1\t3\tC\tu1",
]
DOCUMENT = ["1", "url", "5\x016", "7\x018\x019", "0", "1", "-", "-", "0", "120", "8", *["0"] * 5, "30", *["0"] * 14]


def baidu(rows=2, query="1\x012"):
    lines = [f"q1\t{query}\t3\x014"]
    for k in range(1, rows + 1):
        row = [str(k), f"url{k}", *DOCUMENT[2:5], "1" if k == 2 else "0", *DOCUMENT[6:]]
        lines.append("\t".join(row))
    return lines


def write(path, lines):
    path.write_text("\n".join(lines) + "\n")
    return path


def test_yandex(tmp_path):
    path, counts = write(tmp_path / "log.txt", YANDEX), LogCounts()
    assert guess_format(path) == "yandex"
    read = list(read_log(path, counts=counts))
    assert [(each.session, each.query_id, each.clicks) for each in read] == [
        ("1", "7", (1, 1, 0)),
        ("1", "8", (0, 1)),
        ("2", "7", (0, 0)),
    ]
    assert read[1].time == 9.0  # exact: copied
    assert counts.left_out == {
        "clicks on documents that were not shown": 1,
        "clicks of a session that was over or had not begun": 1,
    }
    earlier = write(tmp_path / "earlier.txt", [YANDEX[0], "1\t5\tC\tu2", "1\t4\tC\tu3"])
    counts = LogCounts()
    assert [each.clicks for each in read_log(earlier, counts=counts)] == [(0, 1, 0)]
    assert counts.left_out == {"rows that are earlier than the one above": 1}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("1\t5\tX\tu2", "is no query or click"),
        ("1\tsoon\tC\tu2", "the time 'soon'"),
        ("2\t0\tQ\t7\t1\tu3\tu3", "lists a document twice"),
    ],
)
def test_a_bad_row_of_yandex_has_its_line(tmp_path, row, problem):
    path = write(tmp_path / "log.txt", [YANDEX[0], row])
    with pytest.raises(DataError, match=rf"log\.txt:2: .*{problem}"):
        list(read_log(path, "yandex"))


def test_baidu_ultr(tmp_path):
    path = write(tmp_path / "part-00000", [*baidu(), *baidu(3, "9")])
    assert guess_format(path) == "baidu-ultr"
    first, second = read_log(path)
    assert (first.query, first.clicks, first.positions) == ("1 2", (0, 1), (1, 2))
    assert first.texts[0] == "5 6\n7 8 9"
    assert first.heights == (120.0, 120.0)  # exact: copied
    assert first.dwell == (30.0, 30.0)  # exact: copied
    assert second.query_id == "9"
    data = lorank.load(path)
    assert len(data.train.impressions) == 2
    assert data.train.queries["1 2"] == "1 2"
    for lines, problem in (
        ([*baidu(), "1\t2"], "the row has 2 columns"),
        ([*baidu(), baidu()[1]], "two documents|twice"),
    ):
        with pytest.raises(DataError, match=problem):
            list(read_log(write(tmp_path / "bad", lines), "baidu-ultr"))
    again = tmp_path / "again.jsonl.gz"
    write_clicks(read_log(path), again)
    assert list(read_clicks(again)) == [first, second]


def test_baidu_ultr_judged(tmp_path):
    rows = ["1\t1\x012\t3\x014\t5\t2\t9", "1\t1\x012\t6\x017\t8\t0\t9"]
    data = read_judged(write(tmp_path / "annotations.txt", rows))
    assert data.test.qrels == {"1 2": {"d1": 2, "d2": 0}}
    with pytest.raises(DataError, match=r"bad\.txt:1"):
        read_judged(write(tmp_path / "bad.txt", ["a\tb"]))


def test_open_bandit(shared_data, tmp_path):
    path = shared_data / "open-bandit" / "random.all.csv.gz"
    assert guess_format(path) == "open-bandit"
    read = list(read_log(path))
    assert len(read) == 10_000
    assert sum(each.clicks[0] for each in read) == 38
    assert {each.places[0] for each in read} == {1, 2, 3}
    header = "timestamp,item_id,position,click,propensity_score"
    for row, problem in (
        (",3,1,0,0", "propensities hold 0"),
        (",3,1,0,1.5", "propensities hold 1.5"),
        (",3,0,0,.5", "counted from 1"),
        (",3,,0,.5", "the position '' is missing"),
        (",3,1,2,.5", "neither 0 nor 1"),
    ):
        bad = write(tmp_path / "bad.csv", [header, ",1,1,0,.5", row])
        with pytest.raises(DataError, match=rf"bad\.csv:3: .*{re.escape(problem)}"):
            list(read_log(bad))


TABLE = ["query,document,position,clicked", "a,x,1,0", "a,y,2,1", "a,x,1,1", "b,x,1,0", "b,z,3,0"]


def test_a_plain_table(tmp_path):
    path = write(tmp_path / "log.csv", TABLE)
    assert guess_format(path) == "table"
    read = list(read_log(path))
    assert [(each.query_id, each.doc_ids, each.clicks, each.places) for each in read] == [
        ("a", ("x", "y"), (0, 1), (1, 2)),
        ("a", ("x",), (1,), (1,)),
        ("b", ("x", "z"), (0, 0), (1, 3)),
    ]
    named = ["session\tquery\tdoc_id\trank\tclick\tdevice\ttime\tpropensity", "1\ta\tx\t1\ttrue\tphone\t7\t.5"]
    (one,) = read_log(write(tmp_path / "log.tsv", named))
    assert (one.session, one.device, one.time, one.propensities, one.clicks) == (
        "1",
        "phone",
        7.0,
        (0.5,),
        (1,),
    )  # exact: copied


def test_sessions_out_of_order_are_counted(tmp_path):
    rows = ["session,query,document,position,clicked", "1,a,x,1,0", "2,a,x,1,0", "1,a,y,2,1"]
    counts = LogCounts()
    assert len(list(read_log(write(tmp_path / "log.csv", rows), counts=counts))) == 3
    assert sum(counts.left_out.values()) == 1


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("a,x,0,0", "the position is 0, and they are counted from 1"),
        ("a,x,,0", "the position '' is missing or no number"),
        ("a,x,1.5,0", "not a whole number"),
        ("a,x,3,2", "clicked is 2"),
        ("a,x,3,", "the clicked '' is missing"),
        ("a,,3,0", "is empty"),
        ("a,x", "the position '' is missing"),
        ("a,z,3,0,5", "the row has 5 cells, the header 4"),
        ("a,z,2000,0", "the position 2000 is more than 1,000"),
    ],
)
def test_a_bad_row_of_a_table_has_its_line(tmp_path, row, problem):
    with pytest.raises(
        DataError, match=rf"log\.csv:3: {re.escape(problem) if '(' in problem else problem}|log\.csv:3: .*{problem}"
    ):
        list(read_log(write(tmp_path / "log.csv", [*TABLE[:2], row])))


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("1,a,y,2,0,0,", "the propensity 0.0 is not above 0"),
        ("1,a,y,2,0,1.5,", "the propensity 1.5 is not above 0"),
        ("1,a,y,2,0,,", "some rows of the list state a propensity and others none"),
        ("1,a,y,1,0,.5,", "two documents at position 1"),
        ("2,a,y,1,0,.5,yesterday", "the time 'yesterday' is neither seconds nor a date"),
    ],
)
def test_a_bad_row_in_the_middle_of_a_list_has_its_own_line(tmp_path, row, problem):
    rows = ["session,query,document,position,clicked,propensity,time", "1,a,x,1,0,.5,", row, "3,a,y,1,0,.5,"]
    with pytest.raises(DataError, match=rf"log\.csv:3: .*{problem}"):
        list(read_log(write(tmp_path / "log.csv", rows)))


def test_what_spreadsheets_write(tmp_path):
    rows = ["Query;Document;Position;Clicked;Time", '"a;b";x;1;1;2026-11-30 12:00:00', "", '"a;b";y;2;0;']
    (one,) = read_log(write(tmp_path / "log.csv", rows))
    assert (one.query_id, one.doc_ids, one.clicks) == ("a;b", ("x", "y"), (1, 0))
    assert one.time == pytest.approx(1796040000)
    with pytest.raises(DataError, match=r"log\.csv:5: clicked is 3"):  # blank lines are counted
        list(read_log(write(tmp_path / "log.csv", [*rows, "c;x;1;3;"])))


def test_a_log_that_begins_with_a_click_or_an_empty_session_is_recognised(tmp_path):
    counts = LogCounts()
    path = write(tmp_path / "log.txt", ["1\t0\tC\tu2", *YANDEX[:2]])
    assert guess_format(path) == "yandex"
    assert [each.clicks for each in read_log(path, counts=counts)] == [(0, 1, 0)]
    assert counts.left_out == {"clicks of a session that was over or had not begun": 1}
    path, counts = write(tmp_path / "part-00000", [baidu()[0], *baidu(), baidu()[0]]), LogCounts()
    assert guess_format(path) == "baidu-ultr"
    assert len(list(read_log(path, counts=counts))) == 1
    assert counts.left_out == {"sessions without a document": 2}
    with pytest.raises(DataError, match=r"part-00000:1: the row has 31 columns and stands below no session"):
        list(read_log(write(path, baidu()[1:])))


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        (0, "0", "the position 0 is not counted from 1"),
        (0, "1", "the position 1 is there twice"),
        (0, "", "the position '' is missing"),
        (1, "url1", "the list shows 'url1' twice"),
        (5, "3", "click is 3"),
    ],
)
def test_a_bad_row_of_baidu_ultr_has_its_line(tmp_path, column, value, problem):
    rows = baidu()
    cells = rows[2].split("\t")
    cells[column] = value
    with pytest.raises(DataError, match=rf"part:3: {problem}"):
        list(read_log(write(tmp_path / "part", [*rows[:2], "\t".join(cells), *baidu()]), "baidu-ultr"))


def test_a_document_twice_and_a_missing_column(tmp_path):
    with pytest.raises(DataError, match=r"log\.csv:3: the list shows 'x' twice"):
        list(read_log(write(tmp_path / "log.csv", [*TABLE[:2], "a,x,2,0"])))
    with pytest.raises(DataError, match=r"log\.csv:1: there is no column for position"):
        list(read_log(write(tmp_path / "log.csv", ["query,document,clicked", "a,x,0"])))
    with pytest.raises(UsageError, match="no format of click logs fits"):
        guess_format(write(tmp_path / "other.txt", ["hello"]))
    with pytest.raises(UsageError, match="did you mean 'yandex'"):
        list(read_log(tmp_path / "log.csv", "yandx"))
    assert set(LOG_FORMATS) == {"jsonl", "yandex", "open-bandit", "table", "baidu-ultr"}


def test_an_empty_log_is_refused(tmp_path):
    (tmp_path / "log.jsonl").write_text("")
    with pytest.raises(DataError, match="no impression"):
        sessions_of_log(tmp_path / "log.jsonl")


def test_the_summary_counts(tmp_path):
    summary = summarise(
        [
            Impression("1", "a", ("x", "y"), (0, 1), time=5.0, device="phone", dwell=(0.0, 12.0)),
            Impression("2", "a", ("y", "x"), (1, 0), time=3.0, propensities=(0.5, 0.5)),
            Impression("3", "b", ("x",), (0,), positions=(3,)),
        ]
    )
    assert summary.click_rates() == pytest.approx({1: 1 / 2, 2: 1 / 2, 3: 0})
    assert summary.several() == pytest.approx({"pairs": 3, "one": 1 / 3, "two": 2 / 3, "more": 0})
    assert summary.query_frequency()["queries"] == pytest.approx(2)
    assert summary.backwards == 1
    said = summary.describe()
    for part in (
        "3 lists, 2 clicks",
        "devices: phone (1)",
        "12.0 s",
        "1 lists state propensities",
        "not in order of time",
    ):
        assert part in said


def test_the_pair_sample_stays_small_and_keeps_its_shares():
    rng, sample = random.Random(0), PairSample(most=2000)
    for i in range(20_000):
        first, second = ("a", "b") if rng.random() < 0.5 else ("b", "a")
        sample.add(Impression(str(i), f"q{i % 5000}", (first, second), (0, 0)))
    assert len(sample.pairs) <= 2000
    assert 0 < sample.share < 1
    assert len(sample.views) / sample.share == pytest.approx(5000, rel=0.25)


def test_files_of_propensities(tmp_path):
    for name, content in (
        ("list.json", "[1.0, 0.5]"),
        ("map.json", '{"1": 2.0, "2": 1.0}'),
        ("fit.json", '{"propensities": {"method": "harvest", "curve": [1, 0.5]}}'),
        ("run.json", '{"curve": [1, 0.5], "name": "dla"}'),
        ("curve.csv", "position,examination\n1,0.8\n2,0.4\n"),
    ):
        (tmp_path / name).write_text(content)
        assert read_propensities(tmp_path / name).curve == pytest.approx([1.0, 0.5])
    for content, problem in (
        ("[1.0, 0.0]", "0.0 is not above 0"),
        ("{}", "no propensity"),
        ('{"1": 1, "3": 1}', "gaps"),
        ("x", "not prop"),
    ):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(DataError, match=problem):
            read_propensities(tmp_path / "bad.json")
    with pytest.raises(UsageError, match="no file"):
        read_propensities(tmp_path / "nowhere.json")


def test_nested_lists_are_gains(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(
        '{"session": "s", "query_id": "q", "doc_ids": ["a", "b"], "clicks": [1, 0], "nested": [[1, 1], null]}\n'
    )
    (one,) = read_clicks(path)
    assert one.gains == pytest.approx((1 + 1 + 1 / 2, 0))
    path.write_text('{"session": "s", "query_id": "q", "doc_ids": ["a", "b"], "clicks": [1, 0], "nested": [[1]]}\n')
    with pytest.raises(DataError, match=r"log\.jsonl:1: nested is not 2 lists"):
        list(read_clicks(path))


def test_what_comes_with_an_impression_is_kept_and_checked(tmp_path):
    whole = Impression(
        "s",
        "q",
        ("a", "b"),
        (0, 1),
        positions=(2, 5),
        query="words",
        texts=("one", "two"),
        time=3.5,
        device="phone",
        dwell=(0.0, 4.0),
        heights=(10.0, 20.0),
        gains=(0.0, 2.0),
    )
    for name in ("log.jsonl", "log.parquet"):
        write_clicks([whole], tmp_path / name)
        assert list(read_clicks(tmp_path / name)) == [whole]
    for change, problem in (
        ({"positions": (0, 1)}, "counted from 1"),
        ({"positions": (1, 1)}, "one position"),
        ({"positions": (1,)}, "1 positions for 2"),
        ({"texts": ("one", " ")}, "docs holds ' '"),
        ({"dwell": (-1.0, 0.0)}, "dwell hold -1.0"),
        ({"time": float("nan")}, "time is nan"),
    ):
        from dataclasses import replace

        assert problem in (replace(whole, **change).problem() or "")
