"""`lorank rank`: one query, ranked JSON lines."""

import json
from typing import Annotated

import typer

from lorank.cli import completion
from lorank.cli.documents import FORMATS, read_documents
from lorank.cli.progress import stage
from lorank.cli.ranker_options import NAMES, Kind, Label, Long, MaxLength, Set, reading_of
from lorank.tuned.naming import recognise


def rank(
    ranker: Annotated[str, typer.Option(autocompletion=completion.rankers, help=f"What ranks: {NAMES}.")],
    query: Annotated[str, typer.Option(help="The query.")],
    documents: Annotated[
        str,
        typer.Option(
            help="JSON lines (strings, or objects with text and title), text (a document per line), Markdown (a "
            "document per section), CSV or TSV; - reads standard input."
        ),
    ],
    format: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(FORMATS)}. [default: by the file's name, else by its first line]"),
    ] = None,
    column: Annotated[str | None, typer.Option(help="Of CSV and TSV: the column that holds the text.")] = None,
    kind: Kind = None,
    label: Label = None,
    max_length: MaxLength = None,
    long: Long = None,
    settings: Set = None,
    top: Annotated[int | None, typer.Option(min=1, help="Print only the best so many.")] = None,
    seed: Annotated[int, typer.Option(help="Accepted for uniformity; scoring is deterministic.")] = 0,
) -> None:
    """Rank documents for one query; prints {"index", "score", "text"} best first.

    Examples:

        lorank rank --ranker runs/first --query "sort a dict by value" --documents docs.jsonl --top 3

        lorank rank --ranker minilm --query "sort a dict by value" --documents notes.md --long max

        lorank rank --ranker bm25 --query "sort a dict by value" --documents docs.csv --column body
    """
    recognise(ranker, "--ranker")
    reading = reading_of(settings, max_length, long)
    texts = read_documents(documents, format, column)
    with stage(f"open {ranker}"):
        from lorank.tuned.open_ranker import open_ranker

        model = open_ranker(ranker, kind=kind, label=label, reading=reading, flag="--ranker")
    for ranked in model.rank(query, texts, top):
        print(json.dumps({"index": ranked.index, "score": ranked.score, "text": ranked.text}, ensure_ascii=False))
