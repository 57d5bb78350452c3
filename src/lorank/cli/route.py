"""`lorank route`: which engine serves a query, where each has its price."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorank.cli.options import Language, Negative, key_value
from lorank.cli.progress import console, stage
from lorank.errors import DataError, UsageError

if TYPE_CHECKING:
    from lorank.data.collection import Collection
    from lorank.ranking.routing import Router, RoutingTable
    from lorank.ranking.types import Run
    from lorank.tuned.routing import Route

route = typer.Typer(
    no_args_is_help=True,
    help="Choose the retriever, the ranker or the model of each query by what it gives and costs; tune fusion online.",
)

METHODS = ("ltrr", "mba-rag", "llm-bandit", "expertise-trees", "c-3po", "a2fm")
Data = Annotated[str | None, typer.Option(help="A packaged collection or a BEIR folder.")]
Runs = Annotated[
    list[str] | None,
    typer.Option("--run", help="NAME=FILE: an arm and its run over the collection's queries; repeat it."),
]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]


@route.command()
def train(
    out: Annotated[Path, typer.Option(help="Folder of the router.")],
    data: Data = None,
    run: Runs = None,
    table: Annotated[
        Path | None,
        typer.Option(
            help='In place of runs: JSON lines {"query": TEXT, "quality": {ARM: NUMBER}, "cost": {ARM: NUMBER}}.'
        ),
    ] = None,
    cost: Annotated[
        list[str] | None, typer.Option(help="NAME=NUMBER: what an arm costs per query; repeat it. [default: 0]")
    ] = None,
    none: Annotated[
        bool, typer.Option("--none", help="With runs: an arm that retrieves nothing and costs nothing.")
    ] = False,
    price: Annotated[float, typer.Option(min=0, help="What a unit of cost takes from quality.")] = 0.1,
    method: Annotated[str, typer.Option(help="ltrr, mba-rag, llm-bandit, expertise-trees, c-3po or a2fm.")] = "ltrr",
    option: Annotated[
        list[str] | None, typer.Option(help="An option of the method, key=value, such as model=lightgbm; repeat it.")
    ] = None,
    measure: Annotated[str, typer.Option(help="What an arm's quality for a query is.")] = "nDCG@10",
    features: Annotated[
        str,
        typer.Option(help="query: what its words say; runs: and what the arms' runs say, which must be made first."),
    ] = "query",
    split: Annotated[
        str, typer.Option(help="The judged split to learn from; a third of it is held out to judge.")
    ] = "train",
    negative: Negative = "error",
    language: Language = "auto",
    seed: Seed = 0,
) -> None:
    """Learn which arm serves a query best, quality less price times cost, and judge it on a third that is held out.

    Examples:

        lorank route train --data my-data --run bm25=bm25.run --run dense=dense.run --cost dense=1 --price 0.05
        --out runs/route

        lorank route train --table answers.jsonl --method llm-bandit --out runs/models
    """
    import numpy as np

    from lorank.ranking.routing import make_router
    from lorank.tuned.routing import Route

    if method not in METHODS:
        raise UsageError(f"--method {method}: choose one of {', '.join(METHODS)}")
    options = dict(key_value(text, "--option") for text in option or [])
    router = make_router(method, **options)
    if (table is None) == (not run):
        raise UsageError("give the arms: --run NAME=FILE, two or more, with --data, or --table FILE")
    if features not in ("query", "runs") or (features == "runs" and table is not None):
        raise UsageError(f"--features {features}: choose query, or runs where arms are runs")
    costs = _costs(cost)
    if table is not None:
        learned, statistics = _read_table(table)
        if costs:
            raise UsageError("--cost: a table states its own costs")
    else:
        learned, statistics = _table(
            data, run or [], costs, none, measure, features == "runs", split, negative, language
        )
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(learned))
    held = learned.of(order[: len(order) // 3]) if len(order) >= 6 else learned
    known = learned.of(order[len(order) // 3 :]) if len(order) >= 6 else learned
    router.fit(known, price, rng)
    print(_judged(router, held, price))
    final = make_router(method, **options)
    final.fit(learned, price, np.random.default_rng(seed))
    Route(method, final, list(learned.arms), price, statistics, features == "runs", options).save(out)
    console.print(f"judged on {len(held)} held-out queries; the router in {out} learned from all {len(learned)}")


@route.command()
def apply(
    router: Annotated[Path, typer.Argument(help="Folder of the router.")],
    data: Data = None,
    run: Runs = None,
    query: Annotated[list[str] | None, typer.Option(help="A query, in place of a collection's; repeat it.")] = None,
    split: Annotated[str, typer.Option(help="The split whose queries are routed.")] = "test",
    preference: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Of llm-bandit: 1 takes the best arm, 0 the cheapest. [default: the price]"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run to write: of each query the documents of its arm.")] = None,
    negative: Negative = "error",
    language: Language = "auto",
    seed: Annotated[int, typer.Option(help="Accepted for uniformity; routing is deterministic.")] = 0,
) -> None:
    """Choose the arm of each query; prints {"query", "arm"}, and writes the routed run with --out.

    Examples:

        lorank route apply runs/route --data my-data --run bm25=bm25.run --run dense=dense.run --out routed.run

        lorank route apply runs/models --query "how are dicts sorted?" --preference 0.3
    """
    from lorank.data import write_run
    from lorank.tuned.routing import Route, routed_run

    made = Route.load(router)
    if (data is None) == (not query):
        raise UsageError("give queries: --data for a collection's, or --query")
    runs = _read_runs(run or []) if run else {}
    queries = {text: text for text in query or []}
    if data is not None:
        queries = dict(_load(data, negative, language).split(split).queries)
    chosen = made.choose(queries, _with_none(made, runs), preference)
    for name, arm in chosen.items():
        print(json.dumps({"query": name, "arm": arm}, ensure_ascii=False))
    if out is not None:
        missing = set(chosen.values()) - _with_none(made, runs).keys()
        if missing:
            raise UsageError(f"--out needs the runs of all arms that were chosen; add --run {min(missing)}=FILE")
        write_run(routed_run(chosen, _with_none(made, runs)), out, "route")
        console.print(f"{len(chosen)} queries routed to {out}")


@route.command("add")
def add_arm(
    router: Annotated[Path, typer.Argument(help="Folder of a router of llm-bandit.")],
    arm: Annotated[str, typer.Option(help="The name of the new arm.")],
    table: Annotated[
        Path,
        typer.Option(help="The table that the router learned from, with the new arm's quality for its probe queries."),
    ],
    cost: Annotated[float, typer.Option(help="What the arm costs per query.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Accepted for uniformity; nothing is drawn.")] = 0,
) -> None:
    """Add an arm to a router of llm-bandit: it is known by its quality on the probe queries, and nothing is trained.

    Examples:

        lorank route add runs/models --arm new-model --table answers.jsonl --cost 0.2
    """
    import numpy as np

    from lorank.ranking.routing import PreferenceRouter
    from lorank.tuned.routing import Route

    made = Route.load(router)
    if not isinstance(made.router, PreferenceRouter):
        raise UsageError(f"{router} is a router of {made.method}; only those of llm-bandit take new arms")
    if arm in made.arms:
        raise UsageError(f"--arm {arm}: the router has it; its arms are {', '.join(made.arms)}")
    rows = _rows(table)
    probed = made.router.probed.tolist()
    if max(probed) >= len(rows):
        raise DataError(table, None, "this is not the table that the router learned from", "give that one")
    scores = []
    for at in probed:
        number, row = rows[at]
        if arm not in row["quality"]:
            problem = f"the query is a probe, and {arm!r} has no quality there"
            raise DataError(table, number, problem, f"try the arm on the {len(probed)} probe queries")
        scores.append(float(row["quality"][arm]))
    made.router.add_arm(np.array(scores), cost)
    made.arms.append(arm)
    made.save(router)
    console.print(f"{arm} was added by {len(scores)} probes; the arms are {', '.join(made.arms)}")


@route.command()
def tune(
    data: Data,
    run: Runs,
    split: Annotated[str, typer.Option(help="The judged split that is tuned on.")] = "dev",
    measure: Annotated[str, typer.Option(help="What is tuned for.")] = "nDCG@10",
    pulls: Annotated[
        int | None, typer.Option(min=1, help="Settings that are tried. [default: a fifth of the grid]")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Queries that a setting is tried on.")] = 50,
    price: Annotated[float, typer.Option(min=0, help="What a unit of cost takes from the measure.")] = 0.0,
    out: Annotated[Path | None, typer.Option(help="Fused run to write, by the best setting.")] = None,
    negative: Negative = "error",
    language: Language = "auto",
    seed: Seed = 0,
) -> None:
    """Tune how two runs are fused with a fraction of the grid's evaluations: depth, normalisation and weight.

    A unit of cost is a hundred documents of depth. Prints the best setting as JSON. The runs are there already;
    engines that search, and a ranker behind them, are tuned by `lorank tune PIPELINE.toml`.

    Examples:

        lorank route tune --data my-data --run bm25=bm25.run --run dense=dense.run --out fused.run
    """
    import numpy as np

    from lorank.data import write_run
    from lorank.ranking.consensus.fusion import fuse
    from lorank.ranking.metrics.measures import mean_of
    from lorank.ranking.routing import two_level_search
    from lorank.tuned.second_stage import best_of_run

    runs = _read_runs(run or [])
    if len(runs) != 2:
        raise UsageError("--run: give two runs to fuse")
    judged = _load(str(data), negative, language).split(split)
    names = [query for query in judged.queries if any(grade > 0 for grade in judged.qrels.get(query, {}).values())]
    if not names:
        raise UsageError(f"--split {split}: no query has a relevant document")
    rng = np.random.default_rng(seed)
    knobs: dict[str, list[Any]] = {
        "weight": [0.5, *(round(0.1 * i, 1) for i in range(11) if i != 5)],
        "normalise": ["z", "minmax", "rank"],
        "depth": [100, 20, 50, 10, 1000],
    }

    def fused(setting: dict[str, Any], queries: list[str]) -> "Run":
        parts = [best_of_run({q: each.get(q, {}) for q in queries}, setting["depth"]) for each in runs.values()]
        return fuse(parts, [1 - setting["weight"], setting["weight"]], setting["normalise"])

    def value(setting: dict[str, Any], queries: list[str]) -> float:
        mean = mean_of(fused(setting, queries), {q: judged.qrels[q] for q in queries}, measure)
        return float(mean - price * setting["depth"] / 100)

    def tried(setting: dict[str, Any]) -> float:
        return value(setting, [names[i] for i in rng.choice(len(names), min(batch, len(names)), replace=False)])

    grid = math.prod(map(len, knobs.values()))
    found = two_level_search(knobs, tried, pulls or grid // 5, rng)
    facts = {"setting": found.best, measure: value(found.best, names), "tried": len(found.tried), "grid": found.grid}
    print(json.dumps(facts, ensure_ascii=False))
    if out is not None:
        every = list(dict.fromkeys(query for each in runs.values() for query in each))
        write_run(fused(found.best, every), out, "fused")


def _judged(router: "Router", held: "RoutingTable", price: float) -> str:
    """Return a Markdown table of the router, each arm alone, and the best choice that there is."""
    import numpy as np

    chosen = router.choose(held.features, price)
    rows = [(f"router ({router.name})", chosen)]
    rows += [(arm, np.full(len(held), i)) for i, arm in enumerate(held.arms)]
    rows.append(("oracle", held.oracle(price)))
    lines = ["| choice | quality | cost | utility |", "|:--|--:|--:|--:|"]
    for name, arms in rows:
        mean = held.mean(arms, price)
        lines.append(f"| {name} | {mean['quality']:.4f} | {mean['cost']:.4f} | {mean['utility']:.4f} |")
    return "\n".join(lines)


def _load(data: str, negative: str, language: str) -> "Collection":
    import lorank
    from lorank import index as names

    names.check_data(data, "--data")
    with stage(f"read {data}"):
        collection: Collection = lorank.load(data, negative=negative, language=language)
    return collection


def _read_runs(given: list[str]) -> "dict[str, Run]":
    from lorank.data import read_run

    runs = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not name or not equals or name in runs:
            raise UsageError(f"--run {text!r} is not NAME=FILE, or its name is there twice")
        runs[name] = read_run(path)
    return runs


def _with_none(made: "Route", runs: "dict[str, Run]") -> "dict[str, Run]":
    """Return the runs, with an empty one for an arm that retrieves nothing."""
    return runs | ({"none": {}} if "none" in made.arms and "none" not in runs and runs else {})


def _costs(given: list[str] | None) -> dict[str, float]:
    costs = {}
    for text in given or []:
        name, _, value = text.partition("=")
        try:
            costs[name] = float(value)
        except ValueError as error:
            raise UsageError(f"--cost {text!r} is not NAME=NUMBER") from error
    return costs


def _table(
    data: str | None,
    run: list[str],
    costs: dict[str, float],
    none: bool,
    measure: str,
    read_runs: bool,
    split: str,
    negative: str,
    language: str,
) -> "tuple[RoutingTable, Any]":
    """Return the table of arms that are runs, and the terms of the collection."""
    from lorank.ranking.metrics.measures import parse_measure
    from lorank.training.lists.retrieval import bm25_index
    from lorank.tuned.routing import table_of_runs

    parse_measure(measure)
    if data is None:
        raise UsageError("--run names runs over a collection; add --data")
    empty: dict[str, Run] = {"none": {}} if none else {}
    runs = empty | _read_runs(run)
    if len(runs) < 2:
        raise UsageError("a router chooses among two arms or more; give --run twice, or add --none")
    strange = costs.keys() - runs.keys()
    if strange:
        raise UsageError(f"--cost {min(strange)}: no arm is called so; the arms are {', '.join(runs)}")
    collection = _load(data, negative, language)
    judged = collection.split(split)
    statistics = bm25_index(collection).statistics
    made = table_of_runs(judged.queries, judged.qrels, runs, costs, statistics, measure=measure, read_runs=read_runs)
    return made, statistics


def _rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    from lorank.reading import json_lines

    expected = '{"query": TEXT, "quality": {ARM: NUMBER, ...}}'
    rows = []
    for number, row in json_lines(path, expected):
        quality = row.get("quality")
        if not isinstance(row.get("query"), str) or not isinstance(quality, dict) or not quality:
            raise DataError(path, number, "the row lacks a query or the quality of its arms", f"write {expected}")
        for part in (quality, row.get("cost", {})):
            if not isinstance(part, dict) or not all(
                isinstance(value, int | float) and not isinstance(value, bool) for value in part.values()
            ):
                raise DataError(path, number, "a quality or a cost is no number", f"write {expected}")
        rows.append((number, row))
    if not rows:
        raise DataError(path, None, "no row", f"write {expected} a line")
    return rows


def _read_table(path: Path) -> "tuple[RoutingTable, Any]":
    """Return the table of a file, over the arms that every row has, and the terms of its queries."""
    import numpy as np

    from lorank.ranking.routing import RoutingTable
    from lorank.ranking.scorers.bm25 import BM25Statistics
    from lorank.tuned.routing import features_of

    rows = _rows(path)
    arms = [arm for arm in rows[0][1]["quality"] if all(arm in row["quality"] for _, row in rows)]
    if len(arms) < 2:
        raise DataError(path, None, "fewer than two arms have a quality in every row", "add them")
    texts = [row["query"] for _, row in rows]
    statistics = BM25Statistics.of(texts)
    quality = np.array([[float(row["quality"][arm]) for arm in arms] for _, row in rows])
    cost = np.array([[float(row.get("cost", {}).get(arm, 0.0)) for arm in arms] for _, row in rows])
    features = features_of({str(i): text for i, text in enumerate(texts)}, statistics, None)
    return RoutingTable(arms, features, quality, cost), statistics
