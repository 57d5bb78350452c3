"""Masked language modelling with layers of low rank, at equal parameters, and what a first stage does for a ranker.

    python benchmarks/pretrain.py layers [--steps 80] > layers.json
    python benchmarks/pretrain.py first-stage [--steps 60] > first.json

`layers` trains a small encoder on the documents of lohelp, every method at every rate with every seed, in one process:
the methods take turns, so that what else the machine does falls on all alike. `first-stage` trains MiniLM on the
documents of lohelp first, and then both it and the plain one as rankers. The page is benchmarks/pretrain.md.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import lorank
from lorank.lowrank.factored import factored_kind
from lorank.training.pretraining import FactoredSettings, MaskingSettings, PretrainRecipe, pretrain
from lorank.training.pretraining.corpus import read_corpus
from lorank.training.settings import OptimizerSettings

CONFIG = {
    "model_type": "bert",
    "hidden_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 384,
    "max_position_embeddings": 64,
}
SHAPES = {"attention": (96, 96), "up": (384, 96), "down": (96, 384)}
METHODS = ("dense", "greenformers-lrt", "sltrain", "lost", "switchlora", "pretrain-refactor-reset", "subgm-small-init")
RATES = (1e-3, 3e-3, 1e-2)
SEEDS = (0, 1)
DOCUMENTS = 200


def equal_ranks(method: str) -> dict[str, int]:
    """Return the rank of each shape at which a method trains at most what B A at half of break-even does."""
    ranks = {}
    for name, (out, width) in SHAPES.items():
        plain = int(0.5 * out * width / (out + width))
        most = plain * (out + width)
        count = factored_kind(method).count
        ranks[name] = max(r for r in range(1, plain + 1) if count(out, width, r) <= most)
    return ranks


def rank_of_layers(method: str) -> dict[str, int]:
    """Return the rank of every layer of the encoder by path."""
    ranks, found = equal_ranks(method), {}
    for layer in range(CONFIG["num_hidden_layers"]):
        at = f"bert.encoder.layer.{layer}"
        for name in ("query", "key", "value"):
            found[f"{at}.attention.self.{name}"] = ranks["attention"]
        found[f"{at}.attention.output.dense"] = ranks["attention"]
        found[f"{at}.intermediate.dense"], found[f"{at}.output.dense"] = ranks["up"], ranks["down"]
    return found


def settings_of(method: str) -> FactoredSettings:
    """Return the layers of a method; B A from nothing is the Low-Rank Transformer at random."""
    if method == "dense":
        return FactoredSettings()
    start = "random" if method == "greenformers-lrt" else None
    return FactoredSettings(method, rank=rank_of_layers(method), start=start, targets=list(rank_of_layers(method)))  # type: ignore[arg-type]


def train_layers(steps: int, batch: int) -> Iterator[dict[str, Any]]:
    """Yield the result of every method, rate and seed."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "config.json").write_text(json.dumps(CONFIG))
        corpus = place / "corpus.jsonl"
        texts = read_corpus("lohelp")[:DOCUMENTS]
        corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        for seed in SEEDS:
            for rate in RATES:
                for method in METHODS:
                    recipe = PretrainRecipe(
                        str(corpus),
                        str(place / "config.json"),
                        str(place / "run"),
                        seed,
                        settings_of(method),
                        MaskingSettings(max_length=32, vocabulary=1000, held_out=0.1),
                        OptimizerSettings(
                            steps=steps, batch_size=batch, lr=rate, evaluations=1, checkpoint_seconds=1e9
                        ),
                    )
                    began = time.process_time()
                    found = pretrain(recipe, overwrite=True)
                    record = json.loads((place / "run" / "pretrain.json").read_text())
                    layers = sum(row["parameters"] for row in record["layers"])
                    yield {
                        "method": method,
                        "rate": rate,
                        "seed": seed,
                        "loss": found.loss,
                        "before": found.before,
                        "trained": found.trained,
                        "layers": layers or sum(o * w for o, w in SHAPES.values()) * 2 + 3 * 2 * 96 * 96,
                        "step_ms": 1000 * found.outcome.seconds / steps,
                        "cpu": time.process_time() - began,
                    }


def train_rankers(steps: int, pretrain_steps: int) -> Iterator[dict[str, Any]]:
    """Yield what `lorank.fit` reaches on dev of lohelp from MiniLM, with and without a first stage."""
    from lorank.training.settings import LossSettings, Recipe
    from lorank.tuned.reading import ReadingSettings

    data = lorank.load("lohelp")
    with tempfile.TemporaryDirectory() as folder:
        for seed in SEEDS:
            base = Path(folder) / f"base-{seed}"
            recipe = PretrainRecipe(
                "lohelp",
                "minilm",
                str(base),
                seed,
                FactoredSettings(),
                MaskingSettings(max_length=64, held_out=0.02),
                OptimizerSettings(steps=pretrain_steps, batch_size=8, lr=5e-5, evaluations=1, checkpoint_seconds=1e9),
            )
            stage = pretrain(recipe)
            for name, start in (("minilm", "minilm"), ("first stage, then minilm", base)):
                plan = Recipe(
                    loss=LossSettings("softmax"),
                    training=OptimizerSettings(
                        steps=steps, evaluations=1, evaluation_queries=200, evaluation_depth=30, checkpoint_seconds=1e9
                    ),
                    reading=ReadingSettings(max_length=64),
                    seed=seed,
                    judge_test=False,
                    keep="tuned",
                )
                out = Path(folder) / f"run-{seed}-{name[:5]}"
                tuned = lorank.fit(lorank.BiEncoder(start, max_length=64), data, recipe=plan, out=out)
                dev = tuned.dev
                yield {
                    "seed": seed,
                    "base": name,
                    "before": stage.before,
                    "after": stage.loss,
                    "gain": tuned.gain,
                    **dev,
                }


def main() -> None:
    """Run one of the parts and print its rows as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("layers", "first-stage"))
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--pretrain-steps", type=int, default=80)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    made = (
        train_layers(given.steps, given.batch)
        if given.part == "layers"
        else train_rankers(given.steps, given.pretrain_steps)
    )
    for row in made:
        rows.append(row)
        print(json.dumps(row), file=sys.stderr, flush=True)
    print(json.dumps(rows, indent=1))
    if given.part == "layers":
        _print_best(rows)


def _print_best(rows: list[dict[str, Any]]) -> None:
    """Print the best rate of each method by its mean over seeds."""
    for method in METHODS:
        own = [row for row in rows if row["method"] == method]
        means = {rate: statistics.mean(r["loss"] for r in own if r["rate"] == rate) for rate in RATES}
        best = min(means, key=lambda rate: means[rate])
        at = [row for row in own if row["rate"] == best]
        losses = ", ".join(f"{row['loss']:.3f}" for row in at)
        step = statistics.median(row["step_ms"] for row in own)
        print(
            f"| {method} | {at[0]['layers']:,} | {best:g} | {losses} | {means[best]:.3f} | {step:.0f} |",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
