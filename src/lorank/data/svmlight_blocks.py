"""Blocks of a LETOR file: whole lines of about a megabyte, parsed into labels, ids and dense features.

Text is parsed with numpy, with no Python work per value: a value's end, its decimal point and its feature id are found
from the neighbours of its colon in the list of all separators.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lorank.data.decimals import PADDING, digit_runs, parse_decimals, words_of
from lorank.data.files import decode, reading
from lorank.data.numbers import SAY, read_grade
from lorank.errors import DataError, OnBad
from lorank.reading import parse_number, refuse_nul, short

BLOCK_BYTES = 1 << 20
MAX_FEATURES = 10_000
LAYOUT = "a row is: <label> qid:<id> <feature>:<value> ... # comment"
Head = tuple[bytes, bytes | None, bytes | None]
"""The label, the query's id and the document's, as they are written."""
_COLON, _POINT, _NEWLINE = ord(":"), ord("."), ord("\n")
_DOCID = re.compile(rb"\bdoc(?:id|no)\s*=\s*(\S+)")
_HEAD = re.compile(rb"\s*([^\s:]+)(?=\s|$)(?:[ \t]+qid:([^\s:]+)(?=\s|$))?")


@dataclass
class RowBlock:
    """What a block of whole lines holds: one entry a row, and its features dense [rows, features]."""

    labels: np.ndarray
    queries: list[bytes | None]
    documents: list[bytes | None]
    line_numbers: np.ndarray
    features: np.ndarray


def divide_into_blocks(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (number of the first line, bytes of whole lines ending in a newline), about a megabyte each."""
    line, rest = 1, b""
    with reading(path) as file:
        while piece := file.read(BLOCK_BYTES):
            piece = (rest + piece) if rest or line > 1 else piece.removeprefix(b"\xef\xbb\xbf")
            cut = piece.rfind(b"\n") + 1
            block, rest = piece[:cut], piece[cut:]
            if block:
                yield line, block
                line += block.count(b"\n")
    if rest:
        yield line, rest + b"\n"


def _heads(path: Path, line: int, block: bytes) -> tuple[list[Head], list[int]]:
    """Return per row (label, query id, docid) as bytes, and the rows' line numbers."""
    rows, numbers = [], []
    for number, text in enumerate(block.split(b"\n")[:-1], start=line):
        body, _, comment = text.partition(b"#")
        if not body or body.isspace():
            continue
        head = _HEAD.match(body)
        if head is None:
            raise DataError(path, number, "the row does not start with a label", LAYOUT)
        named = _DOCID.search(comment) if comment else None
        rows.append((head[1], head[2], named[1] if named else None))
        numbers.append(number)
    return rows, numbers


def _without_comments(block: bytes) -> bytes:
    """Return the block with every comment blanked, so that positions stay."""
    if b"#" not in block:
        return block
    return re.sub(rb"#[^\n]*", lambda found: b" " * len(found[0]), block)


def _check_float32(path: Path, block: RowBlock) -> None:
    """Raise where a value that was finite as written is not finite in float32."""
    bad = ~np.isfinite(block.features).all(axis=1)
    if bad.any():
        raise DataError(
            path,
            int(block.line_numbers[np.argmax(bad)]),
            "a value does not fit in float32",
            "rescale the feature to below 3e38",
        )


def read_good_rows(path: Path, line: int, text: bytes, negative: str, on_bad: OnBad) -> RowBlock:
    """Return a block's good rows; a block with bad rows is read again without them, and each is reported."""
    try:
        return _read_block(path, line, text, negative)
    except DataError:
        rows = text.split(b"\n")[:-1]
        for place, error in _bad_rows(path, line, rows, negative):
            on_bad(error, rows[place])
            rows[place] = b""
        return _read_block(path, line, b"\n".join([*rows, b""]), negative)


def _bad_rows(path: Path, line: int, rows: list[bytes], negative: str) -> Iterator[tuple[int, DataError]]:
    """Yield the place of each bad row and its error: a part that cannot be read is halved until it is one row."""
    parts = [(0, len(rows))]
    while parts:
        start, stop = parts.pop()
        try:
            _read_block(path, line + start, b"\n".join([*rows[start:stop], b""]), negative)
        except DataError as error:
            if stop - start == 1:
                yield start, error
                continue
            middle = (start + stop) // 2
            parts += [(middle, stop), (start, middle)]


def _read_block(path: Path, line: int, text: bytes, negative: str) -> RowBlock:
    if b"\0" in text:
        refuse_nul(path, line + text[: text.index(b"\0")].count(b"\n"), "\0")
    heads, numbers = _heads(path, line, text)
    if not text.isascii():
        for number, (_, query, document) in zip(numbers, heads, strict=True):
            decode((query or b"") + (document or b""), path, number)
    with np.errstate(over="ignore"):
        features = _values(path, text, line, numbers, [query is not None for _, query, _ in heads])
    block = RowBlock(
        _labels(path, heads, numbers, negative),
        [query for _, query, _ in heads],
        [document for _, _, document in heads],
        np.asarray(numbers, np.int64),
        features,
    )
    _check_float32(path, block)
    return block


def stack_blocks(blocks: list[np.ndarray], width: int) -> np.ndarray:
    """Return the blocks below each other, zero-padded to ``width``; empties the list to free memory early."""
    whole = np.zeros((sum(len(block) for block in blocks), width), np.float32)
    end = len(whole)
    while blocks:
        block = blocks.pop()
        whole[end - len(block) : end, : block.shape[1]] = block
        end -= len(block)
    return whole


