"""The report of a folder that holds agreement.json or shrink.json."""

import json

import numpy as np
import pytest

from lorank.errors import DataError
from lorank.ranking.metrics.agreement import compare_runs
from lorank.reporting import write_report
from lorank.tuned.agreement import RankerCost, agreement_as_json


def agreement():
    first = {f"q{i}": {f"d{j}": float(j) for j in range(6)} for i in range(4)}
    second = {q: {d: -s if d in ("d0", "d5") else s for d, s in row.items()} for q, row in first.items()}
    found = compare_runs(first, second, rng=np.random.default_rng(0), qrels={q: {"d5": 1} for q in first})
    costs = (RankerCost(100.0, 10, 40), RankerCost(150.0, 5, 20))
    return agreement_as_json("runs/<first>", "small", found, costs)


SHRUNK = {
    "ranker": "runs/first",
    "method": "eora",
    "ranks": "order",
    "weights": [1000, 500],
    "bytes": [4000, 2000],
    "layers": [
        {"path": "layer.query", "shape": [20, 20], "rank": 5, "error": 0.25},
        {"path": "layer.key", "shape": [20, 20], "rank": None, "error": 0.0},
    ],
}


def test_both_files_make_a_section(tmp_path):
    (tmp_path / "agreement.json").write_text(json.dumps(agreement()))
    (tmp_path / "shrink.json").write_text(json.dumps(SHRUNK))
    page = write_report(tmp_path).read_text()
    for part in (
        'id="order"',
        "The order that is kept",
        "1.50 times",
        "Kendall",
        "nDCG@10",
        "2 and more",
        "layer.query",
    ):
        assert part in page
    assert "runs/&lt;first&gt;" in page
    assert "dense" in page


def test_either_file_alone_and_neither(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    assert 'id="order"' not in write_report(tmp_path).read_text()
    (tmp_path / "agreement.json").write_text(json.dumps(agreement()))
    page = write_report(tmp_path).read_text()
    assert 'id="flipped-table"' in page
    assert 'id="shrunk-table"' not in page
    (tmp_path / "agreement.json").unlink()
    (tmp_path / "shrink.json").write_text(json.dumps(SHRUNK))
    page = write_report(tmp_path).read_text()
    assert 'id="flipped-table"' not in page
    assert "50.0" in page


@pytest.mark.parametrize(("name", "value"), [("agreement.json", {"a": 1}), ("shrink.json", []), ("shrink.json", "{")])
def test_a_malformed_file_is_named(name, value, tmp_path):
    (tmp_path / name).write_text(value if value == "{" else json.dumps(value))
    with pytest.raises(DataError, match=name):
        write_report(tmp_path)
