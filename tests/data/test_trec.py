"""Runs and judgments: layouts, order, bad rows, round trips."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorank.data.trec import order_documents, read_qrels, read_run, write_qrels, write_run
from lorank.errors import DataError, UsageError

IDS = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=8).filter(
    lambda text: text.split() == [text] and not text.startswith("#")
)
SCORES = st.floats(allow_nan=False, allow_infinity=False)
RUNS = st.dictionaries(IDS, st.dictionaries(IDS, SCORES, min_size=1, max_size=5), min_size=1, max_size=4)
QRELS = st.dictionaries(IDS, st.dictionaries(IDS, st.integers(0, 4), min_size=1, max_size=5), min_size=1, max_size=4)


@pytest.mark.parametrize("name", ["a.run", "a.run.gz"])
@given(run=RUNS)
def test_a_run_comes_back_exactly(tmp_path_factory, name, run):
    path = tmp_path_factory.mktemp("runs") / name
    write_run(run, path, "tag")
    again = read_run(path)
    assert again == run
    assert all(list(again[query]) == order_documents(run[query]) for query in run)


@pytest.mark.parametrize("name", ["a.qrels", "a.tsv.gz"])
@pytest.mark.parametrize("layout", ["trec", "beir"])
@given(qrels=QRELS)
def test_judgments_come_back_exactly(tmp_path_factory, name, layout, qrels):
    path = tmp_path_factory.mktemp("qrels") / name
    write_qrels(qrels, path, layout=layout)
    assert read_qrels(path) == qrels


def written(tmp_path, text, name="file.txt"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_the_three_layouts_of_a_run(tmp_path):
    six = written(tmp_path, "q1 Q0 d1 7 0.5 tag\nq1\tQ0\td2\t1\t2 tag and more\n")
    assert read_run(six) == {"q1": {"d1": 0.5, "d2": 2.0}}  # exact: read, not computed
    scores = written(tmp_path, "q1 d1 3\nq1 d2 2\nq1 d3 1\n", "scores.txt")
    assert read_run(scores) == {"q1": {"d1": 3.0, "d2": 2.0, "d3": 1.0}}  # exact: read, not computed
    ranks = written(tmp_path, "q1\td1\t1\nq1\td2\t2\nq2\td9\t1\n")
    assert read_run(ranks) == {"q1": {"d1": 1.0, "d2": 1 / 2}, "q2": {"d9": 1.0}}  # exact: read, not computed
    assert read_run(ranks, third="score") == {
        "q1": {"d1": 1.0, "d2": 2.0},
        "q2": {"d9": 1.0},
    }  # exact: read, not computed
    assert read_run(scores, third="rank")["q1"] == {"d1": 1 / 3, "d2": 1 / 2, "d3": 1.0}  # exact: read, not computed


def test_whole_scores_with_a_point_are_scores(tmp_path):
    assert read_run(written(tmp_path, "q1 d1 1.0\nq1 d2 2.0\n")) == {
        "q1": {"d1": 1.0, "d2": 2.0}
    }  # exact: read, not computed


@pytest.mark.parametrize(
    ("text", "line", "problem", "remedy"),
    [
        ("q1 Q0 d1 1 0.5 t\nq1 Q0 d1 2 0.4 t\n", 2, "document 'd1' is listed twice", "keep one row"),
        ("q1 Q0 d1 1 nan t\n", 1, "the score nan is not finite", "drop the row"),
        ("q1 Q0 d1 1 -inf t\n", 1, "the score -inf is not finite", "drop the row"),
        ("q1 Q0 d1 1 high t\n", 1, "the score 'high' is not a number", "a run has 6 columns"),
        ("q1 Q0 d1 1\n", 1, "4 columns", "a run has 6 columns"),
        ("q1 d1 2.5\n\nq1 Q0 d2 1 0.5 t\n", 3, "6 columns where the lines before have 3", "a run has 6 columns"),
    ],
)
def test_a_bad_run_names_file_line_and_remedy(tmp_path, text, line, problem, remedy):
    with pytest.raises(DataError, match=rf"file\.txt:{line}: {re.escape(problem)}.*; {remedy}"):
        read_run(written(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "line", "problem", "remedy"),
    [
        ("q1 0 d1 1\nq1 0 d1 1\n", 2, "document 'd1' is judged twice", "keep one row"),
        ("q1 0 d1 1\nq1 0 d2 -1\n", 2, "the relevance -1 is below 0", "write 0 .* or read with negative='zero'"),
        ("q1 0 d1 yes\n", 1, "the relevance 'yes' is not a number", "write a number"),
        ("q1 0 d1 nan\n", 1, "the relevance 'nan' is not a number", "write a number"),
        ("q1 0 d1 1_0\n", 1, "the relevance '1_0' is not a number", "write a number"),
        ("q1 d1\n", 1, "2 columns", "judgments have 4 columns"),
        (
            "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1 0 d2 1\n",
            3,
            "1 columns where the lines before have 3",
            "judgments have 4 columns",
        ),
    ],
)
def test_bad_judgments_name_file_line_and_remedy(tmp_path, text, line, problem, remedy):
    with pytest.raises(DataError, match=rf"file\.txt:{line}: {re.escape(problem)}.*; {remedy}"):
        read_qrels(written(tmp_path, text))


def test_negative_relevance_can_be_read_as_zero(tmp_path):
    path = written(tmp_path, "q1 0 d1 -2\nq1 0 d2 2\n")
    assert read_qrels(path, negative="zero") == {"q1": {"d1": 0, "d2": 2}}


def test_judgments_without_header_with_comments_and_with_spaces_in_ids(tmp_path):
    assert read_qrels(written(tmp_path, "q1\td1\t1\n")) == {"q1": {"d1": 1}}
    assert read_qrels(written(tmp_path, "# note\nq1 0 d1 1\n")) == {"q1": {"d1": 1}}
    assert read_qrels(written(tmp_path, "query-id\tcorpus-id\tscore\nq 1\td 1\t1\n")) == {"q 1": {"d 1": 1}}


@pytest.mark.parametrize("read", [read_run, read_qrels])
def test_an_empty_file_says_what_it_should_hold(tmp_path, read):
    with pytest.raises(DataError, match=r"file\.txt: .*columns"):
        read(written(tmp_path, "\n"))


@pytest.mark.parametrize("run", [{"q 1": {"d": 1.0}}, {"q": {"": 1.0}}, {"q": {"d": float("nan")}}])
def test_what_a_run_cannot_hold_is_refused_before_writing(tmp_path, run):
    with pytest.raises(UsageError):
        write_run(run, tmp_path / "a.run")
    with pytest.raises(UsageError):
        write_qrels({"q": {"d": float("nan")}}, tmp_path / "a.qrels")
    assert list(tmp_path.iterdir()) == []


def test_trec_evals_own_files_load(shared_data):
    folder = shared_data / "trec_eval-conformance"
    assert sum(map(len, read_run(folder / "results.test.gz").values())) == 1500
    plain = read_qrels(folder / "qrels.test.gz")
    commented = read_qrels(folder / "qrels.test.with-comments.gz")
    assert sum(map(len, plain.values())) == 3681
    assert {query: len(row) for query, row in commented.items()} == {query: len(row) for query, row in plain.items()}
    with pytest.raises(DataError, match=r"qrels.rel_level.gz:2770: the relevance -1 is below 0"):
        read_qrels(folder / "qrels.rel_level.gz")
    assert len(read_qrels(folder / "qrels.rel_level.gz", negative="zero")) == 3


def test_ties_break_as_in_trec_eval(shared_data):
    import ir_measures
    from ir_measures import P

    run = {"q": {"d1": 1.0, "d10": 1.0, "d2": 1.0, "d3": 0.5}}
    for document in run["q"]:
        first = ir_measures.calc_aggregate([P @ 1], {"q": {document: 1}}, run)[P @ 1]
        assert first == (order_documents(run["q"])[0] == document)


def test_dl19_runs_load(shared_data):
    for path in (shared_data / "trec-dl19" / "runs").glob("*.trec.gz"):
        run = read_run(path)
        assert (len(run), sum(map(len, run.values()))) == (43, 4300)
    qrels = read_qrels(shared_data / "trec-dl19" / "qrels.dl19-passage.txt.gz")
    assert (len(qrels), sum(map(len, qrels.values()))) == (43, 9260)