def _labels(path: Path, heads: list[Head], numbers: list[int], negative: str) -> np.ndarray:
    labels = np.empty(len(heads), np.float64)
    known: dict[bytes, float] = {}
    for i, (text, _, _) in enumerate(heads):
        if text not in known:
            known[text] = _label(path, numbers[i], text, negative)
        labels[i] = known[text]
    return labels


def _label(path: Path, line: int, text: bytes, negative: str) -> float:
    shown = decode(text, path, line)
    value = parse_number(shown)
    if value is None:
        raise DataError(path, line, f"the label {short(shown)} is not a number, or not one a double holds", LAYOUT)
    if value < 0 and negative == "error":
        raise DataError(
            path,
            line,
            f"the label {shown} is below 0",
            f"labels start at 0: shift or drop such rows, or {SAY}",
        )
    grade = read_grade(path, line, value, negative)
    return np.nan if grade is None else float(grade)


def _values(path: Path, block: bytes, line: int, numbers: list[int], queried: list[bool]) -> np.ndarray:
    """Return the dense features float32 [rows, features] of a block; ``queried[i]``: row i has a ``qid:``."""
    buffer = np.frombuffer(b"\n" * PADDING + _without_comments(block), np.uint8)
    (marks,) = np.nonzero((buffer <= 32) | (buffer == _COLON) | (buffer == _POINT))
    kinds = buffer[marks]
    (at,) = np.nonzero(kinds == _COLON)
    (newlines,) = np.nonzero(buffer[PADDING:] == _NEWLINE)
    line_ends = newlines[np.asarray(numbers) - line] + PADDING if numbers else newlines[:0]
    bounds = np.searchsorted(marks[at], line_ends)
    counts = np.diff(bounds, prepend=0)
    _check_words(path, buffer, line_ends, counts + 1, numbers)
    has_query = np.asarray(queried, bool)
    if has_query.any():
        at = np.delete(at, (bounds - counts)[has_query])
        counts = counts - has_query
    if not at.size:
        return np.zeros((len(numbers), 0), np.float32)
    rows = np.repeat(np.arange(len(numbers)), counts)
    colons, following = marks[at], kinds[at + 1]
    pointed = following == _POINT
    ends = np.where(pointed, marks[np.minimum(at + 2, len(marks) - 1)], marks[at + 1])
    key_starts = marks[at - 1] + 1
    key_lengths = colons - key_starts
    keys, valid = digit_runs(words_of(buffer), colons, np.minimum(key_lengths, 8))
    keys = keys.astype(np.int64)
    values = parse_decimals(buffer, colons + 1, np.where(pointed, marks[at + 1], ends), ends)
    valid &= (key_lengths > 0) & (key_lengths <= 8) & (kinds[at - 1] <= 32)
    valid &= (ends > colons + 1) & (buffer[ends] <= 32)
    same_row = rows[1:] == rows[:-1]
    increasing = np.ones(len(keys), bool)
    increasing[1:] = ~same_row | (keys[1:] > keys[:-1])
    problem = ~(valid & increasing & np.isfinite(values) & (keys >= 1) & (keys <= MAX_FEATURES))
    if problem.any():
        i = int(np.argmax(problem))
        _complain(
            path,
            numbers[rows[i]],
            bool(valid[i]),
            int(keys[i]),
            bool(increasing[i]),
            float(values[i]),
            bytes(buffer[key_starts[i] : max(ends[i], colons[i] + 1)]),
        )
    return _dense(keys, values, rows, counts)


def _check_words(
    path: Path, buffer: np.ndarray, line_ends: np.ndarray, expected: np.ndarray, numbers: list[int]
) -> None:
    """Raise where a row has another number of words than its label, ``qid:`` and features account for."""
    written = buffer > 32
    (starts,) = np.nonzero(written[1:] & ~written[:-1])
    words = np.diff(np.searchsorted(starts, line_ends), prepend=0)
    wrong = words != expected
    if wrong.any():
        i = int(np.argmax(wrong))
        raise DataError(
            path, numbers[i], f"the row has {words[i]} words where its colons account for {expected[i]}", LAYOUT
        )


def _complain(path: Path, line: int, valid: bool, key: int, increasing: bool, value: float, text: bytes) -> None:
    """Raise the DataError for the first bad value of a block."""
    shown = decode(text.strip(), path, line)
    if not valid:
        raise DataError(path, line, f"{shown!r} is not <feature>:<value>", LAYOUT)
    if key < 1 or key > MAX_FEATURES:
        raise DataError(
            path,
            line,
            f"the feature id {key} is outside 1 to {MAX_FEATURES}",
            "number the features from 1 without large gaps",
        )
    if not increasing:
        raise DataError(
            path,
            line,
            f"feature {key} does not come after a smaller one",
            "order the features of a row by id, each once",
        )
    if np.isnan(value) and text.partition(b":")[2].strip().lower().lstrip(b"+-") != b"nan":
        raise DataError(path, line, f"the value in {shown!r} is not a number", LAYOUT)
    raise DataError(path, line, f"the value in {shown!r} is not finite", "replace NaN and infinity, or drop the row")


def _dense(keys: np.ndarray, values: np.ndarray, rows: np.ndarray, counts: np.ndarray) -> np.ndarray:
    width = int(keys.max())
    if len(keys) == len(counts) * width:
        return values.reshape(len(counts), width).astype(np.float32)
    features = np.zeros((len(counts), width), np.float32)
    features[rows, keys - 1] = values
    return features
