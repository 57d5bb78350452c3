"""Adapt MiniLM to the embedded collection, judge it against BM25, and rank a few texts.

python examples/adapt_a_bi_encoder.py runs/example
"""

import sys

import lorank
from lorank.training import ListSettings, OptimizerSettings, Recipe, rerank_run
from lorank.training.lists.retrieval import bm25_index


def main(out: str) -> None:
    data = lorank.load("pydocs")
    ranker = lorank.BiEncoder("minilm", max_length=128, dtype="auto")
    recipe = Recipe(
        training=OptimizerSettings(steps=40, batch_size=16, evaluations=2), lists=ListSettings(free_queries="titles")
    )
    tuned = lorank.fit(ranker, data, adapter="lora", loss="softmax", rank=8, out=out, recipe=recipe)

    bm25 = bm25_index(data).search(data.test.queries, top=50)
    reranked = rerank_run(tuned, data, data.test.queries, bm25)
    judged = lorank.evaluate({"bm25": bm25, "tuned": reranked}, data.test.qrels)
    for name, system in judged.systems.items():
        print(f"{name:6} nDCG@10 {system.mean['nDCG@10']:.3f}")

    texts = ["Use sorted() with a key function.", "A socket is one endpoint of a connection."]
    for ranked in tuned.rank("sort a dict by value", texts):
        print(f"{ranked.score:6.2f}  {ranked.text}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs/example")
