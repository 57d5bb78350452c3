"""Cost of one loss, forward and backward, on 32 lists of 1,000: lorank, sentence-transformers, allRank's definitions.

    OMP_NUM_THREADS=1 python benchmarks/losses.py [--lists 32] [--size 1000] [--repeats 7] [--only lambda]

Scores are normal, labels are graded: 0 to 4 with shares .5 .3 .15 .04 .01; for the pairwise losses also one relevant
document in a hundred, and for the likelihoods of an order also orders without ties, as a teacher gives them. Time is
the process's CPU time on one thread, sides in turn within one process, medians over the repeats after one warm-up, and
the median over rounds of each round's ratio. Memory is the largest sum of live tensor bytes within one call, by torch's
profiler.

Peers: sentence-transformers' own loss classes, given a model that returns the scores (making its pairs and padding is
part of its loss; the "floor" column is that part, measured alone); and allRank's losses as its paper and its README
define them, written here in plain vectorised torch. NeuralNDCG runs on 4 lists on both sides, for the peer keeps a
matrix of each Sinkhorn iteration; both do 20 iterations there.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorank.ranking.losses import loss

Step = Callable[[Tensor, Tensor], Tensor]


class GivenScores(nn.Module):
    """What a sentence-transformers loss asks of a cross-encoder: pairs in, the scores that were given out."""

    num_labels, device = 1, torch.device("cpu")

    def __init__(self) -> None:
        super().__init__()
        self.scores = torch.zeros(0)

    def preprocess(self, pairs: list, prompt: str | None = None, task: str | None = None) -> dict:
        """Return nothing: the scores are there."""
        return {}

    def forward(self, tokens: dict) -> dict[str, Tensor]:
        """Return the scores."""
        return {"scores": self.scores}


def sentence_transformers(name: str, **options: object) -> Callable[[], Step]:
    """Return what makes a loss of sentence-transformers a function of scores and labels."""

    def make() -> Step:
        from sentence_transformers.cross_encoder import losses

        model = GivenScores()
        function = getattr(losses, name)(model, mini_batch_size=-1, **options)

        def step(scores: Tensor, labels: Tensor) -> Tensor:
            model.scores = scores.reshape(-1)
            documents = [[""] * labels.shape[1]] * len(labels)
            return function([[""] * len(labels), documents], list(labels))

        return step

    return make


def floor(scores: Tensor, labels: Tensor) -> Tensor:
    """What a sentence-transformers loss does before the loss: pairs, padding, placing the scores."""
    pairs = [
        (query, document)
        for query, documents in zip([""] * len(labels), [[""] * labels.shape[1]] * len(labels))
        for document in documents
    ]
    grid = torch.full(labels.shape, -1e16)
    at = torch.arange(len(labels)).repeat_interleave(labels.shape[1]), torch.arange(labels.shape[1]).repeat(len(labels))
    grid[at] = scores.reshape(-1)
    return grid.sum() + 0 * len(pairs)


def allrank_lambda(scores: Tensor, labels: Tensor) -> Tensor:
    """LambdaLoss with NDCG-Loss2++ weights over all pairs of a sorted list."""
    ordered, order = scores.sort(descending=True, dim=-1)
    truth, best = labels.gather(1, order), labels.sort(descending=True, dim=-1).values
    place = torch.arange(1, scores.shape[1] + 1)
    discount = torch.log2(1.0 + place.float())[None]
    gain = (2**truth - 1) / ((2**best - 1) / discount).sum(-1, keepdim=True).clamp(min=1e-10)
    apart = (place[:, None] - place[None]).abs()
    delta = (discount[0, apart - 1] ** -1.0 - discount[0, apart.clamp(max=scores.shape[1] - 1)] ** -1.0).abs()
    delta.diagonal().zero_()
    gaps = (gain[:, :, None] - gain[:, None]).abs()
    weights = 10 * delta[None] * gaps + (discount[:, :, None] ** -1.0 - discount[:, None] ** -1.0).abs() * gaps
    chance = torch.sigmoid((ordered[:, :, None] - ordered[:, None]).clamp(-1e8, 1e8)).clamp(min=1e-10) ** weights
    return -torch.log2(chance.clamp(min=1e-10))[truth[:, :, None] > truth[:, None]].sum()


def allrank_ranknet(scores: Tensor, labels: Tensor) -> Tensor:
    """Binary cross entropy on the differences of all pairs of different labels, the relevant one first."""
    better = labels[:, :, None] > labels[:, None]
    gaps = (scores[:, :, None] - scores[:, None])[better]
    return F.binary_cross_entropy_with_logits(gaps, torch.ones_like(gaps))


def allrank_approx_ndcg(scores: Tensor, labels: Tensor) -> Tensor:
    """Soft ranks from all differences of the sorted list."""
    ordered, order = scores.sort(descending=True, dim=-1)
    best = labels.sort(descending=True, dim=-1).values
    discount = torch.log2(1.0 + torch.arange(1, scores.shape[1] + 1).float())[None]
    gain = (2 ** labels.gather(1, order) - 1) / ((2**best - 1) / discount).sum(-1, keepdim=True)
    ranks = 1 + torch.sigmoid(-(ordered[:, :, None] - ordered[:, None]).clamp(min=-1e8)).clamp(min=1e-10).sum(-1)
    return -(gain / torch.log2(1.0 + ranks)).sum(-1).mean()


def allrank_neural_ndcg(scores: Tensor, labels: Tensor) -> Tensor:
    """NeuralSort's matrix, Sinkhorn's divisions by column and by row sums, sorted gains."""
    size = scores.shape[1]
    distances = (scores[:, :, None] - scores[:, None]).abs().sum(-1)
    slope = (size + 1 - 2 * (torch.arange(size) + 1)).float()
    soft = (scores[:, None] * slope[None, :, None] - distances[:, None]).softmax(-1)
    for _ in range(20):
        soft = soft / soft.sum(1, keepdim=True).clamp(min=1e-10)
        soft = soft / soft.sum(2, keepdim=True).clamp(min=1e-10)
    discount = 1 / torch.log2(torch.arange(size).float() + 2)
    best = labels.sort(descending=True, dim=-1).values
    sorted_gains = (soft @ (2**labels - 1)[:, :, None]).squeeze(-1)
    return -((sorted_gains * discount).sum(-1) / ((2**best - 1) * discount).sum(-1)).mean()


def allrank_listmle(scores: Tensor, labels: Tensor) -> Tensor:
    """Likelihood of the order of labels, ties at random."""
    shuffled = torch.randperm(scores.shape[1])
    ordered = scores[:, shuffled].gather(1, labels[:, shuffled].sort(descending=True, dim=-1).indices)
    ordered = ordered - ordered.max(dim=1, keepdim=True).values
    below = ordered.exp().flip(1).cumsum(1).flip(1)
    return (torch.log(below + 1e-10) - ordered).sum(1).mean()


def allrank_listnet(scores: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of two softmaxes."""
    return -(labels.softmax(1) * torch.log(scores.softmax(1) + 1e-10)).sum(1).mean()


