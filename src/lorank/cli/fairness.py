"""`lorank fairness`: exposure of groups, quality by groups of queries, and the price of a fair order."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorank.cli import completion
from lorank.cli.bad_rows import SkipBad, skipping
from lorank.cli.options import Language, Negative
from lorank.cli.progress import stage
from lorank.cli.ranker_options import NAMES, Kind, Long, MaxLength, Set, reading_of
from lorank.cli.width import cut_to_width
from lorank.errors import OnBad, UsageError
from lorank.tuned.naming import recognise

if TYPE_CHECKING:
    from lorank.ranking.types import Run
    from lorank.tuned.fairness import ConstrainedRun, GroupExposure


def fairness(
    data: Annotated[str | None, typer.Option(help="The judged collection.")] = None,
    run: Annotated[list[Path] | None, typer.Option(help="A run to judge; repeat it.")] = None,
    ranker: Annotated[
        list[str] | None,
        typer.Option(
            autocompletion=completion.rankers,
            help=f"A ranker to judge over BM25's best documents, with its adapter's rank; repeat it: {NAMES}.",
        ),
    ] = None,
    document_groups: Annotated[
        Path | None, typer.Option(help="The group of each document: id, tab, group per line.")
    ] = None,
    query_groups: Annotated[Path | None, typer.Option(help="The group of each query: id, tab, group per line.")] = None,
    table: Annotated[Path | None, typer.Option(help="A CSV file whose rows are ranked, in place of --data.")] = None,
    by: Annotated[str | None, typer.Option(help="With --table: the column of the score, higher is better.")] = None,
    group: Annotated[str | None, typer.Option(help="With --table: the column of the group.")] = None,
    protected: Annotated[str | None, typer.Option(help="The protected group. [default: the smallest]")] = None,
    share: Annotated[
        float | None, typer.Option(help="The least share of the protected group in every prefix. [default: its own]")
    ] = None,
    split: Annotated[str, typer.Option(help="Which split's queries and judgments.")] = "test",
    measure: Annotated[str, typer.Option(autocompletion=completion.measures, help="Quality.")] = "nDCG@10",
    depth: Annotated[int, typer.Option(min=2, help="How many documents of a query are looked at.")] = 100,
    out: Annotated[
        Path | None, typer.Option(help="Write the constrained order: of the first --run a run, of --table a CSV file.")
    ] = None,
    kind: Kind = None,
    max_length: MaxLength = None,
    long: Long = None,
    settings: Set = None,
    negative: Negative = "error",
    language: Language = "auto",
    skip_bad: SkipBad = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the resampling.")] = 0,
) -> None:
    """Judge how rankings treat groups: rND, rRD, rKL, exposure and attention, 0 fair and 1 the worst order there is.

    Groups are of documents (what is seen) or of queries (who is served). The order that gives the protected group its
    share in every prefix is stated with its price.

    Examples:

        lorank fairness --table credit.csv --by score --group sex --protected 1 --out fair.csv

        lorank fairness --data my-data --run tuned.run --document-groups sellers.tsv --protected small --out fair.run

        lorank fairness --data my-data --ranker minilm --ranker runs/r1 --ranker runs/r16 --document-groups sellers.tsv

        lorank fairness --data my-data --run tuned.run --query-groups languages.tsv
    """
    _check(data, table, by, group, run, ranker, document_groups, query_groups, share)
    if table is not None:
        assert by is not None
        assert group is not None
        with skipping(skip_bad, out) as on_bad:
            _judge_table(table, by, group, protected, share, out, as_json, on_bad)
        return
    assert data is not None
    from lorank import index
    from lorank.ranking.metrics.measures import parse_measure

    for name in ranker or ():
        recognise(name, "--ranker")
    parse_measure(measure)
    index.check_data(data, "--data")
    reading = reading_of(settings, max_length, long)
    import lorank
    from lorank.data import read_run, write_run
    from lorank.tuned.fairness import bias_by_rank, check_protected, constrain, read_groups

    with stage(f"read {data}"), skipping(skip_bad, out) as on_bad:
        collection = lorank.load(data, negative=negative, on_bad=on_bad, language=language)
        named = {path.name.removesuffix(".gz").removesuffix(".run"): path for path in run or []}
        runs = {name: read_run(path, on_bad=on_bad) for name, path in named.items()}
        groups = {} if document_groups is None else read_groups(document_groups, on_bad=on_bad)
        askers = {} if query_groups is None else read_groups(query_groups, on_bad=on_bad)
    judged = collection.split(split)
    printed: dict[str, Any] = {}
    lines: list[str] = []
    if document_groups is not None:
        whom = check_protected(groups, protected)
        lines.append(f"protected: {whom}; 0 is fair, 1 the worst order")
        found = {
            name: constrain(each, groups, whom, judged.qrels, share=share, depth=depth, measure=measure)
            for name, each in runs.items()
        }
        for name, each in found.items():
            lines += _constrained_lines(name, each, measure)
            printed[name] = _plain(each)
        if out is not None and found:
            write_run(next(iter(found.values())).run, out, "lorank-fair")
            lines.append(f"wrote {out}")
        if ranker:
            from lorank.training.lists.retrieval import bm25_index
            from lorank.tuned.open_ranker import open_ranker
            from lorank.tuned.stress import Domain

            asked = {query: text for query, text in judged.queries.items() if judged.qrels.get(query)}
            domain = Domain(collection, judged, bm25_index(collection).search(asked, depth))
            models = {
                name: open_ranker(name, collection=collection, flag="--ranker")
                if recognise(name).kind in ("bm25", "trees")
                else open_ranker(name, kind=kind, reading=reading, flag="--ranker")
                for name in dict.fromkeys(ranker)
            }
            rows = bias_by_rank(models, domain, groups, whom, depth=depth, measure=measure)
            printed["by rank"] = [asdict(row) for row in rows]
            lines += ["", f"{'ranker':<24} {'rank':>5} {measure:>9} {'score gap':>9}  " + _names(rows[0].exposed)]
            lines += [
                f"{row.name[-24:]:<24} {'-' if row.rank is None else row.rank:>5} {row.quality:>9.4f} "
                f"{row.exposed.score_gap:>+9.4f}  {_values(row.exposed)}"
                for row in rows
            ]
    if query_groups is not None:
        lines += _query_lines(runs, askers, judged.qrels, measure, seed, printed)
    print(json.dumps(printed, indent=1) if as_json else cut_to_width("\n".join(lines)))


def _check(
    data: str | None,
    table: Path | None,
    by: str | None,
    group: str | None,
    run: list[Path] | None,
    ranker: list[str] | None,
    document_groups: Path | None,
    query_groups: Path | None,
    share: float | None,
) -> None:
    """Raise UsageError for options that do not go together, or leave nothing to judge."""
    if (data is None) == (table is None):
        raise UsageError("give either --data with runs or rankers, or a --table of scores")
    if share is not None and not 0 < share < 1:
        raise UsageError(f"--share {share}: give a number between 0 and 1")
    if table is not None:
        if by is None or group is None:
            raise UsageError("--table needs the columns: --by SCORE --group GROUP")
        return
    if not run and not ranker:
        raise UsageError("nothing to judge: give --run, --ranker, or both")
    if document_groups is None and query_groups is None:
        raise UsageError("no groups: give --document-groups or --query-groups")
    if ranker and document_groups is None:
        raise UsageError("--ranker is judged by groups of documents; add --document-groups")
    if query_groups is not None and not run:
        raise UsageError("--query-groups judges runs; add --run")


def _judge_table(
    table: Path,
    by: str,
    group: str,
    protected: str | None,
    share: float | None,
    out: Path | None,
    as_json: bool,
    on_bad: OnBad | None,
) -> None:
    import numpy as np

    from lorank.data.files import write_text
    from lorank.ranking.fairness import FAIRNESS_MEASURES, measure_fairness, rerank_fairly
    from lorank.tuned.fairness import check_protected, read_table

    scores, groups = read_table(table, by, group, on_bad=on_bad)
    whom = check_protected(dict(enumerate(groups)), protected)  # type: ignore[arg-type]
    kinds = ["protected" if each == whom else "other" for each in groups]
    fair = rerank_fairly(scores, kinds, None if share is None else {"protected": share})
    order = np.argsort(-scores, kind="stable")
    before, after = (np.array([kinds[i] == "protected" for i in places]) for places in (order, np.array(fair.order)))
    values = {name: (measure_fairness(name, before), measure_fairness(name, after)) for name in FAIRNESS_MEASURES}
    if out is not None:
        rows = "".join(f"{place + 1},{i},{scores[i]:g},{groups[i]}\n" for place, i in enumerate(fair.order))
        write_text(out, f"place,row,{by},{group}\n{rows}")
    if as_json:
        print(json.dumps({"protected": whom, "price": fair.price, "measures": values}, indent=1))
        return
    print(f"{len(scores)} rows, {float(before.mean()):.1%} of them {group} {whom}; 0 is fair, 1 the worst order")
    print(f"{'measure':<10} {'by ' + by:>12} {'constrained':>12}")
    for name, (one, other) in values.items():
        print(f"{name:<10} {one:>12.4f} {other:>12.4f}")
    print(f"the constrained order costs {fair.price:.4f} nDCG, the score taken as gain")
    if out is not None:
        print(f"wrote {out}")


def _names(exposed: "GroupExposure") -> str:
    return " ".join(f"{name:>9}" for name in exposed.measures)


def _values(exposed: "GroupExposure") -> str:
    return " ".join(f"{value:>9.4f}" for value in exposed.measures.values())


def _constrained_lines(name: str, found: "ConstrainedRun", measure: str) -> list[str]:
    return [
        "",
        f"{name[-24:]:<24} {measure:>9}  {_names(found.exposed_before)}",
        f"{'as it is':<24} {found.before:>9.4f}  {_values(found.exposed_before)}",
        f"{'constrained':<24} {found.after:>9.4f}  {_values(found.exposed_after)}",
        f"price: {found.price:.4f} {measure}, over {found.exposed_before.queries} lists that hold both groups",
    ]


def _plain(found: "ConstrainedRun") -> dict[str, Any]:
    row = asdict(found) | {"price": found.price}
    del row["run"]
    return row


def _query_lines(
    runs: "dict[str, Run]",
    groups: dict[str, str],
    qrels: Any,
    measure: str,
    seed: int,
    printed: dict[str, Any],
) -> list[str]:
    import numpy as np

    from lorank.ranking.fairness import quality_gaps
    from lorank.ranking.metrics.measures import per_query

    lines = []
    for name, run in runs.items():
        judged = {query: qrels[query] for query in run if query in qrels and query in groups}
        if not judged:
            raise UsageError(f"no judged query of {name} has a group in --query-groups")
        values = per_query(run, judged, [measure])[measure]
        gaps = quality_gaps(values, groups, judged, rng=np.random.default_rng(seed))
        printed.setdefault(name, {})["queries"] = {kind: asdict(gap) for kind, gap in gaps.items()}
        lines += ["", f"{name}: {measure} by group of queries, and the gap to all others"]
        lines += [
            f"{kind:<20} {gap.mean:>8.4f} {gap.gap:>+8.4f} [{gap.interval[0]:+.4f}, {gap.interval[1]:+.4f}] "
            f"({gap.queries} queries)"
            for kind, gap in gaps.items()
        ]
    return lines
