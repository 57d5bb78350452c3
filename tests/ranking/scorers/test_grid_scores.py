"""A bi-encoder's scores of a grid: each cell its query times its document, with no vector for each cell."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lorank.ranking.scorers import BiEncoder

QUERIES = ["sun words", "moon list"]
DOCUMENTS = ["moon\nearth list", "sun\nwords", "no title but words and a sun"]


@pytest.mark.parametrize("long", ["truncate", "titled", "mean"])
def test_a_batch_of_repeated_queries_has_the_scores_and_gradients_of_its_cells(
    long: str, tiny_folders: dict[str, Path]
) -> None:
    ranker = BiEncoder(tiny_folders["bert"], max_length=16, long=long)  # type: ignore[arg-type]
    inputs = ranker.prepare(QUERIES, DOCUMENTS)
    generator = np.random.default_rng(0)
    asked = torch.from_numpy(generator.integers(2, size=7))
    shown = torch.from_numpy(generator.integers(3, size=(7, 4)))
    mask = torch.from_numpy(generator.random((7, 4)) < 0.8)
    weights = torch.from_numpy(generator.normal(size=(7, 4))).float()

    def gradient_of(value: torch.Tensor) -> torch.Tensor:
        parameters = [p for p in ranker.module.parameters() if p.requires_grad]
        found = torch.autograd.grad(value, parameters, allow_unused=True)
        return torch.cat([g.flatten() for g in found if g is not None])

    whole = ranker.forward(inputs, asked, shown, mask)
    cells = [
        ranker.forward(inputs, asked[i : i + 1], shown[i : i + 1, j : j + 1], torch.ones(1, 1, dtype=torch.bool))
        for i, j in mask.nonzero().tolist()
    ]
    alone = torch.zeros_like(whole)
    alone[mask] = torch.cat(cells).flatten()
    torch.testing.assert_close(whole, alone, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        gradient_of((whole * weights).sum()), gradient_of((alone * weights).sum()), atol=1e-3, rtol=1e-3
    )


def test_thousands_of_lists_of_two_queries_keep_no_vector_for_each_cell(tiny_folders: dict[str, Path]) -> None:
    ranker, lists = BiEncoder(tiny_folders["bert"], max_length=16), 4000
    inputs = ranker.prepare(QUERIES, DOCUMENTS)
    kept: list[int] = []

    def count(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        scores = ranker.forward(
            inputs,
            torch.arange(lists) % 2,
            torch.arange(3).expand(lists, 3),
            torch.ones(lists, 3, dtype=torch.bool),
        )
    assert scores.shape == (lists, 3)
    assert max(kept) <= lists * 3
