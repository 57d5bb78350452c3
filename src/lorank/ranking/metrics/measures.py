"""Measures of a run by ir-measures over trec_eval's own code, for every query.

Names are those of ir_measures: ``nDCG@10``, ``RR@10``, ``AP(rel=2)``, ``R@100``, ``Judged@10``. ``nDCG`` has
trec_eval's linear gain; ``nDCG(dcg='exp-log2')`` has 2^rel - 1, the gain of most feature-ranking papers.

The order of a run is trec_eval's for every measure: score (in single precision) descending, equal scores by
document id descending. ir_measures' own providers differ in this (RR@k and Judged@k break ties the other way),
so they are given the finished order rather than the scores.

*Deviations*: ``IPrec@r`` is computed by the trec_eval release inside pytrec_eval; against the outputs that trec_eval
ships with, 2 of 33 of its values differ on one of the runs, for a reason
we have not established; a relevance below 0 is unjudged, as in trec_eval.
"""

from collections.abc import Iterable
from typing import Any, Literal

import ir_measures
import numpy as np
from ir_measures import providers
from ir_measures.measures import Measure
from ir_measures.providers.base import NOT_PROVIDED

from lorank.errors import UsageError, unknown_name
from lorank.ranking.types import Qrels, Run

PROVIDERS = ("pytrec_eval", "judged", "msmarco")
"""ir_measures' providers that run within this process and need nothing installed."""

Missing = Literal["zero", "skip"]
NoRelevant = Literal["zero", "one", "skip"]


def parse_measure(name: str) -> Measure:
    """Return the measure that ``name`` stands for; raise UsageError where there is none or none that we can run.

    >>> parse_measure("nDCG@10")
    nDCG@10
    >>> parse_measure("nDGC@10")
    Traceback (most recent call last):
    lorank.errors.UsageError: unknown measure 'nDGC'; did you mean 'nDCG'? known: ...
    """
    try:
        measure = ir_measures.parse_measure(name)
    except NameError:
        raise unknown_name("measure", name.split("@")[0].split("(")[0], ir_measures.measures.registry) from None
    except (ValueError, SyntaxError) as error:
        raise UsageError(f"cannot read the measure {name!r}: {error}; write it as nDCG@10 or AP(rel=2)") from None
    if _provider(_executable(measure)) is None:
        raise UsageError(
            f"measure {name!r} needs a provider of ir_measures that lorank does not run "
            f"(it runs {', '.join(PROVIDERS)})"
        )
    return measure


def gain_of(name: str) -> str | None:
    """Return the gain of an nDCG measure in words, None for other measures.

    >>> gain_of("nDCG@10"), gain_of("nDCG(dcg='exp-log2')@10"), gain_of("RR@10")
    ('linear (trec_eval)', '2^rel - 1', None)
    """
    measure = parse_measure(name)
    if measure.NAME != "nDCG":
        return None
    return "2^rel - 1" if measure["dcg"] == "exp-log2" else "linear (trec_eval)"


def ranking_of(documents: dict[str, float]) -> list[str]:
    """Return document ids as trec_eval orders them: single-precision score descending, then id descending.

    >>> ranking_of({"a": 1.0, "b": 2.0, "c": 1.0})
    ['b', 'c', 'a']
    """
    scores = dict(zip(documents, np.fromiter(documents.values(), np.float32, len(documents)).tolist()))
    return sorted(documents, key=lambda document: (scores[document], document), reverse=True)


def per_query(
    run: Run,
    qrels: Qrels,
    measures: Iterable[str],
    *,
    missing: Missing = "zero",
    no_relevant: NoRelevant = "zero",
) -> dict[str, dict[str, float]]:
    """Return the value of every measure for every query of ``qrels``.

    Args:
        run: ``{query: {document: score}}``; queries that ``qrels`` lacks are left out, as trec_eval does.
        qrels: ``{query: {document: relevance}}``, relevance 0 and up.
        measures: Names as ir_measures writes them.
        missing: What a query of ``qrels`` without results counts as: ``zero`` (trec_eval -c) or left out
            (``skip``, trec_eval without -c).
        no_relevant: What a query without any relevance above 0 counts as: ``zero`` (trec_eval), ``one``
            (LightGBM), or left out (``skip``). ``Judged`` keeps its value.

    Returns:
        ``{measure: {query: value}}``, queries in the order of ``qrels``.

    Raises:
        UsageError: For a measure that is unknown, an option value that is, or a score that is NaN.

    >>> run, qrels = {"q": {"a": 2.0, "b": 1.0}}, {"q": {"b": 1}, "r": {"a": 1}}
    >>> per_query(run, qrels, ["RR@10", "P@1"])
    {'RR@10': {'q': 0.5, 'r': 0.0}, 'P@1': {'q': 0.0, 'r': 0.0}}
    """
    _check(missing, ("zero", "skip"), "missing")
    _check(no_relevant, ("zero", "one", "skip"), "no_relevant")
    wanted = {name: parse_measure(name) for name in measures}
    ordered = _ordered(run, qrels)
    computed = _calculate(ordered, qrels, wanted)
    without = {query for query, judged in qrels.items() if max(judged.values(), default=0) <= 0}
    return {
        name: _settle(computed[name], qrels, measure, set(ordered), without, missing, no_relevant)
        for name, measure in wanted.items()
    }


