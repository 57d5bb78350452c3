"""Learning from simulated clicks: feature rows of MQ2008 and texts of pydocs; writes clicks.json and clicks.svg.

    python benchmarks/clicks.py rows --letor ../shared/data/mq2008 --out runs/clicks
    python benchmarks/clicks.py texts --out runs/clicks
    python benchmarks/clicks.py picture --out runs/clicks > benchmarks/clicks.svg

rows: each of the three parts S1 to S3 is trained on once, with the next as dev and the other as test. A weak ranker
(one
feature and noise) logs ten documents a query, with two positions exchanged at random; users look at position k with
probability 1 / k. Naive, IPS (harvested), DLA and true labels learn by the same recipe.

texts: BM25 logs its ten best for the training queries of pydocs; a LoRA bi-encoder learns from the clicks.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import lorank
from lorank.data import read_letor
from lorank.data.click_logs import pack_impressions
from lorank.data.clicks import Impression
from lorank.data.collection import Collection, Split
from lorank.ranking.clicks import Simulator, attractions, estimate_propensities
from lorank.ranking.metrics.measures import mean_of, per_query
from lorank.training import fit
from lorank.training.settings import DebiasSettings, ListSettings, LossSettings, OptimizerSettings, Recipe
from lorank.tuned.ranker import rerank_run, score_run
from lorank.tuned.reading import ReadingSettings

CURVE = 1 / np.arange(1, 11)
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


def clicked(
    data: Collection, lists: dict[str, list[str]], sessions: int, rng: np.random.Generator, shuffle: str
) -> Collection:
    """Return the collection with its training split replaced by simulated impressions."""
    simulator = Simulator(lists, attractions(lists, data.train.qrels), "pbm", 10, shuffle, {"eta": 1.0})
    drawn = (Impression("s", s.query, tuple(s.documents), tuple(s.clicks)) for s in simulator.draw(sessions, rng))
    packed = pack_impressions(drawn, data.position, "simulated", data.train.queries)
    rates = packed.rates(data.document_ids, None)
    candidates = {query: dict.fromkeys(row, 0.0) for query, row in rates.items()}
    queries = {query: data.train.queries[query] for query in packed.query_ids}
    train = Split("train", queries, rates, candidates, impressions=packed)
    return replace(data, splits={**data.splits, "train": train})


def error(curve: Sequence[float] | np.ndarray) -> float:
    """Return the mean relative error of a curve, beyond the first position."""
    return float(np.abs(np.asarray(curve)[1:10] / CURVE[1:] - 1).mean())


def rows(folder: str, out: Path, sizes: list[int], steps: int) -> None:
    """Measure the feature rows and write clicks_rows.json."""
    found = {"sizes": sizes, "runs": []}
    for turn, data in enumerate(letor(folder)):
        rng = np.random.default_rng(turn)
        lists = {}
        for query, row in data.train.candidates.items():
            names = list(row)
            weak = np.array([data.documents[data.position[d]][24] for d in names]) + 0.3 * rng.normal(size=len(names))
            lists[query] = [names[i] for i in np.argsort(-weak)]
        jobs = [("true labels", None, data)]
        for size in sizes:
            log = clicked(data, lists, size, rng, "swap")
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


def texts(out: Path, sessions: int, steps: int, length: int) -> None:
    """Measure the texts of pydocs and write clicks_texts.json."""
    from lorank.training.lists.retrieval import bm25_index

    data = lorank.load("pydocs")
    index = bm25_index(data)
    logged = index.search(data.train.queries, 10)
    lists = {query: list(row) for query, row in logged.items() if row}
    log = clicked(data, lists, sessions, np.random.default_rng(0), "swap")
    candidates = index.search(data.test.queries, 50)
    runs = {"bm25": candidates}
    found = {"sessions": sessions, "clicks": int(log.train.impressions.labels.sum())}
    for name in ("none", "ips", "dla"):
        settings = OptimizerSettings(
            steps=steps, batch_size=6, evaluations=2, evaluation_queries=80, evaluation_depth=20, clip=1.0
        )
        recipe = Recipe(
            debias=DebiasSettings(name),
            loss=LOSS,
            training=settings,
            lists=ListSettings(shared=False),
            reading=ReadingSettings(max_length=length),
            judge_test=False,
            keep="tuned",
        )
        ranker = lorank.BiEncoder("minilm", max_length=length)
        tuned = fit(ranker, log, adapter="lora", recipe=recipe, out=out / f"texts-{name}", overwrite=True)
        runs[name] = rerank_run(tuned, data, data.test.queries, candidates)
        record = json.loads((out / f"texts-{name}" / "run.json").read_text())
        found[name] = {
            "ndcg": mean_of(runs[name], data.test.qrels, "nDCG@10"),
            "curve": (record.get("debias") or {}).get("curve"),
            "mix": record["mix"]["weight"],
            "seconds": record["outcome"]["train_seconds"],
        }
        print(name, found[name], flush=True)
    judged = lorank.evaluate(runs, data.test.qrels, measures=["nDCG@10"], groups="auto")
    found["evaluation"] = judged.to_dict()
    (out / "clicks_texts.json").write_text(json.dumps(found))
    from lorank.ranking.metrics.table import to_markdown

    print(to_markdown(judged, 120))


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
    for name, own in points.items():
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
    parser.add_argument("part", choices=["rows", "texts", "picture"])
    parser.add_argument("--letor", default="../shared/data/mq2008")
    parser.add_argument("--out", type=Path, default=Path("runs/clicks"))
    parser.add_argument("--sizes", type=int, nargs="+", default=[2000, 20000, 100000])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--sessions", type=int, default=20000)
    parser.add_argument("--length", type=int, default=64)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.part == "rows":
        rows(given.letor, given.out, given.sizes, given.steps)
    elif given.part == "texts":
        texts(given.out, given.sessions, given.steps, given.length)
    else:
        picture(given.out)


if __name__ == "__main__":
    main()
