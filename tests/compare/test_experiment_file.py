"""Experiment files: which rows the axes make, and what is said of a bad file before anything runs."""

import math

import pytest

from lorank.compare.axes import divide_keys, flatten
from lorank.compare.checks import check_collections, check_rows
from lorank.compare.experiment import Sweep
from lorank.compare.experiment_file import read_experiment
from lorank.errors import UsageError

BASE = {"data": "pydocs", "base": "minilm"}


def rows_of(**more):
    return read_experiment(BASE | more).rows


def test_the_axes_multiply_and_name_the_rows():
    rows = rows_of(adapter={"name": ["lora", "dora"], "rank": 4}, loss={"name": ["softmax", "lambda"]}, seed=[0, 1, 2])
    assert [row.name for row in rows] == ["lora, softmax", "lora, lambda", "dora, softmax", "dora, lambda"]
    assert {row.seeds for row in rows} == {(0, 1, 2)}
    assert [(row.recipe.adapter.name, row.recipe.adapter.rank, row.recipe.loss.name) for row in rows[:2]] == [
        ("lora", 4, "softmax"),
        ("lora", 4, "lambda"),
    ]
    assert rows[1].settings == {"adapter.name": "lora", "loss.name": "lambda"}


def test_a_row_has_a_name_for_each_collection():
    rows = rows_of(data=["pydocs", "lohelp"], adapter={"name": ["lora", "dora"]})
    assert [(row.data, row.name) for row in rows] == [
        ("pydocs", "lora"),
        ("pydocs", "dora"),
        ("lohelp", "lora"),
        ("lohelp", "dora"),
    ]


def test_numbers_and_bases_have_their_key_in_the_name():
    rows = rows_of(adapter={"name": "lora", "rank": [4, 8]}, base=["minilm", "models/tiny"])
    assert [row.name for row in rows] == ["rank 4, minilm", "rank 4, tiny", "rank 8, minilm", "rank 8, tiny"] or [
        row.name for row in rows
    ] == ["minilm, rank 4", "minilm, rank 8", "tiny, rank 4", "tiny, rank 8"]


def test_trained_rows_take_the_place_of_the_plain_one_and_keep_the_axes():
    tables = [
        {"name": "plain", "adapter": {"name": "lora"}},
        {"name": "every weight", "adapter": {"name": "full"}, "training": {"lr": {"sweep": [1e-5, 1e-4]}}},
        {"name": "BM25", "ranker": "bm25"},
    ]
    rows = rows_of(row=tables, loss={"name": ["softmax", "ranknet"]}, training={"lr": 1e-3})
    assert [row.name for row in rows] == [
        "plain, softmax",
        "plain, ranknet",
        "every weight, softmax",
        "every weight, ranknet",
        "BM25",
    ]
    assert rows[2].sweep == Sweep("training.lr", (1e-5, 1e-4))
    assert rows[0].sweep is None
    assert rows[0].recipe.training.lr == 1e-3  # exact: copied
    assert rows[4].external is not None


def test_external_rows_stand_beside_the_axes_on_every_collection():
    run = {"pydocs": "a.run", "lohelp": "b.run"}
    rows = rows_of(
        data=["pydocs", "lohelp"], adapter={"name": ["lora"]}, row=[{"name": "peer", "run": run}, {"ranker": "minilm"}]
    )
    assert [(row.data, row.name) for row in rows if row.external] == [
        ("pydocs", "peer"),
        ("lohelp", "peer"),
        ("pydocs", "minilm"),
        ("lohelp", "minilm"),
    ]
    assert [row.external.run for row in rows if row.name == "peer"] == ["a.run", "b.run"]


def test_a_key_that_takes_a_list_has_an_axis_where_its_list_holds_lists():
    assert len(rows_of(adapter={"targets": ["query", "key"]})) == 1
    assert [row.recipe.adapter.targets for row in rows_of(adapter={"targets": ["all-linear", ["query"]]})] == [
        "all-linear",
        ["query"],
    ]


def test_options_of_methods_are_axes_too():
    rows = rows_of(adapter={"name": "adalora"}, loss={"name": "ranknet", "sigma": [0.5, 1.0]})
    assert [row.recipe.loss.options["sigma"] for row in rows] == [0.5, 1.0]  # exact: copied


