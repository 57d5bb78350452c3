"""Learning from simulated clicks: feature rows of MQ2008 and texts of pydocs; writes clicks.json and clicks.svg.

    python benchmarks/clicks.py rows --letor ../shared/data/mq2008 --out runs/clicks
    python benchmarks/clicks.py curves --letor ../shared/data/mq2008 --seeds 0 1 2 --sessions 200000
    python benchmarks/clicks.py texts --out runs/clicks --seeds 0 1 2
    python benchmarks/clicks.py compare --out runs/clicks
    python benchmarks/clicks.py picture --out runs/clicks > benchmarks/clicks.svg

rows: each of the three parts S1 to S3 is trained on once, with the next as dev and the other as test. A weak ranker
(one
feature and noise) logs ten documents a query, with two positions exchanged at random; users look at position k with
probability 1 / k. Naive, IPS (harvested), DLA and true labels learn by the same recipe.

texts: BM25 logs its ten best for the training queries of a collection (``--data``, lohelp where nothing is said), two
positions exchanged at random; a LoRA bi-encoder learns from the clicks. The arm ``true`` learns from lists of the same
kind without bias or noise. Judged is the order of BM25's ``--depth`` best.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

import lorank
from lorank.data import read_letor
from lorank.data.click_logs import PackedImpressions
from lorank.data.collection import Collection, Split
from lorank.ranking.clicks import attractions, estimate_propensities
from lorank.ranking.consensus.fusion import standardise_run
from lorank.ranking.metrics.groups import group_tied_queries, grouped_interval, membership
from lorank.ranking.metrics.measures import per_query
from lorank.ranking.types import Run
from lorank.training import fit
from lorank.training.settings import DebiasSettings, ListSettings, LossSettings, OptimizerSettings, Recipe
from lorank.tuned.mix import Mix, mix_run
from lorank.tuned.ranker import score_run
from lorank.tuned.reading import ReadingSettings

DEPTH = 10
CURVE = 1 / np.arange(1, DEPTH + 1)
KINDS = ("alone", "mixed")
LOSS = LossSettings("softmax", {"target": "labels"})


def letor(folder: str) -> Iterator[Collection]:
    """Return the three rotations of S1 to S3 as collections with train, dev and test."""
    read = [read_letor(Path(folder) / f"S{i}.txt.gz") for i in (1, 2, 3)]
    documents = np.concatenate([part.documents for part in read])
    ids = [f"S{i}-{d}" for i, part in enumerate(read) for d in part.document_ids]

    def split(i: int, name: str) -> Split:
        part = read[i].train
        qrels = {q: {f"S{i}-{d}": g for d, g in row.items()} for q, row in part.qrels.items()}
        candidates = {q: {f"S{i}-{d}": 0.0 for d in row} for q, row in part.candidates.items()}
        return Split(name, dict(part.queries), qrels, candidates)

    for turn in range(3):
        names = {"train": turn, "dev": (turn + 1) % 3, "test": (turn + 2) % 3}
        yield Collection("mq2008", ids, documents, {name: split(i, name) for name, i in names.items()})


def draw_log(
    data: Collection, lists: dict[str, list[str]], sessions: int, eta: float, noise: float, rng: np.random.Generator
) -> Collection:
    """Return the collection with a drawn log as its training split, as `Simulator` draws it, in whole arrays.

    Each impression is of a query drawn evenly: its first ten documents, two of their places exchanged, each looked at
    with probability k ** -eta.
    """
    names, attraction = [query for query, row in lists.items() if row], attractions(lists, data.train.qrels, noise)
    sizes = np.array([min(len(lists[query]), DEPTH) for query in names])
    place, chance = np.zeros((len(names), DEPTH), np.int32), np.zeros((len(names), DEPTH))
    for row, query in enumerate(names):
        place[row, : sizes[row]] = [data.position[document] for document in lists[query][:DEPTH]]
        chance[row, : sizes[row]] = attraction[query][:DEPTH]
    chosen, rows = rng.integers(len(names), size=sessions), np.arange(sessions)
    order = np.tile(np.arange(DEPTH), (sessions, 1))
    first, second = rng.integers(sizes[chosen], size=(2, sessions))
    order[rows, first], order[rows, second] = second, first
    examined = np.arange(1, DEPTH + 1) ** -eta
    clicks = rng.random(order.shape) < np.take_along_axis(chance[chosen], order, 1) * examined
    shown = np.arange(DEPTH) < sizes[chosen, None]
    packed = PackedImpressions(
        names,
        chosen.astype(np.int32),
        np.concatenate([[0], np.cumsum(sizes[chosen])]),
        np.take_along_axis(place[chosen], order, 1)[shown],
        clicks[shown].astype(np.float32),
        np.broadcast_to(np.arange(1, DEPTH + 1, dtype=np.int16), shown.shape)[shown],
    )
    rates = packed.rates(data.document_ids, None)
    candidates = {query: dict.fromkeys(row, 0.0) for query, row in rates.items()}
    queries = {query: data.train.queries[query] for query in names}
    train = Split("train", queries, rates, candidates, impressions=packed)
    return replace(data, splits={**data.splits, "train": train})


def error(curve: Sequence[float] | np.ndarray) -> float:
    """Return the mean relative error of a curve, beyond the first position."""
    return float(np.abs(np.asarray(curve)[1:10] / CURVE[1:] - 1).mean())


def weak_lists(data: Collection, rng: np.random.Generator) -> dict[str, list[str]]:
    """Return the training queries' documents as a weak ranker orders them: one feature and noise."""
    lists = {}
    for query, row in data.train.candidates.items():
        names = list(row)
        weak = np.array([data.documents[data.position[d]][24] for d in names]) + 0.3 * rng.normal(size=len(names))
        lists[query] = [names[i] for i in np.argsort(-weak)]
    return lists


