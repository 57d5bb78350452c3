"""Many decimal numbers at once: from text positions to float64, eight digits in three multiplications.

A run of up to eight ASCII digits is one 64-bit word. With the digit values d0..d7 in its bytes (first digit in
the lowest byte), three multiply-and-shift steps add neighbours in pairs, fours and eights:

    w <- (w * (1 + 10 * 2^8)) >> 8,    w <- (w & m16) * (1 + 100 * 2^16) >> 16,
    w <- (w & m32) * (1 + 10^4 * 2^32) >> 32

A number of at most 15 digits is an integer below 2^53 over a power of ten below 10^22, both exact in float64, so
one division gives the correctly rounded value (Clinger 1990, "How to read floating point numbers accurately"),
bit for bit what ``float`` gives. Everything else (exponents, longer numbers) goes through ``float``.
"""

import numpy as np

PADDING = 16
"""Bytes that must lie before the first number in the buffer: a word is read backwards from a number's end."""

_POWERS = 10.0 ** np.arange(23)


def digit_runs(words: np.ndarray, ends: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the integers (uint64 [n]) that end before ``ends``, and whether all their bytes are digits (bool [n]).

    ``words`` is ``words_of(buffer)``; ``lengths`` are from 0 to 8, an empty run is 0.
    """
    shift = ((8 - lengths) << 3).astype(np.uint64)
    mask = np.uint64(0xFFFFFFFFFFFFFFFF) << shift
    word = (words[ends - 8].astype(np.uint64, copy=False) & mask) ^ (np.uint64(0x3030303030303030) & mask)
    valid = ((word + np.uint64(0x7676767676767676)) | word) & np.uint64(0x8080808080808080) == 0
    word = (word * np.uint64(2561)) >> np.uint64(8)
    word = ((word & np.uint64(0x00FF00FF00FF00FF)) * np.uint64(6553601)) >> np.uint64(16)
    word = ((word & np.uint64(0x0000FFFF0000FFFF)) * np.uint64(42949672960001)) >> np.uint64(32)
    return word, valid


def _long_runs(words: np.ndarray, ends: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Do what ``digit_runs`` does for lengths of any size; runs over 16 digits are reported as not valid."""
    value, valid = digit_runs(words, ends, np.minimum(lengths, 8))
    (long,) = np.nonzero(lengths > 8)
    if long.size:
        high, high_valid = digit_runs(words, ends[long] - 8, np.minimum(lengths[long] - 8, 8))
        value[long] += high * np.uint64(100_000_000)
        valid[long] &= high_valid & (lengths[long] <= 16)
    return value, valid


def words_of(buffer: np.ndarray) -> np.ndarray:
    """Return a view of the contiguous uint8 ``buffer`` in which item i is the little-endian word of bytes i..i+7."""
    return np.ndarray((len(buffer) - 7,), np.dtype("<u8"), buffer.data, strides=(1,))


def parse_decimals(buffer: np.ndarray, starts: np.ndarray, points: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return the numbers written in ``buffer[starts[i]:ends[i]]`` as float64 [n]; what is no number gives NaN.

    The numbers equal ``float`` of each text, bit for bit.

    Args:
        buffer: The uint8 text, with ``PADDING`` bytes before the first number.
        starts: The int [n] positions of the first characters.
        points: The int [n] positions of the decimal points, or of the ends where there is none.
        ends: The int [n] positions behind the last characters.

    >>> text = np.frombuffer(b" " * PADDING + b"-12.5 3e2 x", np.uint8)
    >>> parse_decimals(text, np.array([16, 22, 26]), np.array([19, 25, 27]), np.array([21, 25, 27]))
    array([-12.5, 300. ,   nan])
    """
    words = words_of(buffer)
    first = buffer[starts]
    negative = first == ord("-")
    whole_start = starts + (negative | (first == ord("+")))
    whole, whole_valid = _long_runs(words, points, points - whole_start)
    decimals = np.maximum(ends - points - 1, 0)
    fraction, fraction_valid = _long_runs(words, ends, decimals)
    digits = points - whole_start + decimals
    simple = whole_valid & fraction_valid & (digits > 0) & (digits <= 15)
    scale = _POWERS[np.minimum(decimals, 22)]
    value: np.ndarray = (whole.astype(np.float64) * scale + fraction.astype(np.float64)) / scale
    np.negative(value, out=value, where=negative)
    for i in np.flatnonzero(~simple):
        value[i] = _float_or_nan(bytes(buffer[starts[i] : ends[i]]))
    return value


def _float_or_nan(text: bytes) -> float:
    try:
        return float("nan") if b"_" in text else float(text)
    except ValueError:
        return float("nan")
