"""Reading and learning from a LETOR file of MSLR's size: CPU time and memory, each side in a process of its own.

    OMP_NUM_THREADS=1 python benchmarks/letor_size.py --rows 1200000 --folder FOLDER

The file is made up: 136 features a row, half counts and half six decimals, labels 0 to 4, 120 rows a query (1.8 GB at
1,200,000 rows). Sides: ``bytes`` reads the file and does nothing; ``lorank`` is lorank.data.svmlight; ``scikit-learn``
is load_svmlight_file with query ids, whose sparse matrix is then made dense. Then, on what lorank read, one epoch of an
MLP with the lambda loss (log1p-standardise fitted) and ten trees of LightGBM's LambdaMART.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FEATURES, QUERY = 136, 120


def make(path: Path, rows: int) -> None:
    """Write the file: rows drawn from 2,000 made-up ones, so that writing does not take the day."""
    rng = np.random.default_rng(0)
    columns = [
        [str(v) for v in rng.integers(0, 100_000, 2000)] if f % 2 else [f"{v:.6f}" for v in rng.uniform(-9, 30, 2000)]
        for f in range(FEATURES)
    ]
    lines = [" ".join(f"{f + 1}:{column[i]}" for f, column in enumerate(columns)) for i in range(2000)]
    labels, picks = rng.integers(0, 5, rows), rng.integers(0, 2000, rows)
    with path.open("w") as file:
        for i in range(rows):
            file.write(f"{labels[i]} qid:{i // QUERY + 1} {lines[picks[i]]}\n")


def read_bytes(path: Path) -> Any:
    """Read the file, a megabyte at a time."""
    with path.open("rb") as file:
        while file.read(1 << 20):
            pass


def read_ours(path: Path) -> Any:
    """Read with lorank."""
    from lorank.data.svmlight import read_feature_rows

    return read_feature_rows(path)


def read_sklearn(path: Path) -> Any:
    """Read with scikit-learn."""
    from sklearn.datasets import load_svmlight_file

    matrix, _, _ = load_svmlight_file(str(path), query_id=True, dtype=np.float32)
    return matrix.toarray()


def train_mlp(path: Path) -> Any:
    """Read, then one epoch of an MLP."""
    from lorank.ranking.scorers.features import FeatureLists, FeatureRanker

    rows = read_ours(path)
    return lambda: FeatureRanker().fit(FeatureLists(rows.features, rows.labels, rows.offsets), loss="lambda", epochs=1)


def train_trees(path: Path) -> Any:
    """Read, then ten trees."""
    from lorank.ranking.scorers.features import FeatureLists
    from lorank.ranking.scorers.features.trees import TreeRanker

    rows = read_ours(path)
    return lambda: TreeRanker("lightgbm", trees=10).fit(FeatureLists(rows.features, rows.labels, rows.offsets))


SIDES: dict[str, Callable[[Path], Any]] = {
    "bytes": read_bytes,
    "lorank": read_ours,
    "scikit-learn": read_sklearn,
    "lorank, then an MLP's epoch": train_mlp,
    "lorank, then ten trees": train_trees,
}


def one(side: str, path: Path) -> dict[str, float]:
    """Run a side here and return what it cost; a side that trains is timed without its reading."""
    before, start, wall = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time(), time.perf_counter()
    made = SIDES[side](path)
    if callable(made):
        start, wall = time.process_time(), time.perf_counter()
        made()
    return {
        "cpu": time.process_time() - start,
        "wall": time.perf_counter() - wall,
        "mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
    }


def main() -> None:
    """Make the file where it is not, run every side, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_200_000)
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--side", choices=SIDES, help="run this side only, in this process, and print JSON")
    given = parser.parse_args()
    path = given.folder / f"rows-{given.rows}.txt"
    if given.side:
        print(json.dumps(one(given.side, path)))
        return
    if not path.exists():
        print("writing the file", file=sys.stderr, flush=True)
        draft = path.with_suffix(".part")
        make(draft, given.rows)
        draft.replace(path)
    size = path.stat().st_size / 2**20
    print(f"{given.rows} rows, {size:.0f} MiB; the dense matrix has {given.rows * FEATURES * 4 / 2**20:.0f} MiB\n")
    print("| side | CPU s | wall s | MiB of text a CPU second | peak MiB |\n|---|---|---|---|---|")
    for side in SIDES:
        command = [sys.executable, __file__, "--rows", str(given.rows), "--folder", str(given.folder), "--side", side]
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        speed = f"{size / row['cpu']:.0f}" if "then" not in side else ""
        print(f"| {side} | {row['cpu']:.1f} | {row['wall']:.1f} | {speed} | {row['mib']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
