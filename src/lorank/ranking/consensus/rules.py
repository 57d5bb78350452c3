"""The registry of consensus rules, and the verb that applies one: many orders or duels in, one order out."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lorank.errors import UsageError, unknown_name
from lorank.ranking.consensus.profile import Floats, Profile, from_duels, from_rankings, from_table
from lorank.ranking.types import Run

Rule = Callable[..., Floats]
"""``rule(profile, **options) -> scores float64 [items]``, higher is better."""

Missing = Literal["unknown", "last"]

RULES: dict[str, Rule] = {}
"""Every rule under its name."""

ALIASES: dict[str, str] = {}
"""Other names in use, each to a name in ``RULES``."""

TIE = 1e-9
"""Scores that differ by less than this part of themselves are ties, whatever order sums were taken in."""


def rounding(numbers: int) -> float:
    """Return the part of a sum of ``numbers`` terms' sizes that its rounding errors stay below."""
    return 4 * max(numbers, 1) * float(np.finfo(np.float64).eps)


SETTLED: set[str] = set()
"""Rules whose scores are of one size whatever the input, computed to a part of the largest: solvers stop there."""


def rule(name: str, *, aliases: tuple[str, ...] = (), on_unit_scale: bool = False) -> Callable[[Rule], Rule]:
    """Decorate a function to enter it in ``RULES`` under ``name``.

    ``on_unit_scale`` says that the scores are of one size whatever the input (shares, log strengths, ratings), and are
    computed to ``TIE`` of the largest only: a share of 1e-12 beside one of 1 is then no more than one of 0.
    """

    def enter(function: Rule) -> Rule:
        RULES[name] = function
        if on_unit_scale:
            SETTLED.add(name)
        ALIASES.update(dict.fromkeys(aliases, name))
        return function

    return enter


@dataclass(frozen=True)
class Consensus:
    """One order: ``order`` (best first, ties by id descending), ``scores`` of every item, and the ``method``."""

    order: tuple[str, ...]
    scores: dict[str, float]
    method: str = ""

    @property
    def tiers(self) -> tuple[tuple[str, ...], ...]:
        """The order with ties kept: groups of items with equal scores, best first."""
        groups: dict[float, list[str]] = {}
        for name in self.order:
            groups.setdefault(self.scores[name], []).append(name)
        return tuple(tuple(sorted(group)) for group in groups.values())


def consensus(items: Sequence[str], scores: Floats, method: str = "") -> Consensus:
    """Return the order of items by scores [items]; scores within ``TIE`` of their neighbour become equal.

    Two scores are compared with each other, not with the largest there is: beside 10^12, 0.5 and 1 still differ. Only
    for rules that are computed to a part of the largest score (``on_unit_scale``) is it the measure.

    >>> consensus(["a", "b", "c"], np.array([0.1 + 0.2, 0.3, 1.0]))
    Consensus(order=('c', 'b', 'a'), scores={'a': 0.3..., 'b': 0.3..., 'c': 1.0}, method='')
    """
    scores = np.asarray(scores, np.float64)
    if not np.isfinite(scores).all():
        raise UsageError(f"{method or 'the rule'} gave a score that is not finite")
    by_score = np.argsort(scores, kind="stable")
    size = np.abs(scores[by_score])
    least = size.max(initial=0.0) if ALIASES.get(method, method) in SETTLED else 0.0
    near = np.diff(scores[by_score]) <= TIE * np.maximum(np.maximum(size[1:], size[:-1]), least)
    group = np.concatenate([[0], np.cumsum(~near)])[: len(scores)].astype(np.int64)
    settled = np.empty_like(scores)
    settled[by_score] = scores[by_score][np.searchsorted(group, group)]
    values = dict(zip(items, settled.tolist(), strict=True))
    return Consensus(tuple(sorted(values, key=lambda name: (values[name], name), reverse=True)), values, method)


