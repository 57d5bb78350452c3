"""The steps of a cascade as they are reported: what dev says of each, what it costs, and whether it was kept."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lorank.ranking.metrics.evaluation import Comparison, Evaluation
from lorank.training.cascade.judging import Lists, Verdict
from lorank.training.cascade.settings import BI_ENCODER, CROSS_ENCODER
from lorank.training.gain import FIRST_STAGE, TUNED, UNTUNED, comparison_of
from lorank.training.loop.loop import MAIN_MEASURE
from lorank.tuned.ranker import TunedRanker

Interval = tuple[float, float]


@dataclass(frozen=True)
class Step:
    """One step of a cascade.

    Attributes:
        name: The step.
        value: nDCG@10 on dev with all steps up to this one.
        interval: Its 95% bootstrap interval over groups.
        gain: The difference to the step before, None for the first.
        gain_interval: Its 95% interval over groups.
        p: The p-value of the paired randomisation test over groups.
        documents: How many documents per query it reads.
        seconds: How long that took per query on this machine.
        kept: Whether it is part of the ranker.
        sentence: What is said of it.
    """

    name: str
    value: float
    interval: Interval
    gain: float | None
    gain_interval: Interval | None
    p: float | None
    documents: float
    seconds: float | None
    kept: bool
    sentence: str


def describe_steps(
    verdict: Verdict, bi: TunedRanker, lists: Lists, depth: int, mixing_seconds: float, reading_seconds: float
) -> list[Step]:
    """Return the steps on the same dev queries, the first stage before all where its candidates have scores.

    Args:
        verdict: What dev says of the cross-encoder.
        bi: The bi-encoder, with what its own run says of its gain.
        lists: The lists of the dev queries.
        depth: How many documents the cross-encoder reads.
        mixing_seconds: The seconds per query of the bi-encoder.
        reading_seconds: The seconds per query of the cross-encoder.
    """
    long = _mean_length(lists.mixed)
    steps = [_bi_encoder(verdict.judged, bi, long, mixing_seconds)]
    if lists.first_stage is not None:
        steps.insert(0, _first_stage(verdict.judged, _mean_length(lists.first_stage)))
    value, interval = _value(verdict.judged, TUNED)
    gain, read = verdict.gain, min(float(depth), long)
    cost = f" It reads {read:g} pairs per query, {1000 * reading_seconds:.0f} ms here."
    said = verdict.describe() + cost
    steps.append(
        Step(
            CROSS_ENCODER,
            value,
            interval,
            gain.difference,
            gain.interval,
            gain.p,
            read,
            reading_seconds,
            verdict.kept,
            said,
        )
    )
    return steps


def step_records(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Return the steps as JSON data."""
    return [asdict(step) for step in steps]


def steps_table(steps: Sequence[Step]) -> str:
    """Return the steps as a Markdown table, one row per step.

    >>> step = Step("first stage", 0.5, (0.4, 0.6), None, None, None, 100.0, None, True, "")
    >>> print(steps_table([step]).splitlines()[-1])
    | first stage | 0.5000 [0.4000, 0.6000] |  |  | 100 |  | kept |
    """
    rows = [
        f"| step | dev {MAIN_MEASURE} [95%] | gain [95%] | p | documents per query | ms per query | |",
        "|---|---|---|---:|---:|---:|---|",
    ]
    for step in steps:
        gain = "" if step.gain is None else f"{step.gain:+.4f} {_shown(step.gain_interval, '+')}"
        p = "" if step.p is None else f"{step.p:.2g}"
        taken = "" if step.seconds is None else f"{1000 * step.seconds:.0f}"
        value = f"{step.value:.4f} {_shown(step.interval)}"
        kept = "kept" if step.kept else "put away"
        rows.append(f"| {step.name} | {value} | {gain} | {p} | {step.documents:.3g} | {taken} | {kept} |")
    return "\n".join(rows)


def _first_stage(judged: Evaluation, long: float) -> Step:
    value, interval = _value(judged, FIRST_STAGE)
    sentence = f"The first stage has dev {MAIN_MEASURE} {value:.4f} over {long:.3g} documents per query."
    return Step(FIRST_STAGE, value, interval, None, None, None, long, None, True, sentence)


def _bi_encoder(judged: Evaluation, bi: TunedRanker, long: float, seconds: float) -> Step:
    value, interval = _value(judged, UNTUNED)
    own = next((gain for gain in bi.gain if gain["split"] == "dev"), None)
    pair = _over_first_stage(judged)
    added = bi.mix.weight > 0
    tuned = own is None or own["difference"] > 0
    weights = "its tuned weights" if tuned else "the weights of its base, which tuning did not better on dev"
    over = "" if pair is None else f", {pair.difference:+.4f} over the first stage"
    read = f"It reads {long:.3g} documents per query, {1000 * seconds:.0f} ms here."
    sentence = f"The bi-encoder is kept, with {weights}: dev {MAIN_MEASURE} {value:.4f}{over}. {read}"
    if not added:
        sentence = "The bi-encoder is put away: dev gives its score no weight."
    difference = None if pair is None else pair.difference
    between, p = (None, None) if pair is None else (pair.interval, pair.p)
    return Step(BI_ENCODER, value, interval, difference, between, p, long, seconds, added, sentence)


def _over_first_stage(judged: Evaluation) -> Comparison | None:
    return comparison_of(judged, UNTUNED, FIRST_STAGE) if FIRST_STAGE in judged.systems else None


def _value(judged: Evaluation, name: str) -> tuple[float, Interval]:
    system = judged.systems[name]
    low, high = system.interval[MAIN_MEASURE]
    return system.mean[MAIN_MEASURE], (low, high)


def _mean_length(run: Any) -> float:
    return sum(map(len, run.values())) / max(len(run), 1)


def _shown(interval: Interval | None, sign: str = "") -> str:
    return "" if interval is None else f"[{interval[0]:{sign}.4f}, {interval[1]:{sign}.4f}]"
