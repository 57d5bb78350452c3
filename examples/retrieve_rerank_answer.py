"""Retrieve, rerank with any strategy and judge, answer: the whole way from a question to a sentence.

    python examples/retrieve_rerank_answer.py "how do I sort a dict by value"
    python examples/retrieve_rerank_answer.py "how do I sort a dict by value" --strategy sliding --judge openai:URL

The answer is the sentence of the best documents that is nearest to the question: quoted, not written.
"""

import argparse
import re

import lorank
from lorank.ranking import rerank
from lorank.ranking.scorers.ranker import Ranker
from lorank.training.lists.retrieval import bm25_index


def answer(question: str, documents: list[str], reader: Ranker) -> str:
    """Return the sentence of ``documents`` that ``reader`` scores highest for the question."""
    sentences = [part.strip() for text in documents for part in re.split(r"(?<=[.!?])\s+|\n+", text)]
    return reader.rank(question, [s for s in sentences if len(s.split()) >= 4], top=1)[0].text


def main(question: str, strategy: str, judge: str | None, depth: int = 20, shown: int = 3) -> str:
    data = lorank.load("pydocs")
    reader = lorank.BiEncoder("minilm", max_length=128, dtype="auto")
    found = bm25_index(data).search({"q": question}, depth)["q"]
    ids = sorted(found, key=found.__getitem__, reverse=True)
    texts = [data.documents[data.position[document]] for document in ids]
    done = rerank(question, texts, judge or reader, strategy, top=shown)
    best = [texts[place] for place in done.order[:shown]]
    print(f"{strategy}: {done.usage.calls} calls")
    for text in best:
        print("  -", text.splitlines()[0][:100])
    said = answer(question, best, reader)
    print(said)
    return said


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question")
    parser.add_argument("--strategy", default="jointrank", help="any of lorank's strategies; a wrong name lists them")
    parser.add_argument("--judge", help="openai:URL or causal:BASE; by default MiniLM judges")
    options = parser.parse_args()
    main(options.question, options.strategy, options.judge)