def as_profile(said: Any) -> Profile:
    """Return ``said`` as a profile.

    A mapping ``{voter: {item: score}}`` is a score table; a sequence of tuples ``(winner, loser)`` or
    ``(a, b, outcome)`` is duels; any other sequence of sequences is rankings.
    """
    if isinstance(said, Profile):
        return said
    if isinstance(said, Mapping):
        return from_table(said)
    said = list(said)
    if said and all(isinstance(row, tuple) and _is_duel(row) for row in said):
        return from_duels(said)
    return from_rankings(said)


def _is_duel(row: tuple[Any, ...]) -> bool:
    pair = len(row) in (2, 3) and isinstance(row[0], str) and isinstance(row[1], str)
    return pair and (len(row) == 2 or isinstance(row[2], int | float))


def aggregate(
    rankings_or_pairs: Any, method: str = "bradley-terry", *, missing: Missing = "unknown", **options: Any
) -> Consensus:
    """Return the consensus of many orders, duels or scores.

    Args:
        rankings_or_pairs: Rankings (sequences of items, groups inside are ties), duels (tuples of winner and
            loser, or of two items and 1, 0 or 0.5), a score table ``{voter: {item: score}}``, or a ``Profile``.
        method: A name in ``RULES`` or ``ALIASES``.
        missing: What a ballot says of an item it does not list: nothing, or that it is below all listed.
        options: The rule's own keyword arguments.

    Returns:
        The order of all items, and their scores; equal scores are ties.

    Raises:
        UsageError: Unknown method or option, no items, or input that the rule cannot use.

    >>> aggregate([["a", "b", "c"], ["b", "a", "c"], ["a", "c", "b"]], "borda")
    Consensus(order=('a', 'b', 'c'), scores={'a': 5.0, 'b': 3.0, 'c': 1.0}, method='borda')
    """
    profile = as_profile(rankings_or_pairs)
    if not profile.items:
        raise UsageError("there is nothing to aggregate: no ballot lists an item")
    if missing not in ("unknown", "last"):
        raise unknown_name("reading of missing items", missing, ["unknown", "last"])
    function = find_rule(method)
    known = rule_options(method)
    for option in options:
        if option not in known:
            raise unknown_name(f"option of method {method!r}:", option, known)
    if missing == "last":
        profile = profile.with_missing_last()
    return consensus(profile.items, function(profile, **options), method)


def aggregate_runs(runs: Sequence[Run], method: str = "rrf", *, missing: Missing = "last", **options: Any) -> Run:
    """Return the consensus of runs, query by query, over the documents that any run lists.

    Scores are the rule's; a document that a run does not list is below those it does (``missing="last"``). A run
    without the query says nothing about it.

    Args:
        runs: The runs, one or more.
        method: The name of a rule.
        missing: It says whether a document that a run does not list is below those that it does (``last``) or not
            (``unknown``).
        options: The options of the rule.

    Raises:
        UsageError: If there is no run, or a name is not known.

    >>> aggregate_runs([{"q": {"a": 9.0, "b": 1.0}}, {"q": {"b": 3.0, "a": 2.0, "c": 1.0}}], "borda")
    {'q': {'a': 3.0, 'b': 3.0, 'c': 0.0}}
    """
    if not runs:
        raise UsageError("there is no run to aggregate; give at least one")
    merged: Run = {}
    for query in dict.fromkeys(query for run in runs for query in run):
        table = {str(number): run[query] for number, run in enumerate(runs) if run.get(query)}
        merged[query] = aggregate(from_table(table), method, missing=missing, **options).scores if table else {}
    return merged


def find_rule(name: str) -> Rule:
    """Return the rule called ``name``; raise UsageError for an unknown name."""
    known = ALIASES.get(name, name)
    if known not in RULES:
        raise unknown_name("consensus method", name, [*RULES, *ALIASES])
    return RULES[known]


def rule_options(name: str) -> Mapping[str, Any]:
    """Return the options of a rule and their defaults.

    >>> dict(rule_options("rrf"))
    {'k': 60.0}
    """
    parameters = inspect.signature(find_rule(name)).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