def curves(folder: str, seeds: Sequence[int], sessions: int, steps: int) -> None:
    """Print how far DLA's curve is off the truth in each rotation and seed."""
    for seed, (turn, data) in product(seeds, enumerate(letor(folder))):
        rng = np.random.default_rng(turn + 100 * seed)
        log = draw_log(data, weak_lists(data, rng), sessions, 1.0, 0.1, rng)
        for clicks in (0.25, float("inf")):
            debias = DebiasSettings("dla", options={"ranker_clicks": clicks})
            settings = OptimizerSettings(steps=steps, batch_size=256, lr=3e-3, evaluations=1)
            recipe = Recipe(debias=debias, loss=LOSS, training=settings, seed=turn + 100 * seed, judge_test=False)
            with tempfile.TemporaryDirectory() as out:
                fit(lorank.FeatureRanker(), log, recipe=recipe, out=Path(out) / "run")
                curve = json.loads((Path(out) / "run" / "run.json").read_text())["debias"]["curve"]
            worst = float(np.abs(np.array(curve[1:]) / CURVE[1:] - 1).max())
            print(
                f"seed {seed} rotation {turn + 1} ranker_clicks {clicks}: mean {error(curve):.4f} worst {worst:.4f}",
                flush=True,
            )


def rows(folder: str, out: Path, sizes: list[int], steps: int) -> None:
    """Measure the feature rows and write clicks_rows.json."""
    found = {"sizes": sizes, "runs": []}
    for turn, data in enumerate(letor(folder)):
        rng = np.random.default_rng(turn)
        lists = weak_lists(data, rng)
        jobs = [("true labels", None, data)]
        for size in sizes:
            log = draw_log(data, lists, size, 1.0, 0.1, rng)
            sessions = log.train.impressions.sessions(data.document_ids)
            for method in ("harvest", "pbm") if size <= 20000 else ("harvest",):  # EM takes long on many sessions
                curve = estimate_propensities(sessions, method).curve
                found["runs"].append({"turn": turn, "method": method, "sessions": size, "error": error(curve)})
            jobs += [(name, size, log) for name in ("none", "ips", "dla")]
        for name, size, given in jobs:
            debias = DebiasSettings("none" if name == "true labels" else name)
            settings = OptimizerSettings(steps=steps, batch_size=64, lr=3e-3, evaluations=5)
            recipe = Recipe(debias=debias, loss=LOSS, training=settings, seed=turn, judge_test=False)
            folder_of_run = out / f"rows-{turn}-{name.replace(' ', '-')}-{size}"
            tuned = fit(lorank.FeatureRanker(), given, recipe=recipe, out=folder_of_run, overwrite=True)
            run = score_run(tuned.learned, data, data.test.queries, data.test.candidates)
            values = per_query(run, data.test.qrels, ["nDCG@10"])["nDCG@10"]
            record = json.loads((folder_of_run / "run.json").read_text())
            curve = (record.get("debias") or {}).get("curve")
            clicks = None if size is None else int(given.train.impressions.labels.sum())
            found["runs"].append(
                {
                    "turn": turn,
                    "method": name,
                    "sessions": size,
                    "clicks": clicks,
                    "ndcg": float(np.mean(list(values.values()))),
                    "values": {f"{turn}-{query}": value for query, value in values.items()},
                    "curve": curve,
                    "error": None if name != "dla" else error(curve),
                    "seconds": record["outcome"]["train_seconds"],
                }
            )
            print(turn, name, size, clicks, found["runs"][-1]["ndcg"], found["runs"][-1]["error"], flush=True)
            (out / "clicks_rows.json").write_text(json.dumps(found))
    _summarise_rows(found)


