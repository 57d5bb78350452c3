"""What every trainable ranker promises, for every kind and every architecture."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lorank.errors import UsageError
from lorank.ranking.scorers import (
    RANKERS,
    BiEncoder,
    CausalRanker,
    CrossEncoder,
    FeatureRanker,
    TrainableRanker,
)
from lorank.ranking.scorers.ranker import scores_prepared

FRESH = """
import json, sys
import numpy as np
from lorank.ranking.scorers import RANKERS
scores = {}
for name, (kind, folder, query, documents) in json.loads(open(sys.argv[1]).read()).items():
    documents = np.array(documents, np.float32) if kind == "features" else documents
    scores[name] = RANKERS[kind].load(folder).score(query, documents).tolist()
print(json.dumps(scores))
"""


def feature_rows() -> np.ndarray:
    rows = np.random.default_rng(0).lognormal(size=(10, 5)).astype(np.float32)
    rows[:, 3] = 2.0
    return rows


def feature_ranker() -> FeatureRanker:
    ranker = FeatureRanker.for_collection(feature_rows(), hidden=(8, 4))
    with torch.no_grad():
        ranker.module[-1].weight.normal_(generator=torch.Generator().manual_seed(1))
    return ranker


CASES = [
    "features",
    *[
        f"{kind}/{name}"
        for kind in ("bi-encoder", "cross-encoder")
        for name in ("bert", "roberta", "xlm-roberta", "deberta-v2", "modernbert")
    ],
    "causal yes-no/llama",
    "causal expected/qwen2",
    "causal head/llama",
    "causal head/qwen2",
]


@pytest.fixture(scope="session")
def every_folder(tiny_folders: dict[str, Path], tiny_causals: dict[str, Path]) -> dict[str, Path]:
    """A folder for each architecture, encoders and causal language models."""
    return tiny_folders | tiny_causals


def made(case: str, tiny_folders: dict[str, Path]) -> TrainableRanker:
    """Return a ranker whose scores differ between documents."""
    if case == "features":
        return feature_ranker()
    kind, name = case.split("/")
    if kind == "bi-encoder":
        return BiEncoder(tiny_folders[name], max_length=64)
    if kind.startswith("causal"):
        return CausalRanker(tiny_folders[name], view=kind.split()[1], head="random", max_length=300)
    ranker = CrossEncoder(tiny_folders[name], max_length=64, head="random", seed=3)
    with torch.no_grad():
        for _, parameter in ranker.head_parameters():
            parameter.mul_(20.0)
    return ranker


@pytest.fixture(params=CASES)
def ranker(request: pytest.FixtureRequest, every_folder: dict[str, Path]) -> TrainableRanker:
    """Each kind of ranker on each architecture."""
    return made(request.param, every_folder)


@pytest.fixture
def candidates(ranker: TrainableRanker, documents: list[str]) -> list[str] | np.ndarray:
    """Documents of the kind that the ranker reads."""
    return feature_rows() if ranker.kind == "features" else documents


def chosen(candidates: list[str] | np.ndarray, order: np.ndarray) -> list[str] | np.ndarray:
    return candidates[order] if isinstance(candidates, np.ndarray) else [candidates[i] for i in order]


def test_scores_are_float32_in_the_order_given_and_differ(ranker, candidates, query):
    scores = ranker.score(query, candidates)
    assert scores.dtype == np.float32
    assert scores.shape == (len(candidates),)
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) >= 5


def test_permuting_documents_permutes_scores(ranker, candidates, query):
    order = np.random.default_rng(1).permutation(len(candidates))
    before, after = ranker.score(query, candidates)[order], ranker.score(query, chosen(candidates, order))
    if ranker.kind == "features":
        np.testing.assert_allclose(after, before, rtol=1e-6, atol=1e-6)
    else:
        assert np.array_equal(after, before)


def test_scores_do_not_depend_on_their_company(ranker, candidates, query):
    together = ranker.score(query, candidates)
    alone = np.concatenate([ranker.score(query, candidates[i : i + 1]) for i in range(len(candidates))])
    np.testing.assert_allclose(alone, together, rtol=1e-5, atol=1e-5)


def test_token_budget_does_not_change_scores(ranker, candidates, query):
    whole = ranker.score(query, candidates)
    ranker.token_budget = 70
    np.testing.assert_allclose(ranker.score(query, candidates), whole, rtol=1e-5, atol=1e-5)


def test_empty_and_single_lists(ranker, candidates, query):
    empty = ranker.score(query, candidates[:0])
    assert empty.shape == (0,)
    assert empty.dtype == np.float32
    assert ranker.score_pairs([query], candidates, np.zeros((0, 2), np.int64)).shape == (0,)
    assert ranker.rank(query, candidates[:0]) == []
    assert ranker.score(query, candidates[:1]).shape == (1,)


def test_rank_sorts_keeps_ties_in_order_and_cuts_at_top(ranker, candidates, query):
    scores = ranker.score(query, candidates)
    ranked = ranker.rank(query, candidates)
    assert [r.score for r in ranked] == sorted(scores.tolist(), reverse=True)
    assert [r.index for r in ranked] == sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    assert [r.index for r in ranker.rank(query, candidates, top=3)] == [r.index for r in ranked[:3]]


def test_pairs_of_many_queries_equal_single_queries(ranker, candidates, query):
    queries = [query, "moon", query]
    pairs = np.array([(q, d) for d in range(0, len(candidates), 2) for q in (2, 1, 0)])
    scores = ranker.score_pairs(queries, candidates, pairs)
    for q, text in enumerate(queries):
        rows = pairs[:, 0] == q
        np.testing.assert_allclose(scores[rows], ranker.score(text, candidates)[pairs[rows, 1]], rtol=1e-5, atol=1e-5)


def test_progress_is_heard_to_the_end(ranker, candidates, query):
    heard: list[tuple[int, int]] = []
    pairs = np.stack([np.zeros(len(candidates), np.int64), np.arange(len(candidates))], 1)
    ranker.score_pairs([query], candidates, pairs, on_progress=lambda done, total: heard.append((done, total)))
    assert heard[-1][0] == heard[-1][1] > 0
    assert heard == sorted(heard)


def grid(candidates) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    queries = torch.tensor([0, 1, 0])
    documents = torch.tensor([[0, 2, 4, 5], [7, 7, 3, -99], [9, 10**6, -1, 10**6]])
    mask = torch.tensor([[True] * 4, [True, True, True, False], [True, False, False, False]])
    return queries, documents, mask


def test_forward_equals_score_pairs_and_ignores_masked_garbage(ranker, candidates, query):
    queries, documents, mask = grid(candidates)
    inputs = ranker.prepare([query, "moon"], candidates)
    with torch.no_grad():
        scores = ranker.forward(inputs, queries, documents, mask)
    assert scores.shape == mask.shape
    assert (scores[~mask] == 0).all()
    rows, columns = torch.nonzero(mask, as_tuple=True)
    pairs = torch.stack([queries[rows], documents[rows, columns]], 1).numpy()
    expected = ranker.score_pairs([query, "moon"], candidates, pairs)
    np.testing.assert_allclose(scores[mask].numpy(), expected, rtol=1e-5, atol=1e-5)


def test_forward_of_an_all_masked_grid_is_zero(ranker, candidates, query):
    inputs = ranker.prepare([query], candidates)
    scores = ranker.forward(inputs, torch.tensor([0]), torch.tensor([[5, 6]]), torch.zeros(1, 2, dtype=torch.bool))
    assert torch.equal(scores.detach(), torch.zeros(1, 2))


def test_gradients_reach_every_parameter_that_scores_depend_on(ranker, candidates, query):
    inputs = ranker.prepare([query, "moon"], candidates)
    scores = ranker.forward(inputs, *grid(candidates))
    (scores * torch.linspace(-1, 1, scores.numel()).view_as(scores)).sum().backward()
    for name, parameter in ranker.module.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    moved = [bool(p.grad.abs().sum() > 0) for p in ranker.module.parameters()]
    assert np.mean(moved) > 0.7


def test_gradients_are_those_of_finite_differences(ranker, candidates, query):
    inputs = ranker.prepare([query, "moon"], candidates)
    parameter = next(p for n, p in ranker.module.named_parameters() if p.dim() == 2 and "embed" not in n)

    def loss() -> torch.Tensor:
        return ranker.forward(inputs, *grid(candidates)).sum()

    loss().backward()
    direction = parameter.grad / parameter.grad.norm()
    step = 1e-2
    with torch.no_grad():
        parameter += step * direction
        up = loss()
        parameter -= 2 * step * direction
        down = loss()
    assert float(up - down) / (2 * step) == pytest.approx(float(parameter.grad.norm()), rel=0.03, abs=2e-3)


def test_scoring_leaves_training_mode_and_random_state_alone(ranker, candidates, query):
    ranker.module.train()
    state = torch.random.get_rng_state()
    first = ranker.score(query, candidates)
    assert all(part.training for part in ranker.module.modules())
    assert torch.equal(state, torch.random.get_rng_state())
    ranker.module.eval()
    assert np.array_equal(first, ranker.score(query, candidates))


def test_options_rebuild_the_ranker_from_its_base(ranker, candidates, query):
    options = json.loads(json.dumps(ranker.options()))
    again = type(ranker)(ranker.base, **options)
    again.module.load_state_dict(ranker.module.state_dict())
    assert np.array_equal(again.score(query, candidates), ranker.score(query, candidates))
    assert RANKERS[ranker.kind] is type(ranker)


def test_saved_rankers_score_the_same_in_a_fresh_process(documents, query, every_folder, tmp_path):
    request, expected = {}, {}
    for case in CASES:
        ranker = made(case, every_folder)
        candidates = feature_rows() if case == "features" else documents
        folder = tmp_path / case.replace("/", "-").replace(" ", "-")
        ranker.save(folder)
        assert not [p for p in folder.rglob("*") if p.suffix in (".bin", ".pt", ".pkl", ".pickle")]
        assert json.loads((folder / "lorank.json").read_text())["kind"] == ranker.kind
        listed = candidates.tolist() if isinstance(candidates, np.ndarray) else candidates
        request[case] = (ranker.kind, str(folder), query, listed)
        expected[case] = ranker.score(query, candidates)
    (tmp_path / "request.json").write_text(json.dumps(request))
    done = subprocess.run(
        [sys.executable, "-c", FRESH, str(tmp_path / "request.json")], capture_output=True, text=True, check=True
    )
    scores = json.loads(done.stdout)
    for case in CASES:
        largest = max(1.0, float(np.abs(expected[case]).max()))
        np.testing.assert_allclose(scores[case], expected[case], rtol=0, atol=5e-6 * largest, err_msg=case)


def test_saving_again_into_the_same_folder_keeps_other_files(ranker, candidates, query, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    ranker.save(tmp_path)
    ranker.save(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    np.testing.assert_allclose(
        type(ranker).load(tmp_path).score(query, candidates), ranker.score(query, candidates), rtol=5e-6, atol=5e-6
    )
    assert not [p for p in tmp_path.parent.iterdir() if p.name.startswith(f".{tmp_path.name}.")]


@pytest.mark.parametrize(
    ("kind", "wrong"), [("features", ["a text"]), ("bi-encoder", np.zeros((2, 3))), ("cross-encoder", [b"bytes"])]
)
def test_documents_of_the_wrong_kind_are_refused(kind, wrong, tiny_folders):
    ranker = FeatureRanker(features=3) if kind == "features" else RANKERS[kind](tiny_folders["bert"])
    with pytest.raises(UsageError):
        ranker.score("q", wrong)


def test_texts_that_were_prepared_once_are_scored_as_texts_are(ranker, candidates):
    if not scores_prepared(ranker):
        pytest.skip("feature rows need no preparing")
    queries = ["unused", "how are documents ordered", "sorting a list"]
    pairs = np.array([[2, 3], [1, 3], [1, 0], [2, 6], [1, 3]])
    given = ranker.prepare(queries, candidates)
    expected = ranker.score_pairs(queries, candidates, pairs)
    np.testing.assert_allclose(ranker.score_prepared(given, pairs), expected, rtol=1e-5, atol=1e-5)


def test_a_subclass_that_scores_its_own_way_scores_texts(tiny_folders):
    class Negated(CrossEncoder):
        def score_pairs(self, *arguments, **options):
            return -super().score_pairs(*arguments, **options)

    assert scores_prepared(CrossEncoder(tiny_folders["bert"]))
    assert not scores_prepared(Negated(tiny_folders["bert"]))
