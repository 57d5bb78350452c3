"""`lorank import`: data as it is, made into a collection."""

from pathlib import Path
from typing import Annotated

import typer

from lorank.cli.options import Negative
from lorank.cli.progress import console
from lorank.errors import unknown_name


def import_data(
    source: Annotated[
        list[str],
        typer.Argument(
            help="Files and folders: HTML, Markdown, text, reStructuredText, PDF, CSV, TSV, JSONL, Parquet, Arrow, a "
            "folder of datasets, MS MARCO's and TREC's files. queries=FILE, documents=FILE, judgments=FILE or "
            "rows=FILE says what a file is."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write: a BEIR folder, which --data takes.")],
    columns: Annotated[
        str, typer.Option(help="Which column is what: query=q,document=text,label=y; numbers where there is no header.")
    ] = "",
    passage_words: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Words of a passage; 0 leaves all whole. Default: pages are cut at 180, documents of tables not.",
        ),
    ] = None,
    overlap_words: Annotated[int, typer.Option(min=0, help="Words that a passage repeats of the one before.")] = 0,
    shared: Annotated[
        float,
        typer.Option(min=0, max=1, help="Blocks that this share of a folder's pages have are dropped; 0 keeps all."),
    ] = 0.8,
    page_labels: Annotated[
        str, typer.Option(help="Which passages a judged page passes its label to: best (by rare words) or all.")
    ] = "best",
    repeated: Annotated[
        str, typer.Option(help="The label of what is judged or clicked several times: max, mean or sum.")
    ] = "max",
    dangling: Annotated[
        str, typer.Option(help="Judgments or clicks of unknown queries or documents: error, or skip.")
    ] = "error",
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave bad rows out, and keep them in DIR/skipped.jsonl.")
    ] = False,
    splits: Annotated[
        str, typer.Option(help="auto, given (as the sources name them), or made (by groups of queries).")
    ] = "auto",
    shares: Annotated[str, typer.Option(help="Shares of train, dev and test where splits are made.")] = "80,10,10",
    topic_fields: Annotated[
        str, typer.Option(help="Fields of TREC topics that make the query, such as title,description.")
    ] = "title",
    negative: Negative = "error",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder in --out.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the splits.")] = 0,
) -> None:
    """Make a collection of pages, tables, rows, clicks, judgments and topics; prints what was read and left out.

    Examples:

        lorank import site/ clicks.csv --out data/site

        lorank import collection.tsv queries.train.tsv qrels.train.tsv --out data/marco

        lorank import pairs.parquet --columns query=q,document=text,label=y --out data/pairs

        lorank import topics.txt docs/ qrels.txt --dangling skip --skip-bad --out data/trec
    """
    from lorank.data.importing import Choices, import_sources
    from lorank.data.importing.columns import parse_columns
    from lorank.data.importing.registry import Options
    from lorank.data.importing.splitting import parse_shares
    from lorank.data.numbers import check_negative

    for flag, value, known in (
        ("--page-labels", page_labels, ("best", "all")),
        ("--repeated", repeated, ("max", "mean", "sum")),
        ("--dangling", dangling, ("error", "skip")),
        ("--splits", splits, ("auto", "given", "made")),
    ):
        if value not in known:
            raise unknown_name(flag, value, known)
    check_negative(negative)
    fields = tuple(field.strip().lower() for field in topic_fields.split(",") if field.strip())
    options = Options(parse_columns(columns), negative, fields)  # type: ignore[arg-type]
    choices = Choices(
        options,
        passage_words,
        overlap_words,
        shared,
        page_labels,  # type: ignore[arg-type]
        repeated,  # type: ignore[arg-type]
        dangling,  # type: ignore[arg-type]
        splits,  # type: ignore[arg-type]
        parse_shares(shares),
        seed,
    )
    with console.status("reading"):
        imported = import_sources(source, out, choices, skip_bad=skip_bad, overwrite=overwrite)
    print(imported.summary)
    print(f"wrote      {out}" + (" and skipped.jsonl in it" if (out / "skipped.jsonl").is_file() else ""))
    print(f"next       {_next(out, imported.collection.splits)}")


def _next(out: Path, splits: object) -> str:
    """Return the command that goes on from what was written."""
    if not splits:
        return (
            f"these are documents only; add clicks or judgments: lorank import ... clicks.csv --out {out} --overwrite"
        )
    if "train" not in splits:  # type: ignore[operator]
        return f"lorank train --data {out} --base minilm --folds 5 --out runs/{out.name}"
    return f"lorank train --data {out} --base minilm --out runs/{out.name}"