def _summarise_rows(found: dict[str, Any]) -> None:
    learned = [run for run in found["runs"] if "values" in run]
    pooled = {}
    for run in learned:
        pooled.setdefault((run["method"], run["sessions"]), {}).update(run["values"])
    for (method, size), values in sorted(pooled.items(), key=str):
        print(f"{method:12} {size!s:>8} nDCG@10 {np.mean(list(values.values())):.4f} over {len(values)} queries")
    for size in found["sizes"]:
        for a, b in (("dla", "none"), ("ips", "none"), ("dla", "true labels")):
            one, other = pooled[a, size], pooled.get((b, size)) or pooled[b, None]
            gap = np.array([one[q] - other[q] for q in one])
            draws = np.random.default_rng(0).choice(gap, (5000, len(gap))).mean(1)
            low, high = np.quantile(draws, [0.025, 0.975])
            print(f"{size:>8} {a} - {b}: {gap.mean():+.4f} [{low:+.4f}, {high:+.4f}]")


def texts(out: Path, given: argparse.Namespace) -> None:
    """Measure the texts of lohelp; each arm adds its runs' values to clicks_texts.jsonl."""
    from lorank.training.lists.retrieval import bm25_index

    data = lorank.load(given.data)
    index = bm25_index(data)
    lists = {query: list(row) for query, row in index.search(data.train.queries, DEPTH).items()}
    candidates = {name: index.search(data.split(name).queries, given.depth) for name in given.splits}
    for seed in given.seeds:
        for arm in given.arms:
            bias = (0.0, 0.0) if arm == "true" else (given.eta, given.noise)
            log = draw_log(data, lists, given.sessions, *bias, np.random.default_rng(seed))
            ranker = lorank.BiEncoder("minilm", max_length=given.length, long=given.long)
            record: dict[str, Any] = {"arm": arm, "seed": seed, "clicks": float(log.train.impressions.labels.sum())}
            if arm == "untuned":
                learned: Any = ranker
            else:
                recipe = text_recipe(given, arm, seed)
                tuned = fit(ranker, log, adapter="lora", rank=16, recipe=recipe, out=out / "texts", overwrite=True)
                learned, run = tuned.learned, json.loads((out / "texts" / "run.json").read_text())
                record |= {"curve": (run.get("debias") or {}).get("curve"), "seconds": run["outcome"]["train_seconds"]}
            for name, found in candidates.items():
                record[name] = judge_texts(data, name, found, learned)
            with (out / "clicks_texts.jsonl").open("a") as file:
                file.write(json.dumps(record) + "\n")
            print(arm, seed, record["clicks"], record.get("curve"))
            for name, kind in product(candidates, KINDS):
                print(f"  {name} {kind} {np.mean(list(record[name][kind].values())):.4f}", flush=True)


