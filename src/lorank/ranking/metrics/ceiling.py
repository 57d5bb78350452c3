"""What no reranking of a list can exceed: the recall of its documents, and the nDCG of their ideal order."""

import math

from lorank.ranking.types import Qrels, Run


def recall_ceiling(run: Run, qrels: Qrels) -> dict[str, float]:
    """Return for every query of ``qrels`` the share of its relevant documents that the whole list holds.

    A query without relevant documents has 0, as recall has in trec_eval.

    >>> recall_ceiling({"q": {"a": 1.0, "b": 0.5}}, {"q": {"a": 2, "c": 1, "b": 0}, "r": {"a": 1}})
    {'q': 0.5, 'r': 0.0}
    """
    ceiling = {}
    for query, judged in qrels.items():
        relevant = {document for document, relevance in judged.items() if relevance > 0}
        ceiling[query] = len(relevant & run.get(query, {}).keys()) / max(1, len(relevant))
    return ceiling


def ndcg_ceiling(run: Run, qrels: Qrels, k: int = 10) -> dict[str, float]:
    """Return for every query of ``qrels`` the nDCG@k (linear gain) of the best order of its list.

    >>> ndcg_ceiling({"q": {"a": 1.0, "b": 0.5}}, {"q": {"a": 1, "c": 1}}, k=1)
    {'q': 1.0}
    """
    ceiling = {}
    for query, judged in qrels.items():
        listed = run.get(query, {})
        found = (relevance for document, relevance in judged.items() if document in listed)
        ideal = _best_dcg(judged.values(), k)
        ceiling[query] = _best_dcg(found, k) / ideal if ideal else 0.0
    return ceiling


def _best_dcg(relevances: object, k: int) -> float:
    best = sorted((r for r in relevances if r > 0), reverse=True)[:k]  # type: ignore[attr-defined]
    return float(sum(relevance / math.log2(rank + 1) for rank, relevance in enumerate(best, 1)))
