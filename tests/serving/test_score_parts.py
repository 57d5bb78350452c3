"""The score cache, calibrations, and the parts that answers are made of."""

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorank.errors import DataError, UsageError
from lorank.ranking.calibration.folder import read_calibration
from lorank.serving.requests.answers import number
from lorank.serving.requests.limits import Limits, estimate_tokens
from lorank.serving.requests.score_cache import ENTRY_BYTES, Known, ScoreCache, digest_documents


def test_the_cache_forgets_the_least_recently_used():
    cache = ScoreCache(3 * ENTRY_BYTES)
    keys = digest_documents("", None, "1", "q", "abcd")
    entries = [Known(float(i), None, False) for i in range(4)]
    cache.keep(keys[:3], entries[:3])
    assert cache.find(keys[:1]) == entries[:1]
    cache.keep(keys[3:], entries[3:])
    assert cache.find(keys) == [entries[0], None, entries[2], entries[3]]
    assert (cache.hits, cache.misses) == (4, 1)


def test_an_entry_takes_no_more_than_it_is_counted_for():
    cache = ScoreCache(10_000 * ENTRY_BYTES)
    tracemalloc.start()
    keys = digest_documents("", "acme", "1", "q", [str(i) for i in range(10_000)])
    cache.keep(keys, [Known(i + 0.5, i + 0.25, False) for i in range(10_000)])
    del keys
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert 0.5 * ENTRY_BYTES < used / 10_000 <= ENTRY_BYTES


@given(st.lists(st.tuples(*[st.text(max_size=3)] * 5), min_size=2, max_size=2, unique=True))
def test_different_questions_have_different_keys(rows):
    one, other = (digest_documents(a, b, c, d, [e])[0] for a, b, c, d, e in rows)
    assert one != other
    assert digest_documents("", None, "", "", [""]) != digest_documents("", "", "", "", [""])


def test_calibrations_are_read_and_checked(tmp_path):
    card = tmp_path / "lorank.json"
    assert read_calibration(card) is None
    card.write_text("{}")
    assert read_calibration(card) is None
    card.write_text(json.dumps({"calibration": {"kind": "platt", "slope": 0.5, "intercept": -1.0}}))
    scores = np.array([-40.0, 0.0, 2.0, 40.0], np.float32)
    assert read_calibration(card)(scores) == pytest.approx(1 / (1 + np.exp(1 - 0.5 * scores)), abs=1e-7)
    for bad in (
        {"kind": "platt", "slope": -1, "intercept": 0},
        {"kind": "platt", "slope": 1},
        {"kind": "oracle"},
        [],
        {"kind": "platt", "slope": float("nan"), "intercept": 0},
    ):
        card.write_text(json.dumps({"calibration": bad}))
        with pytest.raises(DataError, match="slope"):
            read_calibration(card)
    card.write_text("{")
    with pytest.raises(DataError, match="JSON"):
        read_calibration(card)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_numbers_are_short_and_read_back_as_the_same_float32(value):
    assert np.float32(number(np.float32(value))) == np.float32(value)


@given(st.text())
def test_estimates_grow_with_the_text(text):
    assert 1 <= estimate_tokens(text) <= estimate_tokens(text + "word")


def test_limits_are_checked():
    with pytest.raises(UsageError, match="documents"):
        Limits(documents=0)
    assert Limits(cache_bytes=0).cache_bytes == 0