def text_recipe(given: argparse.Namespace, arm: str, seed: int) -> Recipe:
    """Return the recipe of an arm: they differ in the debiaser alone. The last weights are kept, whatever dev says."""
    debias = DebiasSettings(arm, options={"most": 50.0}) if arm in ("ips", "dla") else DebiasSettings()
    size = given.queries * (given.impressions or 1)
    settings = OptimizerSettings(
        steps=given.steps, batch_size=size, lr=1e-3, evaluations=1, evaluation_queries=10, evaluation_depth=5,
        checkpoint_seconds=600.0,
    )  # fmt: skip
    return Recipe(
        debias=debias,
        loss=LOSS,
        training=settings,
        lists=ListSettings(shared=given.shared, impressions=given.impressions),
        reading=ReadingSettings(max_length=given.length, long=given.long),
        judge_test=False,
        keep="tuned",
        seed=seed,
    )


def judge_texts(data: Collection, name: str, found: Run, learned: Any) -> dict[str, dict[str, float]]:
    """Return nDCG@10 of each query: BM25, the ranker alone, and both with an equal say (no judgment chooses that)."""
    split = data.split(name)
    alone = score_run(learned, data, split.queries, found)
    spread = float(np.mean([np.std(list(row.values())) for row in alone.values()]))
    mixed = mix_run(Mix(1.0, 1.0, spread=spread), standardise_run(found), alone)
    runs = {"bm25": found, "alone": alone, "mixed": mixed}
    return {kind: per_query(run, split.qrels, ["nDCG@10"])["nDCG@10"] for kind, run in runs.items()}


def compare_texts(out: Path, name_of_data: str, splits: Sequence[str]) -> None:
    """Print means over seeds and differences with intervals over groups of queries that share a page."""
    data = lorank.load(name_of_data)
    records = [json.loads(line) for line in (out / "clicks_texts.jsonl").read_text().splitlines()]
    for name in splits:
        groups = group_tied_queries(data.split(name).qrels)
        arms: dict[str, dict[str, list[float]]] = {}
        for record in records:
            for kind in KINDS:
                own = arms.setdefault(f"{record['arm']} {kind}", {})
                for query, value in record[name][kind].items():
                    own.setdefault(query, []).append(value)
            arms["bm25"] = {query: [value] for query, value in record[name]["bm25"].items()}
        mean = {arm: {query: float(np.mean(v)) for query, v in own.items()} for arm, own in arms.items()}
        for arm, own in mean.items():
            print(f"{name} {arm:14} {np.mean(list(own.values())):.4f}, {len(next(iter(arms[arm].values())))} seeds")
        pairs = [(f"{a} {kind}", f"{b} {kind}") for kind in KINDS for a, b in
                 (("ips", "none"), ("dla", "none"), ("dla", "true"), ("ips", "true"))]  # fmt: skip
        pairs += [(f"{a} {kind}", "bm25") for kind in KINDS for a in ("none", "ips", "dla", "true")]
        for a, b in pairs:
            if a in mean and b in mean:
                gap, low, high = compare_groups(mean[a], mean[b], groups)
                print(f"{name} {a} - {b}: {gap:+.4f} [{low:+.4f}, {high:+.4f}] over {len(set(groups.values()))} groups")


def compare_groups(
    one: dict[str, float], other: dict[str, float], groups: dict[str, str]
) -> tuple[float, float, float]:
    """Return a mean difference over queries and its 95% bootstrap interval over groups."""
    gap = np.array([one[query] - other[query] for query in one])
    low, high = grouped_interval(gap, membership(groups, list(one)), rng=np.random.default_rng(0))
    return float(gap.mean()), low, high


