"""Recipes compared on dev at the same number of tokens read: one run per line of settings, kept in a ledger.

    python benchmarks/recipe.py --data lohelp --tokens 300000 --ledger runs/recipe.jsonl \\
        --run demo --run rate training.lr=1e-3 --run batch training.lr=1e-3 lists.negatives=0 training.batch_size=64

Each run starts at the demo's recipe (LoRA r = 16 on MiniLM at 128 tokens, BM25 as the first stage, titles as free
queries), or with ``--start default`` at what `lorank train` does where nothing is stated, and changes what its settings
say, as `--set` would. Its steps are as many as read ``--tokens`` tokens; dev is looked at before the first step and
after the last: ``--queries`` of it, in groups, at ``--depth``. Test is never looked at. A run that is in the ledger is
not run again.
"""

import argparse
import ast
import json
import tempfile
import time
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import lorank
from lorank.cli.demo import TOKENS, demo_recipe
from lorank.data.collection import Collection
from lorank.ranking.scorers import BiEncoder
from lorank.training.begin_run import step_cost
from lorank.training.fitting import fit_run
from lorank.training.open_recipe import open_recipe_base
from lorank.training.plan import build_plan, resolve_recipe
from lorank.training.recipe import RecipeFile, override
from lorank.training.settings import Recipe, as_plain


def value_of(text: str) -> Any:
    """Return a setting's value: a Python literal, or the text as it stands."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def recipe_of(start: str, settings: list[str], seed: int) -> RecipeFile:
    """Return the recipe of ``start`` with ``settings``, each as section.key=value."""
    begun = demo_recipe(None, seed) if start == "demo" else Recipe(seed=seed)
    whole = RecipeFile(base="minilm", **{field.name: getattr(begun, field.name) for field in fields(Recipe)})
    if start == "demo":
        whole = replace(whole, reading=replace(whole.reading, max_length=TOKENS, long="truncate"))
    changed = override(whole, {key: value_of(value) for key, _, value in (each.partition("=") for each in settings)})
    return replace(changed, judge_test=False, keep="tuned")


def count_steps(data: Collection, recipe: RecipeFile, tokens: int) -> tuple[int, float]:
    """Return how many steps read ``tokens`` tokens, and how many a step reads."""
    ranker = open_recipe_base(recipe, data)
    assert isinstance(ranker, BiEncoder)
    with tempfile.TemporaryDirectory() as folder:
        resolved, budget = resolve_recipe(ranker, data, recipe)
        plan = build_plan(ranker, data, resolved, budget, Path(folder), None, lambda what, done, total: None)
        cost = step_cost(plan)
    return max(1, round(tokens / cost)), cost


def run(data: Collection, recipe: RecipeFile, tokens: int, queries: int, depth: int) -> dict[str, Any]:
    """Train and return what dev says, and what it cost."""
    steps, cost = count_steps(data, recipe, tokens)
    training = replace(
        recipe.training,
        steps=steps,
        evaluations=1,
        evaluation_queries=min(queries, len(data.dev)),
        evaluation_depth=depth,
    )
    ranker = open_recipe_base(recipe, data)
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        fitted = fit_run(ranker, data, replace(recipe, training=training), Path(folder) / "run")
    gain = next(each for each in fitted.gains if each.split == "dev")
    return {"steps": steps, "tokens_per_step": cost, "cpu_seconds": time.process_time() - began, "dev": asdict(gain)}


def main() -> None:
    """Run what the ledger lacks and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="lohelp")
    parser.add_argument("--tokens", type=int, default=300_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", choices=["demo", "default"], default="demo")
    parser.add_argument("--queries", type=int, default=100_000, help="The most dev queries that are looked at.")
    parser.add_argument("--depth", type=int, default=100, help="How many of BM25's best are looked at.")
    parser.add_argument("--ledger", type=Path, default=Path("runs/recipe.jsonl"))
    parser.add_argument("--run", nargs="+", action="append", required=True, help="A name, then section.key=value ...")
    given = parser.parse_args()
    data = lorank.load(given.data)
    done = [json.loads(line) for line in given.ledger.read_text().splitlines()] if given.ledger.exists() else []
    print(
        "| run | steps | BM25 | untuned | tuned | difference [95%] | p | CPU s |\n"
        "|---|---:|---:|---:|---:|---:|---:|---:|"
    )
    for name, *settings in given.run:
        key = {name: getattr(given, name) for name in ("data", "tokens", "seed", "start", "queries", "depth")}
        key["settings"] = sorted(settings)
        line = next((each for each in done if {part: each.get(part) for part in key} == key), None)
        if line is None:
            recipe = recipe_of(given.start, settings, given.seed)
            line = {
                **key,
                "name": name,
                "recipe": as_plain(recipe),
                **run(data, recipe, given.tokens, given.queries, given.depth),
            }
            given.ledger.parent.mkdir(parents=True, exist_ok=True)
            with given.ledger.open("a") as file:
                file.write(json.dumps(line) + "\n")
        dev = line["dev"]
        low, high = dev["interval"]
        print(
            f"| {name} | {line['steps']} | {dev['first_stage']:.4f} | {dev['untuned']:.4f} | {dev['tuned']:.4f} "
            f"| {dev['difference']:+.4f} [{low:+.4f}, {high:+.4f}] | {dev['p']:.3f} | {line['cpu_seconds']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
