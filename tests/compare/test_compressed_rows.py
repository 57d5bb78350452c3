"""Compressions as an axis of an experiment: rows by name and by option, sizes beside them, and what is matched."""

import pytest

from lorank.compare import run_experiment
from lorank.compare.experiment_file import read_experiment
from lorank.compare.matching import has_rank, match_ranks
from lorank.compare.shared_work import SharedWork
from lorank.errors import UsageError
from lorank.lowrank.compression import COMPRESSIONS


def experiment(splits, bert, **more):
    training = {"steps": 3, "batch_size": 4, "evaluations": 1, "precision": "fp32", "lr": 1e-3}
    lists = {"negatives": 2, "spare": 1.0, "depth": 8}
    base = {"kind": "bi-encoder", "data": str(splits), "base": bert, "training": training, "lists": lists}
    return base | {"keep": "tuned"} | more


def test_every_compression_is_a_row_whose_layers_are_counted_as_factors(splits, bert, tmp_path):
    made = experiment(splits, bert, compress={"name": ["none", *COMPRESSIONS]}, adapter={"name": "full"})
    found = run_experiment(made | {"baseline": "none"}, tmp_path / "out")
    assert found.whole
    assert found.notes == ()
    rows = {row.name: row for row in found.result.rows}
    assert list(rows) == ["none", *COMPRESSIONS]
    assert "factored_values" not in rows["none"].trials[0].cost
    linear = 2 * (4 * 32 * 32 + 2 * 32 * 64)  # of the tiny BERT, its pooler left out
    for name in COMPRESSIONS:
        assert 0 < rows[name].trials[0].cost["factored_values"] <= linear + 32 * 32
    assert rows["pela"].trials[0].cost["factored_values"] <= (linear + 32 * 32) / 3
    assert "Values of the compressed layers" in found.page.read_text()


def test_an_option_of_a_compression_is_an_axis_too(splits, bert, tmp_path):
    found = run_experiment(experiment(splits, bert, compress={"name": "pela", "factor": [2.0, 4.0]}), tmp_path / "out")
    small = [row.trials[0].cost["factored_values"] for row in found.result.rows]
    assert [row.name for row in found.result.rows] == ["factor 2.0", "factor 4.0"]
    assert small[1] < 0.6 * small[0]


def test_rows_of_whole_weights_keep_their_size_and_adapters_are_matched_to_them(splits, bert, tmp_path):
    rows = [
        {"name": "pela", "compress": {"name": "pela"}},
        {"name": "galore", "optimizer": {"name": "galore"}},
        {"name": "lora", "adapter": {"name": "lora", "targets": "all-linear"}},
    ]
    made = read_experiment(experiment(splits, bert, row=rows, baseline="pela", match="trained_parameters"))
    before = {row.name: row for row in made.rows}
    assert [has_rank(row) for row in made.rows] == [False, False, True]
    matched = {row.name: row for row in match_ranks(made, SharedWork(tmp_path)).rows}
    assert matched["pela"] == before["pela"]
    assert matched["galore"] == before["galore"]
    assert matched["lora"].recipe.adapter.rank > 8


def test_names_and_options_that_cannot_be_are_refused_with_the_file(splits, bert, tmp_path):
    for section, said in (
        ({"name": ["trp", "pelaa"]}, "did you mean 'pela'"),
        ({"name": ["trp", "pela"], "energy": 0.9}, "compress.energy"),
        ({"name": "trp", "energy": [0.9, 1.5]}, "energy"),
    ):
        with pytest.raises(UsageError, match=said):
            run_experiment(experiment(splits, bert, compress=section), tmp_path / "out")
    assert not list(tmp_path.glob("out/runs/*"))


def test_a_file_may_have_no_other_axis():
    assert [row.name for row in read_experiment({"data": "pydocs", "compress": {"name": ["trp", "pela"]}}).rows] == [
        "trp",
        "pela",
    ]
