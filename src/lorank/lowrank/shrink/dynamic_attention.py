r"""Attention whose scores have a low rank, and a policy that learns which rank each segment needs.

    S = q k^T / sqrt(d) = U diag(s) W^T,     S_r its best rank-r part,     out_r = softmax(S_r) v

    |out_r - out|_max  <=  s_{r+1} max|v|          a row of scores moves by s_{r+1} at most, softmax by no more in L1
    |s_i(S + E) - s_i(S)|  <=  |E|_2               Weyl: how far a spectrum can move from one segment to the next
    sin(angle)  <=  |E|_2 / (s_r - s_{r+1})        Davis and Kahan: whether the old directions still serve

A new SVD is computed only where the last bound is above a limit. The policy is softmax over ranks, linear in a state
(spectrum shares and the present rank), trained by REINFORCE with reward = 1 - relative error - latency weight * r / d.

Dynamic Rank Reinforcement Learning for Adaptive Low-Rank Multi-Head Self Attention in Large Language Models, 2025.

*Deviations*: [~] no code is published; state, reward and policy are reconstructed from the abstract. Rewards with a
range above 1 are divided by it, as one step of a large reward would fix the policy on what it sampled first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.linalg import SVD, top_k_svd

Segment = tuple[Tensor, Tensor, Tensor]
"""q [n, d], k [m, d] and v [m, e] of one head."""


def score_svd(q: Tensor, k: Tensor) -> SVD:
    """Return the singular value decomposition of q k^T / sqrt(d) by way of [d, d] matrices.

    Args:
        q: The queries [n, d].
        k: The keys [m, d].
    """
    (left, first), (right, second) = torch.linalg.qr(q), torch.linalg.qr(k)
    core = first @ second.t() * q.shape[1] ** -0.5
    U, s, Vh = top_k_svd(core, min(core.shape))
    return SVD(left @ U, s, Vh @ right.t())


def low_rank_attention(q: Tensor, k: Tensor, v: Tensor, rank: int, directions: Tensor | None = None) -> Tensor:
    """Return softmax(S_r) v [n, e].

    Args:
        q: The queries [n, d].
        k: The keys [m, d].
        v: The values [m, e].
        rank: r, from 1 to min(n, m, d); the highest is exact attention.
        directions: Orthonormal directions [d', m] of the keys' side to project on; None computes them.

    Raises:
        UsageError: For a rank out of its range.
    """
    most = min(*q.shape, k.shape[0])
    if not 1 <= rank <= most:
        raise UsageError(f"rank {rank} of attention with {q.shape[0]} queries: write an integer from 1 to {most}")
    if directions is None:
        U, s, Vh = score_svd(q, k)
        scores = (U[:, :rank] * s[:rank]) @ Vh[:rank]
    else:
        kept = directions[:rank]
        scores = (q @ (k.t() @ kept.t())) @ kept * q.shape[1] ** -0.5
    return scores.softmax(-1) @ v


def error_bound(spectrum: Tensor, v: Tensor, rank: int) -> float:
    """Return the largest change that an entry of the output can take at a rank: s_{r+1} max|v|."""
    return float(spectrum[rank] * v.abs().max()) if rank < len(spectrum) else 0.0


def needs_new_svd(spectrum: Tensor, moved: float, rank: int, limit: float = 0.1) -> bool:
    """Return whether the sine bound of Davis and Kahan is above ``limit``, so that old directions no longer serve.

    Args:
        spectrum: The singular values of the former scores.
        moved: |E|_2, by how much the scores have moved.
        rank: The rank in use.
        limit: The largest sine that is let through, above 0.
    """
    following = float(spectrum[rank]) if rank < len(spectrum) else 0.0
    gap = float(spectrum[rank - 1]) - following
    return gap <= 0 or moved / gap > limit


@dataclass
class RankPolicy:
    """Softmax over ``ranks``, linear in the state: ``weights`` [ranks, features]."""

    ranks: tuple[int, ...]
    weights: Tensor

    def probabilities(self, state: Tensor) -> Tensor:
        """Return the probability of each rank [ranks] in a state [features]."""
        return (self.weights @ state).softmax(-1)

    def choose(self, segment: Segment, current: int) -> int:
        """Return the most likely rank for a segment, given the rank in use."""
        return self.ranks[int(self.probabilities(describe(segment, self.ranks, current)).argmax())]


def describe(segment: Segment, ranks: Sequence[int], current: int) -> Tensor:
    """Return the state [features]: 1, the share of the spectrum beyond each rank, and the present rank's share."""
    s = score_svd(segment[0], segment[1]).s.double()
    beyond = [float(s[rank:].square().sum() / s.square().sum()) ** 0.5 for rank in ranks]
    return torch.tensor([1.0, *beyond, current / len(s)], dtype=torch.float64)


@catalogued(
    "dr-rl-attention",
    area="compress",
    title="Dynamic Rank Reinforcement Learning for Adaptive Low-Rank Multi-Head Self Attention in Large Language "
    "Models",
    reach="`lorank inspect RUN --attention --data D` learns the ranks of each attention (`--latency-weight`); "
    "computing by them is Python's (`low_rank_attention`), as the SVD costs more than it saves at rankers' lengths",
)
def learn_ranks(
    segments: Sequence[Segment],
    ranks: Sequence[int],
    *,
    latency_weight: float,
    generator: torch.Generator,
    steps: int = 400,
    rate: float = 2.0,
) -> RankPolicy:
    """Return a policy over ranks that REINFORCE has trained on segments.

    Args:
        segments: q, k and v of a head, one triple each.
        ranks: The ranks to choose from, rising, each within the segments' sizes.
        latency_weight: What the whole width of a head costs, 0 or more, where a relative error of 1 costs 1.
        generator: The source of the sampled ranks.
        steps: The number of samples per segment, 1 or more.
        rate: The step size, above 0.

    Raises:
        UsageError: Where there is no segment or no rank.
    """
    if not segments or not ranks:
        raise UsageError("a policy is learned on one segment and one rank at least")
    choices, full = tuple(ranks), segments[0][0].shape[1]
    states = [describe(segment, choices, full) for segment in segments]
    rewards = torch.stack([_rewards(segment, choices, latency_weight, full) for segment in segments])
    rewards = rewards / (rewards.max() - rewards.min()).clamp_min(1.0)
    policy = RankPolicy(choices, torch.zeros(len(choices), len(states[0]), dtype=torch.float64))
    baseline = rewards.mean(1)
    for _ in range(steps):
        for place, state in enumerate(states):
            chances = policy.probabilities(state)
            taken = int(torch.multinomial(chances, 1, generator=generator))
            reward = rewards[place, taken]
            score = -chances
            score[taken] += 1
            policy.weights += rate * (reward - baseline[place]) * torch.outer(score, state)
            baseline[place] += 0.1 * (reward - baseline[place])
    return policy


@dataclass(frozen=True)
class LearnedRanks:
    """What a policy chose for the segments of one attention: means over segments.

    Attributes:
        width: d of a head, or the tokens of the shortest segment if these are fewer.
        rank: The mean of the chosen ranks.
        error: The mean relative error of the output at them.
        full_share: The share of segments that keep the whole width.
        errors: The mean relative error of the output at each rank that could be chosen.
    """

    width: int
    rank: float
    error: float
    full_share: float
    errors: dict[int, float]


def learned_ranks(
    segments: Sequence[Segment], *, latency_weight: float, generator: torch.Generator, steps: int = 50
) -> LearnedRanks:
    """Return the ranks that a policy learns for the segments of one attention, among 1/8, 1/4, 1/2 and all of d.

    Args:
        segments: q, k and v of its heads, one triple each; those of d tokens and more are looked at, where any are.
        latency_weight: What the whole width costs, 0 or more, where a relative error of 1 costs 1.
        generator: The source of the sampled ranks.
        steps: The number of samples per segment, 1 or more.

    Raises:
        UsageError: Where there is no segment, and for a weight below 0.
    """
    if not segments or not latency_weight >= 0:
        raise UsageError(f"latency weight {latency_weight:g} and {len(segments)} segments: give 0 or more, and some")
    long = [each for each in segments if min(len(each[0]), len(each[1])) >= each[0].shape[1]]
    segments = long or segments
    most = min(min(*q.shape, len(k)) for q, k, _ in segments)
    ranks = sorted({max(1, most // part) for part in (8, 4, 2, 1)})
    policy = learn_ranks(segments, ranks, latency_weight=latency_weight, generator=generator, steps=steps)
    chosen = [policy.choose(segment, most) for segment in segments]
    errors = torch.tensor([[_error(segment, rank) for rank in ranks] for segment in segments], dtype=torch.float64)
    found = [float(row[ranks.index(rank)]) for row, rank in zip(errors, chosen, strict=True)]
    means = dict(zip(ranks, errors.mean(0).tolist(), strict=True))
    many = len(segments)
    return LearnedRanks(most, sum(chosen) / many, sum(found) / many, sum(r == most for r in chosen) / many, means)


def _error(segment: Segment, rank: int) -> float:
    exact = low_rank_attention(*segment, min(*segment[0].shape, segment[1].shape[0]))
    return float((low_rank_attention(*segment, rank) - exact).norm() / exact.norm())


def _rewards(segment: Segment, ranks: Sequence[int], latency_weight: float, full: int) -> Tensor:
    return torch.tensor(
        [1 - _error(segment, rank) - latency_weight * rank / full for rank in ranks], dtype=torch.float64
    )
