"""Measures of a run by ir-measures over trec_eval's own code, for every query.

Names are those of ir_measures: ``nDCG@10``, ``RR@10``, ``AP(rel=2)``, ``R@100``, ``Judged@10``. ``nDCG`` has
trec_eval's linear gain; ``nDCG(dcg='exp-log2')`` has 2^rel - 1, the gain of most feature-ranking papers.

The order of a run is trec_eval's for every measure: score (in single precision) descending, equal scores by
document id descending. ir_measures' own providers differ in this (RR@k and Judged@k break ties the other way),
so they are given the finished order rather than the scores.

*Deviations*: ``IPrec@r`` is computed by the trec_eval release inside pytrec_eval; against the outputs that trec_eval
ships with, 2 of 33 of its values differ on one of the runs, for a reason
we have not established; a relevance below 0 is unjudged, as in trec_eval, for
``Judged`` too. trec_eval takes whole grades only and fails on large ones; nDCG of others, and with the gain
2^rel - 1, is computed here by its rules, and a binary measure asks whether the grade, whole or not, reaches ``rel``.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import ir_measures
import numpy as np
from ir_measures import providers
from ir_measures.measures import Measure
from ir_measures.providers.base import NOT_PROVIDED

from lorank.errors import UsageError, unknown_name
from lorank.ranking.grades import Grades, as_grade, drop_unjudged, levels, read_grades
from lorank.ranking.metrics.measure_names import canonical_measure, known_words
from lorank.ranking.metrics.ndcg import ndcg
from lorank.ranking.types import Qrels, Run

PROVIDERS = ("pytrec_eval", "judged", "msmarco")
"""ir_measures' providers that run within this process and need nothing installed."""

_LARGEST_LEVEL = 255
"""Grades up to here go to trec_eval's own nDCG, whose memory grows with the largest grade."""

_MOST = 2**31 - 1
"""The largest cutoff and threshold that fit in trec_eval's numbers."""

Missing = Literal["zero", "skip"]
NoRelevant = Literal["zero", "one", "skip"]


def parse_measure(name: str) -> Measure:
    """Return the measure that ``name`` stands for; raise UsageError where there is none or none that we can run.

    Case does not matter, and names of other tools are known (`lorank.ranking.metrics.measure_names`).

    >>> parse_measure("nDCG@10"), parse_measure("ndcg@10"), parse_measure("mrr")
    (nDCG@10, nDCG@10, RR)
    >>> parse_measure("nDGC@10")
    Traceback (most recent call last):
    lorank.errors.UsageError: unknown measure 'nDGC'; did you mean 'nDCG'? known: ...
    """
    asked, name = name, canonical_measure(name)
    try:
        measure = ir_measures.parse_measure(name)
        runs = measure.NAME == "nDCG" or _provider(measure) is not None
    except NameError:
        raise unknown_name("measure", asked.split("@")[0].split("(")[0], known_words()) from None
    except (ValueError, SyntaxError, TypeError, AssertionError, AttributeError) as error:
        raise UsageError(f"cannot read the measure {name!r}: {error}; write it as nDCG@10 or AP(rel=2)") from None
    _check_parameters(name, measure)
    if not runs:
        raise UsageError(
            f"measure {name!r} needs a provider of ir_measures that lorank does not run "
            f"(it runs {', '.join(PROVIDERS)})"
        )
    return measure


def _check_parameters(name: str, measure: Measure) -> None:
    """Raise UsageError for parameters that the providers' code does not survive."""
    for parameter in ("cutoff", "rel"):
        value = _given(measure, parameter, 1)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST:
            raise UsageError(f"measure {name!r}: {parameter} is {value!r}; it takes whole numbers from 1 up")
    recall = _given(measure, "recall", 0.5)
    if not 0 <= recall <= 1:
        raise UsageError(f"measure {name!r}: recall is {recall!r}; it takes a share from 0 to 1")
    gains = _given(measure, "gains", None) or {}
    for grade, gain in gains.items():
        if as_grade(gain) is None or gain < 0:
            raise UsageError(f"measure {name!r}: the gain of {grade!r} is {gain!r}; it takes numbers from 0 up")


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
        qrels: ``{query: {document: relevance}}``, any finite numbers; below 0 stands for not judged.
        measures: Names as ir_measures writes them.
        missing: What a query of ``qrels`` without results counts as: ``zero`` (trec_eval -c) or left out
            (``skip``, trec_eval without -c).
        no_relevant: What a query without any relevance above 0 counts as: ``zero`` (trec_eval), ``one``
            (LightGBM), or left out (``skip``). ``Judged`` keeps its value.

    Returns:
        ``{measure: {query: value}}``, queries in the order of ``qrels``.

    Raises:
        UsageError: For a measure that is unknown, an option value that is, a score that is NaN, or a relevance that
            is no finite number.

    >>> run, qrels = {"q": {"a": 2.0, "b": 1.0}}, {"q": {"b": 1}, "r": {"a": 1}}
    >>> per_query(run, qrels, ["RR@10", "P@1"])
    {'RR@10': {'q': 0.5, 'r': 0.0}, 'P@1': {'q': 0.0, 'r': 0.0}}
    """
    _check(missing, ("zero", "skip"), "missing")
    _check(no_relevant, ("zero", "one", "skip"), "no_relevant")
    wanted = {name: parse_measure(name) for name in measures}
    grades = read_grades(qrels)
    rankings = _rankings(run, grades)
    computed = _calculate(rankings, grades, wanted)
    without = {query for query, judged in grades.items() if max(judged.values(), default=0) <= 0}
    return {
        name: _settle(computed[name], qrels, measure, set(rankings), without, missing, no_relevant)
        for name, measure in wanted.items()
    }


def mean_of(run: Run, qrels: Qrels, measure: str, **options: Any) -> float:
    """Return the mean of one measure over the queries of ``qrels``.

    Args:
        run: The scores, as ``{query: {document: score}}``.
        qrels: The judgments, as ``{query: {document: relevance}}``.
        measure: The name of the measure as ir_measures writes it.
        options: The options of ``per_query``.

    Returns:
        The mean, or 0 where no query counts.

    >>> mean_of({"q": {"a": 2.0, "b": 1.0}}, {"q": {"b": 1}, "r": {"a": 1}}, "RR@10")
    0.25
    """
    values = per_query(run, qrels, [measure], **options)[measure]
    return float(np.mean(list(values.values()))) if values else 0.0


def _check(value: str, known: tuple[str, ...], option: str) -> None:
    if value not in known:
        raise unknown_name(option, value, known)


def _rankings(run: Run, queries: Iterable[str]) -> dict[str, list[str]]:
    """Return trec_eval's order of every query that has results, so that no provider meets a tie."""
    rankings: dict[str, list[str]] = {}
    for query in queries:
        documents = run.get(query)
        if not documents:
            continue
        if any(score != score for score in documents.values()):
            bad = next(document for document, score in documents.items() if score != score)
            raise UsageError(f"query {query!r}, document {bad!r}: the score is NaN")
        rankings[query] = ranking_of(documents)
    return rankings


