"""What people wait for: help, names, a slip of the pen, and ranking ten documents beside the merged model.

    python benchmarks/waits.py

Commands are whole processes, medians of five. Ranking alternates with the merged model's own scoring in one process,
medians of 40 pairs; the ratio is what counts.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import lorank
from lorank.data.collection import Collection, Split
from lorank.training.settings import AdapterSettings, FirstStageSettings, OptimizerSettings, Recipe

COMMANDS = {
    "lorank --help": ["--help"],
    "lorank train --help": ["train", "--help"],
    "lorank methods": ["methods"],
    "lorank train --loss softmx": ["train", "--data", "pydocs", "--base", "minilm", "--loss", "softmx", "--out", "x"],
    "lorank train --base minlm": ["train", "--data", "pydocs", "--base", "minlm", "--out", "x"],
    "lorank train": ["train"],
}
DOCUMENTS = [f"document {i}: sort a list of words, or a dictionary by its values" for i in range(10)]


def seconds(arguments: list[str], rounds: int = 5) -> float:
    """Return the median wall time of a command."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "lorank", *arguments], capture_output=True, check=False)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def ratio(pairs: int = 40) -> tuple[float, float, float]:
    """Return medians in milliseconds of ``rank`` and of the merged model, and the median ratio of neighbours."""
    texts = [*DOCUMENTS, "the moon and the earth"]
    splits = {name: Split(name, {f"{name}1": "sort words"}, {f"{name}1": {"d0": 1}}) for name in ("train", "dev")}
    data = Collection("ten", [f"d{i}" for i in range(len(texts))], texts, splits)
    recipe = Recipe(
        adapter=AdapterSettings("lora"),
        first_stage=FirstStageSettings("none"),
        training=OptimizerSettings(steps=2, lr=1e-3),
    )
    with tempfile.TemporaryDirectory() as folder:
        tuned = lorank.fit(lorank.BiEncoder("minilm"), data, out=Path(folder) / "run", recipe=recipe)
        again = lorank.load_ranker(Path(folder) / "run")
    merged = again.ranker
    again.merge()
    del tuned
    ours, theirs = [], []
    for turn in range(pairs + 5):
        start = time.perf_counter()
        again.rank("sort a dictionary", DOCUMENTS)
        middle = time.perf_counter()
        merged.rank("sort a dictionary", DOCUMENTS)
        end = time.perf_counter()
        if turn >= 5:
            ours.append(middle - start)
            theirs.append(end - middle)
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return 1e3 * statistics.median(ours), 1e3 * statistics.median(theirs), statistics.median(ratios)


def main() -> None:
    """Print both tables."""
    print("| command | seconds |\n|:--|--:|")
    for name, arguments in COMMANDS.items():
        print(f"| `{name}` | {seconds(arguments):.2f} |")
    rank, merged, between = ratio()
    print(f"\nrank of ten documents {rank:.1f} ms, merged model {merged:.1f} ms, ratio {between:.3f}")


if __name__ == "__main__":
    main()
