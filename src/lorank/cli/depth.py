"""`lorank depth`: how many candidates a reranker should score."""

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lorank.cli import completion
from lorank.cli.bad_rows import SkipBad, skipping
from lorank.cli.options import Groups, Language, Negative, check_groups
from lorank.cli.progress import console, progress_bars, stage
from lorank.cli.ranker_options import NAMES, Kind, Label, Long, MaxLength, Set, reading_of
from lorank.cli.width import cut_to_width
from lorank.errors import UsageError
from lorank.tuned.naming import recognise

if TYPE_CHECKING:
    from lorank.data.collection import Collection
    from lorank.ranking.metrics.depth import DepthStudy, PhantomHit
    from lorank.ranking.types import Run
    from lorank.tuned.ranker import TunedRanker


def depth(
    data: Annotated[str, typer.Option(help="The judged collection.")],
    run: Annotated[Path, typer.Option(help="The first stage's run, as deep as the study is to go.")],
    ranker: Annotated[
        str | None, typer.Option(autocompletion=completion.rankers, help=f"What scores: {NAMES}.")
    ] = None,
    kind: Kind = None,
    label: Label = None,
    max_length: MaxLength = None,
    long: Long = None,
    settings: Set = None,
    scores: Annotated[
        Path | None, typer.Option(help="A run with a reranker's scores of the same documents, in place of --ranker.")
    ] = None,
    depths: Annotated[str, typer.Option(help="Depths, separated by commas.")] = "5,10,20,50,100,200,500,1000",
    measures: Annotated[
        str, typer.Option(help="Measures, such as nDCG@10, ndcg@10 or recall@10, separated by spaces or commas.")
    ] = "R@10 nDCG@10",
    split: Annotated[str, typer.Option(help="Which split's queries and judgments.")] = "test",
    groups: Groups = "relevant",
    negative: Negative = "error",
    language: Language = "auto",
    skip_bad: SkipBad = False,
    plot: Annotated[Path | None, typer.Option(help="Picture to write: .png, .svg or .pdf.")] = None,
    hits: Annotated[int, typer.Option(min=0, help="Phantom hits to list.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the resampling.")] = 0,
) -> None:
    """Show where scoring more candidates stops helping, or harms, and which far-off documents are put first.

    Intervals are over groups of queries that share relevant documents.

    Example: `lorank depth --data pydocs --run bm25-1000.run --ranker runs/first --plot depth.png`
    """
    import lorank
    from lorank import index

    wanted = _depths(depths)
    check_groups(groups)
    from lorank.ranking.metrics.measure_names import split_measures
    from lorank.ranking.metrics.measures import parse_measure

    wanted_measures = split_measures([measures])
    for measure in wanted_measures:
        parse_measure(measure)
    if (ranker is None) == (scores is None):
        raise UsageError("give either --ranker or --scores")
    index.check_data(data, "--data")
    if ranker is not None:
        recognise(ranker, "--ranker")
    reading = reading_of(settings, max_length, long)
    from lorank.data import from_run, read_run
    from lorank.ranking.metrics.depth import depth_study, phantom_hits
    from lorank.ranking.scorers.languages import STOP_WORDS

    with stage(f"read {data}"), skipping(skip_bad) as on_bad:
        collection = lorank.load(data, negative=negative, on_bad=on_bad, language=language)
        judged = collection.split(split)
        first = from_run(run, collection, judged, max(wanted), on_bad=on_bad)
        scored = {} if scores is None else read_run(scores, on_bad=on_bad)
    deepest = max(map(len, first.values()))
    wanted = sorted({min(each, deepest) for each in wanted})
    if scores is None:
        from lorank.tuned.open_ranker import open_ranker

        named = str(ranker)
        with stage(f"open {named}"):
            model = open_ranker(named, kind=kind, label=label, reading=reading, collection=collection, flag="--ranker")
        scored = _score(model, collection, judged.queries, first)
    scored = {query: {d: scored.get(query, {}).get(d, float("nan")) for d in row} for query, row in first.items()}
    scored = {query: {d: s for d, s in row.items() if s == s} for query, row in scored.items()}
    by: Literal["auto"] | None = "auto" if groups == "relevant" else None
    studies = [
        depth_study(first, scored, judged.qrels, wanted, measure, seed=seed, groups=by) for measure in wanted_measures
    ]
    texts = {d: collection.documents[collection.position[d]] for row in first.values() for d in row}
    found = phantom_hits(first, scored, judged.qrels, judged.queries, texts, stop_words=STOP_WORDS["english"])
    if plot is not None:
        draw(studies, plot)
    if as_json:
        print(
            json.dumps(
                {"studies": [_plain(study) for study in studies], "phantom_hits": [asdict(hit) for hit in found]},
                indent=1,
            )
        )
        return
    print("\n\n".join(_table(study) for study in studies))
    print("\n" + cut_to_width(_hits(found, hits, len(first), judged.queries, texts)))
    if plot is not None:
        print(plot)


