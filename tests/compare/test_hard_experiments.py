"""Experiments at the edges: one row, failures, other queries, one group, ties, hostile names, and many of each."""

import csv
import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest

from lorank.compare.exports import escape_latex, to_csv, to_latex
from lorank.compare.records import to_records
from lorank.compare.report import summary, write_comparison
from lorank.compare.results import RowResult, TrialResult
from lorank.compare.statistics import compute_statistics
from lorank.compare.statistics_settings import StatisticsSettings
from lorank.errors import UsageError
from planted_experiments import Planted, plant_experiment

FAST = StatisticsSettings(resamples=500)
TWO = {"bm25": 0.0, "lora": 0.1}


def of(result, place=0):
    """Return the statistics of a collection and of its first measure."""
    collection = compute_statistics(result).collections[place]
    return collection, collection.measures.get(result.measures[0])


def change_row(result, name, **changes):
    return replace(result, rows=[replace(row, **changes) if row.name == name else row for row in result.rows])


def test_one_row_has_a_value_and_no_comparison(tmp_path):
    result = plant_experiment({"lora": 0.1}, baseline=None, statistics=FAST)
    collection, measure = of(result)
    assert len(measure.rows) == 1
    assert measure.pairs == []
    assert any("only row" in note for note in collection.notes)
    assert "nothing is tested" in write_comparison(result, tmp_path).read_text()


def test_a_failed_row_is_named_with_its_reason(tmp_path):
    result = plant_experiment(TWO, failed={"galore": "out of <memory>"}, statistics=FAST)
    assert of(result)[0].failed == {"galore": "out of <memory>"}
    assert "out of &lt;memory&gt;" in write_comparison(result, tmp_path).read_text()
    assert "galore failed: out of <memory>" in summary(result)
    assert r"galore & \multicolumn" in (tmp_path / "results.tex").read_text()


def test_a_row_without_trials_has_failed():
    result = change_row(plant_experiment(TWO, statistics=FAST), "lora", trials=())
    assert of(result)[0].failed == {"lora": "no trial was judged"}


def test_a_failed_baseline_leaves_the_comparisons_out_and_says_so(tmp_path):
    result = change_row(plant_experiment(TWO, statistics=FAST), "bm25", failed="no index", trials=())
    collection, measure = of(result)
    assert measure.pairs == []
    assert any("bm25 failed: no index" in note and "left out" in note for note in collection.notes)
    assert "left out" in summary(result)
    assert "left out" in write_comparison(result, tmp_path).read_text()


def test_all_rows_failed_still_makes_a_page(tmp_path):
    result = plant_experiment({}, failed={"bm25": "no index", "lora": "no memory"}, statistics=FAST)
    assert "no row has a result" in write_comparison(result, tmp_path).read_text()
    assert "no memory" in summary(result)


def test_a_baseline_that_is_no_row_is_refused():
    with pytest.raises(UsageError, match="'bm26' is no row"):
        compute_statistics(plant_experiment(TWO, baseline="bm26"))


def test_rows_with_other_queries_are_compared_on_those_they_share():
    result = plant_experiment(TWO, statistics=FAST)
    test = {"nDCG@10": {q: v for q, v in result.rows[1].trials[0].test["nDCG@10"].items() if q not in ("q0", "q7")}}
    result = change_row(result, "lora", trials=[replace(result.rows[1].trials[0], test=test)])
    collection, measure = of(result)
    assert collection.queries == 118
    assert any("118 of 120" in note and "lora" in note for note in collection.notes)
    kept = [v for q, v in result.rows[0].trials[0].test["nDCG@10"].items() if q not in ("q0", "q7")]
    assert measure.row("bm25").mean == pytest.approx(np.mean(kept))


