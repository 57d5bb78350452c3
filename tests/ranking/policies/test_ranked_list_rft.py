"""ranked-list-rft: a policy that was taught single answers learns by its reward to list the next likely ones, too."""

import statistics
from itertools import permutations

import torch

from lorank.ranking.policies.advantages import Replies, compute_advantages
from lorank.ranking.policies.presets import find_policy, reward_of
from lorank.ranking.policies.rewards import Asked, find_rewards

ORDERS = [order for size in (1, 2, 3) for order in permutations(range(3), size)]
CHANCES = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.3, 0.2, 0.5], [0.45, 0.2, 0.35]])
"""Of four prompts, how likely each of three answers is the right one."""


def earned_by_every_reply():
    """What each written list earns where each answer is right, [answer, list]."""
    scoring = find_rewards(reward_of(find_policy("ranked-list-rft")), "listwise")
    replies = [f"<think>so</think><answer>{' > '.join(f'[{at + 1}]' for at in order)}</answer>" for order in ORDERS]
    asked = [Asked("listwise", tuple(float(place == right) for place in range(3))) for right in range(3)]
    return torch.stack([scoring(replies, [one] * len(replies)) @ torch.tensor(scoring.weights) for one in asked])


def taught_and_rewarded(seed):
    """The MRR of the likeliest replies after tuning on single answers, and after as many rewarded steps and more."""
    generator = torch.Generator().manual_seed(seed)
    logits = (0.1 * torch.randn(len(CHANCES), len(ORDERS), generator=generator)).requires_grad_()
    earned, prompts = earned_by_every_reply(), torch.arange(len(CHANCES)).repeat(8)
    groups = torch.arange(len(prompts)).repeat_interleave(8)
    values = []
    for steps, rewarded in ((60, False), (150, True)):
        optimizer = torch.optim.Adam([logits], lr=0.05)
        for _ in range(steps):
            logs = logits.log_softmax(1)[prompts]
            right = torch.multinomial(CHANCES[prompts], 1, replacement=True, generator=generator)
            value = -logs.gather(1, right).mean()  # the first three replies are the single answers
            if rewarded:
                said = torch.multinomial(logs.detach().exp(), 8, replacement=True, generator=generator)
                gain = compute_advantages("group", Replies(earned[right, said].reshape(-1), groups))
                value = -(gain * logs.gather(1, said).reshape(-1)).mean()
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        best = logits.argmax(1)
        values.append(float((CHANCES * earned[:, best].T).sum(1).mean()))
        assert rewarded or all(len(ORDERS[at]) == 1 for at in best.tolist())
    return values


def test_reward_raises_the_mrr_over_that_of_tuning_on_single_answers():
    single, rewarded = (statistics.median(row) for row in zip(*(taught_and_rewarded(seed) for seed in (0, 1, 2))))
    assert single < 0.51  # no single answer is right more often
    assert rewarded > single + 0.1  # the best lists earn 0.71
