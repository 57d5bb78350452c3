"""Whether the cross-encoder pays: its weight, and its gain on groups of dev queries that did not choose the weight.

The weight that is used is the best of the grid on all dev queries of the sample. The gain is judged crosswise: the
groups of queries that share relevant documents are dealt into two halves, each half is ranked with the weight that is
the best on the other, and the pooled run is compared with the bi-encoder's mix over groups, as `lorank.training.gain`
compares a tuned ranker with its untuned base. The step is kept where

    weight > 0,   gain > 0,   gain >= cascade.least_gain.

Dev has also chosen the weights of the cross-encoder's network, so that the gain is still somewhat optimistic.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lorank.data.collection import Split
from lorank.ranking.metrics.evaluation import Evaluation
from lorank.ranking.metrics.measures import mean_of
from lorank.ranking.types import Qrels, Run
from lorank.training.dev_sample import order_by_groups
from lorank.training.gain import FIRST_STAGE, TUNED, UNTUNED, Gain, gain_of, judge_ladder
from lorank.training.loop.loop import MAIN_MEASURE
from lorank.tuned.mix import Mix, spread
from lorank.tuned.second_stage import correct_run


@dataclass(frozen=True)
class Lists:
    """Lists of dev queries, ranked by each step: first-stage, mixed, and the cross-encoder's own scores of the best.

    ``first_stage`` is None where the candidates came without scores.
    """

    first_stage: Run | None
    mixed: Run
    learned: Run
    split: Split


@dataclass(frozen=True)
class Verdict:
    """What dev says of the cross-encoder.

    Attributes:
        mix: The weight of its score that is the best on all queries.
        gain: What it gains, judged crosswise: "tuned" is with it, "untuned" without.
        judged: The evaluation that the gain is of, with the first stage.
        kept: Whether it stays.
        why: The reason, in words.
    """

    mix: Mix
    gain: Gain
    judged: Evaluation
    kept: bool
    why: str

    def describe(self) -> str:
        """Return the verdict as one sentence."""
        gain, (low, high) = self.gain, self.gain.interval
        return (
            f"The cross-encoder is {'kept' if self.kept else 'put away'}: {self.why}; {gain.split} {MAIN_MEASURE} "
            f"{gain.tuned:.4f} with it against {gain.untuned:.4f} without, {gain.difference:+.4f} [{low:+.4f}, "
            f"{high:+.4f}], p {gain.p:.2g} over {gain.groups} independent groups of {gain.queries} queries, each "
            "ranked with the weight that the other half chose."
        )


def judge_cross_encoder(lists: Lists, grid: Sequence[float], least_gain: float, collection: str, seed: int) -> Verdict:
    """Return what dev says of the cross-encoder.

    Args:
        lists: The lists of the dev queries that are looked at.
        grid: The weights to choose from, 0 among them.
        least_gain: The smallest gain that pays, 0 or more.
        collection: The name of the collection.
        seed: The seed of the halves and of the resampling.
    """
    qrels = lists.split.qrels
    mix = choose_weight(lists.mixed, lists.learned, grid, qrels)
    crosswise = rank_crosswise(lists, grid, seed)
    first = {} if lists.first_stage is None else {FIRST_STAGE: lists.first_stage}
    judged = judge_ladder({**first, UNTUNED: lists.mixed, TUNED: crosswise}, lists.split, collection, seed)
    gain = gain_of(judged)
    assert gain is not None
    kept, why = decide_whether_to_keep(mix, gain, least_gain)
    return Verdict(mix, gain, judged, kept, why)


def choose_weight(mixed: Run, learned: Run, grid: Sequence[float], qrels: Qrels) -> Mix:
    """Return the weight of the learned scores with the highest nDCG@10; of equal ones the smallest.

    Args:
        mixed: The mixed scores of whole lists.
        learned: The cross-encoder's scores of each list's best documents.
        grid: The weights to choose from, in units of the learned scores' spread.
        qrels: The judgments of the queries that choose.
    """
    unit = spread({query: learned[query] for query in qrels if query in learned})
    lists = {query: mixed[query] for query in qrels if query in mixed}
    tried = [Mix(1.0, float(g), spread=unit) for g in sorted(grid)]
    values = [mean_of(correct_run(lists, learned, mix) if mix.weight else lists, qrels, MAIN_MEASURE) for mix in tried]
    best = max(range(len(tried)), key=lambda i: (values[i], -i))
    return Mix(1.0, tried[best].weight, [(mix.weight, value) for mix, value in zip(tried, values, strict=True)], unit)


def rank_crosswise(lists: Lists, grid: Sequence[float], seed: int) -> Run:
    """Return the final run in which each half of the groups is ranked with the weight that the other half chose.

    Where all queries form one group nothing is left to choose by, and the mixed scores stay.
    """
    qrels = lists.split.qrels
    groups = order_by_groups(qrels, list(qrels), seed)
    halves = [{query: qrels[query] for group in groups[start::2] for query in group} for start in (0, 1)]
    final: Run = {}
    for ranked, chosen_by in (halves, halves[::-1]):
        own = {query: lists.mixed[query] for query in ranked if query in lists.mixed}
        mix = choose_weight(lists.mixed, lists.learned, grid, chosen_by) if chosen_by else None
        final |= correct_run(own, lists.learned, mix) if mix is not None and mix.weight else own
    return final


def decide_whether_to_keep(mix: Mix, gain: Gain, least_gain: float) -> tuple[bool, str]:
    """Return whether the cross-encoder is kept, and why.

    Args:
        mix: The weight that dev has chosen for it.
        gain: What it gains, judged crosswise.
        least_gain: The smallest gain that pays, 0 or more.
    """
    if mix.weight == 0.0:
        return False, "dev gives its score no weight"
    if gain.groups < 2:
        return False, "dev holds one group of queries, which cannot both choose a weight and judge it"
    asked = f"a gain of {least_gain:g}" if least_gain else "a gain"
    if gain.difference > 0 and gain.difference >= least_gain:
        certain = "" if gain.outcome == "better" else f", although it cannot be told from chance{gain.why_tie}"
        return True, f"it reaches {asked}{certain}"
    return False, f"it does not reach {asked}"


def verdict_record(verdict: Verdict) -> dict[str, Any]:
    """Return the verdict as JSON data."""
    gain = verdict.gain
    return {
        "kept": verdict.kept,
        "why": verdict.why,
        "weight": verdict.mix.weight,
        "with": gain.tuned,
        "without": gain.untuned,
        "difference": gain.difference,
        "interval": list(gain.interval),
        "p": gain.p,
        "queries": gain.queries,
        "groups": gain.groups,
        "sentence": verdict.describe(),
    }
