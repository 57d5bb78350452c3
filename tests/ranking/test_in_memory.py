"""Runs and judgments in memory: what `lorank.evaluate` takes, and what it says of everything else."""

from collections import namedtuple
from decimal import Decimal

import ir_measures
import numpy as np
import pytest
import torch

import lorank
from lorank.errors import UsageError
from lorank.ranking.in_memory import read_qrels_in_memory, read_run_in_memory

pandas = pytest.importorskip("pandas")

RUN = {"1": {"10": 2.0, "11": 1.0}, "2": {"10": 0.5}}
QRELS = {"1": {"11": 2, "12": 0}, "2": {"10": 1}}


def columns(nested, names, ids=str, values=lambda value: value):
    rows = [(ids(q), ids(d), values(v)) for q, row in nested.items() for d, v in row.items()]
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))


class Table:
    """A frame that is no mapping."""

    def __init__(self, columns):
        self._columns, self.columns = columns, list(columns)

    def __getitem__(self, name):
        return self._columns[name]


IR, TERRIER = ("query_id", "doc_id"), ("qid", "docno")
Row = namedtuple("Row", "query_id doc_id value")

FORMS = {
    "nested": lambda given, value: given,
    "whole number ids": lambda given, value: {int(q): {int(d): v for d, v in r.items()} for q, r in given.items()},
    "numpy ids": lambda given, value: {np.int64(q): {np.int32(d): v for d, v in r.items()} for q, r in given.items()},
    "numpy values": lambda given, value: {q: {d: np.float32(v) for d, v in r.items()} for q, r in given.items()},
    "numpy integers": lambda given, value: {q: {d: np.array(v) for d, v in r.items()} for q, r in given.items()},
    "tensors": lambda given, value: {q: {d: torch.tensor(v) for d, v in r.items()} for q, r in given.items()},
    "decimals": lambda given, value: {q: {d: Decimal(str(v)) for d, v in r.items()} for q, r in given.items()},
    "pandas": lambda given, value: pandas.DataFrame(columns(given, (*IR, value))),
    "pandas, ids as numbers": lambda given, value: pandas.DataFrame(columns(given, (*IR, value), int)),
    "pandas, ids as floats": lambda given, value: pandas.DataFrame(columns(given, (*IR, value), float)),
    "pyterrier": lambda given, value: pandas.DataFrame(
        columns(given, (*TERRIER, "label" if value == "relevance" else value))
    ),
    "a table of another library": lambda given, value: Table(columns(given, (*IR, value), int)),
    "rows": lambda given, value: [(q, d, v) for q, r in given.items() for d, v in r.items()],
    "named tuples": lambda given, value: (Row(q, d, v) for q, r in given.items() for d, v in r.items()),
    "ir_measures": lambda given, value: [
        (ir_measures.ScoredDoc if value == "score" else ir_measures.Qrel)(q, d, v)
        for q, r in given.items()
        for d, v in r.items()
    ],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read_alike(form):
    assert read_run_in_memory(FORMS[form](RUN, "score")) == RUN
    assert read_qrels_in_memory(FORMS[form](QRELS, "relevance")) == QRELS


@pytest.mark.parametrize("form", FORMS)
def test_evaluate_takes_every_form(form):
    expected = lorank.evaluate({"mine": RUN}, QRELS, ["nDCG@10", "AP"], resamples=10)
    judged = lorank.evaluate(
        {"mine": FORMS[form](RUN, "score")}, FORMS[form](QRELS, "relevance"), ["nDCG@10", "AP"], resamples=10
    )
    assert judged.to_dict() == expected.to_dict()


def test_polars_frames_are_read():
    polars = pytest.importorskip("polars")
    assert read_run_in_memory(polars.DataFrame(columns(RUN, (*IR, "score")))) == RUN


@pytest.mark.parametrize(
    ("runs", "qrels", "said"),
    [
        (RUN, QRELS, "look like one run .*name it"),
        (pandas.DataFrame(columns(RUN, (*IR, "score"))), QRELS, "the runs are a DataFrame; name each"),
        ([RUN], QRELS, "the runs are a list; name each"),
        ({"mine": "bm25.run"}, QRELS, r"run 'mine': got a str; give \{query"),
        ({"mine": {"1": ["10"]}}, QRELS, "run 'mine': query '1' has a list"),
        (
            {"mine": {"1": {"10": None}}},
            QRELS,
            "run 'mine': query '1', document '10': the score None is not a finite number",
        ),
        ({"mine": {"1": {"10": float("nan")}}}, QRELS, "the score nan is not finite"),
        ({"mine": {"1": {"10": pandas.NA}}}, QRELS, "the score <NA> is not"),
        ({"mine": {"1": {None: 1.0}}}, QRELS, "the document id None is neither a text nor a whole number"),
        ({"mine": {1.5: {"10": 1.0}}}, QRELS, "the query id 1.5 is neither"),
        ({"mine": {"1": {"10": 1.0, 10: 2.0}}}, QRELS, "a document twice, as a text and as a number"),
        ({"mine": {"1": {"10": 1.0}, 1: {"10": 1.0}}}, QRELS, "query '1' is there twice"),
        ({"mine": pandas.DataFrame({"a": [1]})}, QRELS, "the frame of run 'mine' has the columns a; it needs query_id"),
        ({"mine": [("1", "10", 1.0), ("1", 10, 2.0)]}, QRELS, "run 'mine' has document '10' twice for query '1'"),
        ({"mine": RUN}, {"1": {"10": "2"}}, "the judgments: query '1', document '10': the relevance '2' is not"),
        ({"mine": RUN}, {"1": {"10": float("inf")}}, "the relevance inf is not"),
        ({"mine": RUN}, 3, "the judgments: got a int; give"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_give(runs, qrels, said):
    with pytest.raises(UsageError, match=said):
        lorank.evaluate(runs, qrels)