def _depths(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise UsageError(f"--depths {text!r}: write numbers from 1 up, separated by commas")
    return [int(part) for part in parts]


def _score(model: "TunedRanker", collection: "Collection", queries: dict[str, str], first: "Run") -> "Run":
    from lorank.tuned.ranker import rerank_run

    with progress_bars() as on_progress:
        return rerank_run(model, collection, queries, first, partial(on_progress, "score documents"))


def _plain(study: "DepthStudy") -> dict[str, Any]:
    return {**asdict(study), "best": study.best.depth, "enough": study.enough, "harms": study.harms}


def _table(study: "DepthStudy") -> str:
    groups = "" if study.groups is None else f" in {study.groups} independent groups"
    lines = [
        f"{study.measure} over {study.queries} queries{groups}; the first stage alone has {study.first_stage:.4f}",
        f"{'depth':>7}  {'reranked':>8}  {'95 % interval':>16}  {'perfect':>7}",
    ]
    for point, perfect in zip(study.points, study.ceiling, strict=True):
        lines.append(
            f"{point.depth:>7}  {point.mean:>8.4f}  [{point.low:.4f}, {point.high:.4f}]  {perfect:>7.4f}"
            + ("  *" if point is study.best else "")
        )
    said = f"* best at {study.best.depth}; {study.enough} cannot be told from it"
    lines.append(f"{said}; from {study.harms} on more candidates harm" if study.harms else said)
    return "\n".join(lines)


def _hits(found: "list[PhantomHit]", most: int, queries: int, asked: dict[str, str], texts: dict[str, str]) -> str:
    lines = [
        f"{len(found)} phantom hits in the first 10 of {queries} queries: not judged relevant, and no word in "
        "common with the query"
    ]
    for hit in sorted(found, key=lambda hit: (hit.place, -hit.first_stage_rank))[:most]:
        shown = " ".join(texts[hit.document].split())[:60]
        lines.append(
            f"  {asked[hit.query][:50]!r}: place {hit.place}, first stage {hit.first_stage_rank}, "
            f"{hit.document} {shown!r}"
        )
    return "\n".join(lines)


def draw(studies: "list[DepthStudy]", path: Path) -> None:
    """Write the curves: the reranker with its interval, the first stage, and a perfect reranker."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    if path.suffix not in (".png", ".svg", ".pdf"):
        raise UsageError(f"--plot {path}: name a .png, .svg or .pdf")
    figure = Figure(figsize=(4.6 * len(studies), 3.6), layout="constrained")
    for axes, study in zip(figure.subplots(1, len(studies), squeeze=False)[0], studies, strict=True):
        depths = [point.depth for point in study.points]
        axes.plot(depths, study.ceiling, color="0.6", linestyle="--", label="perfect reranker")
        axes.axhline(study.first_stage, color="0.4", linestyle=":", label="first stage")
        axes.fill_between(depths, [p.low for p in study.points], [p.high for p in study.points], alpha=0.2, lw=0)
        axes.plot(depths, [p.mean for p in study.points], marker="o", markersize=4, label="reranked")
        axes.set(xscale="log", xlabel="candidates scored", ylabel=study.measure, ylim=(0, 1))
        axes.set_xticks(depths, [str(each) for each in depths])
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    console.print(f"drew {path}", soft_wrap=True, markup=False)
