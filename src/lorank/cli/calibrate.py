"""`lorank calibrate`: probabilities of relevance, and thresholds with a guarantee."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorank.cli import completion
from lorank.cli.bad_rows import SkipBad, skipping
from lorank.cli.options import Language, Negative
from lorank.cli.progress import console, progress_bars, stage
from lorank.cli.ranker_options import NAMES, Kind, Label, Long, MaxLength, Set, reading_of
from lorank.cli.width import cut_to_width
from lorank.errors import LorankError, OnBad, UsageError, unknown_name
from lorank.tuned.naming import recognise

if TYPE_CHECKING:
    from lorank.data.collection import Collection
    from lorank.ranking.calibration.errors_of_probabilities import Quality, ReliabilityPoint
    from lorank.ranking.types import Run
    from lorank.tuned.calibrate import CalibrationReport, CalibrationSettings


def calibrate(
    ranker: Annotated[str, typer.Argument(autocompletion=completion.rankers, help=f"What is calibrated: {NAMES}.")],
    data: Annotated[
        str, typer.Option(help="A collection with a dev split; its test split, if any, measures the result.")
    ],
    method: Annotated[
        str,
        typer.Option(
            autocompletion=completion.names("calibrator", "auto"),
            help="platt, temperature, beta, isotonic, histogram, or auto: the least log loss on groups left out.",
        ),
    ] = "auto",
    precision_at: Annotated[
        float | None,
        typer.Option(help="Certify the lowest threshold whose precision is this at least, such as 0.9."),
    ] = None,
    confidence: Annotated[float, typer.Option(help="How sure that guarantee is.")] = 0.95,
    unit: Annotated[
        str, typer.Option(help="Whose precision: best (a query's best document) or document (any at or above).")
    ] = "best",
    coverage_at: Annotated[
        float | None, typer.Option(help="Find the cut-off that keeps a relevant document for this share of queries.")
    ] = None,
    keep: Annotated[str, typer.Option(help="With --coverage-at: any relevant document of a query, or all.")] = "any",
    stream: Annotated[
        str | None,
        typer.Option(
            help="With --coverage-at: saocp or sf-ogd, a cut-off that follows the test queries in their order."
        ),
    ] = None,
    run: Annotated[
        list[Path] | None,
        typer.Option(help="Runs whose documents are scored, over dev and test; repeat it. [default: BM25's best]"),
    ] = None,
    depth: Annotated[int, typer.Option(min=2, help="How many documents of a query are scored.")] = 100,
    queries: Annotated[int, typer.Option(min=2, help="At most so many queries of each split.")] = 500,
    grade: Annotated[float, typer.Option(help="The least grade of a relevant document.")] = 1,
    kind: Kind = None,
    label: Label = None,
    max_length: MaxLength = None,
    long: Long = None,
    settings: Set = None,
    negative: Negative = "error",
    language: Language = "auto",
    skip_bad: SkipBad = False,
    save: Annotated[bool, typer.Option("--save/--no-save", help="Write it into the ranker's folder.")] = True,
    plot: Annotated[Path | None, typer.Option(help="Reliability diagram to write: .png, .svg or .pdf.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of samples, folds and draws.")] = 0,
) -> None:
    """Fit probabilities of relevance on dev and keep them in the ranker's folder, for `rank`, `score` and `serve`.

    With --precision-at also a threshold, below which `lorank rank --above-threshold` answers that nothing is relevant.
    The guarantee holds for queries and candidates like those of dev; documents that nobody judged count as not
    relevant.

    Examples:

        lorank calibrate runs/first --data lohelp --precision-at 0.9

        lorank calibrate minilm --data pydocs --plot reliability.png

        lorank calibrate runs/first --data lohelp --coverage-at 0.9 --stream saocp
    """
    import lorank
    from lorank import index

    named = recognise(ranker, "RANKER")
    index.check("calibrator", method, "--method", also=("auto",))
    _check(precision_at, confidence, unit, coverage_at, keep, stream)
    if plot is not None and plot.suffix not in (".png", ".svg", ".pdf"):
        raise UsageError(f"--plot {plot}: name a .png, .svg or .pdf")
    index.check_data(data, "--data")
    reading = reading_of(settings, max_length, long)
    import numpy as np

    from lorank.tuned.calibrate import CalibrationSettings, card_of, save_calibration
    from lorank.tuned.calibrate import calibrate as fit
    from lorank.tuned.open_ranker import open_ranker

    with stage(f"read {data}"), skipping(skip_bad) as on_bad:
        collection = lorank.load(data, negative=negative, on_bad=on_bad, language=language)
        candidates = _candidates(collection, run or [], depth, queries, np.random.default_rng(seed), on_bad)
    with stage(f"open {ranker}"):
        model = open_ranker(ranker, kind=kind, label=label, reading=reading, collection=collection, flag="RANKER")
    wanted = CalibrationSettings(
        method=method,
        precision=precision_at,
        confidence=confidence,
        unit="best" if unit == "best" else "document",
        coverage=coverage_at,
        keep="any" if keep == "any" else "all",
        stream=stream,
        grade=grade,
        seed=seed,
    )
    with progress_bars() as on_progress:
        report = fit(model, collection, candidates, wanted, on_progress)
    saved = save_calibration(named, report.calibration) if save and card_of(named) is not None else None
    if plot is not None:
        draw(report.points, plot)
    if as_json:
        print(json.dumps(_plain(report, saved), indent=1))
    else:
        print(cut_to_width("\n".join(_lines(report, wanted))))
        print(
            f"saved in {saved}" if saved else f"not saved{'' if not save else f': {ranker} has no folder of its own'}"
        )
    if report.certified is not None and report.certified.score is None:
        raise LorankError(_uncertified(report, saved))


def _check(
    precision: float | None, confidence: float, unit: str, coverage: float | None, keep: str, stream: str | None
) -> None:
    """Raise UsageError for values outside of their ranges, and for words that an option does not have."""
    for flag, value in (("--precision-at", precision), ("--confidence", confidence), ("--coverage-at", coverage)):
        if value is not None and not 0 < value < 1:
            raise UsageError(f"{flag} {value}: give a number between 0 and 1, such as 0.9")
    for flag, word, known in (
        ("--unit", unit, ("best", "document")),
        ("--keep", keep, ("any", "all")),
        ("--stream", stream, ("saocp", "sf-ogd")),
    ):
        if word is not None and word not in known:
            raise unknown_name(flag, word, known)
    if stream is not None and coverage is None:
        raise UsageError("--stream follows a coverage; add --coverage-at 0.9")


def _candidates(
    collection: "Collection", runs: list[Path], depth: int, queries: int, rng: Any, on_bad: OnBad | None
) -> "dict[str, Run]":
    """Return the documents to score for a sample of the queries of dev and, where it is judged, test."""
    from lorank.data import from_run, read_run
    from lorank.training.lists.retrieval import bm25_index
    from lorank.tuned.calibrate import sample_queries

    given = [(path, read_run(path, on_bad=on_bad)) for path in runs]
    found: dict[str, Run] = {}
    for name in ("dev", "test"):
        if name == "test" and (name not in collection.splits or not any(collection.test.qrels.values())):
            continue
        split = collection.split(name)
        asked = sample_queries(split, queries, rng)
        if given:
            found[name] = {}
            for path, run in given:
                known = {query: run[query] for query in asked if query in run}
                if known or len(given) == 1:
                    found[name] |= from_run(known, collection, split, depth, path=path, on_bad=on_bad)
        elif split.candidates is not None:
            found[name] = {query: split.candidates[query] for query in asked}
        else:
            found[name] = bm25_index(collection).search(asked, depth)
    return found


def _lines(report: "CalibrationReport", wanted: "CalibrationSettings") -> list[str]:
    dev = report.dev
    lines = [
        f"dev: {dev['queries']} queries in {dev['groups']} independent groups, {dev['pairs']} scored documents, "
        f"{dev['relevant']:.1%} relevant",
        "",
        f"{'calibrator':<12} {'log loss':>8} {'Brier':>7} {'ECE':>7}  {'95 % interval':<17} if perfect",
    ]
    lines += [f"{each.name:<12} {_quality(each.quality)}" for each in report.compared]
    lines += [f"chosen: {report.calibration.calibrator.name} (on dev groups that it was not fitted to)", ""]
    if report.before is not None and report.after is not None:
        test = report.test
        lines += [
            f"test: {test['queries']} queries in {test['groups']} independent groups, {test['pairs']} documents",
            f"{'before':<12} {_quality(report.before)}   (the logistic function of the score)",
            f"{'after':<12} {_quality(report.after)}",
            "",
        ]
    return lines + _threshold_lines(report) + _coverage_lines(report, wanted)


def _quality(quality: "Quality") -> str:
    low, high = quality.ece_interval
    return (
        f"{quality.log_loss:>8.4f} {quality.brier:>7.4f} {quality.ece:>7.4f}  [{low:.4f}, {high:.4f}]  "
        f"{quality.ece_if_perfect:.4f}"
    )


def _threshold_lines(report: "CalibrationReport") -> list[str]:
    found = report.certified
    if found is None or found.score is None:
        return []
    import numpy as np

    p = float(report.calibration(np.array([found.score]))[0])
    whose = "of a query's best document" if found.unit == "best" else "of a document"
    lines = [
        f"threshold: score {found.score:.6g}, probability {p:.4f}: the precision {whose} at or above it is "
        f"{found.target:g} at least, with confidence {found.confidence:g}",
        f"  tested on {found.groups} groups of dev: {found.answered} answered, {found.right} right "
        f"(precision {found.lower:.4f} at least)",
    ]
    held = report.held
    if held is not None:
        said = "none" if held.precision is None else f"{held.precision:.4f}"
        lines.append(f"  on test: {held.answered:.1%} of {held.queries} queries answered, precision {said}")
    return [*lines, ""]


def _coverage_lines(report: "CalibrationReport", wanted: "CalibrationSettings") -> list[str]:
    covered = report.covered
    if covered is None:
        return []
    import numpy as np

    p = float(report.calibration(np.array([covered.cutoff]))[0])
    which = "a relevant document" if wanted.keep == "any" else "every relevant document"
    lines = [
        f"cut-off: score {covered.cutoff:.6g}, probability {p:.4f}: keeps {which} of a query's list with probability "
        f"{wanted.coverage:g}"
    ]
    for name, each in (("fixed", covered.fixed), (wanted.stream, covered.online)):
        if each is not None:
            lines.append(
                f"  on test, {name}: covered {each.coverage:.4f}, {each.worst_window(100):.4f} in the worst 100 in a "
                "row"
            )
    return [*lines, ""]


def _uncertified(report: "CalibrationReport", saved: Path | None) -> str:
    found = report.certified
    assert found is not None
    share = f"{found.right} of {found.answered} right" if found.answered else "no answer"
    return (
        f"no threshold has a precision of {found.target:g} with confidence {found.confidence:g}: the best had "
        f"{share} on "
        f"{found.groups} groups; lower --precision-at or --confidence, or judge more queries "
        f"({'the calibration was saved without one' if saved else 'nothing was saved'})"
    )


def _plain(report: "CalibrationReport", saved: Path | None) -> dict[str, Any]:
    covered = report.covered
    return {
        "calibration": report.calibration.to_dict(),
        "compared": {each.name: each.quality.as_dict() for each in report.compared},
        "dev": report.dev,
        "test": report.test,
        "before": None if report.before is None else report.before.as_dict(),
        "after": None if report.after is None else report.after.as_dict(),
        "reliability": [asdict(point) for point in report.points],
        "certified": None if report.certified is None else asdict(report.certified),
        "held": None if report.held is None else asdict(report.held),
        "coverage": None
        if covered is None
        else {
            "cutoff": covered.cutoff if abs(covered.cutoff) < float("inf") else None,
            "fixed": None if covered.fixed is None else covered.fixed.coverage,
            "online": None if covered.online is None else covered.online.coverage,
        },
        "saved": None if saved is None else str(saved),
    }


def draw(points: "list[ReliabilityPoint]", path: Path) -> None:
    """Write the reliability diagram: the share of relevant documents over the probability that was stated."""
    from matplotlib.figure import Figure

    if not points:
        raise UsageError("--plot needs a judged test split, on which the probabilities are measured")
    figure = Figure(figsize=(4.2, 4.0), layout="constrained")
    axes = figure.subplots()
    end = min(1.0, math.ceil(10 * max(max(point.probability, point.high) for point in points) + 0.5) / 10)
    axes.plot([0, end], [0, end], color="0.6", linestyle="--", label="perfect")
    p, y = [point.probability for point in points], [point.relevant for point in points]
    spread = [[a - point.low for a, point in zip(y, points)], [point.high - a for a, point in zip(y, points)]]
    axes.plot(p, y, marker="o", markersize=4, label="test")
    axes.errorbar(p, y, yerr=spread, fmt="none", ecolor="0.45", elinewidth=0.8, capsize=2, label="95 % over groups")
    start = -0.02 * end  # a cap at 0 is seen
    axes.set(xlabel="stated probability", ylabel="share of relevant documents", xlim=(start, end), ylim=(start, end))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    console.print(f"drew {path}", soft_wrap=True, markup=False)
