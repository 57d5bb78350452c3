"""Four owners of unlike texts and one adapter: every method beside local and central training, with bytes sent.

    OMP_NUM_THREADS=1 python benchmarks/federated.py --data ../shared/data --out build/federated

The owners hold pydocs, lohelp, nfcorpus and cranfield, each cut down to some queries and the documents that they
need. All train MiniLM, a bi-encoder, with the same recipe and number of steps; *local* exchanges nothing, *central*
trains one adapter on all four collections for as many steps as the four clients take together. Every ranker reorders
the best BM25 candidates of its own owner's test queries by its scores alone. An interval is of the mean difference
from local training over all test queries, by a bootstrap that draws queries within each owner.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

import lorank
from lorank.data.collection import Collection, Split
from lorank.data.folds import hold_out_dev
from lorank.federated import AGGREGATORS, make_aggregator
from lorank.federated.open_client import open_client
from lorank.federated.planning import Device
from lorank.federated.settings import Federation
from lorank.federated.simulation import prepare_recipe, simulate
from lorank.ranking.metrics.measures import per_query
from lorank.training.lists.retrieval import bm25_index
from lorank.training.recipe import RecipeFile, override
from lorank.tuned import load_ranker
from lorank.tuned.ranker import score_run

MEASURE = "nDCG@10"
DEVICES = {"cranfield": Device(0.5), "nfcorpus": Device(1.0, 3)}
"""For legend-fedft: one owner is slow, one has memory for half the blocks."""


def owner(name: str, source: str | Path, train: int, test: int, documents: int, seed: int) -> Collection:
    """Return a collection cut down to some queries, their relevant documents, and others at random."""
    data = lorank.load(source)
    rng = np.random.default_rng(seed)
    parts = {"train": data.splits.get("train"), "test": data.test}
    names = {key: list(part.queries) for key, part in parts.items() if part is not None}
    if "train" not in names:
        every = list(rng.permutation(names["test"]))
        parts["train"], names = (
            data.test,
            {"train": every[: len(every) // 2], "test": every[len(every) // 2 :]},
        )
    splits, kept, relevant = {}, set(), set()
    for key, count in (("train", train), ("test", test)):
        part = parts[key]
        judged = [q for q in names[key] if any(grade > 0 for grade in part.qrels.get(q, {}).values())]
        chosen = [str(q) for q in rng.permutation(judged)[:count]]
        most = {q: dict(sorted(part.qrels[q].items(), key=lambda row: -row[1])[:5]) for q in chosen}
        kept |= {document for row in most.values() for document in row}
        relevant |= {document for q in chosen for document in part.qrels[q]}
        splits[key] = Split(key, {q: part.queries[q] for q in chosen}, most)
    others = [d for d in data.document_ids if d not in kept | relevant]
    chosen = kept | {str(d) for d in rng.permutation(others)[: max(0, documents - len(kept))]}
    at = [i for i, d in enumerate(data.document_ids) if d in chosen]
    made = Collection(
        name,
        [data.document_ids[i] for i in at],
        [data.documents[i] for i in at],
        splits,
    )
    return hold_out_dev(made, 0.15, seed)


def joined(owners: dict[str, Collection]) -> Collection:
    """Return all owners' collections as one."""
    ids, texts, splits = [], [], {}
    for name, data in owners.items():
        ids += [f"{name}:{d}" for d in data.document_ids]
        texts += list(data.documents)
        for key in ("train", "dev"):
            queries, qrels = splits.setdefault(key, ({}, {}))
            queries |= {f"{name}:{q}": text for q, text in data.splits[key].queries.items()}
            for q, row in data.splits[key].qrels.items():
                qrels[f"{name}:{q}"] = {f"{name}:{d}": grade for d, grade in row.items()}
    return Collection("all", ids, texts, {key: Split(key, *parts) for key, parts in splits.items()})


def judge(
    folder: Path | None,
    owners: dict[str, Collection],
    candidates: dict,
    recipe: RecipeFile,
) -> dict:
    """Return nDCG@10 of every test query of every owner, by the owner's ranker in ``folder``; BM25 where it is None."""
    found = {}
    for name, data in owners.items():
        run = candidates[name]
        if folder is not None:
            place = folder / "clients" / name if (folder / "clients" / name).is_dir() else folder
            run = score_run(load_ranker(place).learned, data, data.test.queries, run)
        found[name] = per_query(run, data.test.qrels, [MEASURE])[MEASURE]
    return found


def untuned(owners: dict[str, Collection], candidates: dict, recipe: RecipeFile) -> dict:
    """Return the values of MiniLM as it comes."""
    from lorank.training.open_recipe import open_recipe_base

    ranker = open_recipe_base(recipe, next(iter(owners.values())))
    found = {}
    for name, data in owners.items():
        run = score_run(ranker, data, data.test.queries, candidates[name])
        found[name] = per_query(run, data.test.qrels, [MEASURE])[MEASURE]
    return found


