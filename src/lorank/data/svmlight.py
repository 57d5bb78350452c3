"""SVMLight / LETOR feature files, in and out: ``<label> qid:<id> <feature>:<value> ... # comment``.

Feature ids are integers from 1, increasing within a row; a feature that a row leaves out is 0. Rows of a query
are contiguous. Labels are grades, or any finite numbers; what one below 0 is taken for is said by ``negative``
(:mod:`lorank.data.numbers`). The comment may carry ``docid = X`` or ``docno=X``. LightGBM's
layout has no ``qid:``; a second file, ``<name>.query``, gives the number of rows of each query in order.

Text is parsed in blocks of a megabyte with numpy, with no Python work per value: a value's end, its decimal
point and its feature id are found from the neighbours of its colon in the list of all separators.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lorank.data.bad_rows import collected
from lorank.data.decimals import PADDING, digit_runs, parse_decimals, words_of
from lorank.data.files import decode, lines, reading, writing
from lorank.data.numbers import SAY, Negative, as_whole, check_negative, read_grade
from lorank.errors import DataError, OnBad, UsageError
from lorank.reading import ENDINGS, parse_number, plain_name, refuse_nul, short

BLOCK = 1 << 20
MAX_FEATURES = 10_000
_LAYOUT = "a row is: <label> qid:<id> <feature>:<value> ... # comment"
_COLON, _POINT, _NEWLINE = ord(":"), ord("."), ord("\n")
_DOCID = re.compile(rb"\bdoc(?:id|no)\s*=\s*(\S+)")
_COUNT = re.compile(r"\d{1,15}", re.ASCII)
_HEAD = re.compile(rb"\s*([^\s:]+)(?=\s|$)(?:[ \t]+qid:([^\s:]+)(?=\s|$))?")


@dataclass(frozen=True)
class FeatureRows:
    """The rows of one feature file.

    ``features`` float32 [rows, features]; ``labels`` int64 [rows], or float64 where one is no whole number (or beyond
    2^53); NaN marks a row that was not judged; ``query_ids`` one a query and ``offsets``
    int64 [queries + 1]: query i has the rows offsets[i] to offsets[i + 1]; ``document_ids`` one a row, unique.
    """

    features: np.ndarray
    labels: np.ndarray
    query_ids: list[str]
    offsets: np.ndarray
    document_ids: list[str]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass
class _Block:
    """What a block of whole lines holds: one entry a row, and its features dense [rows, features]."""

    labels: np.ndarray
    queries: list[bytes | None]
    documents: list[bytes | None]
    line_numbers: np.ndarray
    features: np.ndarray


def _blocks_of_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (number of the first line, bytes of whole lines ending in a newline), about a megabyte each."""
    line, rest = 1, b""
    with reading(path) as file:
        while piece := file.read(BLOCK):
            piece = (rest + piece) if rest or line > 1 else piece.removeprefix(b"\xef\xbb\xbf")
            cut = piece.rfind(b"\n") + 1
            block, rest = piece[:cut], piece[cut:]
            if block:
                yield line, block
                line += block.count(b"\n")
    if rest:
        yield line, rest + b"\n"


def _heads(path: Path, line: int, block: bytes) -> tuple[list[tuple], list[int]]:
    """Return per row (label, query id, docid) as bytes, and the rows' line numbers."""
    rows, numbers = [], []
    for number, text in enumerate(block.split(b"\n")[:-1], start=line):
        body, _, comment = text.partition(b"#")
        if not body or body.isspace():
            continue
        head = _HEAD.match(body)
        if head is None:
            raise DataError(path, number, "the row does not start with a label", _LAYOUT)
        named = _DOCID.search(comment) if comment else None
        rows.append((head[1], head[2], named[1] if named else None))
        numbers.append(number)
    return rows, numbers


def _without_comments(block: bytes) -> bytes:
    """Return the block with every comment blanked, so that positions stay."""
    if b"#" not in block:
        return block
    return re.sub(rb"#[^\n]*", lambda found: b" " * len(found[0]), block)


def _labels(path: Path, heads: list[tuple], numbers: list[int], negative: str) -> np.ndarray:
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
        raise DataError(path, line, f"the label {short(shown)} is not a number, or not one a double holds", _LAYOUT)
    if value < 0 and negative == "error":
        raise DataError(
            path,
            line,
            f"the label {shown} is below 0",
            f"labels start at 0: shift or drop such rows, or {SAY}",
        )
    grade = read_grade(path, line, value, negative)
    return np.nan if grade is None else float(grade)


def _whole_where_possible(labels: np.ndarray) -> np.ndarray:
    """Return labels as int64 where every one is a whole number that a double holds exactly."""
    with np.errstate(invalid="ignore"):
        whole = bool((np.isfinite(labels) & (labels == np.rint(labels)) & (np.abs(labels) <= 2**53)).all())
    return labels.astype(np.int64) if whole else labels


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
            path, numbers[i], f"the row has {words[i]} words where its colons account for {expected[i]}", _LAYOUT
        )