def test_the_measures_are_canonical():
    assert read_experiment(BASE | {"measures": "ndcg@10, mrr@10", "adapter": {"name": ["lora"]}}).measures == (
        "nDCG@10",
        "RR@10",
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"adaptor": {"name": "lora"}}, "adaptor: there is no such key; did you mean 'adapter'"),
        ({"adapter": {"rnak": [4, 8]}}, "adapter.rnak: there is no such key; did you mean 'rank'"),
        ({"adapter": {"rank": [4, "wide"]}}, "adapter.rank: .*valid integer"),
        ({"adapter": {"name": []}}, "adapter.name = .*axis without values"),
        ({"seed": [0, 0], "adapter": {"name": "lora"}}, "seed: a seed stands there twice"),
        ({"seed": [0.5], "adapter": {"name": "lora"}}, "seed: 0.5 is no seed"),
        ({"loss": {"name": ["softmax", "softmax"]}}, "loss.name: the value 'softmax' stands there twice"),
        ({"row": [{"name": "a", "adapter": {"name": "lora"}}] * 2}, "two rows are called 'a' on pydocs"),
        ({"row": [{"adapter": {"name": "lora"}}]}, 'row 1: a row has a name; write name = "..."'),
        (
            {"adapter": {"name": ["lora", "dora"]}, "baseline": "lara"},
            "baseline: unknown row 'lara'; did you mean 'lora'",
        ),
        ({"training": {"lr": {"sweep": []}}}, "training.lr: a sweep without values"),
        ({"training": {"lr": {"sweeps": [1e-3], "per": "method"}}}, "training.lr.sweeps: .*did you mean 'sweep'"),
        ({"training": {"lr": {"sweep": [1e-3], "per": "metod"}}}, "training.lr.per: .*did you mean 'method'"),
        ({"loss": {"name": {"sweep": ["softmax", "lambda"]}}}, "loss.name: a sweep .* takes numbers alone"),
        ({"training": {"lr": {"sweep": [1]}, "warmup": {"sweep": [0.1]}}}, "training.lr is swept already"),
        ({"training": {"steps": {"sweep": [10, 20.5]}}}, "training.steps: "),
        ({"folds": 2, "adapter": {"name": "lora"}}, "folds: 2 folds give no train"),
        ({"match": "parameters", "adapter": {"name": "lora"}}, "unknown match 'parameters'; .*trained_parameters"),
        ({"measures": ["nDGC@10"], "adapter": {"name": "lora"}}, "measures: unknown measure 'nDGC'"),
        ({"out": "runs/a"}, "out: not of an experiment; the folder is given by --out"),
        ({"row": [{"ranker": "minilm", "run": "a"}]}, "row 1: ranker and run: a row has one of them"),
        ({"row": [{"ranker": "minilm", "stratgy": "prp"}]}, "row 1: stratgy: .*did you mean 'strategy'"),
        ({"row": [{"ranker": "minilm", "budget": "calls=9"}]}, "budget, options and top belong to a strategy"),
        ({"row": [{"ranker": "minilm", "training": {"lr": {"sweep": [1, 2]}}}]}, "training: there is no such key"),
        ({"row": [{"run": 7}]}, "run: 7 is not of the type"),
        ({"row": [{"name": " ", "ranker": "bm25"}]}, "row 1: name: ' ' is no name of a row"),
        ({"name": ["a", "b"], "adapter": {"name": "lora"}}, "name: .* is no title of a page"),
        (
            {"statistics": {"correcton": "bh"}, "adapter": {"name": "lora"}},
            "statistics.correcton: .*did you mean 'correction'",
        ),
        ({"training": {"lr": {"draw": [1e-3]}}}, "training.lr: a choice has two values or more"),
        ({"training": {"lr": {"draw": "1e-2..1e-4"}}}, "training.lr.*the lower end is not below"),
        ({"training": {"lr": {"draw": [1, 2], "per": "fold"}}}, "training.lr.per: what is drawn has no such key"),
        ({"base": {"draw": ["minilm", "bert"]}}, "base: it is not drawn; make an axis"),
        ({"adapter": {"rank": {"draw": [4, "many"]}}}, "adapter.rank: "),
        ({"adapter": {"rank": {"draw": [4, 8]}}, "match": "trained_parameters"}, "dev chooses adapter.rank"),
        (
            {"training": {"lr": {"sweep": [1e-3, 1e-2]}, "warmup": {"draw": [0.1, 0.2]}}},
            "training.lr is swept and training.warmup drawn",
        ),
        ({"search": {"samples": 3}, "adapter": {"name": "lora"}}, "search: no key is drawn"),
        ({"search": {"sample": 3}, "adapter": {"rank": {"draw": [4, 8]}}}, "search.sample: .*did you mean 'samples'"),
        ({"search": {"per": "seed"}, "adapter": {"rank": {"draw": [4, 8]}}}, "search.per: 'seed' is neither"),
        ({"goal": 0, "adapter": {"name": "lora"}}, "goal: 0 is no share"),
        ({"row": [{"name": "a", "both_ways": "yes"}]}, "row 1: both_ways: 'yes' is neither true nor false"),
        ({"statistics": {"confidence": 2}, "adapter": {"name": "lora"}}, "confidence is 2; give a number"),
        ({"row": {"name": "a"}}, r"row: rows are written as \[\[row\]\]"),
    ],
)
def test_a_bad_file_is_refused_with_the_key_and_the_remedy(change, said):
    with pytest.raises(UsageError, match=said) as error:
        read_experiment(BASE | change)
    assert str(error.value).startswith("the experiment")


