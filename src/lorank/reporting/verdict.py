"""The run in one sentence, computed from the paired test: better, worse, or a tie."""

from dataclasses import dataclass, replace

from lorank.ranking.metrics.evaluation import Comparison, Evaluation
from lorank.reporting.numbers import decimal, interval, is_known, p_clause, signed_decimal

LEVEL = 0.05
"""A Holm-corrected p at or above this is a tie."""

OUTCOME_WORDS = {"better": "better than", "worse": "worse than", "tie": "a tie with", "untested": "not tested against"}


@dataclass(frozen=True)
class Verdict:
    """The ``sentence``, the ``outcome`` (better, worse, tie, untested, alone) and whom it is about."""

    sentence: str
    outcome: str
    system: str
    baseline: str | None
    measure: str


def outcome(comparison: Comparison) -> str:
    """Return better, worse or tie; a tie is ``p_holm >= 0.05``, an undefined p is untested.

    >>> outcome(Comparison("new", "old", "nDCG@10", 0.1, (0.0, 0.2), 0.03, 0.06, 9, 1, 2))
    'tie'
    """
    if not is_known(comparison.p_holm):
        return "untested"
    if comparison.p_holm >= LEVEL or comparison.difference == 0:
        return "tie"
    return "better" if comparison.difference > 0 else "worse"


def reverse_comparison(comparison: Comparison) -> Comparison:
    """Return the same comparison seen from the other system."""
    low, high = comparison.interval
    return replace(
        comparison,
        system=comparison.baseline,
        baseline=comparison.system,
        difference=-comparison.difference,
        interval=(-high, -low),
        wins=comparison.losses,
        losses=comparison.wins,
    )


def comparisons_of(evaluation: Evaluation, system: str, measure: str) -> list[Comparison]:
    """Return every comparison of ``system`` on ``measure``, seen from it, in the order of the ladder."""
    mine = {c.baseline: c for c in evaluation.comparisons if c.measure == measure and c.system == system}
    theirs = {
        c.system: reverse_comparison(c) for c in evaluation.comparisons if c.measure == measure and c.baseline == system
    }
    both = {**theirs, **mine}
    return [both[name] for name in evaluation.systems if name in both]


def verdict(evaluation: Evaluation) -> Verdict | None:
    """Return what the evaluation says of the last rung of its ladder, on its first measure.

    A tuned ranker is held against its untuned base, for only that difference is what training gained. Any other last
    rung is held against the strongest other system; where that pair was not tested, against the strongest one that
    was, and the sentence says so. None where there is no system or no measure.
    """
    if not evaluation.systems or not evaluation.measures:
        return None
    measure, system = evaluation.measures[0], list(evaluation.systems)[-1]
    mean = {name: result.mean[measure] for name, result in evaluation.systems.items()}
    others = sorted((name for name in mean if name != system and is_known(mean[name])), key=mean.__getitem__)
    groups = evaluation.settings.get("groups")
    counted = f"{evaluation.queries} {evaluation.split} queries"
    where = f"the {counted}{'' if groups is None else f' ({groups} independent groups)'} of {evaluation.collection}"
    if not others:
        text = f"{system} reaches {measure} {decimal(mean[system])} on {where}; there is nothing to compare it with."
        return Verdict(text, "alone", system, None, measure)
    strongest, tested = others[-1], comparisons_of(evaluation, system, measure)
    if not tested:
        text = (
            f"{system} reaches {measure} {decimal(mean[system])} on {where}, {strongest} "
            f"{decimal(mean[strongest])}; no paired test was made, so neither is shown to be better."
        )
        return Verdict(text, "untested", system, strongest, measure)
    untuned = _find_untuned_pair(evaluation, system, tested)
    if untuned is not None:
        return Verdict(_gain_sentence(untuned, mean, where), outcome(untuned), system, untuned.baseline, measure)
    pair = max(reversed(tested), key=lambda c: mean[c.baseline])  # of equal ones the last rung, as in `others`
    return Verdict(_sentence(pair, mean, where, strongest), outcome(pair), system, pair.baseline, measure)


def _find_untuned_pair(evaluation: Evaluation, system: str, tested: list[Comparison]) -> Comparison | None:
    """Return the comparison of a tuned system with the untuned base, where the ladder has both."""
    if evaluation.systems[system].role != "tuned":
        return None
    return next((c for c in tested if evaluation.systems[c.baseline].role == "untuned"), None)


def _gain_sentence(pair: Comparison, mean: dict[str, float], where: str) -> str:
    found = outcome(pair)
    said = {
        "better": "training gained",
        "worse": "training lost",
        "tie": "training gained nothing that can be told from chance",
        "untested": "the gain of training is not tested",
    }[found if pair.difference else "tie"]
    numbers = (
        f"{pair.measure} {decimal(mean[pair.system])} against {decimal(mean[pair.baseline])} of the untuned base in "
        f"the same mix, difference {signed_decimal(pair.difference)} {interval(pair.interval, sign=True)}"
    )
    test = f"Holm-corrected {p_clause(pair.p_holm)}" if is_known(pair.p_holm) else "no p-value is defined"
    return f"On {where}, {said}: {numbers}, {test}."


def _sentence(pair: Comparison, mean: dict[str, float], where: str, strongest: str) -> str:
    verb = OUTCOME_WORDS[outcome(pair)]
    rival = f"{pair.baseline}, the strongest other system" if pair.baseline == strongest else pair.baseline
    numbers = (
        f"{pair.measure} {decimal(mean[pair.system])} against {decimal(mean[pair.baseline])}, "
        f"difference {signed_decimal(pair.difference)} {interval(pair.interval, sign=True)}"
    )
    test = f"Holm-corrected {p_clause(pair.p_holm)}" if is_known(pair.p_holm) else "no p-value is defined"
    close = "; the difference cannot be told from chance" if outcome(pair) == "tie" else ""
    missing = f" It was not tested against {strongest}, the strongest other system."
    missing = "" if pair.baseline == strongest else missing
    return f"On {where}, {pair.system} is {verb} {rival}: {numbers}, {test}{close}.{missing}"
