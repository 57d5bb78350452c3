"""Every strategy on TREC DL 2019, BM25's top 100, with the same judges: nDCG@10, calls, tokens, seconds.

    python benchmarks/strategies.py                          # oracle and packaged MiniLM
    python benchmarks/strategies.py --ranker runs/wikiqa-cross --folds runs/dl19-cross
    python benchmarks/strategies.py --judge causal:smollm2 --queries 10 --depth 10 --state runs/strategies/judges.jsonl

Judges are a noisy oracle (right in 80 % of the cases about two passages one grade apart; three seeds), the packaged
MiniLM bi-encoder, the tuned rankers of ``--ranker``, and those of a cross-validation over DL 19's own queries,
``--folds``, of which each query is judged by the one that was not tuned on it. A ranker's scores are computed once; a
row's seconds are those of scoring what the strategy showed, and its own. With ``--judge`` language models are asked
instead, by the logits of a token and by what they write, with a thought: a few queries and documents, as each answer
costs seconds. Rows are kept in ``--state`` as they are done, and a second run goes on from there. The table goes to
stdout.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lorank.data import cross_validation, order_documents, read_qrels, read_run
from lorank.data.beir import read_beir
from lorank.ranking import Oracle, Run, per_query, rerank
from lorank.ranking.judges import Judge
from lorank.ranking.judges.opening import judge_of
from lorank.ranking.judges.prompts import Asking, Prompts
from lorank.ranking.judges.ranker_judge import RankerJudge
from lorank.ranking.metrics.intervals import bootstrap_means, percentile
from lorank.ranking.scorers import BiEncoder
from lorank.ranking.scorers.ranker import Ranker
from lorank.ranking.strategies import STRATEGIES
from lorank.ranking.strategies.e2rank import e2rank
from lorank.ranking.strategies.planning import noise_of_agreement
from lorank.ranking.strategies.runs import CandidateList, Manner, rerank_list, rerank_lists, run_scores

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "trec-dl19"
NOISE = noise_of_agreement(0.8)
SEEDS = (0, 1, 2)
ROWS: list[tuple[str, dict[str, Any]]] = [
    ("pointwise", {}),
    ("full", {}),
    ("permutation-self-consistency", {}),
    ("sliding", {}),
    ("first", {}),
    ("top-down", {}),
    ("jointrank", {}),
    ("jointrank", {"replicates": 8}),
    ("grouprank", {}),
    ("listt5", {}),
    ("setwise", {"method": "heapsort"}),
    ("setwise", {"method": "bubblesort"}),
    ("prp", {"method": "heapsort"}),
    ("prp", {"method": "sliding"}),
    ("prp", {"method": "quicksort"}),
    ("prp", {"method": "all-pairs"}),
    ("sparse-pairwise", {}),
    ("sparse-pairwise", {"share": 0.1}),
    ("iranker", {}),
    ("dynamicrag", {}),
]
LANGUAGE_ROWS: list[tuple[str, dict[str, Any]]] = [
    ("pointwise", {}),
    ("first", {}),
    ("full", {}),
    ("setwise", {"method": "heapsort"}),
    ("iranker", {}),
    ("listt5", {}),
    ("grouprank", {}),
    ("dynamicrag", {}),
    ("prp", {"method": "sliding"}),
    ("promptreps", {}),
]
WRITTEN_ROWS = [row for row in LANGUAGE_ROWS if row[0] not in ("first", "prp", "promptreps")]
"""The strategies whose questions have a prompt that asks for a thought."""


@dataclass(frozen=True)
class Task:
    """The lists, their labels by document (0 where unjudged), and all judgments."""

    lists: Sequence[CandidateList]
    qrels: dict[str, dict[str, int]]

    def labels(self, given: CandidateList) -> list[int]:
        return [self.qrels[given.query_id].get(d, 0) for d in given.ids]


@dataclass(frozen=True)
class Row:
    """What one strategy made of all queries: per query nDCG@10, calls, tokens, rounds and seconds, unread answers."""

    judge: str
    strategy: str
    options: dict[str, Any]
    ndcg: list[float]
    calls: list[float]
    tokens: list[float]
    rounds: list[float]
    seconds: list[float]
    malformed: int = 0


class Remembered(Ranker):
    """A ranker whose scores of every list were computed once, and how many seconds a document took."""

    def __init__(self, ranker: Ranker, lists: Sequence[CandidateList], name: str) -> None:
        self.scores: dict[tuple[str, str], float] = {}
        began = time.perf_counter()
        for number, given in enumerate(lists, start=1):
            for text, score in zip(given.texts, ranker.score(given.query, given.texts).tolist(), strict=True):
                self.scores[given.query, text] = score
            print(f"{name}: scored {number} of {len(lists)} lists", file=sys.stderr, flush=True)
        self.seconds = (time.perf_counter() - began) / sum(len(given.ids) for given in lists)
        self.shown = 0

    def score_pairs(self, queries: Any, documents: Any, pairs: np.ndarray, on_progress: Any = None) -> np.ndarray:
        self.shown += len(pairs)
        return np.array([self.scores[queries[q], documents[d]] for q, d in pairs], np.float32)


class Folded(Ranker):
    """The rankers of a cross-validation: each query is scored by the one that never saw it."""

    def __init__(self, folder: Path) -> None:
        from lorank.training import load_ranker

        found = sorted(folder.glob("fold-*"))
        parts = cross_validation(read_beir(DATA / "beir"), folds=len(found), seed=0, split="test")
        self.by_query = {
            text: load_ranker(folder / f"fold-{number}")
            for number, part in enumerate(parts, start=1)
            for text in part.test.queries.values()
        }

    def score_pairs(self, queries: Any, documents: Any, pairs: np.ndarray, on_progress: Any = None) -> np.ndarray:
        (query,) = queries
        return self.by_query[query].score_pairs(queries, documents, pairs)


def read_task(depth: int) -> Task:
    """Return DL 19's judged queries with BM25's best, and the full judgments (those of the BEIR copy are fewer)."""
    data = read_beir(DATA / "beir")
    qrels = read_qrels(DATA / "qrels.dl19-passage.txt.gz")
    run = read_run(DATA / "runs" / "BM25.trec.gz")
    lists = []
    for query, text in data.test.queries.items():
        ids = order_documents(run[query])[:depth]
        lists.append(CandidateList(query, text, ids, [data.documents[data.position[d]] for d in ids]))
    return Task(lists, {query: dict(qrels[query]) for query in data.test.queries})


def ndcg(task: Task, run: Run) -> list[float]:
    """Return nDCG@10, linear gain, of each query."""
    values = per_query(run, task.qrels, ["nDCG@10"])["nDCG@10"]
    return [float(values[given.query_id]) for given in task.lists]


def judged_row(
    task: Task,
    judge: str,
    strategy: str,
    options: dict[str, Any],
    judges: Sequence[Callable[[Any], Judge]],
    score_seconds: Callable[[], float],
) -> Row:
    """Return the row of a strategy, averaged over ``judges``: one for each seed."""
    quality, cost = [], np.zeros((4, len(task.lists)))
    for seed, judge_of_list in enumerate(judges):
        run: Run = {}
        for place, given in enumerate(task.lists):
            began, scored = time.perf_counter(), score_seconds()
            done = rerank_list(given, judge_of_list, Manner(strategy, options=options, seed=seed))
            spent = time.perf_counter() - began + score_seconds() - scored
            cost[:, place] += np.array([done.usage.calls, done.usage.tokens, done.usage.rounds, spent]) / len(judges)
            run[given.query_id] = run_scores(given, done)
        quality.append(ndcg(task, run))
    calls, tokens, rounds, seconds = cost.tolist()
    return Row(judge, strategy, options, np.mean(quality, axis=0).tolist(), calls, tokens, rounds, seconds)


def oracles(task: Task) -> list[Callable[[CandidateList], Judge]]:
    """Return a noisy oracle for each seed; no two queries share their noise."""
    place = {given.query_id: number for number, given in enumerate(task.lists)}
    return [
        lambda given, seed=seed: Oracle(task.labels(given), NOISE, seed=1000 * seed + place[given.query_id])
        for seed in SEEDS
    ]


def feedback_row(task: Task, name: str, encoder: BiEncoder) -> Row:
    """Return E2Rank's row: the documents' vectors are known, the prompt of the best 20 is encoded."""
    run: Run = {}
    seconds, tokens = [], []
    for given in task.lists:
        vectors = encoder.encode(given.texts)
        began = time.perf_counter()
        done = e2rank(given.query, given.texts, encoder, vectors=vectors)
        seconds.append(time.perf_counter() - began)
        tokens.append(float(len(done.prompt.split())))
        run[given.query_id] = {given.ids[d]: float(len(given.ids) - rank) for rank, d in enumerate(done.order)}
    ones = [1.0] * len(task.lists)
    return Row(name, "e2rank", {"feedback": 20}, ndcg(task, run), ones, tokens, ones, seconds)


def plain_rows(task: Task) -> Iterator[Row]:
    """Yield the first stage, and the best order that these candidates allow."""
    none = [0.0] * len(task.lists)
    first = {given.query_id: {d: -float(i) for i, d in enumerate(given.ids)} for given in task.lists}
    best = {
        given.query_id: run_scores(given, rerank(given.query, given.texts, Oracle(task.labels(given)), "full"))
        for given in task.lists
    }
    yield Row("none", "BM25, as it came", {}, ndcg(task, first), none, none, none, none)
    yield Row("none", "the best order of these candidates", {}, ndcg(task, best), none, none, none, none)


def rows(
    task: Task, done: dict[str, Row], folders: Sequence[str], folds: Sequence[str], keep: Callable[[Row], None]
) -> None:
    """Compute the rows that are not done yet."""

    def missing(judge: str) -> list[tuple[str, dict[str, Any]]]:
        return [(name, options) for name, options in ROWS if key(judge, name, options) not in done]

    for row in plain_rows(task):
        if key(row.judge, row.strategy, row.options) not in done:
            keep(row)
    for name, options in missing("oracle"):
        keep(judged_row(task, "oracle", name, options, oracles(task), lambda: 0.0))
    for name, ranker in rankers(folders, folds):
        if isinstance(ranker, BiEncoder) and key(name, "e2rank", {"feedback": 20}) not in done:
            keep(feedback_row(task, name, ranker))
        if wanted := missing(name):
            known = Remembered(ranker, task.lists, name)
            ranker_rows(task, known, name, wanted, keep)


def ranker_rows(
    task: Task, known: Remembered, name: str, wanted: Sequence[tuple[str, dict[str, Any]]], keep: Callable[[Row], None]
) -> None:
    """Compute the rows of one ranker as judge."""
    judge = RankerJudge(known, name=name)
    for strategy, options in wanted:
        keep(judged_row(task, name, strategy, options, [lambda given: judge], lambda: known.shown * known.seconds))


def language_rows(
    task: Task, done: dict[str, Row], judges: Sequence[str], asking: Asking, keep: Callable[[Row], None]
) -> None:
    """Compute the rows of language models that are asked: by the logits of a token, and with a thought in writing."""
    for row in plain_rows(task):
        if key(row.judge, row.strategy, row.options) not in done:
            keep(row)
    for place in judges:
        for thinking, wanted in ((False, LANGUAGE_ROWS), (True, WRITTEN_ROWS)):
            name = f"{place}, {'with a thought' if thinking else 'as a token or a list'}"
            missing = [row for row in wanted if key(name, *row) not in done]
            prompts = Prompts.load(words=asking.prompts.words if asking.prompts else None, thinking=thinking)
            judge = judge_of(place, replace(asking, prompts=prompts, thinking=thinking)) if missing else None
            for strategy, options in missing:
                keep(asked_row(task, name, judge, strategy, options))


def asked_row(task: Task, name: str, judge: Any, strategy: str, options: dict[str, Any]) -> Row:
    """Return the row of a strategy whose judge is asked; replies that cannot be read keep the order that came."""
    run: Run = {}
    cost, malformed = [], 0
    lists = rerank_lists(task.lists, lambda given: judge, Manner(strategy, options=options))
    for given, done in zip(task.lists, lists, strict=True):
        used = done.usage
        cost.append((used.calls, used.tokens, used.rounds, used.wall_time_s))
        malformed += used.malformed
        run[given.query_id] = run_scores(given, done)
    calls, tokens, rounds, seconds = (list(map(float, column)) for column in zip(*cost, strict=True))
    return Row(name, strategy, options, ndcg(task, run), calls, tokens, rounds, seconds, malformed)


def rankers(folders: Sequence[str], folds: Sequence[str]) -> Iterator[tuple[str, Ranker]]:
    from lorank.training import load_ranker

    yield "MiniLM bi-encoder, as packaged", BiEncoder("minilm", dtype="auto")
    for folder in folders:
        yield f"{Path(folder).name}, tuned", load_ranker(folder)
    for folder in folds:
        yield f"{Path(folder).name}, tuned on other queries", Folded(Path(folder))


def key(judge: str, strategy: str, options: dict[str, Any]) -> str:
    return json.dumps([judge, strategy, options], sort_keys=True)


def table(found: Sequence[Row]) -> str:
    """Return the rows of each judge as Markdown, best first, with 95 % bootstrap intervals over queries."""
    lines = []
    for judge in dict.fromkeys(row.judge for row in found):
        asked = any(row.malformed for row in found if row.judge == judge)
        lines += [
            f"\n### {judge}\n",
            "| strategy | nDCG@10 [95 %] | calls | rounds | tokens | seconds |" + " malformed |" * asked,
            "|---|---|---|---|---|---|" + "---|" * asked,
        ]
        for row in sorted((row for row in found if row.judge == judge), key=lambda row: -np.mean(row.ndcg)):
            values = np.array(row.ndcg)
            means = bootstrap_means(values[:, None], rng=np.random.default_rng(0))[:, 0]
            low, high = percentile(means, values, 0.95)
            options = ", ".join(
                f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
                for name, value in row.options.items()
            )
            cost = [np.mean(each) for each in (row.calls, row.rounds, row.tokens, row.seconds)]
            lines.append(
                f"| {row.strategy}{f' ({options})' if options else ''} | {values.mean():.3f} [{low:.3f}, "
                f"{high:.3f}] | {cost[0]:,.0f} | {cost[1]:,.0f} | {cost[2]:,.0f} | {cost[3]:.3f} |"
                + f" {row.malformed} of {sum(row.calls):,.0f} |"
                * asked
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranker", action="append", default=[], help="folder of a tuned ranker; may be repeated")
    parser.add_argument("--folds", action="append", default=[], help="folder of a cross-validation; may be repeated")
    parser.add_argument(
        "--judge", action="append", default=[], help="causal:BASE, t5:BASE, ...; asked in place of them"
    )
    parser.add_argument("--words", type=int, default=40, help="words of a document that a language model is shown")
    parser.add_argument("--max-tokens", type=int, default=160, help="tokens of a reply")
    parser.add_argument("--queries", type=int, help="the first queries only")
    parser.add_argument("--state", type=Path, default=Path("runs/strategies/rows.jsonl"), help="where rows are kept")
    parser.add_argument("--depth", type=int, default=100, help="documents of each query")
    chosen = parser.parse_args()
    unlisted = set(STRATEGIES) - {name for name, _ in ROWS}
    if unlisted:
        sys.exit(f"no row asks the strategies {', '.join(sorted(unlisted))}")
    task = read_task(chosen.depth)
    task = replace(task, lists=task.lists[: chosen.queries])
    chosen.state.parent.mkdir(parents=True, exist_ok=True)
    lines = chosen.state.read_text().splitlines() if chosen.state.exists() else []
    found = {key(row.judge, row.strategy, row.options): row for row in (Row(**json.loads(line)) for line in lines)}

    def keep(row: Row) -> None:
        found[key(row.judge, row.strategy, row.options)] = row
        with chosen.state.open("a") as file:
            file.write(json.dumps(asdict(row)) + "\n")
        print(f"{row.judge}: {row.strategy} {row.options} nDCG@10 {np.mean(row.ndcg):.4f}", file=sys.stderr, flush=True)

    if chosen.judge:
        asking = Asking(prompts=Prompts.load(words=chosen.words), max_tokens=chosen.max_tokens)
        language_rows(task, found, chosen.judge, asking, keep)
    else:
        rows(task, found, chosen.ranker, chosen.folds, keep)
    print(table(list(found.values())))


if __name__ == "__main__":
    main()
