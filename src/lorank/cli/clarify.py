"""`lorank clarify`: which question to ask of a query that found nothing, and the query with its answer."""

import json
from pathlib import Path
from typing import Annotated

import typer

from lorank.cli import completion
from lorank.cli.bad_rows import SkipBad, skipping
from lorank.cli.options import Language, Negative
from lorank.cli.progress import console, stage
from lorank.cli.ranker_options import Kind
from lorank.errors import DataError, UsageError

clarify = typer.Typer(
    no_args_is_help=True,
    help="Ask what a failed query lacks: collect, ask and answer; the ranker of the questions is trained as any other.",
)

Questions = Annotated[
    Path | None,
    typer.Option(help="The inventory, one question per line. [default: ten for queries of software developers]"),
]


@clarify.command()
def collect(
    rows: Annotated[Path, typer.Argument(help='JSON lines {"query": TEXT, "valid": [QUESTION, ...]}.')],
    out: Annotated[Path, typer.Option(help="BEIR folder to write: questions as documents, for `lorank train`.")],
    questions: Annotated[
        Path | None, typer.Option(help="Questions beside those of the rows, one per line. [default: none]")
    ] = None,
    skip_bad: SkipBad = False,
    seed: Annotated[int, typer.Option(help="Seed of the splits: three fifths train, a fifth dev, a fifth test.")] = 0,
) -> None:
    """Make a collection of failed queries and the questions that are valid for them, from which a ranker is trained.

    Examples:

        lorank clarify collect judged.jsonl --out questions

        lorank train --data questions --base minilm --kind bi-encoder --out runs/questions
    """
    from lorank.data import write_beir
    from lorank.data.clarifications import read_clarifications, read_questions

    if out.exists() and any(out.iterdir()):
        raise UsageError(f"--out {out} holds something already; give another folder")
    more = [] if questions is None else read_questions(questions)
    with skipping(skip_bad, out) as on_bad:
        made = read_clarifications(rows, more, seed=seed, on_bad=on_bad)
    write_beir(made, out)
    console.print(repr(made), markup=False)
    print(out)


@clarify.command()
def ask(
    ranker: Annotated[
        str,
        typer.Option(autocompletion=completion.rankers, help="The ranker that scores a question for a query."),
    ],
    data: Annotated[
        str | None, typer.Option(help="A packaged collection or a BEIR folder, whose queries failed.")
    ] = None,
    query: Annotated[list[str] | None, typer.Option(help="A query, in place of a collection's; repeat it.")] = None,
    questions: Questions = None,
    out: Annotated[
        Path | None, typer.Option(help='Also write the lines to this file, to put answers in at "answer".')
    ] = None,
    split: Annotated[str, typer.Option(help="The split whose queries failed.")] = "test",
    kind: Kind = None,
    negative: Negative = "error",
    language: Language = "auto",
    skip_bad: SkipBad = False,
    seed: Annotated[int, typer.Option(help="Accepted for uniformity; nothing is drawn.")] = 0,
) -> None:
    """Choose the question for each query; prints {"query_id", "query", "question", "score", "answer": null} lines.

    Examples:

        lorank clarify ask --ranker runs/questions --query "sort list fails"

        lorank clarify ask --ranker runs/questions --data my-data --out asked.jsonl
    """
    import lorank
    from lorank import index as names
    from lorank.data.clarifications import read_questions
    from lorank.data.files import write_text
    from lorank.ranking.clarification import INVENTORY, choose_questions
    from lorank.tuned.naming import recognise
    from lorank.tuned.open_ranker import open_ranker

    if (data is None) == (not query):
        raise UsageError("give queries: --data for a collection's, or --query")
    recognise(ranker, "--ranker")
    inventory = list(INVENTORY) if questions is None else read_questions(questions)
    asked = {text: text for text in query or []}
    if data is not None:
        names.check_data(data, "--data")
        with stage(f"read {data}"), skipping(skip_bad, out) as on_bad:
            asked = dict(lorank.load(data, negative=negative, language=language, on_bad=on_bad).split(split).queries)
    with stage(f"open {ranker}"):
        model = open_ranker(ranker, kind=kind, flag="--ranker")
    found = choose_questions(model, list(asked.values()), inventory)
    rows = [
        {"query_id": name, "query": each.query, "question": each.question, "score": each.score, "answer": None}
        for name, each in zip(asked, found, strict=True)
    ]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    print(text, end="")
    if out is not None:
        write_text(out, text)


@clarify.command()
def answer(
    answers: Annotated[Path, typer.Argument(help='The file of `lorank clarify ask`, with texts at "answer".')],
    data: Annotated[str, typer.Option(help="The collection whose queries were asked about.")],
    out: Annotated[Path, typer.Option(help="BEIR folder to write: the collection with the extended queries.")],
    split: Annotated[str, typer.Option(help="The split of these queries.")] = "test",
    negative: Negative = "error",
    language: Language = "auto",
    skip_bad: SkipBad = False,
    seed: Annotated[int, typer.Option(help="Accepted for uniformity; nothing is drawn.")] = 0,
) -> None:
    """Append what each answer adds to its query, and write the collection; queries without an answer stay.

    Examples:

        lorank clarify answer asked.jsonl --data my-data --out clarified
    """
    from dataclasses import replace

    import lorank
    from lorank import index as names
    from lorank.data import write_beir
    from lorank.ranking.clarification import rewritten

    names.check_data(data, "--data")
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"--out {out} holds something already; give another folder")
    given = _read_answers(answers)
    with stage(f"read {data}"), skipping(skip_bad, out) as on_bad:
        collection = lorank.load(data, negative=negative, language=language, on_bad=on_bad)
    part = collection.split(split)
    strange = given.keys() - part.queries.keys()
    if strange:
        raise UsageError(f"{answers}: the split {split!r} has no query {min(strange)!r}")
    changed = replace(part, queries=rewritten(part.queries, given))
    write_beir(replace(collection, splits={**collection.splits, split: changed}), out)
    console.print(f"{len(given)} of {len(part.queries)} queries were extended", soft_wrap=True)
    print(out)


def _read_answers(path: Path) -> dict[str, str]:
    """Return the answers by query; raise DataError for a row without an id and an answer that is no text."""
    from lorank.reading import json_lines

    found = {}
    for number, row in json_lines(path, '{"query_id": ..., "answer": TEXT}'):
        name, text = row.get("query_id"), row.get("answer")
        if not isinstance(name, str) or not (text is None or isinstance(text, str)):
            remedy = "give a file of `lorank clarify ask`"
            raise DataError(path, number, "the row lacks query_id, or its answer is no text", remedy)
        if text and text.strip():
            found[name] = text
    return found
