r"""Baidu-ULTR: sessions of a search engine with what was displayed, and queries that experts judged; both
tab-separated.

    Qid  Query  Reformulations
    Pos  URL_MD5  Title  Abstract  Media  Click  -  -  Skip  Height  DisplayedTime  ...  DwellingTime (column 17)  ...

Texts are token ids joined by \x01, here written with blanks. Queries are distinguished by their tokens, as the ids of
queries
repeat for other texts. Judged rows have six columns: Qid, Query, Title, Abstract, Label (0 to 4), Bucket (0 to 9).

Paper: L. Zou et al., A Large Scale Search Dataset for Unbiased Learning to Rank, NeurIPS 2022.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from lorank.catalogue import catalogued
from lorank.data.click_logs.registry import LogCounts, log_format
from lorank.data.clicks import Impression
from lorank.data.collection import Collection, Split
from lorank.errors import DataError
from lorank.ranking.types import Qrels
from lorank.reading import all_lines, is_readable, parse_number, plain_name

EXPECTED = "a session is a row of 3 columns, then rows of at least 17: position, URL, title, abstract, type, click, ..."
CLICK, HEIGHT, DWELL, LEAST_COLUMNS = 5, 9, 16, 17
LOOKED_AT = 10
"""How many rows are looked at to tell the format."""


def is_baidu_ultr(path: Path) -> bool:
    """Return whether a file begins with rows of sessions (three columns) and of documents (many, a number first)."""
    if not is_readable(path):
        return False
    rows = [text.split("\t") for _, text in islice(all_lines(path, lambda error, row: None), LOOKED_AT)]
    documents = [row for row in rows if len(row) >= LEAST_COLUMNS]
    plain = all(len(row) == 3 or len(row) >= LEAST_COLUMNS for row in rows[:2])
    return plain and bool(documents) and all(parse_number(row[0]) is not None for row in documents[:1])


def is_judged(path: Path) -> bool:
    """Return whether a file begins with a judged row: six columns, texts of token ids, label and bucket."""
    if not is_readable(path):
        return False
    first = next(all_lines(path, lambda error, row: None), (0, ""))[1].split("\t")
    return len(first) == 6 and "\x01" in "".join(first[1:4]) and first[4].isdigit() and first[5].strip().isdigit()


def text_of(tokens: str) -> str:
    r"""Return token ids with blanks between them.

    >>> text_of("12\x017\x01305")
    '12 7 305'
    """
    return " ".join(tokens.strip().split("\x01"))


@catalogued(
    "baidu-ultr",
    area="unbiased",
    title="A Large Scale Search Dataset for Unbiased Learning to Rank",
    reach="its files are data: lorank train --data part-00001.gz --debias dla reads the layout, and no key names it",
)
@log_format("baidu-ultr", title="Baidu-ULTR's sessions, tab-separated", fits=is_baidu_ultr)
def read_baidu_ultr(path: Path, counts: LogCounts) -> Iterator[Impression]:
    """Yield one impression for each session, with the texts of its query and documents."""
    header: tuple[int, list[str]] | None = None
    rows: list[list[str]] = []
    whole = True
    for line, text in all_lines(path, counts.on_bad):
        if not text.strip():
            continue
        counts.rows += 1
        fields = text.split("\t")
        if len(fields) == 3:
            if header is not None and rows and whole:
                yield from _impressions(path, header, rows, counts)
            elif header is not None and whole:
                counts.leave_out("sessions without a document")
            header, rows, whole = (line, fields), [], True
        elif len(fields) < LEAST_COLUMNS or header is None:
            where = "" if header is not None else " and stands below no session"
            counts.report(DataError(path, line, f"the row has {len(fields)} columns{where}", EXPECTED), text)
            whole = False
        else:
            rows.append([*fields, str(line)])
    if header is not None and rows and whole:
        yield from _impressions(path, header, rows, counts)
    elif header is not None and whole:
        counts.leave_out("sessions without a document")


def _impressions(
    path: Path, header: tuple[int, list[str]], rows: list[list[str]], counts: LogCounts
) -> Iterator[Impression]:
    """Yield the session where it can be one; report its first bad row where it cannot."""
    try:
        made = _impression(path, header, rows)
    except DataError as error:
        counts.report(error, "\t".join(header[1]))
        return
    yield made


def _impression(path: Path, header: tuple[int, list[str]], rows: list[list[str]]) -> Impression:
    line, (session, query, _) = header
    positions, clicks, heights, dwell, shown = [], [], [], [], set[str]()
    for row in rows:
        position, click = (_whole(path, row, at, name) for at, name in ((0, "position"), (CLICK, "click")))
        if position < 1 or position in positions:
            wrong = "there twice" if position > 0 else "not counted from 1"
            raise DataError(path, int(row[-1]), f"the position {position} is {wrong}", EXPECTED)
        if click not in (0, 1):
            raise DataError(path, int(row[-1]), f"click is {click}, which is neither 0 nor 1", EXPECTED)
        if row[1] in shown:
            raise DataError(path, int(row[-1]), f"the list shows {row[1][:60]!r} twice", EXPECTED)
        shown.add(row[1])
        positions.append(position)
        clicks.append(click)
        heights.append(max(0.0, float(parse_number(row[HEIGHT].strip()) or 0)))
        dwell.append(max(0.0, float(parse_number(row[DWELL].strip()) or 0)))
    made = Impression(
        f"{session}-{line}",
        text_of(query),
        tuple(row[1] for row in rows),
        tuple(clicks),
        positions=tuple(positions),
        query=text_of(query),
        texts=tuple(f"{text_of(row[2])}\n{text_of(row[3])}".strip() or row[1] for row in rows),
        dwell=tuple(dwell),
        heights=tuple(heights),
        line=line,
    )
    if problem := made.problem():
        raise DataError(path, line, problem, EXPECTED)
    return made


def _whole(path: Path, row: list[str], at: int, name: str) -> int:
    """Return the whole number in a column; raise DataError with the line of the row, which stands last in it."""
    value = parse_number(row[at])
    if value is None or value != int(value):
        raise DataError(path, int(row[-1]), f"the {name} {row[at][:40]!r} is missing or no whole number", EXPECTED)
    return int(value)


def read_judged(path: str | Path) -> Collection:
    """Return the queries that experts judged as a collection with the split ``test``; buckets are its groups."""
    path = Path(path)
    documents: dict[str, str] = {}
    queries: dict[str, str] = {}
    qrels: Qrels = {}
    for line, text in all_lines(path):
        fields = text.split("\t")
        if len(fields) != 6 or not fields[4].isdigit():
            raise DataError(
                path, line, f"the row has {len(fields)} columns", "Qid, Query, Title, Abstract, Label, Bucket"
            )
        query = text_of(fields[1])
        document = f"{text_of(fields[2])}\n{text_of(fields[3])}".strip()
        queries[query] = query
        qrels.setdefault(query, {})[documents.setdefault(document, f"d{len(documents) + 1}")] = int(fields[4])
    candidates = {query: dict.fromkeys(row, 0.0) for query, row in qrels.items()}
    split = Split("test", queries, qrels, candidates)
    return Collection(plain_name(path), list(documents.values()), list(documents), {"test": split})
