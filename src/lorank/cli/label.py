"""`lorank label`: what to judge next."""

import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorank.cli import completion
from lorank.cli.options import Language, Negative
from lorank.cli.progress import console, progress_bars, stage
from lorank.cli.ranker_options import Kind
from lorank.errors import DataError, UsageError, unknown_name
from lorank.tuned.naming import recognise

if TYPE_CHECKING:
    import numpy as np

    from lorank.data.collection import Collection
    from lorank.ranking.types import Run

Pair = tuple[str, str]


def label(
    data: Annotated[str, typer.Option(help="A packaged collection or a BEIR folder.")],
    ranker: Annotated[
        str, typer.Option(autocompletion=completion.rankers, help="The ranker whose scores say what is informative.")
    ],
    out: Annotated[Path, typer.Option(help="JSON lines to write, one per pair, to put a grade in.")],
    kind: Kind = None,
    count: Annotated[int, typer.Option(min=1, help="Pairs of a query and a document to judge.")] = 50,
    strategy: Annotated[str, typer.Option(help="power, softmax, softrank, top, random or tailor.")] = "power",
    by: Annotated[
        str, typer.Option(help="What is informative: uncertainty, relevance or disagreement.")
    ] = "uncertainty",
    beta: Annotated[float, typer.Option(min=0, help="How much that counts against chance.")] = 1.0,
    judged: Annotated[
        list[Path] | None,
        typer.Option(help="Earlier files with their grades; not proposed again, and learned from by tailor."),
    ] = None,
    run: Annotated[Path | None, typer.Option(help="The candidates. [default: BM25's]")] = None,
    split: Annotated[str, typer.Option(help="The split whose queries are judged.")] = "train",
    depth: Annotated[int, typer.Option(min=1, help="Candidates per query.")] = 20,
    qrels: Annotated[
        Path | None, typer.Option(help="Write the grades of --judged as TREC judgments to this file, too.")
    ] = None,
    negative: Negative = "error",
    language: Language = "auto",
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
) -> None:
    """Propose pairs of queries and documents to judge next: fill in "grade" and give the file to the next call.

    With tailor each place of the batch goes to the way of choosing whose earlier proposals found the rarer grade.

    Examples:

        lorank label --data my-data --ranker runs/first --count 50 --out batch-1.jsonl

        lorank label --data my-data --ranker runs/first --strategy tailor --judged batch-1.jsonl --out batch-2.jsonl
        --qrels judged.qrels
    """
    import numpy as np

    from lorank import index as names
    from lorank.ranking.acquisition import INFORMATIVE, STRATEGIES
    from lorank.ranking.acquisition.informative import informative_pairs

    if strategy not in (*STRATEGIES, "tailor"):
        raise unknown_name("--strategy", strategy, [*STRATEGIES, "tailor"])
    if by not in INFORMATIVE:
        raise unknown_name("--by", by, INFORMATIVE)
    names.check_data(data, "--data")
    recognise(ranker, "--ranker")
    rows = [row for path in judged or [] for row in read_grades(path)]
    if qrels is not None:
        _write_qrels(qrels, rows)
    import lorank

    with stage(f"read {data}"):
        collection = lorank.load(data, negative=negative, language=language)
    scored, first = _scored(collection, ranker, kind, run, split, depth)
    known = {query: dict(row) for query, row in collection.split(split).qrels.items()}
    for query, document, grade, _ in rows:
        known.setdefault(query, {})[document] = grade
    parts = {
        name: informative_pairs(scored, first, known, name) for name in (INFORMATIVE if strategy == "tailor" else [by])
    }
    rng = np.random.default_rng(seed)
    chosen = _batch(parts, strategy, by, count, beta, rows, rng)
    if not chosen:
        raise UsageError("every candidate is judged already; raise --depth, or give another split")
    texts, queries = collection.position, collection.split(split).queries
    lines = [
        {
            "query_id": query,
            "document_id": document,
            "query": queries[query],
            "document": str(collection.documents[texts[document]]),
            "score": scored[query][document],
            "strategy": way,
            "grade": None,
        }
        for (query, document), way in chosen.items()
    ]
    from lorank.data.files import write_text

    write_text(out, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    ways = ", ".join(f"{n} by {way}" for way, n in Counter(chosen.values()).most_common())
    console.print(f"{len(lines)} pairs to judge: {ways}", soft_wrap=True)
    print(out)


def _batch(
    parts: "dict[str, tuple[list[Pair], np.ndarray]]",
    strategy: str,
    by: str,
    count: int,
    beta: float,
    rows: list[tuple[str, str, float, str]],
    rng: "np.random.Generator",
) -> dict[Pair, str]:
    """Return the pairs of the batch, each with the way in which it was chosen."""
    from lorank.ranking.acquisition import Tailor, choose_batch

    if strategy != "tailor":
        pairs, values = parts[by]
        way = strategy if strategy == "random" else f"{strategy}-{by}"
        return {pairs[i]: way for i in choose_batch(values, count, strategy, rng, beta=beta).tolist()}
    ways = [*(f"power-{name}" for name in parts), "random"]
    tailor = Tailor(ways)
    for _, _, grade, way in rows:
        tailor.learn(way, grade > 0)
    orders = {}
    for way in ways:
        pairs, values = parts[way.removeprefix("power-")] if way != "random" else parts[by]
        kind = "random" if way == "random" else "power"
        orders[way] = [pairs[i] for i in choose_batch(values, len(pairs), kind, rng, beta=beta).tolist()]
    chosen: dict[Pair, str] = {}
    for way in tailor.draw(min(count, len(parts[by][0])), rng):
        chosen[next(pair for pair in orders[way] if pair not in chosen)] = way
    return chosen


def _scored(
    collection: "Collection", ranker: str, kind: str | None, run: Path | None, split: str, depth: int
) -> "tuple[Run, Run]":
    """Return the ranker's scores of the candidates, and the first stage's."""
    from lorank.data import from_run
    from lorank.training.lists.retrieval import bm25_index
    from lorank.tuned.open_ranker import open_ranker
    from lorank.tuned.ranker import score_run

    queries = collection.split(split).queries
    if run is None:
        first = bm25_index(collection).search(queries, depth)
    else:
        first = from_run(str(run), collection, split, depth, path=run, unknown="skip")
    with stage(f"open {ranker}"):
        model = open_ranker(ranker, kind=kind, collection=collection, flag="--ranker")
    with progress_bars() as on_progress:
        return score_run(model, collection, queries, first, partial(on_progress, "score candidates")), first


def read_grades(path: Path) -> list[tuple[str, str, float, str]]:
    """Return (query, document, grade, strategy) of the rows of a file that have a grade.

    Raises DataError, naming the line, for a row without ids and a grade that is no number.
    """
    from lorank.reading import json_lines

    found = []
    for number, row in json_lines(path, '{"query_id": ..., "document_id": ..., "grade": NUMBER}'):
        query, document, grade = row.get("query_id"), row.get("document_id"), row.get("grade")
        if not isinstance(query, str) or not isinstance(document, str):
            raise DataError(path, number, "the row lacks query_id or document_id", "give a file of `lorank label`")
        if grade is None:
            continue
        if isinstance(grade, bool) or not isinstance(grade, int | float):
            raise DataError(
                path, number, f"the grade {grade!r} is no number", "write 0 for not relevant, 1 or more else"
            )
        found.append((query, document, grade, str(row.get("strategy", ""))))
    return found


def _write_qrels(path: Path, rows: list[tuple[str, str, float, str]]) -> None:
    from lorank.data.files import write_text

    if not rows:
        raise UsageError("--qrels: no row of --judged has a grade")
    lines: list[Any] = [f"{query} 0 {document} {grade:g}\n" for query, document, grade, _ in rows]
    write_text(path, "".join(lines))
