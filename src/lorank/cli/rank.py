"""`lorank rank`: one query, ranked JSON lines."""

import json
import sys
from typing import Annotated

import typer

from lorank.errors import DataError


def rank(
    ranker: Annotated[
        str, typer.Option(help="The --out folder of `lorank train`, or a reranker's folder or Hub name.")
    ],
    query: Annotated[str, typer.Option(help="The query.")],
    documents: Annotated[
        str, typer.Option(help="JSON lines, each a string or an object with text (and title); - reads standard input.")
    ],
    label: Annotated[
        str | None, typer.Option(help="Which label of a classifier of several is the score: its name or number.")
    ] = None,
    top: Annotated[int | None, typer.Option(min=1, help="Print only the best so many.")] = None,
    seed: Annotated[int, typer.Option(help="Accepted for uniformity; scoring is deterministic.")] = 0,
) -> None:
    """Rank documents for one query; prints {"index", "score", "text"} best first.

    Example: `lorank rank --ranker runs/first --query "sort a dict by value" --documents docs.jsonl --top 3`
    """
    from lorank.tuned.open_ranker import open_ranker

    texts = _texts(documents)
    for ranked in open_ranker(ranker, label=label).rank(query, texts, top):
        print(json.dumps({"index": ranked.index, "score": ranked.score, "text": ranked.text}, ensure_ascii=False))


def _texts(source: str) -> list[str]:
    from lorank.data.files import open_text
    from lorank.ranking.scorers.texts import replace_surrogates

    lines = sys.stdin if source == "-" else open_text(source)
    return [
        replace_surrogates(_text_of(source, number, line)) for number, line in enumerate(lines, start=1) if line.strip()
    ]


def _text_of(source: str, number: int, line: str) -> str:
    remedy = 'write one JSON string or {"text": ...} a line'
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(source, number, f"not JSON ({error.msg})", remedy) from error
    if isinstance(row, str):
        return row
    if isinstance(row, dict) and isinstance(row.get("text"), str):
        return f"{row['title']}\n{row['text']}" if row.get("title") else row["text"]
    raise DataError(source, number, "neither a string nor an object with a text", remedy)