def test_a_row_with_an_axis_of_its_own_is_named_by_it():
    tables = [
        {"adapter": {"name": ["lora", "dora"]}, "seed": [0, 1]},
        {"name": "every weight", "adapter": {"name": "full"}},
    ]
    assert [(row.name, row.seeds) for row in rows_of(row=tables)] == [
        ("lora", (0, 1)),
        ("dora", (0, 1)),
        ("every weight", (0,)),
    ]


def test_drawn_configurations_are_different_the_same_for_every_row_and_in_their_ranges():
    change = {"rank": {"draw": [2, 4, 8]}, "alpha": {"draw": "1..16:log"}, "name": ["lora", "dora"]}
    rows = rows_of(adapter=change, search={"samples": 6, "seed": 1})
    first, second = (row.search.configurations() for row in rows)
    assert first == second
    assert len({str(each) for each in first}) == 6
    assert all(each["adapter.rank"] in (2, 4, 8) and 1 <= each["adapter.alpha"] <= 16 for each in first)
    few = rows_of(adapter={"rank": {"draw": [2, 4]}})[0].search.configurations()
    assert sorted(each["adapter.rank"] for each in few) == [2, 4]


def test_a_file_names_itself(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text('data = "pydocs"\n[adapter]\nnam = ["lora"]\n')
    with pytest.raises(UsageError, match=f"^{path}: adapter.nam: .*did you mean 'name'"):
        read_experiment(path)
    path.write_text("data = \n")
    with pytest.raises(UsageError, match="not valid TOML"):
        read_experiment(path)
    with pytest.raises(UsageError, match="no such experiment file"):
        read_experiment(tmp_path / "none.toml")


def test_nothing_to_compare():
    with pytest.raises(UsageError, match="nothing to compare"):
        read_experiment({"data": "pydocs", "seed": [0, 1]})
    with pytest.raises(UsageError, match='write data = "pydocs"'):
        read_experiment({"adapter": {"name": ["lora"]}})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"adapter": {"name": ["lora", "dorra"]}}, "adapter.name: unknown adapter 'dorra'; did you mean 'dora'"),
        ({"base": ["minilm", "minlm"]}, "base: unknown base 'minlm'"),
        ({"data": "pydoks", "adapter": {"name": "lora"}}, "data: unknown collection 'pydoks'; did you mean 'pydocs'"),
        ({"loss": {"name": "ranknet", "options": {"sigmo": 1.0}}}, "sigmo"),
        ({"row": [{"name": "peer", "run": "no/such.run"}]}, "row 'peer': run: there is no file no/such.run"),
        ({"row": [{"name": "m", "ranker": "minlm"}]}, "row 'm': ranker: there is no ranker 'minlm'"),
        ({"row": [{"name": "m", "ranker": "causal:smollm2"}]}, "is asked by a strategy"),
        ({"row": [{"name": "m", "ranker": "minilm", "strategy": "setwize"}]}, "did you mean 'setwise'"),
        ({"training": {"lr": {"sweep": [1e-3, math.nan]}}}, "training.lr is nan; give a number from 0 up"),
        ({"training": {"lr": {"sweep": [1e-3, math.inf]}}}, "training.lr is inf"),
        ({"adapter": {"dropout": [0.1, 1.5]}}, "adapter.dropout is 1.5"),
        ({"adapter": {"dropout": {"sweep": [0.1, 1.5]}}}, "adapter.dropout is 1.5"),
    ],
)
def test_names_and_files_are_checked_before_anything_runs(change, said):
    with pytest.raises(UsageError, match=said) as error:
        check_rows(read_experiment(BASE | change), "the experiment")
    assert str(error.value).startswith("the experiment")