def _complain(path: Path, line: int, valid: bool, key: int, increasing: bool, value: float, text: bytes) -> None:
    """Raise the DataError for the first bad value of a block."""
    shown = decode(text.strip(), path, line)
    if not valid:
        raise DataError(path, line, f"{shown!r} is not <feature>:<value>", _LAYOUT)
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
        raise DataError(path, line, f"the value in {shown!r} is not a number", _LAYOUT)
    raise DataError(path, line, f"the value in {shown!r} is not finite", "replace NaN and infinity, or drop the row")


def _dense(keys: np.ndarray, values: np.ndarray, rows: np.ndarray, counts: np.ndarray) -> np.ndarray:
    width = int(keys.max())
    if len(keys) == len(counts) * width:
        return values.reshape(len(counts), width).astype(np.float32)
    features = np.zeros((len(counts), width), np.float32)
    features[rows, keys - 1] = values
    return features


def _check_float32(path: Path, block: _Block) -> None:
    """Raise where a value that was finite as written is not finite in float32."""
    bad = ~np.isfinite(block.features).all(axis=1)
    if bad.any():
        raise DataError(
            path,
            int(block.line_numbers[np.argmax(bad)]),
            "a value does not fit in float32",
            "rescale the feature to below 3e38",
        )


def _read_good_rows(path: Path, line: int, text: bytes, negative: str, on_bad: OnBad) -> _Block:
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


