"""Judge several runs on the same queries: means, intervals, paired tests, what is unjudged, and the ceiling."""

import numbers
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np

from lorank.errors import UsageError, unknown_name
from lorank.ranking.in_memory import is_frame, read_qrels_in_memory, read_run_in_memory
from lorank.ranking.metrics.ceiling import ndcg_ceiling, recall_ceiling
from lorank.ranking.metrics.compare import PAIRS, TIE, Design, compare_systems
from lorank.ranking.metrics.evaluation import Evaluation, SystemResult
from lorank.ranking.metrics.groups import Groups, group_tied_queries, grouped_bootstrap_means, membership
from lorank.ranking.metrics.intervals import INTERVALS, bootstrap_means
from lorank.ranking.metrics.measures import NoRelevant, gain_of, per_query
from lorank.ranking.metrics.significance import TESTS
from lorank.ranking.types import Qrels, Run

JUDGED = "Judged@10"


def evaluate(
    runs: Mapping[str, Any],
    qrels: Any,
    measures: Sequence[str] = ("nDCG@10", "RR@10", "R@100"),
    *,
    baseline: str | None = None,
    pairs: str = "baseline+best",
    test: str = "randomization",
    interval: str = "percentile",
    seed: int = 0,
    resamples: int = 10_000,
    confidence: float = 0.95,
    no_relevant: NoRelevant = "zero",
    unknown: Literal["error", "ignore"] = "error",
    groups: Groups | Literal["auto"] | None = "auto",
    collection: str = "",
    split: str = "test",
) -> Evaluation:
    """Return the comparison of ``runs`` on the queries of ``qrels``.

    Every run is judged on the same queries, those of ``qrels``; one that a run has no results for counts 0 and
    is counted in ``settings["queries_without_results"]``. Holm's correction covers the comparisons of one
    measure. All resampling starts from ``seed`` anew, so a pair's numbers do not depend on the other runs.

    Args:
        runs: Name to ``{query: {document: score}}``, at least one; or to a frame or rows, as
            :mod:`lorank.ranking.in_memory` says. Ids may be texts or whole numbers.
        qrels: ``{query: {document: relevance}}``, or a frame or rows; any finite grades, below 0 for not judged.
        measures: Names as ir_measures writes them; ``nDCG`` has trec_eval's linear gain.
        baseline: The run that the others are compared with; None means the first.
        pairs: ``baseline`` (every run against it), ``baseline+best`` (and the best run of the measure against
            every other), or ``all``.
        test: ``randomization`` (paired, two-sided) or ``t``.
        interval: ``percentile`` or ``bca`` bootstrap.
        seed: 0 and up.
        resamples: Of the bootstrap, and of the randomisation test where it is not exact.
        confidence: Of the intervals, between 0 and 1.
        no_relevant: What a query without any relevant document counts as: ``zero``, ``one`` or ``skip``.
        unknown: What to do with a run's queries that ``qrels`` lacks: refuse them or leave them out.
        groups: Query to group, where queries are not independent of each other: groups are then resampled and
            tested as wholes. ``auto`` ties queries that share relevant documents (``group_tied_queries``) where the
            test and the interval can take groups; None takes each query as independent.
        collection: Name of the collection, for the record.
        split: Name of the split, for the record.

    Raises:
        UsageError: For no runs or queries, unknown queries, unknown names of options or measures, and for runs or
            judgments of another shape, or with scores or grades that are no finite numbers.

    >>> runs = {"old": {"q": {"a": 2.0, "b": 1.0}}, "new": {"q": {"a": 1.0, "b": 2.0}}}
    >>> judged = evaluate(runs, {"q": {"b": 1}}, ["RR@10"], resamples=10)
    >>> judged.systems["new"].mean, judged.comparisons[0].difference
    ({'RR@10': 1.0}, 0.5)
    """
    runs, qrels = _read(runs, qrels)
    design = Design(test, interval, seed, resamples, confidence, pairs)
    _check(runs, qrels, measures, baseline, design, unknown)
    looked_for, groups = groups == "auto" and _takes_groups(design), _resolve_groups(groups, qrels, design)
    judged = {name: per_query(run, qrels, [*measures, JUDGED], no_relevant=no_relevant) for name, run in runs.items()}
    queries = list(next(iter(judged.values()))[JUDGED])
    if not queries:
        raise UsageError("no query has a relevant document, and no_relevant='skip' leaves them out")
    values = {
        measure: np.array([[judged[name][measure][query] for query in queries] for name in runs]).T
        for measure in measures
    }
    member = np.arange(len(queries)) if groups is None else membership(groups, queries)
    resample = bootstrap_means if groups is None else partial(grouped_bootstrap_means, member=member)
    resampled = {
        measure: resample(columns, rng=np.random.default_rng(seed), resamples=resamples)
        for measure, columns in values.items()
    }
    systems = {
        name: _system(i, values, resampled, judged[name], design, {query for query, row in runs[name].items() if row})
        for i, name in enumerate(runs)
    }
    comparisons = [
        row
        for measure in measures
        for row in compare_systems(list(runs), values[measure], resampled[measure], measure, baseline, design, member)
    ]
    kept = {query: qrels[query] for query in queries}
    return Evaluation(
        collection=collection,
        split=split,
        measures=list(measures),
        queries=len(queries),
        systems=systems,
        comparisons=comparisons,
        ceiling={name: _mean(recall_ceiling(run, kept)) for name, run in runs.items()},
        ceiling_ndcg10={name: _mean(ndcg_ceiling(run, kept, 10)) for name, run in runs.items()},
        settings=_settings(design, runs, queries, measures, baseline, no_relevant)
        | ({"groups": int(member.max()) + 1} if looked_for or groups is not None else {}),
    )


