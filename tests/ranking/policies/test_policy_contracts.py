"""What every advantage, sampling plan, mix of rewards and reward promises, whatever it computes."""

import math

import pytest
import torch

from lorank.errors import UsageError
from lorank.ranking.policies.advantages import ADVANTAGES, Replies, compute_advantages
from lorank.ranking.policies.mixes import MIXES, make_mix
from lorank.ranking.policies.plans import PLANS, make_plan
from lorank.ranking.policies.rewards import REWARDS, Asked, find_rewards

GROUPS = torch.tensor([0, 0, 0, 1, 1, 1, 1, 2])


def replies(places=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (len(GROUPS),) if places is None else (len(GROUPS), places)
    return Replies(
        torch.rand(shape, generator=generator),
        GROUPS,
        log_probs=-torch.rand(len(GROUPS), generator=generator),
        baselines=None,
    )


@pytest.mark.parametrize("name", sorted(ADVANTAGES))
def test_an_advantage_has_the_shape_of_the_rewards_and_no_graph(name):
    given = replies(places=3)
    given.rewards.requires_grad_()
    found = compute_advantages(name, given)
    assert found.shape == given.rewards.shape
    assert not found.requires_grad
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("name", sorted(ADVANTAGES))
def test_an_advantage_follows_its_reply_when_replies_are_reordered(name):
    given, order = replies(places=2), torch.tensor([4, 0, 7, 2, 6, 1, 3, 5])
    turned = Replies(given.rewards[order], given.groups[order], given.log_probs[order])
    torch.testing.assert_close(compute_advantages(name, turned), compute_advantages(name, given)[order])


@pytest.mark.parametrize("name", sorted(set(ADVANTAGES) - {"none", "unlikeliness"}))
def test_a_group_whose_replies_earned_the_same_has_no_advantage(name):
    same = Replies(torch.ones(4, 2), torch.tensor([0, 0, 0, 0]), torch.zeros(4))
    assert compute_advantages(name, same).abs().max() < 1e-6


@pytest.mark.parametrize("name", sorted(ADVANTAGES))
def test_other_groups_do_not_matter(name):
    given = replies(places=2)
    alone = Replies(given.rewards[3:7], torch.zeros(4, dtype=torch.long), given.log_probs[3:7])
    torch.testing.assert_close(compute_advantages(name, given)[3:7], compute_advantages(name, alone))


def run_plan(plan, prompts, rates, generator):
    drawn = []

    def draw(places):
        drawn.extend(places)
        chances = torch.tensor([rates[place] for place in places])
        return (torch.rand(len(places), generator=generator) < chances).float()

    kept = plan.sample(prompts, draw, torch.Generator().manual_seed(1))
    return drawn, kept


@pytest.mark.parametrize("name", sorted(PLANS))
@pytest.mark.parametrize("seed", [0, 1])
def test_a_plan_keeps_replies_that_it_drew_and_its_memory_goes_on(name, seed):
    generator = torch.Generator().manual_seed(seed)
    plan, other = make_plan(name, 4), make_plan(name, 4)
    for _ in range(3):
        drawn, kept = run_plan(plan, [11, 5, 8], [0.9, 0.4, 0.1], generator)
        assert len(set(kept.replies)) == len(kept.replies)
        assert set(kept.replies) <= set(range(len(drawn)))
        assert set(drawn) == {0, 1, 2}
        plan.observe_entropy(1.3, 0.2)
    state = plan.state_dict()
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    other.load_state_dict(state)
    again = [run_plan(each, [8, 11, 2], [0.1, 0.9, 0.5], torch.Generator().manual_seed(9)) for each in (plan, other)]
    assert again[0][0] == again[1][0]
    assert again[0][1].replies == again[1][1].replies
    assert plan.temperature == pytest.approx(other.temperature)


@pytest.mark.parametrize("name", sorted(set(PLANS) - {"reinforce-ada"}))
def test_a_plan_spends_exactly_its_budget(name):
    plan = make_plan(name, 4)
    for seed in range(4):
        drawn, kept = run_plan(plan, [1, 2, 3, 4, 5], [0.0, 0.2, 0.5, 0.9, 1.0], torch.Generator().manual_seed(seed))
        assert len(drawn) == len(kept.replies) == 20


@pytest.mark.parametrize("name", sorted(MIXES))
def test_a_mix_gives_a_number_per_reply_and_its_memory_goes_on(name):
    parts = torch.rand(6, 3, generator=torch.Generator().manual_seed(0))
    mix, other = make_mix(name, [1.0, 0.5, 0.2]), make_mix(name, [1.0, 0.5, 0.2])
    for _ in range(2):
        mix.observe_step([0.5, 0.6, 0.7])
        mix.observe_dev([0.1, 0.3, 0.2])
        mix.observe_gradients([torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5]), torch.tensor([-1.0, 0.2])])
    state = mix.state_dict()
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    other.load_state_dict(state)
    assert mix(parts).shape == (6,)
    torch.testing.assert_close(mix(parts), other(parts))


@pytest.mark.parametrize("name", sorted(MIXES))
def test_a_mix_begins_as_the_weights_of_the_reward_say(name):
    mix = make_mix(name, [2.0, 1.0, 1.0])
    better, worse = mix(torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    assert better > worse


TEXTS = ("", "[1]", "<think>a</think><answer>[2] > [1] > [3]</answer>", "<think>", "[9] > [0]", "1: 5, 2: 5", "\udcff")


@pytest.mark.parametrize("name", sorted(REWARDS))
def test_a_reward_takes_any_text_and_gives_its_parts(name):
    known = REWARDS[name]
    for kind in known.kinds or ("setwise", "listwise"):
        for text in TEXTS:
            found = known.score(text, Asked(kind, (0.0, 2.0, 1.0)))
            assert len(found) == (3 if known.places else len(known.parts))
            assert all(math.isfinite(value) and -2 <= value <= 3 for value in found)
    assert len(known.weights) == len(known.parts)
    assert ">>>" in known.score.__doc__


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compute_advantages("grop", replies()), "did you mean 'group'"),
        (lambda: make_plan("knapsac", 4), "did you mean 'knapsack'"),
        (lambda: make_mix("hypervolum", [1.0]), "did you mean 'hypervolume'"),
        (lambda: find_rewards("rank-r2", "setwise"), "did you mean 'rank-r1'"),
        (lambda: find_rewards("rank-r1", "listwise"), "'rank-r1' is for setwise questions"),
        (lambda: find_rewards("rank-grpo+length", "listwise"), "stands alone"),
        (lambda: make_plan("fixed", 0), "samples must be 1"),
        (lambda: make_plan("reinforce-ada", 4, leave="soon"), "choose one of positive, balanced"),
        (lambda: make_mix("constrained", [1.0]), "two|a task and one or more"),
        (lambda: make_mix("hypervolume", [1.0], guide="down"), "guide must be one of"),
        (lambda: compute_advantages("per-rank", replies()), "use 'group'"),
        (lambda: compute_advantages("unlikeliness", replies(), beta=2.0), "beta must be from 0 to 1"),
    ],
)
def test_what_cannot_be_is_refused_by_name(call, message):
    with pytest.raises(UsageError, match=message):
        call()
