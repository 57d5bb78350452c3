"""The sample covers the clusters in proportion, and its queries are of the corpus."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from lorank.cli.app import app
from lorank.data import read_beir, write_beir
from lorank.data.cluster_sampling import find_clusters, sample_by_clusters, shares
from lorank.data.collection import Collection
from lorank.data.free_queries import targets
from lorank.errors import UsageError
from lorank.ranking.judges.query_writing import write_queries


def planted(rng: np.random.Generator, sizes: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Vectors close around far centres, and the centre of each."""
    centres = np.linalg.qr(rng.normal(size=(16, 16)))[0][: len(sizes)]
    owner = np.repeat(np.arange(len(sizes)), sizes)
    return centres[owner] + 0.05 * rng.normal(size=(len(owner), 16)), owner


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_samples_cover_the_clusters_in_proportion(seed: int) -> None:
    sizes = [200, 100, 60, 40]
    vectors, owner = planted(np.random.default_rng(seed), sizes)
    found = sample_by_clusters(vectors, 40, np.random.default_rng(seed), clusters=4)
    assert np.bincount(owner[found]).tolist() == [20, 10, 6, 4]
    assert len(set(found.tolist())) == 40
    again = sample_by_clusters(vectors, 40, np.random.default_rng(seed), clusters=4)
    assert found.tolist() == again.tolist()
    near = sample_by_clusters(vectors, 40, np.random.default_rng(seed), clusters=4, temperature=1e-4)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    centre = np.stack([unit[owner == c].mean(0) for c in range(4)])
    close = (unit * centre[owner]).sum(1)
    assert close[near].mean() > close[found].mean()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=8).filter(sum), st.data())
def test_shares_add_up_and_are_within_one_of_the_exact_ones(sizes: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, sum(sizes)))
    found = shares(np.array(sizes), count)
    assert found.sum() == count
    assert (found <= sizes).all()
    assert (np.abs(found - np.array(sizes) * count / sum(sizes)) < 1 + 1e-9).all()


def test_every_document_can_be_taken_and_equal_ones_make_no_trouble() -> None:
    same = np.ones((12, 3))
    assert sample_by_clusters(same, 12, np.random.default_rng(0)).tolist() == list(range(12))
    assert len(find_clusters(same.astype(np.float32) / 3**0.5, 5, np.random.default_rng(0))[0]) == 5
    for changes, message in [({"count": 13}, "count"), ({"count": 3, "clusters": 0}, "clusters")]:
        with pytest.raises(UsageError, match=message):
            sample_by_clusters(same, rng=np.random.default_rng(0), **changes)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="temperature"):
        sample_by_clusters(same, 2, np.random.default_rng(0), temperature=0)


def test_the_command_writes_queries_of_documents_that_nobody_asks_for(
    texts: Collection, tiny_folders: dict[str, Path], tmp_path: Path
) -> None:
    write_beir(texts, tmp_path / "data")
    line = ["queries", "--data", tmp_path / "data", "--count", "9", "--clusters", "3", "--shortest", "10"]
    line += ["--ranker", tiny_folders["bert"], "--writer", "titles", "--out", tmp_path / "made"]
    done = CliRunner().invoke(app, list(map(str, line)))
    assert done.exit_code == 0, (done.output, done.exception)
    made = read_beir(tmp_path / "made")
    judged = [next(iter(row)) for row in made.train.qrels.values()]
    assert len(judged) == 9
    assert not set(judged) & targets(texts)
    for query, row in made.train.qrels.items():
        assert made.train.queries[query] == texts.titles[texts.position[next(iter(row))]]  # type: ignore[index]
    assert made.test.queries == texts.test.queries
    bad = CliRunner().invoke(app, [*map(str, line[:-1]), str(tmp_path / "x"), "--writer", "nobody"])
    assert isinstance(bad.exception, UsageError)


def test_what_a_model_writes_becomes_one_line() -> None:
    class Writer:
        def complete(self, prompts: list[str]) -> list[str]:
            assert all("Passage: the moon" in prompt for prompt in prompts)
            return [json.dumps(f"query {i}") + "\nand more" for i in range(len(prompts))]

    assert write_queries(Writer(), ["the moon"] * 3, together=2) == ["query 0", "query 1", "query 0"]
    with pytest.raises(UsageError, match="writes nothing"):
        write_queries(object(), ["the moon"])