def _read(runs: Any, qrels: Any) -> tuple[dict[str, Run], Qrels]:
    """Return the runs by name, and the judgments, as nested dictionaries with ids as texts."""
    if is_frame(runs) or not isinstance(runs, Mapping):
        raise UsageError(f"the runs are a {type(runs).__name__}; name each: {{'bm25': run, 'tuned': other}}")
    for name, run in runs.items():
        if isinstance(run, Mapping) and any(isinstance(value, numbers.Real) for value in run.values()):
            raise UsageError(f"the runs look like one run (query {name!r} has scores); name it: {{'mine': run}}")
    named = {str(name): read_run_in_memory(run, f"run {str(name)!r}") for name, run in runs.items()}
    return named, read_qrels_in_memory(qrels)


def _takes_groups(design: Design) -> bool:
    return (design.test, design.interval) == ("randomization", "percentile")


def _resolve_groups(groups: Groups | Literal["auto"] | None, qrels: Qrels, design: Design) -> Groups | None:
    """Return the groups to resample, None where every query stands for itself."""
    fits = _takes_groups(design)
    if groups == "auto":
        tied = group_tied_queries(qrels) if fits else {}
        return tied if len(set(tied.values())) < len(tied) else None
    if groups is not None and not fits:
        raise UsageError("groups go with test='randomization' and interval='percentile'")
    if isinstance(groups, str):
        raise UsageError(f"groups is {groups!r}; give a mapping of query to group, 'auto', or None")
    return groups


def _check(
    runs: Mapping[str, Run], qrels: Qrels, measures: Sequence[str], baseline: str | None, design: Design, unknown: str
) -> None:
    if not runs or not qrels or not measures:
        raise UsageError("nothing to judge: give at least one run, one judged query and one measure")
    if isinstance(measures, str):
        raise UsageError(f"measures must be a list of names; write [{measures!r}]")
    if baseline is not None and baseline not in runs:
        raise unknown_name("baseline", baseline, runs)
    for option, value, known in (
        ("test", design.test, TESTS),
        ("interval", design.interval, INTERVALS),
        ("pairs", design.pairs, PAIRS),
        ("unknown", unknown, ("error", "ignore")),
    ):
        if value not in known:
            raise unknown_name(option, value, known)
    if not 0 < design.confidence < 1 or design.resamples < 1 or design.seed < 0:
        raise UsageError(
            "confidence must lie between 0 and 1, resamples be 1 or more, and seed 0 or more; got "
            f"{design.confidence}, {design.resamples}, {design.seed}"
        )
    for name, run in runs.items():
        strangers = sorted(run.keys() - qrels.keys())
        if strangers and unknown == "error":
            raise UsageError(
                f"run {name!r} has {len(strangers)} of {len(run)} queries without judgments: "
                f"{', '.join(strangers[:5])}{', ...' if len(strangers) > 5 else ''}; judge it on the "
                "split it was made for, or leave them out with unknown='ignore'"
            )


def _system(
    i: int,
    values: dict[str, np.ndarray],
    resampled: dict[str, np.ndarray],
    judged: dict[str, dict[str, float]],
    design: Design,
    answered: set[str],
) -> SystemResult:
    bounds = INTERVALS[design.interval]
    return SystemResult(
        mean={measure: float(columns[:, i].mean()) for measure, columns in values.items()},
        interval={
            measure: bounds(resampled[measure][:, i], columns[:, i], design.confidence)
            for measure, columns in values.items()
        },
        values={measure: judged[measure] for measure in values},
        judged=_mean({query: share for query, share in judged[JUDGED].items() if query in answered}),
    )


def _mean(values: dict[str, float]) -> float:
    return float(np.mean(list(values.values()))) if values else 0.0


def _settings(
    design: Design,
    runs: Mapping[str, Run],
    queries: Sequence[str],
    measures: Sequence[str],
    baseline: str | None,
    no_relevant: str,
) -> dict[str, Any]:
    without = {name: sum(not run.get(query) for query in queries) for name, run in runs.items()}
    return {
        "seed": design.seed,
        "resamples": design.resamples,
        "confidence": design.confidence,
        "test": design.test,
        "correction": "Holm, over the comparisons of one measure",
        "interval": design.interval,
        "baseline": baseline or next(iter(runs)),
        "pairs": design.pairs,
        "tie": TIE,
        "gain": {measure: gain_of(measure) for measure in measures if gain_of(measure)},
        "missing": "zero",
        "no_relevant": no_relevant,
        "unjudged": "not relevant",
        "queries_without_results": {name: count for name, count in without.items() if count},
    }
