"""The files of a comparison: all there, whole, and saying the same numbers."""

import csv
import json

import pytest

from lorank.compare.report import summary, write_comparison
from planted_experiments import Planted, plant_experiment

SHIFTS = {"bm25": 0.0, "lora": 0.15, "dora": 0.01}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiment")
    (folder / "ledger.sqlite").write_text("kept")
    result = plant_experiment(SHIFTS, Planted(seed_sd=0.005), seeds=3, failed={"galore": "out of memory"})
    return result, write_comparison(result, folder)


def test_every_file_is_written_and_others_stay(written):
    _, page = written
    names = {path.name for path in page.parent.iterdir()}
    wanted = {"index.html", "results.csv", "results.parquet", "results.tex", "results.md", "statistics.json"}
    assert names == wanted | {"ledger.sqlite"}


def test_csv_parquet_and_json_hold_the_same_numbers(written):
    parquet = pytest.importorskip("pyarrow.parquet")
    _, page = written
    rows = list(csv.DictReader((page.parent / "results.csv").open(newline="")))
    frame = parquet.read_table(page.parent / "results.parquet").to_pylist()
    records = json.loads((page.parent / "statistics.json").read_text())["rows"]
    assert [row["row"] for row in rows] == [row["row"] for row in frame] == [row["row"] for row in records]
    for one, other, third in zip(rows, frame, records):
        assert (one["mean"] or None) == (None if other["mean"] is None else str(other["mean"]))
        assert other["mean"] == (third["mean"] if third["mean"] is None else pytest.approx(third["mean"]))


def test_the_summary_fits_and_names_every_row(written):
    result, _ = written
    text = summary(result)
    assert max(map(len, text.splitlines())) <= 80
    assert all(name in text for name in [*SHIFTS, "galore", "out of memory"])
    assert "better" in next(line for line in text.splitlines() if "lora" in line and "|" in line)


def test_long_names_are_cut_in_the_middle_and_stay_apart():
    names = {f"adapter=lora loss=lambda strategy=pointwise rank={rank} seed-free": 0.0 for rank in (8, 16)}
    text = summary(plant_experiment({"bm25": 0.0, **names}))
    assert max(map(len, text.splitlines())) <= 80
    assert sum("…" in line for line in text.splitlines()) == 2


def test_names_that_would_look_alike_become_blocks():
    names = {"a" * 40 + middle + "b" * 40: 0.0 for middle in ("x", "y")}
    text = summary(plant_experiment({"bm25": 0.0, **names}))
    assert all(name in text for name in names)
