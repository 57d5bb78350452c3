"""`lorank clicks`: fit click models and propensities to a log, and simulate logs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorank.cli.bad_rows import SkipBad, skipping
from lorank.cli.options import key_value
from lorank.cli.progress import console, stage
from lorank.errors import OnBad, UsageError

if TYPE_CHECKING:
    from lorank.data.clicks import Impression
    from lorank.data.collection import Collection, Split
    from lorank.ranking.clicks import ClickModel, Propensities, Sessions
    from lorank.ranking.types import Run

clicks = typer.Typer(no_args_is_help=True, help="Click logs: what they hold, models of their users, simulated ones.")

Log = Annotated[Path, typer.Option("--log", help="The click log.")]


@clicks.command()
def fit(
    log: Log,
    model: Annotated[
        str, typer.Option(help="pbm, cascade, dbn, ubm, dcm, trust; or all, which compares them.")
    ] = "pbm",
    propensities: Annotated[
        str | None, typer.Option(help="Also estimate propensities: harvest, pbm, regression-em, randomised.")
    ] = None,
    held_out: Annotated[float, typer.Option(help="Share of the impressions on which perplexity is measured.")] = 0.2,
    iterations: Annotated[int, typer.Option(min=1, help="The most steps of EM.")] = 100,
    clip: Annotated[float, typer.Option(help="Tell what clipping propensities at this value does.")] = 0.05,
    out: Annotated[Path | None, typer.Option(help="Write model and propensities to this JSON file.")] = None,
    skip_bad: SkipBad = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of what is held out.")] = 0,
) -> None:
    """Fit a click model to a log: its parameters, its perplexity on impressions that it did not see, propensities.

    Examples:

        lorank clicks fit --log log.jsonl --model pbm

        lorank clicks fit --log log.jsonl --model all --propensities harvest --out clicks.json
    """
    from lorank import index
    from lorank.files import write_json

    names = list(index.names("click-model")) if model == "all" else [model]
    index.check("click-model", model, "--model", also=("all",))
    if propensities is not None:
        index.check("propensity", propensities, "--propensities")
    if not 0 < held_out < 1:
        raise UsageError(f"--held-out {held_out}: take a share between 0 and 1")
    with stage(f"read {log}"), skipping(skip_bad, out) as on_bad:
        from lorank.data.click_logs import sessions_of_log
        from lorank.ranking.clicks import find_click_model

        read = sessions_of_log(log, on_bad=on_bad)
        sessions = read.sessions
    train, test = sessions.split(held_out, seed)
    if not len(train) or not len(test):
        raise UsageError(f"{log} holds {sessions.impressions:.0f} impressions, too few to hold out {held_out:.0%}")
    if read.counts.left_out:
        console.print(read.counts.describe(), soft_wrap=True)
    found: dict[str, Any] = {"impressions": sessions.impressions, "models": {}}
    for name in dict.fromkeys(find_click_model(each).name for each in names):
        with stage(f"fit {name}"):
            fitted = find_click_model(name)().fit(train, iterations=iterations)
            found["models"][name] = _describe(fitted, test)
    if propensities is not None:
        with stage(f"estimate propensities by {propensities}"):
            from lorank.ranking.clicks import estimate_propensities

            more = {"features": read.features} if propensities == "regression-em" else {}
            curve = estimate_propensities(sessions, propensities, **more)
            found["propensities"] = _describe_curve(curve, sessions, clip)
    if out is not None:
        write_json(out, found)
    print(json.dumps(found, indent=1) if as_json else _table(found))


def _describe(fitted: "ClickModel", test: "Sessions") -> dict[str, Any]:
    judged = fitted.perplexity(test)
    return {
        "perplexity": judged.overall,
        "perplexity_by_position": _numbers(judged.by_position),
        "log_likelihood": judged.log_likelihood,
        "impossible": judged.impossible,
        "click_rate": _numbers(test.click_rates()),
        "predicted_click_rate": _numbers(fitted.predict_rates(test)),
        "parameters": dict(fitted.parameters()),
        "steps": len(fitted.history),
    }


def _numbers(values: Any) -> list[float | None]:
    return [None if value != value else round(float(value), 6) for value in values]


def _describe_curve(curve: "Propensities", sessions: "Sessions", clip: float) -> dict[str, Any]:
    clipping = curve.clipping(sessions, clip)
    return {"method": curve.method, "curve": _numbers(curve.curve), **curve.details, "clipping": vars(clipping)}


def _table(found: dict[str, Any]) -> str:
    lines = [f"{found['impressions']:,.0f} impressions"]
    for name, own in found["models"].items():
        lines.append(
            f"{name}: perplexity {own['perplexity']:.4f} and log-likelihood {own['log_likelihood']:.4f} a session, on "
            f"held-out impressions; {own['steps']} steps of EM"
        )
        if own["impossible"]:
            lines.append(f"  {own['impossible']:,.0f} held-out impressions cannot happen by this model")
        lines += _rows(
            ("position", range(1, len(own["click_rate"]) + 1)),
            ("clicks a view", own["click_rate"]),
            ("predicted", own["predicted_click_rate"]),
            ("perplexity", own["perplexity_by_position"]),
        )
        for key, values in own["parameters"].items():
            if isinstance(values, list) and values and not isinstance(values[0], list):
                lines += _rows((key.replace("_", " "), values))
            elif not isinstance(values, list):
                lines.append(f"  {key} {values:.4f}")
    if "propensities" in found:
        own = found["propensities"]
        lines.append(f"propensities by {own['method']}:")
        lines += _rows(("position", range(1, len(own["curve"]) + 1)), ("propensity", own["curve"]))
        cut = own["clipping"]
        lines.append(
            f"  clipped at {cut['minimum']:g}: {cut['clipped']:.1%} of {cut['clicks']:,.0f} clicks, {cut['bias']:.1%} "
            f"of their weight lost; they count like {cut['effective']:,.0f} unweighted ones"
        )
    return "\n".join(lines)


def _rows(*rows: tuple[str, Any]) -> Iterator[str]:
    for name, values in rows:
        cells = ["     –" if v is None else f"{v:6d}" if isinstance(v, int) else f"{v:6.3f}" for v in values]
        yield f"  {name:14}" + " ".join(cells)


@clicks.command()
def simulate(
    data: Annotated[str, typer.Option(help="A judged collection; its grades say what attracts.")],
    out: Annotated[Path, typer.Option(help="The log to write: .jsonl, .jsonl.gz or .parquet.")],
    sessions: Annotated[int, typer.Option(min=1, help="How many lists are shown.")] = 10_000,
    model: Annotated[str, typer.Option(help="pbm, cascade, dbn, ubm, dcm or trust.")] = "pbm",
    run: Annotated[
        Path | None, typer.Option(help="The run that is shown. [default: BM25's; rows as they stand in feature files]")
    ] = None,
    split: Annotated[str, typer.Option(help="The split whose queries are asked.")] = "train",
    depth: Annotated[int, typer.Option(min=1, help="How many documents are shown.")] = 10,
    noise: Annotated[float, typer.Option(help="How likely a document of grade 0 attracts.")] = 0.1,
    shuffle: Annotated[
        str, typer.Option(help="none; swap, two positions exchanged at random in each list; or all.")
    ] = "none",
    option: Annotated[
        list[str] | None, typer.Option(help="An option of the model, key=value, such as eta=1; repeat it.")
    ] = None,
    skip_bad: SkipBad = False,
    seed: Annotated[int, typer.Option(help="Seed of queries and clicks.")] = 0,
) -> None:
    """Simulate a click log over a judged collection.

    Examples:

        lorank clicks simulate --data pydocs --model pbm --option eta=1 --sessions 20000 --out log.jsonl

        lorank clicks simulate --data MQ2008/Fold1 --run weak.run --model dbn --shuffle swap --out log.jsonl.gz
    """
    from lorank import index

    index.check("click-model", model, "--model")
    index.check_data(data, "--data")
    given = dict(key_value(text, "--option") for text in option or [])
    with stage(f"read {data}"), skipping(skip_bad, out) as on_bad:
        import numpy as np

        import lorank
        from lorank.data.clicks import write_clicks
        from lorank.ranking.clicks import Simulator, attractions

        collection = lorank.load(data, on_bad=on_bad)
        asked = collection.split(split)
        lists = _lists(collection, asked, run, max(depth, 10), on_bad)
    simulator = Simulator(lists, attractions(lists, asked.qrels, noise), model, depth, shuffle, given)
    with stage(f"simulate {sessions:,} sessions"):
        drawn = _impressions(simulator.draw(sessions, np.random.default_rng(seed)), collection)
        write_clicks(drawn, out)
    console.print(f"{sessions:,} lists of {len(lists):,} queries", soft_wrap=True)
    print(out)


def _lists(
    collection: "Collection", split: "Split", run: Path | None, depth: int, on_bad: OnBad | None
) -> dict[str, list[str]]:
    from lorank.data import from_run, order_documents

    shown: Run
    if run is not None:
        shown = from_run(run, collection, split, depth, on_bad=on_bad)
    elif collection.has_features:
        return {query: list(row) for query, row in (split.candidates or {}).items()}
    else:
        from lorank.training.lists.retrieval import bm25_index

        shown = bm25_index(collection).search(split.queries, depth)
    return {query: order_documents(row) for query, row in shown.items()}


def _impressions(drawn: Any, collection: "Collection") -> "Iterator[Impression]":
    from lorank.data.clicks import Impression

    for number, each in enumerate(drawn, start=1):
        features = None
        if collection.has_features:
            rows = [collection.documents[collection.position[document]] for document in each.documents]
            features = tuple(tuple(float(x) for x in row) for row in rows)
        yield Impression(f"s{number}", each.query, tuple(each.documents), tuple(each.clicks), features=features)


@clicks.command()
def report(
    log: Log,
    format: Annotated[
        str, typer.Option(help="jsonl, yandex, baidu-ultr, open-bandit or table; auto looks at the file.")
    ] = "auto",
    skip_bad: SkipBad = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a log holds, in one pass: click rates by position, queries by frequency, pairs seen at several
    positions.

    Example: `lorank clicks report --log log.csv`
    """
    from lorank.data.click_logs import LogCounts, read_log
    from lorank.data.click_logs.summary import summarise

    counts = LogCounts()
    with stage(f"read {log}"), skipping(skip_bad) as on_bad:
        summary = summarise(read_log(log, format, counts, on_bad), counts)
    print(json.dumps(summary.as_record(), indent=1) if as_json else summary.describe())


