"""Data frames of ir_measures and PyTerrier."""

import subprocess
import sys

import pytest

from lorank.data.frames import qrels_from_frame, qrels_to_frame, run_from_frame, run_to_frame
from lorank.errors import UsageError

pandas = pytest.importorskip("pandas")

RUN = {"q1": {"d2": 2.0, "d1": 2.0, "d3": 0.5}, "q2": {"d1": -1.0}}
QRELS = {"q1": {"d1": 2, "d2": 0}, "q2": {"d1": 1}}


@pytest.mark.parametrize("style", ["ir_measures", "pyterrier"])
def test_runs_and_judgments_come_back(style):
    assert run_from_frame(run_to_frame(RUN, style)) == RUN
    assert qrels_from_frame(qrels_to_frame(QRELS, style)) == QRELS


def test_pyterriers_ranks_start_at_0_and_queries_are_carried():
    frame = run_to_frame(RUN, "pyterrier", {"q1": "one", "q2": "two"})
    assert list(frame.columns) == ["qid", "docno", "score", "rank", "query"]
    assert frame[["docno", "rank", "query"]].values.tolist()[:2] == [["d2", 0, "one"], ["d1", 1, "one"]]


def test_ir_measures_takes_the_frames():
    import ir_measures
    from ir_measures import nDCG

    of_frames = ir_measures.calc_aggregate([nDCG @ 10], qrels_to_frame(QRELS), run_to_frame(RUN))
    assert of_frames == ir_measures.calc_aggregate([nDCG @ 10], QRELS, RUN)


@pytest.mark.parametrize(
    ("frame", "problem"),
    [
        ({"qid": ["q"], "doc": ["d"], "score": [1.0]}, "it needs query_id, doc_id, score or qid, docno, score"),
        ({"qid": ["q", "q"], "docno": ["d", "d"], "score": [1.0, 2.0]}, "document 'd' twice for query 'q'"),
        ({"qid": ["q"], "docno": ["d"], "score": [float("nan")]}, "the score nan is not finite"),
    ],
)
def test_bad_run_frames_are_refused(frame, problem):
    with pytest.raises(UsageError, match=problem):
        run_from_frame(pandas.DataFrame(frame))


def judged(relevance):
    return pandas.DataFrame({"query_id": ["q"], "doc_id": ["d"], "relevance": [relevance]})


@pytest.mark.parametrize("relevance", [float("nan"), float("inf"), "1", None])
def test_bad_relevance_is_refused(relevance):
    with pytest.raises(UsageError, match="query 'q', document 'd': the relevance .* is not"):
        qrels_from_frame(judged(relevance))


def test_real_and_negative_relevance_is_read_as_asked():
    assert qrels_from_frame(judged(0.5)) == {"q": {"d": 0.5}}  # exact: read, not computed
    with pytest.raises(UsageError, match="the relevance -1 is below 0"):
        qrels_from_frame(judged(-1))
    assert qrels_from_frame(judged(-1.5), negative="zero") == {"q": {"d": 0}}
    assert qrels_from_frame(judged(-1.5), negative="keep") == {"q": {"d": -1.5}}  # exact: read, not computed
    assert qrels_from_frame(judged(-1.5), negative="skip") == {"q": {}}


def test_importing_the_data_room_imports_nothing_heavy():
    code = (
        "import lorank.data, sys\n"
        "print([name for name in ('torch', 'pandas', 'pyarrow', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