def plain(function: Step) -> Callable[[], Step]:
    """Return what makes a step that is ready as it is."""
    return lambda: function


def ours(name: str, **options: object) -> Callable[[], Step]:
    """Return what makes a loss of lorank a step."""
    return lambda: loss(name, **options)


ROWS: dict[str, dict[str, Callable[[], Step]]] = {
    "lambda": {
        "lorank": ours("lambda"),
        "sentence-transformers": sentence_transformers("LambdaLoss"),
        "allRank": plain(allrank_lambda),
    },
    "ranknet": {
        "lorank": ours("ranknet"),
        "sentence-transformers": sentence_transformers("RankNetLoss"),
        "allRank": plain(allrank_ranknet),
    },
    "approxndcg": {"lorank": ours("approxndcg"), "allRank": plain(allrank_approx_ndcg)},
    "neuralndcg": {"lorank": ours("neuralndcg"), "allRank": plain(allrank_neural_ndcg)},
    "adr-mse": {"lorank": ours("adr-mse"), "sentence-transformers": sentence_transformers("ADRMSELoss")},
    "softmax": {
        "lorank": ours("softmax", target="softmax"),
        "sentence-transformers": sentence_transformers("ListNetLoss"),
        "allRank": plain(allrank_listnet),
    },
    "listmle": {
        "lorank": ours("listmle"),
        "sentence-transformers": sentence_transformers("ListMLELoss"),
        "allRank": plain(allrank_listmle),
    },
    "p-listmle": {"lorank": ours("p-listmle"), "sentence-transformers": sentence_transformers("PListMLELoss")},
}
ALSO = {"lambda": "1% relevant", "ranknet": "1% relevant", "listmle": "no ties", "p-listmle": "no ties"}
"""Labels other than grades on which a loss is measured too."""
FEW_LISTS = {"neuralndcg": 4}


