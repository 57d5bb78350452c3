"""`lorank evaluate --log`: what rankers would be worth, estimated from the clicks that another one logged."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorank.cli.bad_rows import again, skipping
from lorank.cli.progress import console, progress_bars, stage
from lorank.errors import OnBad

if TYPE_CHECKING:
    from lorank.data.collection import Collection
    from lorank.ranking.types import Run


def evaluate_log(
    log: Path,
    rankers: Sequence[str],
    runs: Sequence[Path],
    estimator: str,
    *,
    data: str | None,
    propensities: str,
    support: str,
    as_json: bool,
    skip_bad: bool = False,
) -> None:
    """Print the estimated clicks per list of each ranker and run, beside those of the log.

    Args:
        log: The click log.
        rankers: Names of rankers.
        runs: Runs, whose documents are placed in their order.
        estimator: A name of `lorank.ranking.clicks.estimators`.
        data: The collection that holds the texts; None where the log brings them, or only runs are judged.
        propensities: For the position-based estimator: a file or an estimator of propensities.
        support: ``error`` or ``ignore``.
        as_json: Whether JSON is printed.
        skip_bad: Whether bad rows are left out and kept in a file.
    """
    from lorank import index
    from lorank.errors import unknown_name

    index.check("estimator", estimator, "--estimator")
    if support not in ("error", "ignore"):
        raise unknown_name("--support", support, ("error", "ignore"))
    if not Path(propensities).is_file():
        index.check("propensity", propensities, "--propensities", also=("<file>",))
    if data is not None:
        index.check_data(data, "--data")
    with stage(f"read {log}"), skipping(skip_bad) as on_bad:
        from lorank.data.click_logs import LogCounts, read_log
        from lorank.data.click_logs.policy_rows import documents_by_query, rows_of_order, rows_of_policy
        from lorank.data.click_logs.propensity_files import read_propensities
        from lorank.ranking.clicks import estimate_propensities, find_click_model
        from lorank.ranking.clicks.estimators import estimate

        counts = LogCounts()
        known = documents_by_query(read_log(log, counts=counts, on_bad=on_bad))
        quiet = again(on_bad)
        sessions = None
        if estimator == "dr" or (estimator == "position" and not Path(propensities).is_file()):
            from lorank.data.click_logs import sessions_of_log

            sessions = sessions_of_log(log, on_bad=quiet).sessions
        orders = _orders(log, rankers, runs, data, known, on_bad)
    if counts.left_out:
        console.print(counts.describe(), soft_wrap=True)
    curve = model = None
    if estimator == "position":
        given = Path(propensities).is_file()
        curve = read_propensities(propensities) if given else estimate_propensities(sessions, propensities)  # type: ignore[arg-type]
    if estimator == "dr":
        model = find_click_model("pbm")().fit(sessions)  # type: ignore[arg-type]
    found: dict[str, Any] = {}
    for name, order in orders.items():
        if curve is not None:
            rows = rows_of_order(read_log(log, on_bad=quiet), order, curve)
        else:
            rows = rows_of_policy(read_log(log, on_bad=quiet), order, log, model, sessions)
        slots = len(rows.rewards) / (int(rows.groups.max()) + 1 if rows.groups is not None else 1)
        found[name] = asdict(estimate(rows, estimator, support=support)) | {"documents_per_list": slots}
    print(json.dumps(found, indent=1) if as_json else _table(found))


def _orders(
    log: Path,
    rankers: Sequence[str],
    runs: Sequence[Path],
    data: str | None,
    known: dict[str, list[str]],
    on_bad: OnBad | None,
) -> dict[str, dict[str, list[str]]]:
    """Return the documents of each query in the order of each ranker and run."""
    import lorank
    from lorank.data import order_documents, read_run

    scored: dict[str, Run] = {path.name: read_run(path, on_bad=on_bad) for path in runs}
    if rankers:
        from lorank.data.click_logs import read_click_collection, with_clicks

        with stage(f"read {data or log}"):
            if data is None:
                collection = read_click_collection(log, on_bad=again(on_bad))
            else:
                collection = with_clicks(lorank.load(data, on_bad=on_bad), log, on_bad=again(on_bad))
        scored |= _score(rankers, collection, known)
    return {name: {query: order_documents(row) for query, row in run.items()} for name, run in scored.items()}


def _score(rankers: Sequence[str], collection: "Collection", known: dict[str, list[str]]) -> "dict[str, Run]":
    from functools import partial

    from lorank.tuned.naming import recognise
    from lorank.tuned.open_ranker import open_ranker
    from lorank.tuned.ranker import rerank_run, score_run

    own = known
    if collection.has_features:  # a log of features numbers its documents by query
        own = {q: [d if d in collection.position else f"{q}:{d}" for d in row] for q, row in known.items()}
    queries = {query: collection.train.queries[query] for query in own}
    lists = {query: dict.fromkeys(row, 0.0) for query, row in own.items()}
    if not collection.has_features:  # what tuned rankers stand on
        lists = score_run(open_ranker("bm25", collection=collection, flag="--ranker"), collection, queries, lists)
    runs: dict[str, Run] = {}
    with progress_bars() as on_progress:
        for name in dict.fromkeys(rankers):
            texts = collection if recognise(name).kind == "bm25" else None
            model = open_ranker(name, collection=texts, flag="--ranker")
            run = rerank_run(model, collection, queries, lists, partial(on_progress, f"score with {name}"))
            runs[name] = {
                query: {d.removeprefix(f"{query}:") if d not in known[query] else d: s for d, s in row.items()}
                for query, row in run.items()
            }
    return runs


def _table(found: dict[str, Any]) -> str:
    lines = [f"{'ranker':28} {'clicks a list':>14} {'95% interval':>20} {'effective rows':>16} {'as logged':>10}"]
    for name, own in found.items():
        scale = own["documents_per_list"]
        between = f"[{scale * own['low']:.4f}, {scale * own['high']:.4f}]"
        lines.append(
            f"{name[:28]:28} {scale * own['value']:>14.4f} {between:>20} "
            f"{own['effective']:>8,.0f} of {own['rows']:<8,} {scale * own['logged']:>6.4f}"
        )
    return "\n".join(lines)