def alone(
    owners: dict[str, Collection],
    recipe: RecipeFile,
    steps: int,
    rounds: int,
    out: Path,
) -> None:
    """Train every owner by itself, in rounds of the same steps."""
    recipe = prepare_recipe(recipe, Federation("mean"))
    for name, data in owners.items():
        client = open_client(
            name,
            recipe,
            data,
            make_aggregator("mean"),
            out / "clients" / name,
            steps=steps * rounds,
        )
        for number in range(1, rounds + 1):
            client.train(number, steps, lambda *_: None)
        client.save_ranker(out / "clients" / name / "model", client.measure())


def interval(values: dict, base: dict, seed: int = 0, draws: int = 2000) -> tuple[float, float, float]:
    """Return the mean difference and its 95% bootstrap interval, owners weighing alike."""
    rng = np.random.default_rng(seed)
    gaps = [np.array([values[name][q] - base[name][q] for q in base[name]]) for name in base]
    means = [np.mean([rng.choice(own, len(own)).mean() for own in gaps]) for _ in range(draws)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(np.mean([own.mean() for own in gaps])), float(low), float(high)


def table(found: dict, owners: list[str], bytes_of: dict, seconds: dict) -> str:
    """Return what was found as a Markdown table."""
    lines = [
        f"| | {' | '.join(owners)} | mean | less local [95%] | MB up | MB down | s |",
        "|:--|" + "--:|" * 9,
    ]
    for name, values in found.items():
        means = [float(np.mean(list(values[o].values()))) for o in owners]
        gap = "" if name == "local" else "{:+.4f} [{:+.4f}, {:+.4f}]".format(*interval(values, found["local"]))
        sent = [f"{each / 1e6:.2f}" for each in bytes_of.get(name, [])] or ["", ""]
        cells = [
            *(f"{v:.4f}" for v in means),
            f"{np.mean(means):.4f}",
            gap,
            *sent,
            f"{seconds.get(name, 0):.0f}",
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="folder that holds nfcorpus and cranfield",
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--queries", type=int, default=30, help="test queries per owner")
    parser.add_argument("--depth", type=int, default=10, help="BM25 candidates per test query")
    parser.add_argument("--length", type=int, default=32, help="tokens that are read")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", nargs="*", default=sorted(AGGREGATORS))
    given = parser.parse_args()
    sources = {"pydocs": "pydocs", "lohelp": "lohelp"}
    sources |= {name: given.data / name / "beir" for name in ("nfcorpus", "cranfield")}
    owners = {
        name: owner(name, source, 100, given.queries, 600, given.seed) for name, source in sorted(sources.items())
    }
    candidates = {name: bm25_index(data).search(data.test.queries, given.depth) for name, data in owners.items()}
    settings = {
        "training.warmup": 0.0,
        "training.decay": "none",
        "training.batch_size": 8,
    }
    settings |= {
        "reading.max_length": given.length,
        "reading.long": "truncate",
        "seed": given.seed,
    }
    settings |= {
        "training.evaluation_queries": 10,
        "training.evaluation_depth": 10,
        "first_stage.source": "bm25",
    }
    recipe = override(RecipeFile(base="minilm", kind="bi-encoder"), settings)
    found, bytes_of, seconds = {"BM25": judge(None, owners, candidates, recipe)}, {}, {}
    found["MiniLM, untuned"] = untuned(owners, candidates, recipe)
    for name in ("local", "central", *given.methods):
        out, began = given.out / name, time.perf_counter()
        if name == "local":
            alone(owners, recipe, given.steps, given.rounds, out)
        elif name == "central":
            every, steps = {"all": joined(owners)}, given.steps * len(owners)
            alone(every, recipe, steps, given.rounds, out / "one")
            (out / "model").parent.mkdir(parents=True, exist_ok=True)
            (out / "one" / "clients" / "all" / "model").rename(out / "model")
        else:
            devices = DEVICES if name == "legend-fedft" else {}
            federation = Federation(name, rounds=given.rounds, steps=given.steps, devices=devices)
            rows = simulate(owners, recipe, federation, out, overwrite=True)
            bytes_of[name] = [sum(sum(getattr(row, way).values()) for row in rows) for way in ("up", "down")]
        seconds[name] = time.perf_counter() - began
        found[name] = judge(out, owners, candidates, recipe)
        print(f"{name}: {seconds[name]:.0f} s", flush=True)
        (given.out / "federated.json").write_text(json.dumps({"values": found, "bytes": bytes_of, "seconds": seconds}))
    print(table(found, list(owners), bytes_of, seconds))


if __name__ == "__main__":
    main()
