r"""Set to sequence: read the list, think for some steps without input, then point at its documents one by one.

    read       m_i = \phi(W x_i)
    process    q_t = LSTM(q*_{t-1}),  \alpha = softmax_i(m_i \cdot q_t),  q*_t = [q_t, \sum_i \alpha_i m_i],  P steps
    write      d_p = LSTM(m_{\pi_{p-1}}),  u_i = v \cdot \tanh(W_1 m_i + W_2 d_p),  P(\pi_p = i) = softmax_{i left}(u_i)

What is read does not depend on the order of the documents. The loss is - \log P(\pi), least over several right orders:
where labels tie, which order to teach is searched for, as the paper does: ``orders`` random ones and the one that the
network itself would choose among those of falling labels. A document's score is minus its place; beyond ``places`` the
remaining documents are ordered by the last step's u.

Paper: O. Vinyals, S. Bengio, M. Kudlur, Order Matters: Sequence to sequence for sets, ICLR 2016.

*Deviations*: only the first ``places`` documents are written one by one; the softmax runs over documents not yet
chosen.
"""

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.ranking.losses.core.lists import clean, lowest_score
from lorank.ranking.scorers.features.mlp import seeded_linear
from lorank.ranking.scorers.features.networks import by_own_objective, register_network


class Pointer(nn.Module):
    """Read a list, process it, and write its documents one by one.

    Args:
        features: The number of columns of a row.
        generator: The source of the first weights.
        width: The size of the hidden state, 1 or more.
        steps: The number of processing steps, 0 or more.
        places: The number of documents that are written one by one, 1 or more.
        orders: The number of random orders that are tried where labels tie, 0 or more.

    Raises:
        UsageError: If a number is out of its range.
    """

    def __init__(
        self, features: int, generator: torch.Generator, width: int, steps: int, places: int, orders: int
    ) -> None:
        super().__init__()
        if min(width, places) < 1 or min(steps, orders) < 0:
            raise UsageError(
                f"width and places must be 1 or more, steps and orders 0 or more; got {width}, {places}, "
                f"{steps}, {orders}"
            )
        self.width, self.steps, self.places, self.orders = width, steps, places, orders
        self.read = nn.Sequential(
            seeded_linear(features, width, generator), nn.ReLU(), seeded_linear(width, width, generator, 1.0)
        )
        self.process, self.write = (_seed_cell(inner, width, generator) for inner in (2 * width, width))
        self.summary = seeded_linear(2 * width, width, generator, 1.0)
        self.of_document, self.of_state = (seeded_linear(width, width, generator, 1.0) for _ in range(2))
        self.point = seeded_linear(width, 1, generator, 1.0)

    def encode(self, rows: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the memory [batch, list, width] and what the set amounts to, [batch, 2 width]."""
        memory = self.read(rows)
        state = torch.zeros(len(rows), self.width), torch.zeros(len(rows), self.width)
        seen = torch.zeros(len(rows), 2 * self.width)
        for _ in range(self.steps):
            state = self.process(seen, state)
            match = (memory @ state[0].unsqueeze(2)).squeeze(2) / self.width**0.5
            share = match.masked_fill(~mask, lowest_score(match)).softmax(1) * mask
            seen = torch.cat([state[0], (share.unsqueeze(1) @ memory).squeeze(1)], 1)
        return memory, seen

    def log_likelihood(self, rows: Tensor, mask: Tensor, orders: Tensor) -> Tensor:
        """Return log P of the first ``places`` of ``orders`` int64 [batch, list], [batch]."""
        memory, seen = self.encode(rows, mask)
        return self._follow(memory, seen, mask, lambda place, logits, left: orders[:, place])[1]

    def forward(self, rows: Tensor, mask: Tensor) -> Tensor:
        """Return minus the places of the order that the network writes, [batch, list]."""
        memory, seen = self.encode(rows, mask)
        return self._follow(memory, seen, mask, lambda place, logits, left: logits.argmax(1))[0]

    def objective(self, rows: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """Return the mean over lists of - log P of the likeliest of the right orders tried, per place written."""
        lists = clean(torch.zeros(mask.shape), labels, mask)
        memory, seen = self.encode(rows, mask)
        ranked = labels.masked_fill(~mask, -torch.inf)

        def own_choice(place: int, logits: Tensor, left: Tensor) -> Tensor:
            top = ranked.masked_fill(~left, -torch.inf).amax(1, keepdim=True)
            return logits.masked_fill(~left | (ranked < top), -torch.inf).argmax(1)

        tries = [self._follow(memory, seen, mask, own_choice)[1]]
        for _ in range(self.orders):
            luck = torch.rand(mask.shape)
            order = luck.argsort(1)
            order = order.gather(1, ranked.gather(1, order).argsort(dim=1, descending=True, stable=True))
            tries.append(self._follow(memory, seen, mask, lambda place, logits, left, o=order: o[:, place])[1])
        written = mask.sum(1).clamp(min=1, max=self.places)
        return lists.mean(-torch.stack(tries).amax(0) / written)

    def _follow(self, memory: Tensor, seen: Tensor, mask: Tensor, choose: object) -> tuple[Tensor, Tensor]:
        """Write an order, each document as ``choose(place, logits, left)`` says; return scores and log P."""
        every = torch.arange(len(mask))
        left, likelihood = mask.clone(), torch.zeros(len(mask))
        scores, keys = torch.zeros(mask.shape), self.of_document(memory)
        state, given = (self.summary(seen), torch.zeros(len(mask), self.width)), torch.zeros(len(mask), self.width)
        logits = torch.zeros(mask.shape)
        for place in range(min(self.places, mask.shape[1])):
            state = self.write(given, state)
            logits = self.point(torch.tanh(keys + self.of_state(state[0]).unsqueeze(1))).squeeze(2)
            open_logits = logits.masked_fill(~left, lowest_score(logits))
            chosen = choose(place, open_logits, left)  # type: ignore[operator]
            here = left[every, chosen]
            likelihood = likelihood + torch.where(here, open_logits.log_softmax(1)[every, chosen], 0.0)
            scores = scores.index_put((every, chosen), torch.where(here, -float(place), scores[every, chosen]))
            left = left & ~nn.functional.one_hot(chosen, left.shape[1]).bool()
            given = memory[every, chosen]
        wanted = logits.detach().masked_fill(~left, -torch.inf)
        rest = wanted.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        return torch.where(left, -(rest + self.places).float(), scores), likelihood


def _seed_cell(inner: int, width: int, generator: torch.Generator) -> nn.LSTMCell:
    cell: nn.LSTMCell = nn.utils.skip_init(nn.LSTMCell, inner, width)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.uniform_(-(width**-0.5), width**-0.5, generator=generator)
    return cell


@catalogued("order-matters-set2seq", area="models", title="Order Matters: Sequence to sequence for sets")
@register_network("pointer", across=True, learn=by_own_objective)
def pointer(
    features: int, generator: torch.Generator, *, width: int = 64, steps: int = 3, places: int = 10, orders: int = 2
) -> nn.Module:
    """Return the network.

    Args:
        features: Columns of a row.
        generator: Where weights come from.
        width: Of memory and states.
        steps: P, how long the set is processed before writing.
        places: Documents that are written one by one.
        orders: Random right orders tried at each step, beside the network's own choice.
    """
    return Pointer(features, generator, width, steps, places, orders)