def test_a_collection_without_what_the_experiment_needs(texts, tmp_path):
    test_only = {"pydocs": type(texts)("t", texts.document_ids, texts.documents, {"test": texts.test})}
    swept = read_experiment(BASE | {"training": {"lr": {"sweep": [1e-3, 1e-2]}}})
    with pytest.raises(UsageError, match="training.lr: is swept on dev, and pydocs has neither a dev.*folds = 5"):
        check_collections(swept, test_only, "the experiment")
    check_collections(read_experiment(BASE | {"folds": 3, "adapter": {"name": "lora"}}), test_only, "the experiment")
    with pytest.raises(UsageError, match="the experiment: folds: .*too few for 7 folds"):
        check_collections(
            read_experiment(BASE | {"folds": 7, "adapter": {"name": "lora"}}), test_only, "the experiment"
        )
    with pytest.raises(UsageError, match="split: pydocs has no judged 'vali' split"):
        check_collections(read_experiment(BASE | {"split": "vali", "adapter": {"name": "lora"}}), test_only, "e")
    run = tmp_path / "other.run"
    run.write_text("q99 Q0 d1 1 0.5 x\n")
    other = read_experiment({"data": "pydocs", "row": [{"name": "peer", "run": str(run)}]})
    with pytest.raises(UsageError, match="row 'peer': run: .*holds none of the 6 test queries"):
        check_collections(other, test_only, "e")


def test_edges_are_followed_by_the_step_of_the_sweep():
    sweep = Sweep("training.lr", (1e-3, 3e-3, 1e-2))
    assert sweep.beyond([1e-3, 3e-3, 1e-2], 1e-2) == pytest.approx(1e-2 * 1e-2 / 3e-3, rel=1e-5)
    assert sweep.beyond([1e-3, 3e-3, 1e-2], 1e-3) == pytest.approx(1e-3 / 3, rel=1e-5)
    assert sweep.beyond([1e-3, 3e-3, 1e-2], 3e-3) is None
    assert Sweep("x", (0.0, 0.1)).beyond([0.0, 0.1], 0.1) == pytest.approx(0.2)
    assert Sweep("adapter.rank", (1, 2)).beyond([1, 2], 1) is None  # there is no whole number between 0 and 1
    assert Sweep("x", (1.0,)).beyond([1.0], 1.0) is None


def test_the_number_of_rows_is_the_product_of_the_axes():
    keys = divide_keys(flatten({"adapter": {"rank": [1, 2, 3]}, "training": {"steps": [1, 2]}, "seed": [4, 5]}), "here")
    assert len(list(keys.points())) == math.prod([3, 2])
    assert keys.seeds == (4, 5)


def test_the_package_is_a_function(monkeypatch):
    import lorank
    from lorank.compare import running

    monkeypatch.setattr(running, "run_experiment", lambda source, out, **options: (source, out, options))
    assert lorank.compare("a.toml", workers=2) == ("a.toml", None, {"workers": 2})
