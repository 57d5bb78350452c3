"""DyLoRA's one run, cut to every rank of rank_search.toml: what each rank reaches on dev and test, and the CPU time.

    OMP_NUM_THREADS=1 python benchmarks/rank_search.py [--rates 1e-3 3e-3 1e-2] [--longer 2] [--set training.steps=10]

The recipe is the experiment's, at its largest rank and with the budget dylora. The sweep that this is held against is
`lorank compare benchmarks/rank_search.toml`, whose page has the cost of every trial.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from lorank.cli.options import setting_value
from lorank.compare.experiment_file import read_experiment
from lorank.data.collection import Collection
from lorank.data.load import load
from lorank.lowrank.forms import LoRA
from lorank.ranking.metrics.measures import mean_of
from lorank.ranking.types import Run
from lorank.training.fitting import fit_run
from lorank.training.lists.retrieval import bm25_index
from lorank.training.open_recipe import open_recipe_base
from lorank.training.recipe import RecipeFile, override
from lorank.tuned.ranker import score_run

EXPERIMENT = Path(__file__).with_suffix(".toml")


def values_by_rank(data: Collection, lists: dict[str, Run], recipe: RecipeFile, ranks: list[int]) -> dict[str, Any]:
    """Train once, cut the adapter to each rank, and return nDCG@10 of each split by rank."""
    with TemporaryDirectory() as folder:
        tuned = fit_run(open_recipe_base(recipe, data), data, recipe, Path(folder)).tuned
    tuned.unmerge()
    whole = {path: form.B.detach().clone() for path, form in tuned.adapter.forms.items()}
    found = {}
    for rank in ranks:
        for path, form in tuned.adapter.forms.items():
            cut(form, whole[path], rank)
        runs = {name: score_run(tuned.learned, data, data.splits[name].queries, run) for name, run in lists.items()}
        found[rank] = {name: mean_of(run, data.splits[name].qrels, "nDCG@10") for name, run in runs.items()}
    return found


@torch.no_grad()
def cut(form: LoRA, whole: torch.Tensor, rank: int) -> None:
    """Leave the first components of B [out, components] on, at scale alpha / rank, as DyLoRA trained them."""
    form.B.copy_(whole * (form.rank / rank))
    form.B[:, rank:] = 0.0


def main() -> None:
    """Train at every rate, and print the run that is best on dev over all ranks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", nargs="+", type=float, default=[1e-3, 3e-3, 1e-2])
    parser.add_argument("--longer", type=float, default=1.0, help="how many times the steps of a run of the sweep")
    parser.add_argument("--set", nargs="+", default=[], help="keys of the experiment, as section.key=value")
    given = parser.parse_args()
    rows = read_experiment(EXPERIMENT, dict(setting_value(text) for text in given.set)).rows
    ranks = [row.recipe.adapter.rank for row in rows]
    recipe = override(rows[0].recipe, {"adapter.rank": max(ranks), "budget.name": "dylora", "judge_test": False})
    recipe = override(recipe, {"training.steps": round(given.longer * recipe.training.steps)})
    data = load(recipe.data)
    index = bm25_index(data)
    lists = {name: index.search(data.splits[name].queries, recipe.lists.depth) for name in ("dev", "test")}
    began, tried = time.process_time(), {}
    for rate in given.rates:
        at_rate = replace(recipe, training=replace(recipe.training, lr=rate))
        tried[rate] = values_by_rank(data, lists, at_rate, ranks)
    rate = max(tried, key=lambda rate: sum(values["dev"] for values in tried[rate].values()))
    print(
        f"rate {rate:g}; all rates: {time.process_time() - began:.0f} CPU s\n\n| rank | dev | test |\n|---:|---:|---:|"
    )
    for rank in ranks:
        print(f"| {rank} | {tried[rate][rank]['dev']:.4f} | {tried[rate][rank]['test']:.4f} |")


if __name__ == "__main__":
    main()
