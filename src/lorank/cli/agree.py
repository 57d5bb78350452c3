"""`lorank agree`: how far two rankers, two scoring paths of one, or two run files keep the same order."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorank.cli import completion
from lorank.cli.bad_rows import SkipBad, skipping
from lorank.cli.options import Language
from lorank.cli.progress import progress_bars, stage
from lorank.cli.ranker_options import NAMES, reading_of
from lorank.cli.width import cut_to_width, terminal_width
from lorank.errors import UsageError
from lorank.tuned.naming import recognise

if TYPE_CHECKING:
    from lorank.data.collection import Collection
    from lorank.ranking.metrics.agreement import Agreement, Estimate
    from lorank.tuned.agreement import RankerCost
    from lorank.tuned.ranker import TunedRanker


def agree(
    a: Annotated[
        str, typer.Argument(metavar="A", autocompletion=completion.rankers, help=f"A run file, or a ranker: {NAMES}.")
    ],
    b: Annotated[str, typer.Argument(metavar="B", autocompletion=completion.rankers, help="The same of the other.")],
    data: Annotated[
        str | None, typer.Option(help="The collection whose queries and documents are scored; for runs, its judgments.")
    ] = None,
    split: Annotated[str, typer.Option(help="Which split's queries.")] = "test",
    queries: Annotated[int, typer.Option(min=1, help="At most so many queries, drawn by the seed.")] = 200,
    candidates: Annotated[int, typer.Option(min=2, help="Both rank BM25's best so many documents of a query.")] = 100,
    top: Annotated[int, typer.Option(min=1, help="How many first places the overlap looks at.")] = 10,
    path_a: Annotated[str | None, typer.Option(help="The scoring path of A, such as torch-float32.")] = None,
    path_b: Annotated[str | None, typer.Option(help="The scoring path of B, such as torch-int8.")] = None,
    set_a: Annotated[
        list[str] | None, typer.Option(help="How A reads, reading.KEY=VALUE, such as reading.dtype=float32; repeat it.")
    ] = None,
    set_b: Annotated[list[str] | None, typer.Option(help="How B reads.")] = None,
    measures: Annotated[
        list[str] | None,
        typer.Option(autocompletion=completion.measures, help="Measures where there are judgments. [default: nDCG@10]"),
    ] = None,
    language: Language = "auto",
    skip_bad: SkipBad = False,
    out: Annotated[
        Path | None, typer.Option(help="Also write it as JSON; agreement.json of a run is shown in its report.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the drawn queries and of the resampling.")] = 0,
) -> None:
    """Show whether B keeps the order of A: tau, first places, moves, flipped pairs, and what each costs.

    Judgments are not needed; where the data has them, the measures of both are shown beside it.

    Examples:

        lorank agree runs/first minilm --data my-data

        lorank agree runs/cross runs/cross --path-b torch-int8 --data my-data

        lorank agree runs/first runs/first --set-a reading.dtype=float32 --set-b reading.dtype=bfloat16 --data my-data

        lorank agree old.run new.run
    """
    from lorank import index
    from lorank.files import write_json
    from lorank.ranking.metrics.measure_names import split_measures
    from lorank.ranking.metrics.measures import parse_measure
    from lorank.tuned.agreement import agreement_as_json

    chosen = split_measures(measures or ["nDCG@10"])
    for measure in chosen:
        parse_measure(measure)
    if data is not None:
        index.check_data(data, "--data")
    files = [Path(name).is_file() for name in (a, b)]
    if all(files):
        _refuse_ranker_options(path_a=path_a, path_b=path_b, set_a=set_a, set_b=set_b)
        found = _compare_files(Path(a), Path(b), data, split, chosen, top, seed, skip_bad)
        costs: tuple[RankerCost, ...] = ()
        collection = None
    else:
        if any(files):
            raise UsageError(f"{a} and {b}: one is a file and the other none; give two runs, or two rankers")
        for flag, name, path in (("A", a, path_a), ("B", b, path_b)):
            recognise(name, flag)
            if path is not None:
                index.check("path", path, f"--path-{flag.lower()}")
        readings = [reading_of(settings, None, None) for settings in (set_a, set_b)]
        if data is None:
            raise UsageError("two rankers are compared on a collection's queries; give --data")
        collection, found, costs = _compare_rankers(
            [a, b], [path_a, path_b], readings, data, split, queries, candidates, chosen, top, language, seed, skip_bad
        )
    shown = agreement_as_json(a, b, found, costs)
    if out is not None:
        write_json(out, shown)
    if as_json:
        print(json.dumps(shown, indent=1))
    else:
        print(cut_to_width(agreement_text(a, b, found, costs, collection, split)))


def _refuse_ranker_options(**given: Any) -> None:
    for name, value in given.items():
        if value:
            raise UsageError(f"--{name.replace('_', '-')}: run files are already scored; it is for rankers")


def _compare_files(
    a: Path, b: Path, data: str | None, split: str, measures: list[str], top: int, seed: int, skip_bad: bool
) -> "Agreement":
    import numpy as np

    import lorank
    from lorank.data import read_run
    from lorank.ranking.metrics.agreement import compare_runs

    with stage("read the runs"), skipping(skip_bad) as on_bad:
        runs = [read_run(path, on_bad=on_bad) for path in (a, b)]
        qrels = None if data is None else lorank.load(data, on_bad=on_bad).split(split).qrels
    rng = np.random.default_rng(seed)
    return compare_runs(runs[0], runs[1], rng=rng, depth=top, qrels=qrels, measures=measures)


def _compare_rankers(
    names: list[str],
    paths: list[str | None],
    readings: list[Any],
    data: str,
    split: str,
    most: int,
    depth: int,
    measures: list[str],
    top: int,
    language: str,
    seed: int,
    skip_bad: bool,
) -> "tuple[Collection, Agreement, tuple[RankerCost, ...]]":
    import numpy as np

    import lorank
    from lorank.training.lists.retrieval import bm25_index
    from lorank.tuned.agreement import compare_rankers

    rng = np.random.default_rng(seed)
    with stage(f"read {data}"), skipping(skip_bad) as on_bad:
        collection = lorank.load(data, on_bad=on_bad, language=language)
        part = collection.split(split)
        known = list(part.queries)
        drawn = known if len(known) <= most else [known[i] for i in sorted(rng.permutation(len(known))[:most])]
        texts = {query: part.queries[query] for query in drawn}
    rankers = [_open(*each, collection) for each in zip(names, readings, paths, "AB", strict=True)]
    with progress_bars() as on_progress:
        found = compare_rankers(
            rankers[0],
            rankers[1],
            collection,
            texts,
            part.candidates or bm25_index(collection).search(texts, depth),
            rng=rng,
            depth=top,
            qrels=part.qrels,
            measures=measures,
            on_progress=on_progress,
        )
    return collection, found.agreement, found.costs


def _open(name: str, reading: Any, path: str | None, flag: str, collection: "Collection") -> "TunedRanker":
    from lorank.tuned.open_ranker import open_ranker

    with stage(f"open {name}"):
        own = recognise(name).kind in ("bm25", "trees")
        model = open_ranker(name, reading=reading, collection=collection if own else None, flag=flag)
    if path is not None:
        model.run_on(path)
    return model


def agreement_text(
    a: str,
    b: str,
    found: "Agreement",
    costs: "tuple[RankerCost, ...]",
    collection: "Collection | None",
    split: str,
) -> str:
    """Return the tables of an agreement for people.

    Args:
        a: The name of the first ranker or run.
        b: The name of the other.
        found: How far they agree.
        costs: What each costs; empty for runs.
        collection: The collection whose texts are shown; None shows ids.
        split: The split of the queries.
    """
    from lorank.ranking.metrics.table import in_width

    width = terminal_width()
    counted = f"{found.queries} queries" + (f" in {found.groups} independent groups" if found.groups else "")
    parts = [f"A: {a}\nB: {b}\n{counted}, {found.documents} scored pairs" + _left_out(found)]
    parts.append(in_width(_order_rows(found), width))
    parts.append(in_width(_flip_rows(found), width))
    if found.measures:
        rows = [
            {"measure": name, "A": f"{m.first:.4f}", "B": f"{m.second:.4f}", "B - A": _signed(m.difference)}
            for name, m in found.measures.items()
        ]
        parts.append(in_width(rows, width))
    if costs:
        parts.append(in_width([_cost_row(name, cost) for name, cost in zip("AB", costs, strict=True)], width))
    if found.largest_move is not None:
        parts.append(_move_text(found, collection, split))
    return "\n\n".join(parts)


def _left_out(found: "Agreement") -> str:
    return f"; {found.left_out} queries are not in both, or have one document" if found.left_out else ""


def _order_rows(found: "Agreement") -> list[dict[str, str]]:
    rows = [
        ("Kendall's tau", _estimate(found.tau)),
        (f"overlap of the first {found.depth}", _estimate(found.overlap)),
        ("rank-biased overlap", _estimate(found.rbo)),
        ("the same first document", f"{found.same_first:.1%}"),
        ("largest move per query, mean", f"{found.mean_move:.1f} places"),
    ]
    return [{"order": name, "value": value} for name, value in rows]


def _flip_rows(found: "Agreement") -> list[dict[str, str]]:
    return [
        {
            "gap of A's scores, in spreads": f"{each.low:g} to {each.high:g}" if each.high < 1e9 else f"{each.low:g} +",
            "pairs": f"{each.pairs:,}",
            "flipped by B": f"{each.share:.1%}" if each.pairs else "",
        }
        for each in found.flipped
    ]


def _estimate(value: "Estimate") -> str:
    return f"{value.mean:.4f} [{value.interval[0]:.4f}, {value.interval[1]:.4f}]"


def _signed(value: "Estimate") -> str:
    return f"{value.mean:+.4f} [{value.interval[0]:+.4f}, {value.interval[1]:+.4f}]"


def _cost_row(name: str, cost: "RankerCost") -> dict[str, str]:
    return {
        "ranker": name,
        "pairs per second": f"{cost.pairs_per_second:.0f}",
        "weights": "" if cost.weights is None else f"{cost.weights:,}",
        "MB": "" if cost.bytes is None else f"{cost.bytes / 1e6:.1f}",
    }


def _move_text(found: "Agreement", collection: "Collection | None", split: str) -> str:
    move = found.largest_move
    assert move is not None
    query, document = repr(move.query), repr(move.document)
    if collection is not None:
        query = repr(collection.split(split).queries[move.query][:70])
        document += f" ({str(collection.documents[collection.position[move.document]])[:70]!r})"
    places = f"from place {move.before} of A to place {move.after} of B"
    return f"The largest move, {places}:\n  query {query}\n  document {document}"
