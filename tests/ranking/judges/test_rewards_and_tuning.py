"""Rewards and losses by which judges are tuned, against their formulas, and the ids they complete."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from lorank.catalogue import METHODS
from lorank.errors import UsageError
from lorank.ranking import Oracle, rerank
from lorank.ranking.judges import Judge, Reply
from lorank.ranking.judges.reading import read_reply
from lorank.ranking.judges.tuning import (
    importance_weighted_lm_loss,
    importance_weights,
    rank_weighted_ranknet,
    relevance_feedback,
)
from lorank.ranking.losses.rewards import (
    consistent_lists,
    elimination_reward,
    expected_score,
    groupwise_reward,
    has_format,
    induced_list_reward,
    listwise_reward,
    ndcg,
    rank_biased_overlap,
    setwise_reward,
)


def reply(order, thought="because"):
    return f"<think>{thought}</think>\n<answer>{' > '.join(f'[{place + 1}]' for place in order)}</answer>"


@pytest.mark.parametrize("id", ["first", "full-ranking-longctx", "grouprank", "iranker", "reasonrank", "erank"])
def test_published_judges_are_in_the_catalogue(id):
    import lorank.ranking.policies.presets
    import lorank.ranking.strategies

    assert lorank.ranking.policies.presets.POLICIES
    assert METHODS[id].area == "rerank"
    assert lorank.ranking.strategies.STRATEGIES


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("<think>a</think><answer>[2]</answer>", 1.0),
        ("<think>a</think><answer>[1]</answer>", 0.0),
        ("[2]", 0.0),
        ("<think>a</think>[2]", 0.0),
        ("<answer>[2]</answer>", 0.0),
        ("<think>a</think><answer>[2] or [3]</answer>", 0.0),
        ("<think>a<answer>[2]</answer>", 0.0),
        ("x <think>a</think><answer>[2]</answer>", 0.0),
        ("<think>a</think><think>b</think><answer>[2]</answer>", 0.0),
    ],
)
def test_setwise_reward_needs_the_format_and_the_label(text, reward):
    assert setwise_reward(text, 3, 1) == reward


def test_ndcg_and_overlap_by_hand():
    assert ndcg([2, 0, 1], [1, 0, 2], 2) == pytest.approx(1.0)
    assert ndcg([0, 1, 2], [1, 0, 2]) == pytest.approx((1 + 2 / 2) / (2 + 1 / math.log2(3)))
    assert rank_biased_overlap([0, 1], [1, 0], 0.5) == pytest.approx((0 * 1 + 1 * 0.5) / 1.5)
    assert rank_biased_overlap([0, 1, 2], [0, 1, 2]) == pytest.approx(1)


def test_reasonrank_reward_by_hand_and_only_the_ideal_list_is_best():
    labels, phi, gamma = [0, 3, 1, 2], 0.3, 0.2
    order = [1, 0, 3, 2]
    by_hand = (3 + 2 / 2 + 1 / math.log2(5)) / (3 + 2 / math.log2(3) + 1 / 2)
    overlap = (1 * 1 + 0.9 * 1 / 2 + 0.81 * 2 / 3 + 0.729 * 1) / (1 + 0.9 + 0.81 + 0.729)
    assert listwise_reward(reply(order), labels, phi=phi, gamma=gamma) == pytest.approx(
        by_hand + phi * 1.0 + gamma * overlap
    )
    rewards = {p: listwise_reward(reply(p), labels, k=4) for p in permutations(range(4))}
    assert max(rewards, key=rewards.get) == (1, 3, 2, 0)
    assert sorted(rewards.values())[-2] < rewards[1, 3, 2, 0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[2] > [1]",
        "<think>x</think><answer>[1]</answer>",
        "<think>x</think><answer>[1] > [1]</answer>",
        "<think>[2] > [1]",
        "<think>x</think><answer>[2] > [1] > [3]</answer>",
    ],
)
def test_reasonrank_reward_is_gated_by_format(text):
    assert listwise_reward(text, [0, 1]) == 0.0
    assert listwise_reward(reply([1, 0]), [0, 1]) > 1


@pytest.mark.parametrize("strategy", ["sliding", "rank-k", "full"])
def test_reasoning_windows_survive_malformed_replies(strategy):
    texts = [
        "<think>[3] is best",
        "<think>hm</think><answer></answer>",
        "<think>a</think>[2] > [2] > [99]",
        "",
        "[1",
        "<think>a</think><answer>[2] > [1]</answer> <think>wait",
    ]

    class Reasoner(Judge):
        asked = 0

        def answer(self, query, documents, questions):
            for question in questions:
                text = reply(range(len(question.documents))[::-1]) if self.asked % 2 else texts[self.asked // 2 % 6]
                self.asked += 1
                yield Reply(read_reply(question, text), 10, 5)

    done = rerank("q", ["d"] * 130, Reasoner(), strategy)
    assert sorted(done.order) == list(range(130))
    assert done.usage.malformed == math.ceil(done.usage.calls / 2)


def test_reasonrank_filter_drops_lists_under_the_threshold():
    labels = [[2, 1, 0]] * 3
    orders = [[0, 1, 2], [2, 1, 0], [1, 0, 2]]
    quality = [ndcg(order, labels[0]) for order in orders]
    assert consistent_lists(orders, labels, threshold=quality[2]) == [0, 2]
    assert consistent_lists(orders, labels, threshold=1.0) == [0]


def test_erank_expected_score_lies_in_range_and_breaks_integer_ties():
    rng = np.random.default_rng(0)
    for logits in rng.normal(0, 5, (50, 11)):
        assert 0 <= expected_score(logits) <= 10
    sure, unsure = [0.0] * 11, [0.0] * 11
    sure[7], unsure[7], unsure[8] = 5.0, 5.0, 4.0
    assert int(np.argmax(sure)) == int(np.argmax(unsure)) == 7
    assert expected_score(unsure) > expected_score(sure)
    with pytest.raises(UsageError, match="2 logits for 11 scores"):
        expected_score([1, 2])


def test_erank_reward_is_the_measure_of_the_induced_list():
    labels = [0, 2, 1]
    assert induced_list_reward([0.1, 0.9, 0.5], labels) == pytest.approx(1.0)
    assert induced_list_reward([0.9, 0.5, 0.1], labels) == pytest.approx(ndcg([0, 1, 2], labels))
    assert induced_list_reward([0, 0, 0], labels) == pytest.approx(ndcg([0, 2, 1], labels))
    assert rerank("q", ["d"] * 5, Oracle(range(5)), "pointwise").usage.calls == 5


def test_iranker_rewards_removing_the_less_relevant():
    pool = [3, 0, 2, 1, 1]
    rewards = [elimination_reward(pool, place) for place in range(5)]
    assert rewards == pytest.approx([0.0, 1.0, 0.25, (2 + 0.5) / 4, (2 + 0.5) / 4])
    assert elimination_reward([1], 0) == pytest.approx(1.0)


def test_grouprank_reward_by_hand():
    scores, labels = [8.0, 2.0], [10.0, 0.0]
    assert groupwise_reward(scores, labels, distribution=0.25) == pytest.approx(0.75 * 1 + 0.25 * (1 - 0.2))
    assert groupwise_reward(scores, labels, distribution=0.0) == pytest.approx(1.0)
    with pytest.raises(UsageError, match="distribution must be"):
        groupwise_reward(scores, labels, distribution=2)


def partition_scores(labels, relative, seed, size=6):
    """Scores of a judge that marks each document against its group's mean, fully (1) or not at all (0)."""
    scores = np.empty(len(labels))
    dealt = np.random.default_rng(seed).permutation(len(labels))
    for group in np.split(dealt, len(labels) // size):
        scores[group] = np.clip(labels[group] + relative * (5 - labels[group].mean()), 0, 10)
    return scores, np.split(dealt, len(labels) // size)


@pytest.mark.parametrize("distribution", [0.0, 0.5])
def test_grouprank_scores_agree_across_partitions_once_the_distribution_counts(distribution):
    labels = np.random.default_rng(1).uniform(0, 10, 60).round(1)

    def mean_reward(relative):
        total = []
        for seed in range(5):
            scores, groups = partition_scores(labels, relative, seed)
            total += [groupwise_reward(scores[g], labels[g], distribution=distribution) for g in groups]
        return np.mean(total)

    def agreement(relative):
        return spearmanr(partition_scores(labels, relative, 20)[0], partition_scores(labels, relative, 21)[0])[0]

    policies = [1.0, 0.5, 0.0]
    best = max(policies, key=lambda relative: round(mean_reward(relative), 3))
    if distribution:
        assert best == 0.0
        assert agreement(best) == pytest.approx(1.0)
    else:
        assert agreement(1.0) < agreement(0.5) < agreement(0.0)
        assert mean_reward(1.0) == pytest.approx(mean_reward(0.0), abs=0.01)


def test_first_loss_by_hand_and_its_gradient():
    scores = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    by_hand = sum(math.log1p(math.exp(scores[j] - scores[i])) / (i + j + 2) for i in range(3) for j in range(i + 1, 3))
    assert rank_weighted_ranknet(scores).item() == pytest.approx(by_hand)
    batch = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(rank_weighted_ranknet, batch)
    assert rank_weighted_ranknet(torch.tensor([5.0, 0.0, -5.0])) < rank_weighted_ranknet(torch.tensor([-5.0, 0.0, 5.0]))


def test_first_scores_as_relevance_feedback_raise_recall():
    generator = torch.Generator().manual_seed(4)
    gained = []
    for _ in range(10):
        documents = torch.nn.functional.normalize(torch.randn(200, 16, generator=generator), dim=1)
        wish = torch.nn.functional.normalize(torch.randn(16, generator=generator), dim=0)
        relevant = set((documents @ wish).topk(20).indices.tolist())
        query = torch.nn.functional.normalize(wish + 0.25 * torch.randn(16, generator=generator), dim=0)
        found = (documents @ query).topk(20).indices
        logits = 10 * documents[found] @ wish
        moved = relevance_feedback(query, documents[found], logits, temperature=0.1, steps=100, rate=0.01)
        again = (documents @ moved).topk(20).indices
        assert moved.norm().item() == pytest.approx(1, abs=1e-5)
        gained.append(len(relevant & set(again.tolist())) - len(relevant & set(found.tolist())))
    assert np.mean(gained) > 1


def test_full_ranking_weights_and_loss():
    weights = importance_weights(20)
    assert (weights[1:] < weights[:-1]).all()
    assert weights[2].item() == pytest.approx(1 + 1 / 2)
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(20, 9, generator=generator), torch.randint(9, (20,), generator=generator)
    plain = torch.nn.functional.cross_entropy(logits, targets)
    torch.testing.assert_close(importance_weighted_lm_loss(logits, targets, torch.ones(20)), plain)
    each = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(
        importance_weighted_lm_loss(logits, targets, weights), (each * weights).sum() / weights.sum()
    )
    with pytest.raises(UsageError, match="one target and one weight"):
        importance_weighted_lm_loss(logits, targets, weights[:5])


def test_full_ranking_labels_by_several_passes_are_exact():
    labels = np.random.default_rng(2).permutation(40)
    one = rerank("q", ["d"] * 40, Oracle(labels), "sliding")
    several = rerank("q", ["d"] * 40, Oracle(labels), "sliding", passes=4)
    assert several.order == tuple(np.argsort(-labels)) != one.order
    full = rerank("q", ["d"] * 40, Oracle(labels), "full")
    assert (full.usage.calls, one.usage.calls) == (1, math.ceil((40 - 20) / 10) + 1)
    assert full.order == several.order


def test_format():
    assert has_format("<think></think><answer></answer>")
    assert not has_format("<think></think><answer></answer> and more")
