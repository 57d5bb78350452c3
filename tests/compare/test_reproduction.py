"""Named experiments: each has a file that can be read and recorded figures over the same rows."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lorank.compare.experiment_file import read_experiment
from lorank.compare.reproduction import (
    compare_with_recorded,
    experiment_names,
    experiment_path,
    read_named,
    read_recorded,
    record_figures,
)
from lorank.compare.running import run_experiment
from lorank.errors import UsageError


@pytest.mark.parametrize("name", experiment_names())
def test_every_experiment_has_figures_of_its_rows(name):
    experiment, recorded = read_experiment(experiment_path(name)), read_recorded(name)
    assert {(each["row"], each["measure"]) for each in recorded["figures"]} == {
        (row.name, measure) for row in experiment.rows for measure in experiment.measures
    }
    assert recorded["made"].keys() >= {"date", "machine", "versions"}
    assert all(each["low"] <= each["mean"] <= each["high"] for each in recorded["figures"])


def test_an_unknown_name():
    with pytest.raises(UsageError, match="unknown experiment 'pydoks'; did you mean 'pydocs'"):
        experiment_path("pydoks")


def test_figures_agree_with_themselves_and_not_with_others(splits, tmp_path):
    rows = [{"name": "BM25", "ranker": "bm25"}, {"name": "peer", "run": str(tmp_path / "peer.run")}]
    (tmp_path / "peer.run").write_text("".join(f"test{i} Q0 d{26 + i % 5} 1 1.0 peer\n" for i in range(12)))
    made = {"data": str(splits), "row": rows, "lists": {"depth": 8}, "baseline": "BM25"}
    found = run_experiment(made, tmp_path / "out")
    recorded = json.loads(json.dumps(record_figures(found.result)))
    figures = compare_with_recorded(found, recorded)
    assert {(each.row, each.figure) for each in figures} == {("BM25", "mean"), ("peer", "mean"), ("peer", "difference")}
    assert all(each.agrees for each in figures)
    assert not replace(figures[0], found=figures[0].high + 0.01).agrees
    assert not replace(figures[0], found=None).agrees


def test_a_spoiled_record_does_not_agree(splits, tmp_path):
    made = {"data": str(splits), "row": [{"name": "BM25", "ranker": "bm25"}], "lists": {"depth": 8}}
    found = run_experiment(made, tmp_path / "out")
    recorded = record_figures(found.result)
    for each in recorded["figures"]:
        for key in ("mean", "low", "high"):
            each[key] -= 2.0
    assert [each.agrees for each in compare_with_recorded(found, recorded)] == [False] * len(recorded["figures"])


def test_a_collection_of_another_name_is_the_recorded_one(splits, tmp_path):
    made = {"data": str(splits), "row": [{"name": "BM25", "ranker": "bm25"}], "lists": {"depth": 8}}
    found = run_experiment(made, tmp_path / "out")
    recorded = record_figures(found.result)
    for each in recorded["figures"]:
        each["collection"] = "elsewhere"
    assert all(each.agrees for each in compare_with_recorded(found, recorded))


def test_what_an_experiment_needs_is_named_and_put_in_its_place(tmp_path):
    needing = [name for name in experiment_names() if read_recorded(name).get("needs")]
    assert needing
    for name in needing:
        needs = read_recorded(name)["needs"]
        with pytest.raises(UsageError, match=f"{name} needs data.*--data {next(iter(needs))}=PATH"):
            read_named(name, {})
        with pytest.raises(UsageError, match="there is nothing at this path"):
            read_named(name, dict.fromkeys(needs, str(tmp_path / "none")))
        paths = {thing: str(tmp_path / f"{number}") for number, thing in enumerate(needs)}
        for path in paths.values():
            Path(path).touch()
        text = str(read_named(name, paths))
        assert all(path in text for path in paths.values())
        assert not any(f"{{{thing}}}" in text for thing in needs)
    with pytest.raises(UsageError, match="pydocs needs no data of yours"):
        read_named("pydocs", {"letor": "a"})
