"""Click logs: validation with file and line, round trips, a real log."""

import csv
import gzip
import re
from itertools import islice

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorank.data.clicks import Impression, read_clicks, write_clicks
from lorank.data.files import write_json_lines
from lorank.errors import DataError, UsageError

GOOD = {"session": "s", "query_id": "q", "doc_ids": ["a", "b"], "clicks": [0, 1]}
FINITE = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def logs(draw):
    has_propensities, width = draw(st.booleans()), draw(st.integers(0, 2))
    made = []
    for i in range(draw(st.integers(1, 4))):
        ids = draw(st.lists(st.text("abc", min_size=1), min_size=1, max_size=4, unique=True))
        n = len(ids)
        clicks = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
        shares = st.lists(st.floats(0, 1, exclude_min=True), min_size=n, max_size=n)
        propensities = tuple(draw(shares)) if has_propensities else None
        features = [draw(st.tuples(*[FINITE] * width)) for _ in range(n)] if width else None
        made.append(
            Impression(
                f"s{i}",
                draw(st.text("xyzé 0", min_size=1, max_size=5)),
                tuple(ids),
                tuple(clicks),
                propensities,
                tuple(features) if features else None,
            )
        )
    return made


@pytest.mark.parametrize("name", ["log.jsonl", "log.jsonl.gz", "log.parquet"])
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(log=logs())
def test_a_log_comes_back(tmp_path_factory, name, log):
    path = tmp_path_factory.mktemp("logs") / name
    write_clicks(log, path)
    assert list(read_clicks(path)) == log


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"clicks": [0, 2]}, "clicks hold 2, which is neither 0 nor 1"),
        ({"clicks": [0]}, "1 clicks for 2 doc_ids"),
        ({"clicks": 1}, "'clicks' is not a list"),
        ({"doc_ids": ["a", "a"]}, "doc_ids lists a document twice"),
        ({"doc_ids": [], "clicks": []}, "doc_ids is empty"),
        ({"doc_ids": ["a", 2]}, "doc_ids holds 2, which is not an id"),
        ({"session": ""}, "session holds '', which is not an id"),
        ({"propensities": [0.5]}, "1 propensities for 2 doc_ids"),
        ({"propensities": [0.5, 0]}, "propensities hold 0, which is not above 0 and at most 1"),
        ({"propensities": [0.5, 1.5]}, "propensities hold 1.5, which is not above 0 and at most 1"),
        ({"features": [[1.0]]}, "features are not 2 rows of equal length"),
        ({"features": [[1.0], [1.0, 2.0]]}, "features are not 2 rows of equal length"),
        ({"features": [[1.0], ["x"]]}, "features hold 'x', which is not a finite number"),
        ({"query_id": None}, "no 'query_id'"),
        ({"positions": [0, 1]}, "positions hold 0, and they are counted from 1"),
        ({"positions": [1, None]}, "positions hold None, which is not a whole number"),
        ({"positions": [1]}, "1 positions for 2 doc_ids"),
        ({"positions": [2, 2]}, "two documents have one position"),
        ({"positions": [1, 70000]}, "positions hold 70000, which is more than 1,000, the most"),
        (
            {"doc_ids": [f"d{i}" for i in range(1001)], "clicks": [0] * 1001},
            "1001 doc_ids are more than 1,000, the most positions",
        ),
    ],
)
def test_a_bad_impression_names_file_line_and_remedy(tmp_path, change, problem):
    path = tmp_path / "log.jsonl"
    write_json_lines([GOOD, GOOD | change], path)
    with pytest.raises(DataError, match=rf"log\.jsonl:2: {re.escape(problem)}; a row is"):
        list(read_clicks(path))


def test_nan_is_refused_in_and_out_and_nothing_is_left(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"session": "s", "query_id": "q", "doc_ids": ["a"], "clicks": [0], "propensities": [NaN]}\n')
    with pytest.raises(DataError, match=r"log.jsonl:1: propensities hold nan"):
        list(read_clicks(path))
    good = Impression("s", "q", ("a",), (0,))
    for name in ("out.jsonl", "out.parquet"):
        with pytest.raises(UsageError, match="clicks hold 3"):
            write_clicks([good] * 3 + [Impression("s", "q", ("a",), (3,))], tmp_path / name)
    assert list(tmp_path.iterdir()) == [path]


def test_a_real_log_goes_through(shared_data, tmp_path):
    with gzip.open(shared_data / "open-bandit" / "random.all.csv.gz", "rt") as file:
        log = [
            Impression(str(i), "home", (row["item_id"],), (int(row["click"]),), (float(row["propensity_score"]),))
            for i, row in enumerate(islice(csv.DictReader(file), 10_000))
        ]
    write_clicks(log, tmp_path / "log.jsonl.gz")
    again = list(read_clicks(tmp_path / "log.jsonl.gz"))
    assert again == log
    assert sum(each.clicks[0] for each in again) == 38
