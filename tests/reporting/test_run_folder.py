"""Reading a run folder: absent files are absent parts, malformed ones are named with what was expected."""

import json

import pytest

from lorank.errors import DataError
from lorank.reporting import read_run_folder


def test_everything_comes_back(sample_run, parts):
    run = read_run_folder(sample_run)
    assert run.evaluation == parts["evaluation"]
    assert len(run.training) == len(parts["metrics"])
    assert run.run.adapter.trained_parameters == parts["run"]["adapter"]["trained_parameters"]
    assert [e.query for e in run.examples] == [e["query"] for e in parts["examples"]]


def test_absent_files_are_absent_parts(write_run, parts):
    run = read_run_folder(write_run(metrics=parts["metrics"]))
    assert run.evaluation is None
    assert run.run is None
    assert run.examples == []


def test_unknown_keys_are_ignored_and_nulls_allowed(write_run):
    run = read_run_folder(write_run(run={"lorank": None, "command": None, "novel": {"a": 1}})).run
    assert run.command is None


def test_line_separators_inside_json_do_not_end_a_line(write_run, tmp_path):
    folder = write_run(run={})
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5, "note": "a\u2028b"}\n', encoding="utf-8")
    assert len(read_run_folder(folder).training) == 1


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("results.json", "{", "results.json:1: broken JSON"),
        ("results.json", "[]", "lorank evaluate"),
        ("metrics.jsonl", '{"step": 1, "loss": 1.0}\n{"step": 2, "lo', "metrics.jsonl:2: broken JSON"),
        ("metrics.jsonl", '{"loss": 1.0}\n', "metrics.jsonl:1: step: Field required"),
        ("run.json", '{"seed": "seven"}', "run.json: seed:"),
        ("run.json", '{"adapter": {"layers": [{"path": "a"}]}}', "adapter.layers.0.rank: Field required"),
        ("examples.json", '{"query": "q"}', "expected a list of"),
        ("examples.json", '[{"query_id": "q", "query": 3}]', "examples.json: 0.query:"),
    ],
)
def test_a_malformed_file_is_named(write_run, name, content, said):
    folder = write_run(run={})
    (folder / name).write_text(content)
    with pytest.raises(DataError) as caught:
        read_run_folder(folder)
    assert said in str(caught.value)


def test_text_that_is_not_utf8(write_run):
    folder = write_run(run={})
    (folder / "examples.json").write_bytes(b"[\xff]")
    with pytest.raises(DataError, match=r"examples\.json: is not UTF-8 at byte 1"):
        read_run_folder(folder)


def test_results_that_contradict_themselves(write_run, parts):
    folder = write_run(evaluation=parts["evaluation"])
    data = json.loads((folder / "results.json").read_text())
    data["comparisons"][0]["system"] = "nobody"
    (folder / "results.json").write_text(json.dumps(data))
    with pytest.raises(DataError, match=r"comparisons\.0 names the unknown system 'nobody'"):
        read_run_folder(folder)
    data["measures"].append("AP")
    (folder / "results.json").write_text(json.dumps(data))
    with pytest.raises(DataError, match=r"mean lacks 'AP'"):
        read_run_folder(folder)


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(DataError, match="holds none of"):
        read_run_folder(tmp_path)
    with pytest.raises(DataError, match="is not a folder"):
        read_run_folder(tmp_path / "nowhere")