def _read_block(path: Path, line: int, text: bytes, negative: str) -> _Block:
    if b"\0" in text:
        refuse_nul(path, line + text[: text.index(b"\0")].count(b"\n"), "\0")
    heads, numbers = _heads(path, line, text)
    if not text.isascii():
        for number, (_, query, document) in zip(numbers, heads, strict=True):
            decode((query or b"") + (document or b""), path, number)
    with np.errstate(over="ignore"):
        features = _values(path, text, line, numbers, [query is not None for _, query, _ in heads])
    block = _Block(
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


def _queries_of(
    path: Path, queries: list[bytes | None], numbers: np.ndarray, on_bad: OnBad
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return the query ids in order of the file, where their rows begin among the good rows, and which rows are good.

    A row without a query, and the rows of a query that comes back, are reported.
    """
    starts, ids, seen = [], [], {}
    good = np.ones(len(queries), bool)
    previous: bytes | None = None
    for i, query in enumerate(queries):
        if query == previous and query is not None:
            continue
        if query is None or query in seen:
            good[i] = False
            line = int(numbers[i])
            on_bad(_no_query(path, line) if query is None else _comes_back(path, line, query, seen[query]), query)
            continue
        if previous is not None:
            seen[previous] = int(numbers[i])
        ids.append(decode(query, path, int(numbers[i])))
        starts.append(i)
        previous = query
    starts_among_good = np.concatenate([[0], np.cumsum(good)])[[*starts, len(queries)]]
    return ids, starts_among_good.astype(np.int64), good


def _no_query(path: Path, line: int) -> DataError:
    remedy = f"{_LAYOUT}; or put the queries' row counts beside it in {plain_name(path)}.query"
    return DataError(path, line, "there is no qid:<id> after the label", remedy)


def _comes_back(path: Path, line: int, query: bytes, left: int) -> DataError:
    problem = f"query {decode(query, path, line)!r} was left at line {left} and comes back"
    return DataError(path, line, problem, "sort the file so that the rows of a query are contiguous")


def _group(
    path: Path, groups: Path, numbers: np.ndarray, bad: list[int], on_bad: OnBad
) -> tuple[list[str], np.ndarray]:
    """Return query ids 1, 2, ... and offsets from a LightGBM ``.query`` file of row counts.

    The counts are of all rows, those at the lines ``bad`` too; a query all of whose rows are bad is left out.
    """
    sizes = []
    for line, text in lines(groups, on_bad):
        if not _COUNT.fullmatch(text.strip()) or int(text) == 0:
            problem = f"{short(text.strip())} is not a number of rows"
            on_bad(DataError(groups, line, problem, "write one whole number above 0 a line"), text)
            continue
        sizes.append(int(text))
    rows = len(numbers) + len(bad)
    if sum(sizes) != rows:
        raise DataError(
            groups,
            None,
            f"its row counts add up to {sum(sizes)}, but {path.name} has {rows} rows",
            "make the two files agree",
        )
    at = np.searchsorted(np.sort(bad), numbers) + np.arange(len(numbers))  # places of good rows among all
    offsets = np.searchsorted(at, np.concatenate([[0], np.cumsum(sizes)])).astype(np.int64)
    kept = np.flatnonzero(np.diff(offsets))
    return [str(i + 1) for i in kept], np.concatenate([[0], offsets[kept + 1]]).astype(np.int64)


def _document_ids(
    path: Path, queries: list[str], offsets: np.ndarray, named: list[bytes | None], numbers: np.ndarray
) -> list[str]:
    ids: list[str] = []
    for query, start, stop in zip(queries, offsets[:-1].tolist(), offsets[1:].tolist()):
        names = named[start:stop]
        if None in names or len(set(names)) < len(names):
            ids.extend(f"{query}:{row}" for row in range(1, stop - start + 1))
        else:
            ids.extend(
                f"{query}:{decode(name, path, int(numbers[start + i]))}"  # type: ignore[arg-type]
                for i, name in enumerate(names)
            )
    return ids


def groups_file(path: str | Path) -> Path | None:
    """Return LightGBM's row-count file beside ``path`` (``rank.train`` has ``rank.train.query``), if there is one."""
    path = Path(path)
    stem = plain_name(path)
    found = [beside for end in ("", *ENDINGS) if (beside := path.with_name(f"{stem}.query{end}")).is_file()]
    return found[0] if found else None


def read_feature_rows(
    path: str | Path,
    groups: str | Path | None = None,
    *,
    negative: Negative = "error",
    on_bad: OnBad | None = None,
) -> FeatureRows:
    """Read a LETOR / SVMLight file; ``groups`` is LightGBM's file of row counts for rows without ``qid:``.

    A document's id is ``<query>:<docid>`` with the docid of the comment, or ``<query>:<row>`` (rows of the
    query counted from 1) for every query in which some row names no docid or two rows name the same.
    ``negative`` says what a label below 0 is. Raises DataError for a row of another layout, a label that is no finite
    number, a NaN or infinite value, feature ids that do not increase, and rows of a query that are not contiguous, all
    of them in one report with file and line (``on_bad`` is called with each, where given).
    """
    check_negative(negative)
    with collected(on_bad) as found:
        return _read_feature_rows(Path(path), None if groups is None else Path(groups), negative, found)


def _read_feature_rows(path: Path, groups: Path | None, negative: Negative, on_bad: OnBad) -> FeatureRows:
    blocks: list[_Block] = []
    bad: list[int] = []

    def report(error: DataError, row: object) -> None:
        on_bad(error, row)
        if error.path == path and error.line is not None:
            bad.append(error.line)

    for line, text in _blocks_of_lines(path):
        blocks.append(_read_good_rows(path, line, text, negative, report))
    queries = [query for block in blocks for query in block.queries]
    if not queries:
        raise DataError(path, None, "the file holds no rows", _LAYOUT)
    numbers = np.concatenate([block.line_numbers for block in blocks])
    labels = np.concatenate([block.labels for block in blocks])
    named = [document for block in blocks for document in block.documents]
    features = [block.features for block in blocks]
    del blocks
    matrix = stack_blocks(features, max(block.shape[1] for block in features))
    if groups is not None:
        ids, offsets = _group(path, groups, numbers, bad, on_bad)
    else:
        ids, offsets, good = _queries_of(path, queries, numbers, on_bad)
        if not good.all():
            matrix, labels, numbers = matrix[good], labels[good], numbers[good]
            named = [document for document, kept in zip(named, good, strict=True) if kept]
        if not ids:
            raise DataError(path, None, "the file holds no rows", _LAYOUT)
    documents = _document_ids(path, ids, offsets, named, numbers)
    return FeatureRows(matrix, _whole_where_possible(labels), ids, offsets, documents)


def write_feature_rows(rows: FeatureRows, path: str | Path, *, comments: bool = True) -> None:
    """Write LETOR rows, zeros left out (the last feature always written), values so that float32 comes back exact.

    ``comments`` writes ``# docid = X`` with the part of the document id after the query id.
    """
    width = rows.features.shape[1]
    _check_rows(rows)
    with writing(path) as file:
        for query, start, stop in zip(rows.query_ids, rows.offsets[:-1], rows.offsets[1:]):
            for row in range(start, stop):
                values = rows.features[row]
                kept = np.union1d(np.flatnonzero(values), [width - 1]) if width else []
                pairs = "".join(f" {i + 1}:{_shortest(values[i])}" for i in kept)
                name = rows.document_ids[row].removeprefix(f"{query}:")
                file.write(
                    f"{as_whole(rows.labels[row])!r} qid:{query}{pairs}"
                    + (f" # docid = {name}\n" if comments else "\n")
                )


def _shortest(value: np.float32) -> str:
    """Return the shortest decimal that reads back as the same float32."""
    return (
        np.format_float_positional(value, unique=True, trim="-")
        if 1e-4 <= abs(value) < 1e15
        else ("0" if value == 0 else np.format_float_scientific(value, unique=True, trim="-"))
    )


def _check_rows(rows: FeatureRows) -> None:
    bad = [text for text in (*rows.query_ids, *rows.document_ids) if not text or text.split() != [text]]
    if bad or any(":" in query or "#" in query for query in rows.query_ids):
        raise UsageError(
            f"a LETOR file cannot hold the id {(bad or rows.query_ids)[0]!r}: ids have no white space, "
            "query ids no ':' or '#'"
        )
    if not np.isfinite(rows.features).all() or not np.isfinite(rows.labels).all():
        raise UsageError("a LETOR file needs finite features and labels; leave out rows that nobody judged")
