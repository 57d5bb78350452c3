r"""PERL: a reward model and a policy, both tuned by low-rank adapters on one frozen base.

    reward model   Bradley and Terry's likelihood of pairs, -\log \sigma(r(x, y_w) - r(x, y_l))
    policy         \max E[ r(x, y) - \beta \log \frac{\pi(y | x)}{\pi_ref(y | x)} ],   y drawn from \pi

The first half is `lorank.fit` of a ``CausalRanker`` with view ``head`` and loss ``ranknet``. The second is
:func:`tune_policy`; its reference is the same model with the adapter switched off, so no second copy is held.

Paper: H. Sidahmed et al., PERL: Parameter Efficient Reinforcement Learning from Human Feedback, 2024.

*Deviations*: the gradient is REINFORCE's with the mean of a group of replies to one prompt as the baseline, where the
paper adds a learned value. Replies are drawn by the model's own ``generate`` at temperature 1.

The second half steps by itself and not through the training loop, which stands above this room and reads lists of
documents: here a step samples replies from the current policy.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.ranking.scorers.causal import CausalRanker
from lorank.ranking.scorers.causal_batches import pad_left
from lorank.ranking.scorers.pair_inputs import constant
from lorank.ranking.scorers.tokens import Span, interleave

Reward = Callable[[str, Sequence[str]], Sequence[float]]
"""From a prompt and replies to one number a reply, such as a reward model's ``score``."""


@catalogued(
    "perl",
    area="losses.preference",
    title="PERL: Parameter Efficient Reinforcement Learning from Human Feedback",
    reach="Python alone: it takes the reward of written replies as a function",
)
def tune_policy(
    policy: CausalRanker,
    reward: Reward,
    prompts: Sequence[str],
    parameters: Iterable[Tensor],
    *,
    steps: int = 50,
    group: int = 8,
    rate: float = 1e-4,
    divergence: float = 0.1,
    max_tokens: int = 32,
    generator: torch.Generator,
) -> list[float]:
    """Train ``parameters`` in place by the reward of drawn replies; return each step's mean reward.

    Args:
        policy: View ``log-ratio``, its adapter attached and its ``reference`` set.
        reward: Of replies to a prompt.
        prompts: One a step, over and over.
        parameters: The adapter's.
        steps: How many.
        group: Replies drawn a prompt, 2 or more.
        rate: Of Adam.
        divergence: beta, 0 and up.
        max_tokens: Of a reply.
        generator: Where the draws come from; the global random state is left alone.
    """
    if policy.view != "log-ratio" or group < 2 or divergence < 0 or not prompts:
        raise UsageError(
            f"tuning a policy needs view='log-ratio' (this is {policy.view!r}), a group of 2 or more "
            f"({group}), a divergence of 0 or more ({divergence}) and prompts ({len(prompts)})"
        )
    optimizer, curve = torch.optim.Adam(parameters, lr=rate), []
    for step in range(steps):
        prompt = prompts[step % len(prompts)]
        seed = int(torch.randint(2**62, (), generator=generator))
        replies = draw_replies(policy, prompt, group, max_tokens, seed)
        earned = torch.tensor([float(value) for value in reward(prompt, replies)], device=policy.device)
        curve.append(float(earned.mean()))
        inputs = policy.prepare([prompt], replies)
        grid = torch.arange(group).unsqueeze(0)
        scores = policy.forward(inputs, torch.tensor([0]), grid, torch.ones_like(grid, dtype=torch.bool))
        ratio = scores[0] / policy.beta
        value = earned - divergence * ratio.detach()
        optimizer.zero_grad()
        (-(value - value.mean()) * ratio).mean().backward()  # the reference's part of the ratio has no gradient
        optimizer.step()
    return curve


@torch.no_grad()
def draw_replies(policy: CausalRanker, prompt: str, count: int, max_tokens: int, seed: int) -> list[str]:
    """Return ``count`` replies to a prompt, drawn at temperature 1 from the policy's model.

    Args:
        policy: The causal ranker whose model replies.
        prompt: The text of the prompt.
        count: The number of replies, 1 or more.
        max_tokens: The most new tokens of a reply, 1 or more.
        seed: The seed of every random draw.
    """
    inputs = policy.prepare([prompt], [""])
    span = Span(np.zeros(1, np.int64), np.zeros(1, np.int64), inputs.queries.lengths)
    asked = interleave(
        [constant(policy.template.before), (inputs.queries, span, 0), constant(policy.template.between)], 1
    )
    given = pad_left(asked, policy.tokenizer.pad_token_id, policy.device)
    given.pop("position_ids")
    devices = [policy.device] if policy.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        written = policy.module.generate(
            **given,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            max_new_tokens=max_tokens,
            num_return_sequences=count,
            pad_token_id=policy.tokenizer.pad_token_id,
            eos_token_id=policy.tokenizer.eos_token_id,
        )
    return policy.tokenizer.batch_decode(written[:, given["input_ids"].shape[1] :], skip_special_tokens=True)
