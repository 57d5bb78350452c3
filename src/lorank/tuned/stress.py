r"""Five tasks that a ranker must bear: its own variance, other queries, another corpus, disturbed queries, attacked
texts.

For each ranker over the same candidates, scored by the texts alone (BM25 parts included):

1. **variance** of the measure over in-domain queries, and the mean of the worst tenth;
2. **query types**: the mean by how a query is written, and its drop rate against all;
3. **corpora**: the mean on other collections, and its drop rate;
4. **queries disturbed** by each perturbation: mean, drop rate, RBO of the lists, share of new first documents;
5. **documents attacked**: one document per query that is not relevant is attacked, the same for every ranker: how
often it
   enters the first ten, how many places it gains, what the measure loses; and relevant documents are damaged.

    drop rate = (m' - m) / m

Paper: C. Wu, R. Zhang, J. Guo, Y. Fan and X. Cheng, Are Neural Ranking Models Robust?, TOIS 2022.

*Deviations*: no public code was found; the paper's attacks on documents come from gradients, these are the black-box
ones of `lorank.ranking.robustness.attacks`. Query types are by form; the paper trains without a type and tests on it.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from lorank.catalogue import catalogued
from lorank.data.collection import Collection, Split
from lorank.errors import UsageError
from lorank.progress import StageCallback
from lorank.ranking.metrics.groups import group_tied_queries, grouped_interval, membership
from lorank.ranking.metrics.measures import per_query
from lorank.ranking.robustness.perturbation import Around, Perturbation, find_perturbation
from lorank.ranking.robustness.query_types import type_of
from lorank.ranking.robustness.stability import ListChange, compare_lists, drop_rate
from lorank.ranking.scorers.ranker import Ranker
from lorank.ranking.types import Qrels, Run, order_documents
from lorank.tuned.ranker import score_run

FIRST = 10


@dataclass(frozen=True)
class Domain:
    """A collection with the queries and candidates that are judged on it."""

    data: Collection
    split: Split
    candidates: Run

    @property
    def queries(self) -> dict[str, str]:
        """The texts of the queries that have candidates and judgments."""
        return {q: self.split.queries[q] for q in self.candidates if self.candidates[q] and self.split.qrels.get(q)}

    @property
    def qrels(self) -> Qrels:
        """The judgments of these queries."""
        return {query: self.split.qrels[query] for query in self.queries}


@dataclass(frozen=True)
class StressSettings:
    """Which perturbations, the measure, the synonyms (None for the packaged ones) and the seed."""

    perturbations: tuple[str, ...]
    measure: str = "nDCG@10"
    synonyms: Mapping[str, Sequence[str]] | None = None
    seed: int = 0


@dataclass(frozen=True)
class QualitySpread:
    """Task 1: mean with its 95 % interval over groups, variance over queries, and the mean of the worst tenth."""

    mean: float
    interval: tuple[float, float]
    variance: float
    worst_tenth: float
    queries: int
    groups: int


@dataclass(frozen=True)
class DistributionShift:
    """Tasks 2 and 3: the mean on a type of queries or another corpus, the drop rate, and the number of queries."""

    mean: float
    drop: float
    queries: int


@dataclass(frozen=True)
class QueryEffect:
    """Task 4: the mean on disturbed queries, the drop rate, how far the lists moved, and the share of texts that
    changed.

    ``interval`` is the 95 % interval, over groups, of the difference of the measure.
    """

    mean: float
    drop: float
    interval: tuple[float, float]
    moved: ListChange
    changed: float


@dataclass(frozen=True)
class DocumentEffect:
    """Task 5: the mean after it, the drop rate; of an attack also how often the document entered the first ten, and the
    mean number of places that it gained (nothing of a damage)."""

    mean: float
    drop: float
    entered: float | None = None
    gained: float | None = None


@dataclass(frozen=True)
class StressReport:
    """What the five tasks found of one ranker."""

    variance: QualitySpread
    types: dict[str, DistributionShift]
    corpora: dict[str, DistributionShift]
    queries: dict[str, QueryEffect]
    documents: dict[str, DocumentEffect]
    base: Run = field(default_factory=dict, repr=False)


@catalogued(
    "nrm-robustness",
    area="robust",
    title="Are Neural Ranking Models Robust?",
    reach="it judges and trains nothing, so it has no recipe key: lorank stress RANKER --data D",
)
def stress(
    ranker: Ranker, domain: Domain, others: Sequence[Domain], settings: StressSettings, on_progress: StageCallback
) -> StressReport:
    """Return what the five tasks find of a ranker.

    Args:
        ranker: The ranker, which scores texts.
        domain: The collection that it is meant for.
        others: Other collections, for the third task.
        settings: What is disturbed and how it is measured.
        on_progress: It receives the stage, the number of units done and their total.

    Raises:
        UsageError: For feature rows, unknown perturbations, and where no query has candidates and judgments.
    """
    for each in (domain, *others):
        if each.data.has_features:
            raise UsageError(f"stress disturbs texts, and collection {each.data.name!r} holds feature rows")
        if not each.queries:
            raise UsageError(f"no query of {each.data.name!r} has candidates and judgments")
    chosen = [find_perturbation(name) for name in settings.perturbations]
    base, disturbed, changed = _score_queries(
        ranker, domain, [each for each in chosen if each.on == "query"], settings, on_progress
    )
    before = _values(base, domain.qrels, settings.measure)
    return StressReport(
        _spread(before, domain.qrels, settings.seed),
        _by_type(before, domain.queries),
        {other.data.name: _elsewhere(ranker, other, before, settings, on_progress) for other in others},
        {name: _compare(run, base, before, domain.qrels, settings, changed[name]) for name, run in disturbed.items()},
        {
            each.name: _attack(ranker, domain, each, base, before, settings, on_progress)
            for each in chosen
            if each.on == "document"
        },
        base,
    )


def _values(run: Run, qrels: Qrels, measure: str) -> dict[str, float]:
    return per_query(run, qrels, [measure])[measure]


def _mean(values: Mapping[str, float]) -> float:
    return float(np.mean(list(values.values())))


def _score_queries(
    ranker: Ranker, domain: Domain, chosen: Sequence[Perturbation], settings: StressSettings, on_progress: StageCallback
) -> tuple[Run, dict[str, Run], dict[str, float]]:
    """Return the run of the queries as they are and of each perturbation; all are scored in one call."""
    rng, around = np.random.default_rng(settings.seed), Around(synonyms=settings.synonyms)
    asked = dict(domain.queries)
    candidates = {query: domain.candidates[query] for query in asked}
    whole, changed = dict(asked), {}
    for each in chosen:
        texts = {query: each.function(text, rng, around) for query, text in asked.items()}
        changed[each.name] = float(np.mean([texts[query] != asked[query] for query in asked]))
        whole |= {_key(each.name, query): text for query, text in texts.items()}
        candidates |= {_key(each.name, query): domain.candidates[query] for query in asked}
    run = score_run(ranker, domain.data, whole, candidates, partial(on_progress, "score disturbed queries"))
    disturbed = {each.name: {query: run[_key(each.name, query)] for query in asked} for each in chosen}
    return {query: run[query] for query in asked}, disturbed, changed


def _key(perturbation: str, query: str) -> str:
    return f"{perturbation}\n{query}"


def _spread(before: Mapping[str, float], qrels: Qrels, seed: int) -> QualitySpread:
    values = np.array(list(before.values()))
    tied = group_tied_queries(qrels)
    member = membership(tied, list(before))
    interval = grouped_interval(values, member, rng=np.random.default_rng(seed), resamples=2000)
    worst = np.sort(values)[: max(1, len(values) // 10)]
    return QualitySpread(
        float(values.mean()), interval, float(values.var()), float(worst.mean()), len(values), int(member.max()) + 1
    )


def _by_type(before: Mapping[str, float], queries: Mapping[str, str]) -> dict[str, DistributionShift]:
    groups: dict[str, list[float]] = defaultdict(list)
    for query, value in before.items():
        groups[type_of(queries[query])].append(value)
    whole = _mean(before)
    return {
        name: DistributionShift(float(np.mean(values)), drop_rate(float(np.mean(values)), whole), len(values))
        for name, values in sorted(groups.items())
    }


def _elsewhere(
    ranker: Ranker, other: Domain, before: Mapping[str, float], settings: StressSettings, on_progress: StageCallback
) -> DistributionShift:
    run = score_run(
        ranker, other.data, other.queries, other.candidates, partial(on_progress, f"score {other.data.name}")
    )
    mean = _mean(_values(run, other.qrels, settings.measure))
    return DistributionShift(mean, drop_rate(mean, _mean(before)), len(run))


def _compare(
    run: Run, base: Run, before: Mapping[str, float], qrels: Qrels, settings: StressSettings, changed: float
) -> QueryEffect:
    after = _values(run, qrels, settings.measure)
    differences = np.array([after[query] - before[query] for query in before])
    member = membership(group_tied_queries(qrels), list(before))
    interval = grouped_interval(differences, member, rng=np.random.default_rng(settings.seed), resamples=2000)
    mean = _mean(after)
    return QueryEffect(mean, drop_rate(mean, _mean(before)), interval, compare_lists(base, run), changed)


def targets_of(domain: Domain, rng: np.random.Generator) -> dict[str, str]:
    """Return one document per query to attack: a candidate of the later half that is not relevant."""
    chosen = {}
    for query in domain.queries:
        row = order_documents(domain.candidates[query])
        others = [d for d in row[len(row) // 2 :] if domain.split.qrels[query].get(d, 0) <= 0]
        if others:
            chosen[query] = others[int(rng.integers(len(others)))]
    return chosen


def _attack(
    ranker: Ranker,
    domain: Domain,
    attack: Perturbation,
    base: Run,
    before: Mapping[str, float],
    settings: StressSettings,
    on_progress: StageCallback,
) -> DocumentEffect:
    """Return what one attack, or one damage, does; only the changed documents are scored again."""
    rng = np.random.default_rng(settings.seed)
    targets = targets_of(domain, rng)
    if attack.attack:
        touched = {query: [document] for query, document in targets.items()}
    else:
        relevant = {q: [d for d in domain.candidates[q] if domain.split.qrels[q].get(d, 0) > 0] for q in base}
        touched = {query: row for query, row in relevant.items() if row}
    listed = [(query, document) for query, row in touched.items() for document in row]
    queries = list(touched)
    place = {query: i for i, query in enumerate(queries)}
    texts = [
        attack.function(
            str(domain.data.documents[domain.data.position[document]]),
            rng,
            Around(domain.split.queries[query], settings.synonyms),
        )
        for query, document in listed
    ]
    pairs = np.array([(place[query], i) for i, (query, _) in enumerate(listed)], np.int64).reshape(-1, 2)
    scores = ranker.score_pairs(
        [domain.split.queries[query] for query in queries], texts, pairs, partial(on_progress, f"score {attack.name}")
    )
    after = {query: dict(row) for query, row in base.items()}
    for (query, document), score in zip(listed, scores.tolist(), strict=True):
        after[query][document] = score
    mean = _mean(_values(after, domain.qrels, settings.measure))
    drop = drop_rate(mean, _mean(before))
    if not attack.attack or not targets:
        return DocumentEffect(mean, drop)
    moved = [(_place(base[query], d), _place(after[query], d)) for query, d in targets.items()]
    outside = [(one, other) for one, other in moved if one >= FIRST]
    entered = float(np.mean([other < FIRST for _, other in outside])) if outside else 0.0
    return DocumentEffect(mean, drop, entered, float(np.mean([one - other for one, other in moved])))


def _place(row: Mapping[str, float], document: str) -> int:
    return order_documents(row).index(document)
