"""`lorank evaluate`: judge runs against each other."""

import json
from pathlib import Path
from typing import Annotated

import typer

from lorank.cli.options import Negative


def evaluate(
    run: Annotated[list[Path], typer.Option(help="A run to judge; repeat it. The first is the baseline.")],
    data: Annotated[str | None, typer.Option(help="The judged collection.")] = None,
    qrels: Annotated[Path | None, typer.Option(help="A qrels file, in place of a collection.")] = None,
    split: Annotated[str, typer.Option(help="Which split's judgments.")] = "test",
    measures: Annotated[
        list[str] | None, typer.Option(help="Measures as ir-measures names them; repeat, or separate by spaces.")
    ] = None,
    groups: Annotated[
        str,
        typer.Option(
            help="relevant: queries that share relevant documents are resampled and tested together; none: each query "
            "counts as independent."
        ),
    ] = "relevant",
    pages: Annotated[
        Path | None,
        typer.Option(help="Judge pages, not passages: pages.tsv of `lorank import`, or the folder that holds it."),
    ] = None,
    negative: Negative = "error",
    unknown: Annotated[str, typer.Option(help="A run's queries without judgments: error, or ignore.")] = "error",
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    out: Annotated[Path | None, typer.Option(help="Also write results.json into this run folder.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the resampling.")] = 0,
) -> None:
    """Means with 95 % intervals, paired tests with Holm correction, wins, ties and losses, and recall ceilings.

    Examples:

        lorank evaluate --data pydocs --run bm25.run --run tuned.run

        lorank evaluate --data pydocs --run bm25.run --run tuned.run --groups none

        lorank evaluate --qrels qrels.txt --run a.run --run b.run --measures "nDCG@10 AP(rel=2)" --json
    """
    import lorank
    from lorank import index
    from lorank.errors import UsageError, unknown_name

    if (data is None) == (qrels is None):
        raise UsageError("give either --data or --qrels")
    if groups not in ("none", "relevant"):
        raise unknown_name("--groups", groups, ("none", "relevant"))
    if unknown not in ("error", "ignore"):
        raise unknown_name("--unknown", unknown, ("error", "ignore"))
    if data is not None:
        index.check_data(data, "--data")
    from lorank.data import rank_pages, read_pages, read_qrels, read_run
    from lorank.data.files import write_text
    from lorank.ranking.metrics.measures import parse_measure
    from lorank.ranking.metrics.table import to_markdown

    wanted = [m for group in measures or ["nDCG@10 RR@10 R@100"] for m in group.split()]
    for measure in wanted:
        parse_measure(measure)
    judgments = (
        lorank.load(data, negative=negative).split(split).qrels if data else read_qrels(qrels, negative=negative)
    )
    names = _names(run)
    runs = {name: read_run(path) for name, path in zip(names, run, strict=True)}
    if pages is not None:
        page_of = read_pages(pages)
        judgments = rank_pages(judgments, page_of)
        runs = {name: rank_pages(each, page_of) for name, each in runs.items()}
    judged = lorank.evaluate(
        runs,
        judgments,
        measures=wanted,
        seed=seed,
        unknown=unknown,
        groups="auto" if groups == "relevant" else None,
        collection=data or str(qrels),
        split=split,
    )
    text = json.dumps(judged.to_dict(), indent=1)
    if out is not None:
        write_text(out / "results.json", text + "\n")
    print(text if as_json else to_markdown(judged))


def _names(paths: list[Path]) -> list[str]:
    names = [path.name.removesuffix(".gz").rsplit(".", 1)[0] for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]