def _provider(measure: Measure) -> providers.Provider | None:
    able = (providers.registry[name] for name in PROVIDERS)
    return next((provider for provider in able if provider.supports(measure)), None)


def _given(measure: Measure, parameter: str, otherwise: Any) -> Any:
    """Return a parameter of a measure, ``otherwise`` where the measure has none or nobody gave it."""
    if parameter not in measure.SUPPORTED_PARAMS:
        return otherwise
    value = measure[parameter]
    return otherwise if value is NOT_PROVIDED else value


def _calculate(
    rankings: dict[str, list[str]], grades: Grades, wanted: dict[str, Measure]
) -> dict[str, dict[str, float]]:
    """Return ``{name: {query: value}}`` of the queries with results."""
    judged = drop_unjudged(grades)
    small = all(type(g) is int and g <= _LARGEST_LEVEL for row in judged.values() for g in row.values())
    values: dict[str, dict[str, float]] = {name: {} for name in wanted}
    passes: dict[str, dict[str, Measure]] = {}
    for name, measure in wanted.items():
        if measure.NAME == "nDCG" and (not small or not _as_trec_eval(measure)):
            values[name] = {query: _ndcg(measure, row, judged[query]) for query, row in rankings.items()}
            continue
        kind = "infAP" if measure.NAME == "infAP" else "graded" if measure.NAME == "nDCG" else "binary"
        passes.setdefault(f"{_provider(measure).NAME} {kind}", {})[name] = measure  # type: ignore[union-attr]
    for key, together in passes.items():
        provider, kind = key.split()
        for name, query, value in _run_provider(provider, kind, rankings, grades, together):
            values[name][query] = value
    return values


def _as_trec_eval(measure: Measure) -> bool:
    return measure["dcg"] != "exp-log2" and _given(measure, "gains", None) is None


def _ndcg(measure: Measure, ranking: list[str], judged: dict[str, float]) -> float:
    gains = _given(measure, "gains", None)
    if gains is not None:
        judged = {document: gains.get(grade, grade) for document, grade in judged.items()}
    only = bool(_given(measure, "judged_only", False))
    return ndcg(ranking, judged, _given(measure, "cutoff", None), dcg=measure["dcg"], judged_only=only)


def _run_provider(
    provider: str, kind: str, rankings: dict[str, list[str]], grades: Grades, together: dict[str, Measure]
) -> Iterator[tuple[str, str, float]]:
    """Yield (name, query, value) of measures that one provider computes in one pass.

    The provider sees numbers for ids, since trec_eval's code takes an id for a C string, and whole small grades. A
    query without a judged document gets one that is not relevant and that no run has, since that code reads beyond an
    empty list.
    """
    cap = max((_given(measure, "rel", 1) for measure in together.values()), default=1)
    cap = _LARGEST_LEVEL if kind == "graded" else max(1, cap)
    queries = list(rankings)
    run: Run = {}
    qrels: Qrels = {}
    for number, query in enumerate(queries):
        ranking = rankings[query]
        index = {document: str(place) for place, document in enumerate([*dict.fromkeys([*ranking, *grades[query]])])}
        run[str(number)] = {index[document]: float(len(ranking) - place) for place, document in enumerate(ranking)}
        graded = levels(grades[query], cap, pooled=kind == "infAP")
        qrels[str(number)] = {index[document]: grade for document, grade in graded.items()}
        if provider != "judged" and max(graded.values(), default=-1) < 0:
            qrels[str(number)]["none"] = 0
    names: dict[str, list[str]] = {}
    for name, measure in together.items():
        names.setdefault(str(measure), []).append(name)
    runnable = [together[same[0]] for same in names.values()]
    for metric in providers.registry[provider].iter_calc(runnable, qrels, run):
        for name in names[str(metric.measure)]:
            yield name, queries[int(metric.query_id)], float(metric.value)


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