def test_rows_that_share_no_query_are_refused():
    result = plant_experiment(TWO)
    trial = TrialResult(0, {}, {"nDCG@10": {"other": 0.5}})
    with pytest.raises(UsageError, match="share no judged query"):
        compute_statistics(change_row(result, "lora", trials=[trial]))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_refused_by_row_seed_and_query(bad, tmp_path):
    result = plant_experiment(TWO)
    test = {"nDCG@10": {**result.rows[1].trials[0].test["nDCG@10"], "q3": bad}}
    result = change_row(result, "lora", trials=[TrialResult(4, {}, test)])
    with pytest.raises(UsageError, match=r"'lora' on planted, seed 4: nDCG@10 of query 'q3' is"):
        write_comparison(result, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_measure_twins_and_a_query_without_a_group_are_refused():
    result = plant_experiment(TWO)
    with pytest.raises(UsageError, match=r"lacks RR@10"):
        compute_statistics(replace(result, measures=["nDCG@10", "RR@10"]))
    with pytest.raises(UsageError, match="stands twice among the rows"):
        compute_statistics(replace(result, rows=[*result.rows, result.rows[0]]))
    with pytest.raises(UsageError, match="stands twice among the seeds"):
        compute_statistics(change_row(result, "lora", trials=[*result.rows[1].trials] * 2))
    with pytest.raises(UsageError, match="groups lack"):
        compute_statistics(replace(result, groups={"planted": {"q0": "g"}}))


def test_without_groups_each_query_is_its_own_and_that_is_said():
    collection, _ = of(replace(plant_experiment(TWO, statistics=FAST), groups={}))
    assert collection.groups == collection.queries
    assert any("without groups" in note for note in collection.notes)


@pytest.mark.parametrize("planted", [Planted(groups=1, queries_per_group=1), Planted(groups=1, queries_per_group=30)])
@pytest.mark.parametrize("seeds", [1, 3])
def test_one_group_has_no_interval_and_no_test(planted, seeds, tmp_path):
    result = plant_experiment(TWO, planted, seeds=seeds, statistics=replace(FAST, rope=0.01))
    collection, measure = of(result)
    pair = measure.pairs[0]
    assert measure.row("lora").interval is None
    assert (pair.interval, pair.detectable, pair.practical, pair.finding) == (None, None, None, "untested")
    assert math.isnan(pair.p)
    assert any("one group" in note for note in collection.notes)
    assert "no interval" in write_comparison(result, tmp_path).read_text()
    assert json.loads((tmp_path / "statistics.json").read_text())["pairs"][0]["p"] is None
    assert "untested" in summary(result)


def test_few_groups_cannot_reach_the_level_and_that_is_said():
    collection, measure = of(plant_experiment(TWO, Planted(groups=4), statistics=FAST))
    assert any("no randomisation test can reach" in note for note in collection.notes)
    assert (measure.pairs[0].interval, measure.pairs[0].finding) == (None, "tie")


def test_a_large_group_is_named():
    collection, measure = of(plant_experiment(TWO, Planted(21, (60, *[2] * 20)), seeds=3, statistics=FAST))
    assert any("One group holds 60% of the queries" in note for note in collection.notes)
    assert measure.pairs[0].degrees < 5


@pytest.mark.parametrize("seeds", [1, 3])
def test_ties_everywhere_are_ties(seeds, tmp_path):
    result = plant_experiment({"bm25": 0.0, "lora": 0.0, "dora": 0.0}, seeds=seeds, statistics=replace(FAST, rope=0.01))
    same = [
        TrialResult(s, {}, {"nDCG@10": dict.fromkeys(result.rows[0].trials[0].test["nDCG@10"], 0.5)})
        for s in range(seeds)
    ]
    result = replace(result, rows=[replace(row, trials=same) for row in result.rows])
    for pair in of(result)[1].pairs:
        assert pair.finding == "tie"
        assert (pair.wins, pair.losses) == (0, 0)
        assert pair.p == pytest.approx(1.0)
        assert pair.interval == pytest.approx((0.0, 0.0))
        assert pair.practical.equivalent == pytest.approx(1.0)
    write_comparison(result, tmp_path)


def test_one_seed_says_that_other_seeds_are_not_covered():
    said = "has one seed"
    assert any(said in note and "lora" in note for note in of(plant_experiment(TWO, statistics=FAST))[0].notes)
    assert not any(said in note for note in of(plant_experiment(TWO, seeds=3, statistics=FAST))[0].notes)


def test_a_row_that_no_seed_changes_needs_no_second_seed():
    collection, measure = of(plant_experiment(TWO, seeds=3, statistics=FAST))
    assert measure.pairs[0].test == "t over groups and seeds"
    assert collection.notes == []


def test_all_pairs_are_seen_from_either_side():
    result = plant_experiment({"a": 0.0, "b": 0.1, "c": 0.2}, baseline=None, statistics=FAST)
    _, measure = of(result)
    assert len(measure.pairs) == 3
    one, other = measure.pair("a", "c"), measure.pair("c", "a")
    assert one.difference == pytest.approx(-other.difference)
    assert one.interval == pytest.approx((-other.interval[1], -other.interval[0]))
    assert {one.finding, other.finding} == {"better", "worse"}
    assert measure.pair("a", "a") is None


def test_all_pairs_with_a_baseline_keep_it_in_the_second_place():
    shifts = {"a": 0.0, "bm25": 0.0, "c": 0.2}
    _, measure = of(plant_experiment(shifts, statistics=replace(FAST, pairs="all")))
    assert len(measure.pairs) == 3
    assert [p.baseline for p in measure.pairs if "bm25" in (p.row, p.baseline)] == ["bm25", "bm25"]


def test_the_mean_over_collections_holds_the_rows_that_all_have():
    result = plant_experiment({"bm25": 0.0, "lora": 0.1, "dora": 0.0}, collections=("a", "b"), statistics=FAST)
    rows = [replace(r, failed="no memory", trials=()) if (r.name, r.data) == ("dora", "b") else r for r in result.rows]
    found = compute_statistics(replace(result, rows=rows))
    measure = found.mean.measures["nDCG@10"]
    assert [row.name for row in measure.rows] == ["lora", "bm25"]
    assert any("dora" in note for note in found.mean.notes)
    parts = [c.measures["nDCG@10"] for c in found.collections]
    assert measure.row("lora").mean == pytest.approx(np.mean([p.row("lora").mean for p in parts]))
    errors = [p.pair("lora", "bm25").standard_error for p in parts]
    assert measure.pair("lora", "bm25").standard_error == pytest.approx(math.hypot(*errors) / 2)


def test_one_collection_and_rows_of_one_collection_have_no_mean():
    assert compute_statistics(plant_experiment(TWO, statistics=FAST)).mean is None
    result = plant_experiment(TWO, collections=("a", "b"), statistics=FAST)
    apart = [row for row in result.rows if (row.name, row.data) in {("bm25", "a"), ("lora", "b")}]
    assert compute_statistics(replace(result, rows=apart, baseline=None)).mean is None


HOSTILE = [
    "<script>document.title='taken'</script>",
    "=HYPERLINK(1)",
    "+1",
    "-2",
    "@sum",
    r"50% {a_b} $x$ \input{x} #1 & ~^",
    'comma, "quote" and\nnew line',
    "pipe | and `code` *star*",
]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    shifts = {"bm25": 0.0, **{name: 0.04 * (k - 3) for k, name in enumerate(HOSTILE)}}
    result = plant_experiment(shifts, collections=("<i>&", "=b"), failed={"</table>": "</pre><b>"}, statistics=FAST)
    result = replace(result, name="<b>bold</b> & co", source="</pre><script>alert(1)</script>")
    return result, write_comparison(result, tmp_path_factory.mktemp("hostile")).parent


def test_hostile_names_are_text_on_the_page(hostile):
    page = (hostile[1] / "index.html").read_text()
    assert page.count("<script>") == 1
    assert "<b>" not in page
    assert "<i>&" not in page


def test_no_cell_of_csv_starts_a_formula(hostile):
    rows = list(csv.DictReader((hostile[1] / "results.csv").open(newline="")))
    texts = [row[key] for row in rows for key in ("collection", "row", "baseline", "failed", "command")]
    assert not any(text.startswith(("=", "+", "-", "@", "\t", "\r")) for text in texts)
    assert {"'=HYPERLINK(1)", "'+1", "'-2", "'@sum"} <= {row["row"] for row in rows}
    assert any(float(row["difference"] or 0) < 0 for row in rows)


def test_csv_gives_back_every_text_but_for_the_apostrophe():
    rows = list(csv.DictReader(to_csv([{"row": name, "mean": 0.5} for name in HOSTILE]).splitlines(keepends=True)))
    assert [row["row"].removeprefix("'") for row in rows] == HOSTILE


def test_latex_escapes_what_it_reads(hostile):
    text = (hostile[1] / "results.tex").read_text()
    assert r"50\% \{a\_b\} \$x\$ \textbackslash{}input\{x\} \#1 \& \textasciitilde{}\textasciicircum{}" in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 3
    assert r"\toprule" in text
    assert r"\bottomrule" in text
    columns = [
        len(re.split(r"(?<!\\)&", line)) for line in text.splitlines() if line.endswith(r"\\") and "multi" not in line
    ]
    assert set(columns) == {4}
    assert escape_latex("a\nb") == "a b"


def test_markdown_keeps_its_tables_whole(hostile):
    for line in (hostile[1] / "results.md").read_text().splitlines():
        if line.startswith("| ") and "script" in line:
            assert not re.search("<[a-z/]", line)
        if line.startswith("| ") and "pipe" in line:
            assert r"\|" in line


def test_bold_is_only_what_is_better_by_the_test():
    shifts = {"bm25": 0.0, "tied": 0.004, "better": 0.3, "worse": -0.3}
    result = plant_experiment(shifts, statistics=FAST)
    text = to_latex(result, compute_statistics(result))
    bold = [line.split(" & ")[0] for line in text.splitlines() if "textbf" in line]
    assert bold == ["better"]


def test_records_make_a_frame():
    pandas = pytest.importorskip("pandas")
    result = plant_experiment(TWO, collections=("a", "b"), seeds=2, failed={"x": "y"}, statistics=FAST)
    frame = pandas.DataFrame(to_records(result))
    assert len(frame) == 6
    assert list(frame[frame.failed.notna()].row) == ["x", "x"]
    assert frame.set_index(["collection", "row"]).loc[("a", "lora"), "train_seconds"] > 0


def test_many_rows_collections_and_seeds_make_a_page_of_bounded_size(tmp_path):
    rows = {"bm25": 0.0, **{f"adapter={k} rank=8": 0.001 * k for k in range(59)}}
    result = plant_experiment(
        rows, Planted(20, 2), seeds=20, collections=("a", "b", "c", "d", "e"), statistics=FAST, measures=("nDCG@10",)
    )
    assert write_comparison(result, tmp_path).stat().st_size < 3_000_000


def test_many_queries_make_a_page_of_bounded_size(tmp_path):
    result = plant_experiment({"bm25": 0.0, "lora": 0.1, "dora": 0.0}, Planted(1500, 2), seeds=2, statistics=FAST)
    assert write_comparison(result, tmp_path).stat().st_size < 1_000_000


def test_a_row_without_costs_curves_and_commands_is_enough(tmp_path):
    bare = [
        RowResult(name, "d", {}, [TrialResult(0, {}, {"RR": {f"q{k}": value for k in range(9)}})])
        for name, value in (("one", 0.5), ("two", 0.6))
    ]
    result = replace(
        plant_experiment(TWO), rows=bare, measures=["RR"], baseline="one", groups={}, texts={}, source="", provenance={}
    )
    page = write_comparison(result, tmp_path).read_text()
    assert "does not say how it was made" in page
