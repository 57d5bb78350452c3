"""Four rankers through the five tasks of `lorank stress`, on nfcorpus and on cranfield.

    OMP_NUM_THREADS=1 python benchmarks/robustness.py --data ../shared/data --work build/robustness

BM25, LambdaMART on eleven simple features, MiniLM as it comes, and the tuned ranker of `lorank demo`: MiniLM tuned on
lohelp (LoRA, BM25 as its first stage, the weight of the learned score chosen on dev). On nfcorpus LambdaMART is fitted
on its training split; cranfield has no splits and gets them here, by query: 113 train, 37 dev, 75 test. The demo is
skipped where its folder is there.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import lorank
from lorank.data import write_beir
from lorank.data.collection import Collection, Split

QUERIES, DEPTH = 40, 20


def split_cranfield(source: Path, out: Path) -> Path:
    """Write cranfield with its queries divided into train, dev and test, half, a sixth and a third."""
    if not out.is_dir():
        data = lorank.load(source)
        names = np.random.default_rng(0).permutation(sorted(data.test.queries)).tolist()
        parts = {"train": names[:113], "dev": names[113:150], "test": names[150:]}
        splits = {
            name: Split(name, {q: data.test.queries[q] for q in part}, {q: data.test.qrels[q] for q in part})
            for name, part in parts.items()
        }
        write_beir(Collection("cranfield", data.document_ids, data.documents, splits), out)
    return out


def run_command(*arguments: object) -> tuple[str, float]:
    """Run lorank and return what it printed, and the seconds."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "lorank", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout, time.perf_counter() - began


def table(title: str, columns: list[str], rows: dict[str, list[str]]) -> str:
    """Return a table in Markdown."""
    lines = [f"**{title}**", "", f"| ranker | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    return "\n".join([*lines, *(f"| {name} | {' | '.join(row)} |" for name, row in rows.items()), ""])


def tables(found: dict[str, dict]) -> str:
    """Return the tables of one collection from the JSON of `lorank stress`."""
    first = next(iter(found.values()))
    parts = [
        table(
            "Variance",
            ["nDCG@10 [95 %]", "variance over queries", "worst tenth"],
            {
                name: [
                    f"{v['mean']:.4f} [{v['interval'][0]:.4f}, {v['interval'][1]:.4f}]",
                    f"{v['variance']:.4f}",
                    f"{v['worst_tenth']:.4f}",
                ]
                for name, v in ((name, row["variance"]) for name, row in found.items())
            },
        )
    ]
    for title, key in (("Types of queries", "types"), ("Another corpus", "corpora")):
        if first[key]:
            columns = [f"{name} ({first[key][name]['queries']})" for name in first[key]]
            cells = {
                name: [f"{row[key][c]['mean']:.3f} ({row[key][c]['drop']:+.0%})" for c in first[key]]
                for name, row in found.items()
            }
            parts.append(table(f"{title}: nDCG@10 (drop rate)", columns, cells))
    disturbed = {
        name: [
            f"{d['drop']:+.1%} [{d['interval'][0]:+.3f}, {d['interval'][1]:+.3f}] {d['moved']['rbo']:.2f}"
            for d in row["queries"].values()
        ]
        for name, row in found.items()
    }
    parts.append(table("Disturbed queries: drop rate [95 % of the difference] RBO", list(first["queries"]), disturbed))
    attacked = {
        name: [
            f"{d['drop']:+.1%}"
            + ("" if d["entered"] is None else f", {d['entered']:.0%} in, {d['gained']:+.1f} places")
            for d in row["documents"].values()
        ]
        for name, row in found.items()
    }
    parts.append(
        table("Documents: drop rate; of attacks, how many enter the first ten", list(first["documents"]), attacked)
    )
    return "\n".join(parts)


def main() -> None:
    """Train what is not there, run the tasks, print the page's tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds nfcorpus and cranfield")
    parser.add_argument("--work", type=Path, required=True, help="where the ranker and the splits are kept")
    given = parser.parse_args()
    nfcorpus, tuned = given.data / "nfcorpus" / "beir", given.work / "tuned"
    cranfield = split_cranfield(given.data / "cranfield" / "beir", given.work / "cranfield")
    if not tuned.is_dir():
        print(f"trained in {run_command('demo', '--out', tuned)[1]:.0f} s\n", flush=True)
    rankers = ("bm25", "lambdamart", "minilm", tuned)
    for name, data, others in (("nfcorpus", nfcorpus, ("--other", cranfield)), ("cranfield", cranfield, ())):
        sizes = ("--queries", QUERIES, "--depth", DEPTH, "--json")
        less = ("--delete-training", 0.5)
        said, seconds = run_command("stress", *rankers, "--data", data, *others, *sizes)
        again = run_command("stress", "lambdamart", "--data", data, *sizes, "--perturbation", "none", *less)[0]
        kept = json.loads(again)["lambdamart"]["deletion"]
        (given.work / f"{name}.json").write_text(said)
        found = {("tuned" if key == str(tuned) else key): row for key, row in json.loads(said).items()}
        print(f"## {name}\n{seconds:.0f} s\n\n{tables(found)}", flush=True)
        low, high = kept["interval"]
        print(
            f"LambdaMART on half of the training queries ({kept['left']} of {kept['whole']}): {kept['mean']:.4f}, "
            f"{kept['drop']:+.1%} [{low:+.3f}, {high:+.3f}], RBO {kept['moved']['rbo']:.2f}\n",
            flush=True,
        )
        certified = ("--perturbation", "none", "--certify", 3)
        said, seconds = run_command("stress", "bm25", "lambdamart", "--data", data, *sizes, *certified)
        certain = {key: [f"{rate:.0%}" for rate in row["certified"]["rates"]] for key, row in json.loads(said).items()}
        print(
            table(f"First three certain, by replaced words ({seconds:.0f} s)", ["0", "1", "2", "3"], certain),
            flush=True,
        )


if __name__ == "__main__":
    main()
