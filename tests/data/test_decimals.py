"""Many decimals at once: equal to ``float`` bit for bit."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from lorank.data.decimals import PADDING, parse_decimals

DIGITS = st.text("0123456789", max_size=18)
WORDS = st.one_of(
    st.floats(width=32).map(repr),
    st.floats().map(repr),
    st.integers().map(str),
    st.builds("{}{}.{}".format, st.sampled_from(["", "-", "+"]), DIGITS, DIGITS),
    st.text("0123456789.eE+-_xinfa", min_size=1, max_size=12),
)


def expected(word: str) -> float:
    try:
        return float("nan") if "_" in word else float(word)
    except ValueError:
        return float("nan")


@given(words=st.lists(WORDS, min_size=1, max_size=20))
@example(words=[".", "-", "-.", "1.2.3", "+.5", "5.", "0000000000000001", "12345678901234567", "1e400", "-0"])
def test_equal_to_float_bit_for_bit(words):
    text = " " * PADDING + " ".join(words)
    lengths = np.array([len(word) for word in words])
    ends = PADDING + np.cumsum(lengths + 1) - 1
    starts = ends - lengths
    points = np.array([start + word.find(".") if "." in word else end for start, end, word in zip(starts, ends, words)])
    got = parse_decimals(np.frombuffer(text.encode(), np.uint8), starts, points, ends)
    np.testing.assert_array_equal(
        got.view(np.uint64)[~np.isnan(got)],
        np.array([expected(word) for word in words]).view(np.uint64)[~np.isnan(got)],
    )
    np.testing.assert_array_equal(np.isnan(got), np.isnan([expected(word) for word in words]))
