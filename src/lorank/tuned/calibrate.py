"""Calibrate a ranker on dev: choose and fit a calibrator, certify a threshold, and measure both on test.

The scores are those of ``score``, ``rank`` and the server: of texts, by the folder's own statistics. What is fitted
holds for candidates like those of dev; a document that nobody judged counts as not relevant, so where judgments are
incomplete, probabilities and precisions are too low rather than too high.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.special import expit

from lorank.data.collection import Collection, Split
from lorank.errors import UsageError
from lorank.manifest import CARD
from lorank.progress import StageCallback
from lorank.ranking.calibration.errors_of_probabilities import Quality, ReliabilityPoint, measure_quality, reliability
from lorank.ranking.calibration.fitting import IN_ORDER, Candidate, compare_calibrators, fit_calibrator
from lorank.ranking.calibration.folder import Calibration, Threshold, write_calibration
from lorank.ranking.calibration.guarantees import Certified, Unit, coverage_cutoff, nonconformity, precision_threshold
from lorank.ranking.calibration.labelled import Labelled, of_run
from lorank.ranking.calibration.streams import Followed, follow
from lorank.ranking.types import Run
from lorank.tuned.naming import Named
from lorank.tuned.ranker import TunedRanker, score_run


@dataclass(frozen=True)
class CalibrationSettings:
    """What to fit: ``method`` is a calibrator or ``auto``; the other fields are those of `lorank calibrate`."""

    method: str = "auto"
    precision: float | None = None
    confidence: float = 0.95
    unit: Unit = "best"
    coverage: float | None = None
    keep: Literal["any", "all"] = "any"
    stream: str | None = None
    grade: float = 1
    seed: int = 0


@dataclass(frozen=True)
class Held:
    """What the threshold did on test: the share of queries that had an answer, and the precision of these answers."""

    answered: float
    precision: float | None
    queries: int


@dataclass(frozen=True)
class Covered:
    """A coverage cut-off and what it kept on test; ``fixed`` and ``online`` follow the test queries in their order."""

    cutoff: float
    fixed: Followed | None = None
    online: Followed | None = None


@dataclass(frozen=True)
class CalibrationReport:
    """A calibration, how it was chosen on dev, and how it fared on test where there is one."""

    calibration: Calibration
    compared: list[Candidate]
    dev: dict[str, Any]
    certified: Certified | None = None
    covered: Covered | None = None
    test: dict[str, Any] = field(default_factory=dict)
    before: Quality | None = None
    after: Quality | None = None
    points: list[ReliabilityPoint] = field(default_factory=list)
    held: Held | None = None


def calibrate(
    ranker: TunedRanker,
    data: Collection,
    candidates: dict[str, Run],
    settings: CalibrationSettings,
    on_progress: StageCallback,
) -> CalibrationReport:
    """Return the calibration of a ranker, chosen and fitted on dev, and measured on test.

    Args:
        ranker: The ranker; its own calibration is not used.
        data: The collection.
        candidates: By the name of a split, ``dev`` and perhaps ``test``, the documents that are scored for each query.
        settings: What to fit.
        on_progress: It receives the stage, the number of units done and their total.

    Raises:
        UsageError: For settings outside of their ranges, and scores that do not rise with relevance.
    """
    parts = {}
    for name, lists in candidates.items():
        split = data.split(name)
        run = score_run(ranker, data, split.queries, lists, partial(on_progress, f"score {name}"))
        parts[name] = of_run(run, split.qrels, grade=settings.grade)
    dev, test = parts["dev"], parts.get("test")
    names = IN_ORDER if settings.method == "auto" else [settings.method]
    compared = compare_calibrators(dev, names, seed=settings.seed)
    fitted = fit_calibrator(compared[0].name, dev)
    facts = _facts(dev) | {"data": data.name, "split": "dev", "candidates": _depth(candidates["dev"])}
    report = CalibrationReport(Calibration(fitted, fitted_on=facts), compared, facts)
    rng = np.random.default_rng(settings.seed)
    if settings.precision is not None:
        report = _with_threshold(report, dev, settings, rng)
    if settings.coverage is not None:
        report = replace(report, covered=_cover(dev, test, settings, rng))
    return report if test is None else _measured(report, test, settings.seed)


def _facts(data: Labelled) -> dict[str, Any]:
    return {
        "queries": data.queries,
        "groups": data.groups,
        "pairs": len(data),
        "relevant": round(float(data.relevant.mean()), 6),
    }


def _depth(run: Run) -> int:
    return max(map(len, run.values()), default=0)


def _with_threshold(
    report: CalibrationReport, dev: Labelled, settings: CalibrationSettings, rng: np.random.Generator
) -> CalibrationReport:
    assert settings.precision is not None
    found = precision_threshold(dev, settings.precision, rng=rng, confidence=settings.confidence, unit=settings.unit)
    if found.score is None:
        return replace(report, certified=found)
    threshold = Threshold(
        found.score, found.target, found.confidence, found.unit, found.groups, found.answered / found.groups
    )
    return replace(report, certified=found, calibration=replace(report.calibration, thresholds=(threshold,)))


def _cover(dev: Labelled, test: Labelled | None, settings: CalibrationSettings, rng: np.random.Generator) -> Covered:
    assert settings.coverage is not None
    cutoff = coverage_cutoff(dev, settings.coverage, rng=rng, keep=settings.keep)
    if test is None:
        return Covered(cutoff)
    observed = np.array(list(nonconformity(test, keep=settings.keep).values()))
    if not len(observed):
        return Covered(cutoff)
    fixed = Followed(np.full(len(observed), -cutoff), observed <= -cutoff)
    if settings.stream is None:
        return Covered(cutoff, fixed)
    known = np.array(list(nonconformity(dev, keep=settings.keep).values()))
    scale, start = float(np.ptp(known)) or 1.0, -cutoff if np.isfinite(cutoff) else float(known.max())
    return Covered(cutoff, fixed, follow(settings.stream, observed, 1 - settings.coverage, scale, start))


def _measured(report: CalibrationReport, test: Labelled, seed: int) -> CalibrationReport:
    """Return the report with what the calibration and the threshold did on test."""
    probabilities = report.calibration(test.scores)
    rng = np.random.default_rng(seed)
    threshold = report.calibration.threshold
    return replace(
        report,
        test=_facts(test),
        before=measure_quality(expit(test.scores), test, rng=rng),
        after=measure_quality(probabilities, test, rng=rng),
        points=reliability(probabilities, test, rng=rng),
        held=None if threshold is None else _hold(test, threshold),
    )


def _hold(test: Labelled, threshold: Threshold) -> Held:
    kept = test.take(test.scores >= threshold.score)
    share = kept.queries / test.queries if len(kept) else 0.0
    if not len(kept):
        return Held(share, None, test.queries)
    if threshold.unit == "document":
        return Held(share, float(kept.relevant.mean()), test.queries)
    order = np.lexsort((-kept.scores, kept.query))
    best = order[np.unique(kept.query[order], return_index=True)[1]]
    return Held(share, float(kept.relevant[best].mean()), test.queries)


def card_of(named: Named) -> Path | None:
    """Return the lorank.json that a ranker's calibration belongs into, None where it has no folder."""
    return named.folder / CARD if named.folder is not None and named.kind in ("tuned", "saved", "peft") else None


def save_calibration(named: Named, calibration: Calibration) -> Path:
    """Write a calibration into the folder of a ranker, and return the file; a PEFT folder gets a lorank.json for it.

    Raises:
        UsageError: For a ranker that has no folder of its own.
    """
    card = card_of(named)
    if card is None:
        raise UsageError(f"{named.name} has no folder of its own to keep a calibration in")
    if not card.is_file():
        card.write_text("{}\n", encoding="utf-8")
    write_calibration(card, calibration)
    return card


def sample_queries(split: Split, most: int, rng: np.random.Generator) -> dict[str, str]:
    """Return at most ``most`` judged queries of a split, drawn by ``rng``, in the order of the split."""
    judged = [query for query in split.queries if split.qrels.get(query)]
    if len(judged) > most:
        chosen = set(rng.permutation(len(judged))[:most].tolist())
        judged = [query for i, query in enumerate(judged) if i in chosen]
    return {query: split.queries[query] for query in judged}