def mean_of(run: Run, qrels: Qrels, measure: str, **options: Any) -> float:
    """Return the mean of one measure over the queries of ``qrels``; options are those of ``per_query``.

    >>> mean_of({"q": {"a": 2.0, "b": 1.0}}, {"q": {"b": 1}, "r": {"a": 1}}, "RR@10")
    0.25
    """
    values = per_query(run, qrels, [measure], **options)[measure]
    return float(np.mean(list(values.values()))) if values else 0.0


def _check(value: str, known: tuple[str, ...], option: str) -> None:
    if value not in known:
        raise unknown_name(option, value, known)


def _ordered(run: Run, qrels: Qrels) -> Run:
    """Replace scores by n, n-1, ..., 1 in trec_eval's order, so that no provider meets a tie."""
    ordered: Run = {}
    for query in qrels:
        documents = run.get(query)
        if not documents:
            continue
        if any(score != score for score in documents.values()):
            bad = next(document for document, score in documents.items() if score != score)
            raise UsageError(f"query {query!r}, document {bad!r}: the score is NaN")
        ranking = ranking_of(documents)
        ordered[query] = {document: float(len(ranking) - i) for i, document in enumerate(ranking)}
    return ordered


def _executable(measure: Measure) -> Measure:
    """Return the measure that a provider runs: nDCG with exponential gain is linear nDCG on 2^rel - 1."""
    if measure.NAME == "nDCG" and measure["dcg"] == "exp-log2":
        linear = ir_measures.nDCG(judged_only=measure["judged_only"])
        return linear if measure["cutoff"] is NOT_PROVIDED else linear @ measure["cutoff"]
    return measure


def _provider(measure: Measure) -> providers.Provider | None:
    able = (providers.registry[name] for name in PROVIDERS)
    return next((provider for provider in able if provider.supports(measure)), None)


def _calculate(run: Run, qrels: Qrels, wanted: dict[str, Measure]) -> dict[str, dict[str, float]]:
    """Evaluate in as few passes as possible: one for each provider and gain."""
    passes: dict[tuple[str, bool], dict[str, list[str]]] = {}
    for name, measure in wanted.items():
        runnable = _executable(measure)
        key = (_provider(runnable).NAME, runnable is not measure)  # type: ignore[union-attr]
        passes.setdefault(key, {}).setdefault(str(runnable), []).append(name)
    values: dict[str, dict[str, float]] = {name: {} for name in wanted}
    for (provider, exponential), names in passes.items():
        graded = qrels
        if exponential:
            graded = {
                query: {document: 2 ** max(relevance, 0) - 1 for document, relevance in judged.items()}
                for query, judged in qrels.items()
            }
        runnable = [_executable(wanted[same[0]]) for same in names.values()]
        for metric in providers.registry[provider].iter_calc(runnable, graded, run):
            for name in names[str(metric.measure)]:
                values[name][metric.query_id] = float(metric.value)
    return values


def _settle(
    computed: dict[str, float],
    qrels: Qrels,
    measure: Measure,
    answered: set[str],
    without: set[str],
    missing: Missing,
    no_relevant: NoRelevant,
) -> dict[str, float]:
    values: dict[str, float] = {}
    for query in qrels:
        if (missing == "skip" and query not in answered) or (no_relevant == "skip" and query in without):
            continue
        one = no_relevant == "one" and query in without and measure.NAME != "Judged"
        values[query] = 1.0 if one else computed.get(query, 0.0)
    return values
