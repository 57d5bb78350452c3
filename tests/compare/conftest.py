"""What tests of experiments share: a small judged collection on disk, a tiny base, and a cache of their own."""

import json
from pathlib import Path

import numpy as np
import pytest

ASKED = ["sorting", "moon", "query", "adaptation", "list", "earth"]
ANSWERED = ["sun", "relevant", "language", "words", "rankers", "models"]


def write_beir_folder(folder: Path, sizes: dict[str, int], seed: int = 0, *, titled: bool = False) -> Path:
    """Write a BEIR folder whose queries name two subjects by words that their document replaces by others."""
    rng = np.random.default_rng(seed)
    (folder / "qrels").mkdir(parents=True)
    documents, queries = [], []
    for split, count in sizes.items():
        judgments = ["query-id\tcorpus-id\tscore"]
        for i in range(count):
            pair = rng.choice(6, 2, replace=False)
            words = rng.permutation(["document", *(ANSWERED[j] for j in pair), "the", "of"])
            documents.append(
                {
                    "_id": f"d{len(documents)}",
                    "title": f"number {len(documents)}" if titled else "",
                    "text": " ".join(words),
                }
            )
            queries.append({"_id": f"{split}{i}", "text": " ".join(["document", *(ASKED[j] for j in pair)])})
            judgments.append(f"{split}{i}\t{documents[-1]['_id']}\t1")
        (folder / "qrels" / f"{split}.tsv").write_text("\n".join(judgments) + "\n")
    for name, rows in (("corpus", documents), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def judged(tmp_path: Path) -> Path:
    """A collection of 24 judged queries without a training split."""
    return write_beir_folder(tmp_path / "judged", {"test": 24})


@pytest.fixture
def splits(tmp_path: Path) -> Path:
    """A collection with splits of its own."""
    return write_beir_folder(tmp_path / "splits", {"train": 16, "dev": 10, "test": 12})


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """First-stage indexes are built anew, so that no test leans on what another left."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def bert(tiny_folders: dict[str, Path]) -> str:
    """The tiny BERT, as a base is named."""
    return str(tiny_folders["bert"])


@pytest.fixture
def write_beir():
    """Return what writes a BEIR folder of judged queries."""
    return write_beir_folder