@clicks.command()
def convert(
    log: Log,
    out: Annotated[Path, typer.Option(help="The log to write: .jsonl, .jsonl.gz or .parquet.")],
    format: Annotated[
        str, typer.Option(help="jsonl, yandex, baidu-ultr, open-bandit or table; auto looks at the file.")
    ] = "auto",
    skip_bad: SkipBad = False,
) -> None:
    """Write a log of any format as lorank's own, streamed; what is left out is counted.

    Example: `lorank clicks convert --log yandex.tsv.gz --out log.jsonl.gz`
    """
    from lorank.data.click_logs import LogCounts, read_log
    from lorank.data.clicks import write_clicks

    counts = LogCounts()
    with stage(f"read {log}"), skipping(skip_bad, out) as on_bad:
        write_clicks(read_log(log, format, counts, on_bad), out)
    console.print(f"{counts.rows:,} rows; {counts.describe() or 'nothing was left out'}", soft_wrap=True)
    print(out)


@clicks.command()
def interleave(
    run: Annotated[list[Path], typer.Option(help="Two runs: the first and the second ranker.")],
    qrels: Annotated[Path, typer.Option(help="Judgments, from which users' clicks are simulated.")],
    method: Annotated[str, typer.Option(help="team-draft, probabilistic or optimised.")] = "team-draft",
    sessions: Annotated[int, typer.Option(min=1, help="How many lists are shown.")] = 2000,
    depth: Annotated[int, typer.Option(min=1, help="How many documents are shown.")] = 10,
    model: Annotated[str, typer.Option(help="The click model of the users.")] = "pbm",
    noise: Annotated[float, typer.Option(help="How likely a document of grade 0 attracts.")] = 0.1,
    skip_bad: SkipBad = False,
    seed: Annotated[int, typer.Option(help="Seed of lists and clicks.")] = 0,
) -> None:
    """Interleave two runs, simulate users, and test which ranker they prefer.

    Example: `lorank clicks interleave --run bm25.run --run tuned.run --qrels test.qrels --method optimised`
    """
    from lorank import index

    index.check("interleaving", method, "--method")
    index.check("click-model", model, "--model")
    if len(run) != 2:
        raise UsageError(f"--run is given {len(run)} times; give the two runs that are compared")
    import numpy as np

    from lorank.data import order_documents, read_qrels, read_run
    from lorank.ranking.clicks import attractions, find_click_model
    from lorank.ranking.clicks.interleaving import interleave as draw
    from lorank.ranking.clicks.interleaving import preference

    with skipping(skip_bad) as on_bad:
        judged = read_qrels(qrels, on_bad=on_bad)
        first, second = (read_run(path, on_bad=on_bad) for path in run)
    queries = [query for query in judged if first.get(query) and second.get(query)]
    if not queries:
        raise UsageError("no judged query is in both runs")
    rng, outcomes = np.random.default_rng(seed), list[float]()
    orders = {q: (order_documents(first[q])[:depth], order_documents(second[q])[:depth]) for q in queries}
    for number in rng.integers(len(queries), size=sessions).tolist():
        query = queries[number]
        shown = draw(*orders[query], depth, rng, method)
        attraction = attractions({query: shown.documents}, judged, noise)[query]
        users = find_click_model(model).of_relevance(attraction, depth)
        clicked = users.simulate(np.arange(len(shown.documents))[None, :], rng)[0].astype(int).tolist()
        outcomes.append(shown.outcome(clicked))
    found = preference(outcomes, seed=seed)
    print(
        f"{run[0].name} won {found.wins:,} lists, {run[1].name} {found.losses:,}, {found.ties:,} were even; mean "
        f"credit {found.mean:+.4f}, p = {found.p:.4f}"
    )


