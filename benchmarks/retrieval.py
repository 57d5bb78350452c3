"""Negatives of a retriever at equal steps: the first stage's, the encoder's own before training, and live ones.

    python benchmarks/retrieval.py --data FOLDER --out DIR [--steps 30] [--seed 0]

Each arm is trained alike but for where its negatives come from; every tuned encoder then searches the whole collection.
"""

import argparse
import json
from pathlib import Path

import lorank
from lorank.ranking.metrics.table import to_markdown
from lorank.training.lists.retrieval import dense_run
from lorank.training.recipe import RecipeFile, override
from lorank.tuned.ranker import merged

ARMS = {
    "first-stage": {},
    "static": {"lists.negatives_from": "static"},
    "queries alone, static": {"lists.negatives_from": "static", "reading.adapted": "queries"},
    "live": {"lists.negatives_from": "live"},
}
"""What each arm changes of the recipe."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    data = lorank.load(options.data)
    same = {
        "training.steps": options.steps,
        "training.evaluations": 1,
        "training.evaluation_queries": 50,
        "seed": options.seed,
        "keep": "tuned",
        "judge_test": False,
        "reading.max_length": options.length,
    }
    queries, runs = data.test.queries, {}
    base = lorank.BiEncoder("minilm", max_length=options.length)
    runs["untuned"] = dense_run(base, data, queries, 100)
    for name, changes in ARMS.items():
        adapted = changes.get("reading.adapted", "both")
        ranker = lorank.BiEncoder("minilm", max_length=options.length, adapted=adapted)
        recipe = override(RecipeFile(), same | changes)
        tuned = lorank.fit(ranker, data, out=options.out / name.replace(" ", "-"), recipe=recipe, overwrite=True)
        with merged(tuned.adapter):
            runs[name] = dense_run(ranker, data, queries, 100)
        judged = lorank.evaluate(runs, data.test.qrels, measures=["nDCG@10", "R@100"])
        (options.out / "judged.json").write_text(json.dumps(judged.to_dict(), indent=1))
        print(to_markdown(judged, 140), flush=True)


if __name__ == "__main__":
    main()