def picture(out: Path) -> None:
    """Print the picture of quality against the number of clicks, as SVG."""
    from lorank.reporting.svg import drawing, element, linear_scale, polyline, text, ticks

    found = json.loads((out / "clicks_rows.json").read_text())
    lines, true = {}, []
    for run in found["runs"]:
        if "values" in run and run["sessions"] is None:
            true += run["values"].values()
        elif "values" in run:
            lines.setdefault(run["method"], {}).setdefault(run["sessions"], ([], []))
            lines[run["method"]][run["sessions"]][0].extend(run["values"].values())
            lines[run["method"]][run["sessions"]][1].append(run["clicks"])
    points = {
        name: sorted((float(np.log10(np.mean(clicks))), float(np.mean(values))) for values, clicks in own.values())
        for name, own in lines.items()
    }
    top = float(np.mean(true))
    every = [y for own in points.values() for _, y in own] + [top]
    marks = ticks(min(every), max(every), 5)
    ends = [x for own in points.values() for x, _ in own]
    x, y = linear_scale((min(ends), max(ends)), (64, 560)), linear_scale((marks[0], marks[-1]), (300, 30))
    parts = [
        element("style", "text{font:13px sans-serif;fill:#555}polyline{fill:none;stroke-width:2}line{stroke:#ddd}")
    ]
    parts += [element("rect", width=720, height=360, fill="#fff")]
    parts += [element("line", x1=64, x2=560, y1=y(m), y2=y(m)) for m in marks]
    parts += [text(56, y(m) + 4, f"{m:.2f}", anchor="end") for m in marks]
    for exponent in sorted({round(e, 2) for e in ends}):
        parts.append(text(x(exponent), 322, f"{10**exponent:,.0f}", anchor="middle"))
    parts += [text(312, 346, "clicks (logarithmic)", anchor="middle"), text(8, 18, "nDCG@10 on test")]
    colours = {"none": "#c0392b", "ips": "#2980b9", "dla": "#27ae60"}
    taken = []
    for name, own in sorted(points.items(), key=lambda line: -line[1][-1][1]):  # from the top, as their labels stand
        line = polyline([(x(a), y(b)) for a, b in own], "curve")
        parts.append(element("g", line, stroke=colours[name]))
        parts += [element("circle", cx=x(a), cy=y(b), r=4, fill=colours[name]) for a, b in own]
        at = y(own[-1][1])
        while any(abs(at - other) < 15 for other in taken):
            at += 4
        taken.append(at)
        label = {"none": "naive", "ips": "IPS, harvested", "dla": "DLA"}[name]
        parts.append(element("text", label, x=570, y=at + 4, style=f"fill:{colours[name]}"))
    parts.append(element("line", x1=64, x2=560, y1=y(top), y2=y(top), style="stroke:#555;stroke-dasharray:5 4"))
    parts.append(text(64, y(top) - 6, "true labels"))
    said = "nDCG@10 on MQ2008 against the number of simulated clicks, naive beside debiased."
    made = drawing(720, 360, said, parts)
    print(str(made).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def main() -> None:
    """Run the part that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["rows", "curves", "texts", "compare", "picture"])
    parser.add_argument("--letor", default="../shared/data/mq2008")
    parser.add_argument("--out", type=Path, default=Path("runs/clicks"))
    parser.add_argument("--sizes", type=int, nargs="+", default=[2000, 20000, 100000])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--arms", nargs="+", default=["untuned", "none", "ips", "dla", "true"])
    parser.add_argument("--splits", nargs="+", default=["dev", "test"])
    parser.add_argument("--sessions", type=int, default=600_000)
    parser.add_argument("--eta", type=float, default=1.5)
    parser.add_argument("--noise", type=float, default=0.2)
    parser.add_argument("--queries", type=int, default=8)
    parser.add_argument("--impressions", type=int, help="Those of a query in a batch; all as one list if left out.")
    parser.add_argument("--data", default="lohelp", help="The collection of texts.")
    parser.add_argument("--length", type=int, default=32)
    parser.add_argument("--long", default="truncate", help="How documents are read, as `lorank train --long`.")
    parser.add_argument("--shared", action="store_true", help="The documents of other lists are negatives.")
    parser.add_argument("--depth", type=int, default=50)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.part == "rows":
        rows(given.letor, given.out, given.sizes, given.steps)
    elif given.part == "curves":
        curves(given.letor, given.seeds, given.sessions, given.steps)
    elif given.part == "texts":
        texts(given.out, given)
    elif given.part == "compare":
        compare_texts(given.out, given.data, given.splits)
    else:
        picture(given.out)


if __name__ == "__main__":
    main()
