"""Asking a judge about the lists of a run, for `lorank rerank`: who is asked, what is kept, what it cost."""

import json
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

from lorank.cli.options import key_value
from lorank.cli.progress import console, progress_bars
from lorank.errors import UsageError

if TYPE_CHECKING:
    from lorank.data.collection import Collection
    from lorank.ranking.judges import Cache, Judge
    from lorank.ranking.judges.prompts import Asking
    from lorank.ranking.strategies.candidate_list import CandidateList
    from lorank.ranking.strategies.runs import JudgeOf, Manner
    from lorank.ranking.types import Qrels, Run
    from lorank.tuned.ranker import TunedRanker

WRITES = ("openai", "causal", "t5")
"""Judges that answer in words, and so can be asked for a thought."""
BY_OWN_PROMPT = ("fid", "monot5", "duot5")
"""Judges that were trained on one prompt, which is theirs alone."""
KEPT_ANSWERS = (*WRITES, *BY_OWN_PROMPT)
"""Judges whose answers are kept unless the user names another file."""
USUAL_STRATEGY = {"fid": "listt5", "monot5": "pointwise", "duot5": "prp"}
"""The strategy of a judge that was made for one; every other is asked by jointrank."""


def candidate_lists(collection: "Collection", queries: dict[str, str], candidates: "Run") -> "list[CandidateList]":
    """Return the candidates of each query with their texts, best first."""
    from lorank.data import order_documents
    from lorank.ranking.strategies.candidate_list import CandidateList

    if collection.has_features:
        raise UsageError(f"collection {collection.name!r} holds feature rows, not texts that a judge could read")
    ids = {query: order_documents(row) for query, row in candidates.items()}
    return [
        CandidateList(query, queries[query], row, [collection.documents[collection.position[d]] for d in row])
        for query, row in ids.items()
    ]


def resolve_judge(name: str, ranker: "TunedRanker | None", asking: "Asking", qrels: "Qrels", seed: int) -> "JudgeOf":
    """Return the judge of each list, by the name that was typed.

    Args:
        name: ``ranker``, ``oracle`` with its settings, or a judge's, such as ``openai:URL`` or ``causal:BASE``.
        ranker: The one of ``--ranker``, which the name ``ranker`` stands for.
        asking: How a language model is asked.
        qrels: The judgments that an oracle reads.
        seed: Of an oracle that errs.
    """
    from lorank.ranking.judges import Oracle
    from lorank.ranking.judges.opening import judge_of

    kind, _, rest = name.partition(":")
    if kind == "oracle":
        settings = dict(key_value(text, "--judge oracle:") for text in rest.split(",") if rest)
        known = {"noise", "position_bias", "malformed", "threshold"}
        if not settings.keys() <= known or not all(isinstance(v, int | float) for v in settings.values()):
            raise UsageError(f"--judge {name}: an oracle takes numbers for {', '.join(sorted(known))}")
        Oracle([], **settings)
        return lambda given: Oracle(
            [max(qrels.get(given.query_id, {}).get(d, 0), 0) for d in given.ids],
            seed=seed + crc32(given.query_id.encode()),
            **settings,
        )
    one = judge_of(name, asking) if name != "ranker" or ranker is None else _ranker_judge(ranker)
    return lambda given: one


def _ranker_judge(ranker: "TunedRanker") -> "Judge":
    """Return the judge that answers by a ranker's scores, named so that a cache on disk tells it from others."""
    from lorank.ranking.judges.ranker_judge import RankerJudge, files_digest

    ranker.refuse_cascade("asked by a strategy")
    if ranker.policy is not None:
        ranker.merge()
        return ranker.policy.judge(ranker.ranker, None if ranker.folder is None else files_digest(ranker.folder))
    if ranker.folder is None:
        return RankerJudge(ranker, name=RankerJudge(ranker.ranker).identity)
    options = json.dumps(ranker.ranker.options(), sort_keys=True)
    return RankerJudge(ranker, name=f"{files_digest(ranker.folder)} {options}")


def settle_thinking(thinking: bool | None, judge: str | None, strategy: str | None) -> bool:
    """Return whether a language model is asked for a thought: as it was said, else where the strategy is rank-k's.

    Raises UsageError where it was said and no language model writes.
    """
    writes = (judge or "").partition(":")[0] in WRITES
    if thinking and not writes:
        known = " or ".join(f"{name}:..." for name in WRITES)
        raise UsageError(f"--thinking asks a language model for a thought; give {known} to --judge")
    return writes and (strategy == "rank-k" if thinking is None else thinking)


def open_cache(cache: Path | None, judge: str | None, out: Path, manner: "Manner") -> "Cache | None":
    """Return the cache that is asked for, or that a judge which costs gets beside ``out`` if it is put questions."""
    from lorank.ranking.judges import Cache
    from lorank.ranking.strategies.by_model import is_by_model

    if is_by_model(manner.strategy):
        return None
    if cache is None and (judge or "").partition(":")[0] in KEPT_ANSWERS:
        cache = out.with_name(f"{out.name}.answers.jsonl")
    if cache is None:
        return None
    kept = Cache(cache)
    console.print(
        f"answers are kept in {cache}" + (f", which holds {len(kept)}" if len(kept) else ""),
        soft_wrap=True,
        markup=False,
    )
    return kept


def judge_run(
    lists: "list[CandidateList]",
    judge_of: "JudgeOf",
    manner: "Manner",
    cache: "Cache | None",
    engine: str,
    accept_malformed: bool = False,
    only_selected: bool = False,
) -> "Run":
    """Return the lists reranked, as a run; what it cost goes to stderr, also when the judge fails.

    With ``only_selected`` a list has the documents alone that the strategy chose to keep, perhaps none. Raises
    JudgeError where every answer was malformed, unless ``accept_malformed``.
    """
    from lorank.cli.usage_table import usage_table
    from lorank.ranking.judges import JudgeError, Malformed, check_malformed
    from lorank.ranking.strategies.runs import rerank_lists, run_scores

    done = []
    try:
        with progress_bars() as on_progress:
            on_progress("rerank queries", 0, len(lists))
            for one in rerank_lists(lists, judge_of, manner, cache=cache, engine=engine):
                done.append(one)
                on_progress("rerank queries", len(done), len(lists))
    except JudgeError as error:
        advice = (
            "the same command goes on from the answers in the cache"
            if cache is not None
            else "with --cache FILE a second try would not ask again what was answered"
        )
        raise JudgeError(f"{error}; {len(done)} of {len(lists)} queries were done; {advice}") from error
    finally:
        if cache is not None:
            cache.close()
        if done:
            console.print(usage_table(done), soft_wrap=True, markup=False)
    malformed = sum((one.malformed for one in done), Malformed())
    if not accept_malformed:
        check_malformed(malformed)
    if malformed.many:
        console.print(f"warning: {malformed.describe()}", soft_wrap=True, markup=False)
    run = {given.query_id: run_scores(given, one) for given, one in zip(lists, done, strict=True)}
    if not only_selected:
        return run
    return {query: dict(list(row.items())[: one.selected]) for (query, row), one in zip(run.items(), done, strict=True)}
