"""What tests of streams share: three tiny collections, and a short recipe."""

from pathlib import Path

import pytest

from lorank.data.collection import Collection
from lorank.training.recipe import RecipeFile, override
from tiny_streams import WORDS, tiny_collection


@pytest.fixture(scope="session")
def three() -> list[Collection]:
    """Three collections."""
    return [tiny_collection(name) for name in WORDS]


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """First-stage indexes are built anew, so that no test leans on what another left."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def recipe(tiny_folders: dict[str, Path], own_cache: None) -> RecipeFile:
    """A short run of a tiny bi-encoder."""
    changes = {
        "base": str(tiny_folders["bert"]),
        "kind": "bi-encoder",
        "adapter.rank": 2,
        "training.steps": 4,
        "training.batch_size": 4,
        "training.lr": 0.01,
        "training.evaluations": 1,
        "lists.depth": 20,
    }
    return override(RecipeFile(), changes)
