"""`lorank evaluate`: judge runs against each other."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorank.cli import completion
from lorank.cli.bad_rows import SkipBad, skipping
from lorank.cli.options import Groups, Language, Negative, check_groups
from lorank.cli.progress import progress_bars, stage
from lorank.cli.ranker_options import NAMES, Kind, Long, MaxLength, Set, reading_of
from lorank.cli.width import terminal_width
from lorank.tuned.naming import recognise

if TYPE_CHECKING:
    from lorank.data.collection import Collection, Split
    from lorank.ranking.types import Run
    from lorank.tuned.reading import ReadingSettings


def evaluate(
    run: Annotated[
        list[Path] | None, typer.Option(help="A run to judge; repeat it. The first system is the baseline.")
    ] = None,
    ranker: Annotated[
        list[str] | None,
        typer.Option(
            autocompletion=completion.rankers,
            help=f"A ranker to judge, which reranks the first --run, or else BM25's; repeat it: {NAMES}.",
        ),
    ] = None,
    depth: Annotated[int, typer.Option(min=1, help="With --ranker: how many of a query's documents it scores.")] = 100,
    kind: Kind = None,
    max_length: MaxLength = None,
    long: Long = None,
    settings: Set = None,
    data: Annotated[str | None, typer.Option(help="The judged collection.")] = None,
    qrels: Annotated[Path | None, typer.Option(help="A qrels file, in place of a collection.")] = None,
    split: Annotated[str, typer.Option(help="Which split's judgments.")] = "test",
    measures: Annotated[
        list[str] | None,
        typer.Option(
            autocompletion=completion.measures,
            help="Measures, such as nDCG@10, ndcg@10, map, mrr@10, recall@100, AP(rel=2); repeat it, or separate them "
            "by spaces or commas. [default: nDCG@10 RR@10 R@100]",
        ),
    ] = None,
    groups: Groups = "relevant",
    pages: Annotated[
        Path | None,
        typer.Option(help="Judge pages, not passages: pages.tsv of `lorank import`, or the folder that holds it."),
    ] = None,
    negative: Negative = "error",
    language: Language = "auto",
    skip_bad: SkipBad = False,
    unknown: Annotated[str, typer.Option(help="A run's queries without judgments: error, or ignore.")] = "error",
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    out: Annotated[Path | None, typer.Option(help="Also write results.json into this run folder.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the resampling.")] = 0,
    log: Annotated[
        Path | None,
        typer.Option(help="A click log: estimate from it what each --ranker and --run would be worth in clicks."),
    ] = None,
    estimator: Annotated[str, typer.Option(help="With --log: ips, snips, dr or position.")] = "snips",
    propensities: Annotated[
        str, typer.Option(help="With --estimator position: an estimator of propensities, or a file of them.")
    ] = "harvest",
    support: Annotated[
        str, typer.Option(help="With --log: what the log does not support is an error, or ignore it.")
    ] = "error",
) -> None:
    """Means with 95 % intervals, paired tests with Holm correction, wins, ties and losses, and recall ceilings.

    Examples:

        lorank evaluate --data pydocs --run bm25.run --run tuned.run

        lorank evaluate --data pydocs --run bm25.run --run tuned.run --groups none

        lorank evaluate --data pydocs --ranker bm25 --ranker minilm --ranker runs/first

        lorank evaluate --log log.jsonl --data pydocs --ranker runs/clicks --estimator position

        lorank evaluate --qrels qrels.txt --run a.run --run b.run --measures "nDCG@10 AP(rel=2)" --json
    """
    import lorank
    from lorank import index
    from lorank.errors import UsageError, unknown_name

    if log is not None:
        from lorank.cli.evaluate_log import evaluate_log

        if not run and not ranker:
            raise UsageError("nothing to judge: give --run, --ranker, or both")
        for name in ranker or ():
            recognise(name, "--ranker")
        evaluate_log(
            log,
            ranker or [],
            run or [],
            estimator,
            data=data,
            propensities=propensities,
            support=support,
            as_json=as_json,
            skip_bad=skip_bad,
        )
        return
    if (data is None) == (qrels is None):
        raise UsageError("give either --data or --qrels")
    if not run and not ranker:
        raise UsageError("nothing to judge: give --run, --ranker, or both")
    for name in ranker or ():
        recognise(name, "--ranker")
    if ranker and data is None:
        raise UsageError("--ranker scores a collection's texts; give --data in place of --qrels")
    reading = reading_of(settings, max_length, long)
    check_groups(groups)
    if unknown not in ("error", "ignore"):
        raise unknown_name("--unknown", unknown, ("error", "ignore"))
    if data is not None:
        index.check_data(data, "--data")
    from lorank.data import from_run, rank_pages, read_pages, read_qrels, read_run
    from lorank.data.files import write_text
    from lorank.ranking.metrics.measure_names import split_measures
    from lorank.ranking.metrics.measures import parse_measure
    from lorank.ranking.metrics.table import to_markdown

    wanted = split_measures(measures or ["nDCG@10 RR@10 R@100"])
    for measure in wanted:
        parse_measure(measure)
    paths = run or []
    with stage(f"read {data or qrels}"), skipping(skip_bad, out) as on_bad:
        collection = None if data is None else lorank.load(data, negative=negative, on_bad=on_bad, language=language)
        if collection is None:
            judgments = read_qrels(str(qrels), negative=negative, on_bad=on_bad)
        else:
            judgments = collection.split(split).qrels
        runs = {name: read_run(path, on_bad=on_bad) for name, path in zip(_names(paths), paths, strict=True)}
        page_of = None if pages is None else read_pages(pages, on_bad=on_bad)
        first = None
        if ranker and collection is not None and runs:
            run_of_first, chosen = next(iter(runs.values())), collection.split(split)
            first = from_run(run_of_first, collection, chosen, depth, path=paths[0], on_bad=on_bad)
    if ranker and collection is not None:
        runs |= _ranked(ranker, collection, collection.split(split), first, depth, kind, reading)
    if page_of is not None:
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
    print(text if as_json else to_markdown(judged, terminal_width()))


def _ranked(
    names: list[str],
    collection: "Collection",
    split: "Split",
    first: "Run | None",
    depth: int,
    kind: str | None,
    reading: "ReadingSettings",
) -> "dict[str, Run]":
    """Return the run of each ranker, which scores the best ``depth`` documents of a first stage.

    Args:
        names: The names of the rankers.
        collection: The collection whose texts they read.
        split: The split whose queries are asked.
        first: The first stage's candidates; None takes the lists that came with the data, or else BM25's.
        depth: How many documents of a query are scored.
        kind: What a base is opened as.
        reading: How the rankers read; BM25 reads whole texts.
    """
    from lorank.training.lists.retrieval import bm25_index
    from lorank.tuned.open_ranker import open_ranker
    from lorank.tuned.ranker import rerank_run

    candidates = split.candidates if first is None else first
    if candidates is None:
        candidates = bm25_index(collection).search(split.queries, depth)
    runs = {}
    with progress_bars() as on_progress:
        for name in dict.fromkeys(names):
            if recognise(name).kind in ("bm25", "trees"):
                model = open_ranker(name, collection=collection, flag="--ranker")
            else:
                model = open_ranker(name, kind=kind, reading=reading, flag="--ranker")
            scoring = partial(on_progress, f"score with {name}")
            runs[name] = rerank_run(model, collection, split.queries, candidates, scoring)
    return runs


def _names(paths: list[Path]) -> list[str]:
    names = [path.name.removesuffix(".gz").rsplit(".", 1)[0] for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]