def batch(lists: int, size: int, kind: str) -> tuple[Tensor, Tensor]:
    """Return scores and labels."""
    generator = torch.Generator().manual_seed(0)
    if kind == "no ties":
        labels = torch.rand(lists, size, generator=generator).argsort(1)
    else:
        shares = [0.99, 0.01] if kind == "1% relevant" else [0.5, 0.3, 0.15, 0.04, 0.01]
        labels = torch.multinomial(torch.tensor(shares), lists * size, True, generator=generator).view(lists, size)
    return torch.randn(lists, size, generator=generator), labels.float()


def call(step: Step, scores: Tensor, labels: Tensor) -> None:
    """Run a loss forward and backward."""
    step(scores.clone().requires_grad_(), labels).backward()


def peak(step: Step, scores: Tensor, labels: Tensor) -> float:
    """Return the largest sum of live bytes within one call, in MiB."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call(step, scores, labels)
    live = highest = 0
    for event in sorted(profiler.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            live += event.nbytes()
            highest = max(highest, live)
    return highest / 2**20


def measure(name: str, lists: int, size: int, kind: str, repeats: int) -> dict[str, dict[str, float]]:
    """Return milliseconds, MiB and the ratio to lorank of every side."""
    scores, labels = batch(FEW_LISTS.get(name, lists), size, kind)
    sides = {side: make() for side, make in ROWS[name].items()}
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for repeat in range(repeats + 1):
        for side in sides if repeat % 2 else reversed(sides):
            start = time.process_time()
            call(sides[side], scores, labels)
            if repeat:
                seconds[side].append(time.process_time() - start)
        print(f"{name} ({kind}): round {repeat} of {repeats}", file=sys.stderr, flush=True)
    return {
        side: {
            "ms": 1e3 * statistics.median(own),
            "mib": peak(sides[side], scores, labels),
            "ratio": statistics.median(a / b for a, b in zip(own, seconds["lorank"], strict=True)),
        }
        for side, own in seconds.items()
    }


def main() -> None:
    """Measure every row and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lists", type=int, default=32)
    parser.add_argument("--size", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", default="")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    scores, labels = batch(given.lists, given.size, "graded")
    call(floor, scores, labels)
    start = time.process_time()
    call(floor, scores, labels)
    base = 1e3 * (time.process_time() - start)
    found = {}
    for name in (name for name in ROWS if given.only in name):
        found[name] = measure(name, given.lists, given.size, "graded", given.repeats)
        if name in ALSO:
            found[f"{name}, {ALSO[name]}"] = measure(name, given.lists, given.size, ALSO[name], given.repeats)
    if given.json:
        print(json.dumps(found, indent=1))
        return
    print(f"sentence-transformers' pairs and padding alone: {base:.0f} ms\n")
    print("| loss | side | CPU ms | times lorank | MiB |\n|---|---|---|---|---|")
    for name, sides in found.items():
        for side, row in sides.items():
            print(f"| {name} | {side} | {row['ms']:.1f} | {row['ratio']:.1f} | {row['mib']:.1f} |")


if __name__ == "__main__":
    main()