@clicks.command()
def trial(
    table: Annotated[
        Path,
        typer.Argument(help="CSV of arm (0, 1), outcome, treated (0, 1), index_0, index_1: one participant a row."),
    ],
    skip_bad: SkipBad = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Estimate the effect of a randomised trial of two policies with few treatments, with reshuffled participants.

    Example: `lorank clicks trial trial.csv`
    """
    import csv

    import numpy as np

    from lorank.data.bad_rows import collected
    from lorank.errors import DataError
    from lorank.ranking.clicks.estimators.reshuffling import reshuffled_effect
    from lorank.reading import all_lines

    columns = ("arm", "outcome", "treated", "index_0", "index_1")
    rows = csv.DictReader(text for _, text in all_lines(table))
    if not set(columns) <= set(rows.fieldnames or ()):
        raise DataError(table, 1, f"the columns are {rows.fieldnames}", f"name them {', '.join(columns)}")
    values = []
    with skipping(skip_bad) as asked, collected(asked) as on_bad:
        for line, row in enumerate(rows, start=2):
            try:
                values.append([float(row[name]) for name in columns])
            except (TypeError, ValueError) as error:
                on_bad(DataError(table, line, f"not five numbers ({error})", f"columns: {', '.join(columns)}"), row)
    if not values:
        raise DataError(table, None, "the table holds no participant", f"columns: {', '.join(columns)}")
    grid = np.array(values)
    found = reshuffled_effect(grid[:, 1], grid[:, 0].astype(int), grid[:, 2] > 0, grid[:, 3:])
    if as_json:
        print(json.dumps(vars(found), indent=1))
        return
    print(
        f"effect of arm 1: {found.reshuffled:+.4f} reshuffled, {found.difference_of_means:+.4f} by difference of "
        f"means; {found.exchangeable:,} of {found.participants:,} participants are exchangeable"
    )
