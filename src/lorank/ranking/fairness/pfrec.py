r"""PFRec: prompts that take chosen attributes of a user out of a frozen sequential recommender.

The recommender is a transformer over the items of a user, trained before and frozen. For the attributes that a user
chooses, prefix vectors made of the embeddings of these attributes' values are put before the items, and bottleneck
adapters follow each layer. Both learn, against one discriminator per attribute that guesses it from the user's vector,
to recommend as before:

    \min_{prompt}  L_next(items) + \lambda \sum_{chosen a} CE(uniform, D_a(user vector)),      D_a minimises CE(a, D_a)

Paper: Y. Wu et al., Selective Fairness in Recommendation via Prompts, SIGIR 2022.

*Deviations*: the published prompt maximises the discriminators' loss, which has no bound and turns answers round; here
it makes them uniform, and discriminators are renewed, as one that was fooled is not yet one that cannot learn. An
adapter's output projection is 0 at the start, so that no prompt is exactly the base.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from lorank.catalogue import catalogued
from lorank.errors import UsageError


class SequenceRecommender(nn.Module):
    """A small transformer over items; the vector at the last one is the user's, next items are scored by inner
    products.

    Args:
        items: The number of items; item 0 is padding.
        dim: The width.
        layers: The number of layers.
        length: The most items that are read.
    """

    def __init__(self, items: int, dim: int = 32, layers: int = 2, length: int = 50) -> None:
        super().__init__()
        self.items, self.places = nn.Embedding(items, dim, padding_idx=0), nn.Embedding(length, dim)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(dim, 2, 2 * dim, 0.0, batch_first=True, norm_first=True) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(
        self, sequences: Tensor, prompt: "PromptEliminator | None" = None, chosen: Tensor | None = None
    ) -> Tensor:
        """Return the users' vectors, float [batch, dim].

        Args:
            sequences: The items of each user, int64 [batch, length], padded by 0 in front.
            prompt: The prompt that is put before them; None reads the items alone.
            chosen: The values of the chosen attributes, int64 [batch, attributes], -1 where one is not chosen.
        """
        hidden = self.items(sequences) + self.places.weight[: sequences.shape[1]]
        padded = sequences == 0
        if prompt is not None and chosen is not None:
            prefix = prompt.prefix(chosen)
            hidden = torch.cat([prefix, hidden], 1)
            padded = torch.cat([torch.zeros(prefix.shape[:2], dtype=torch.bool, device=padded.device), padded], 1)
        for depth, layer in enumerate(self.layers):
            hidden = layer(hidden, src_key_padding_mask=padded)
            if prompt is not None and chosen is not None:
                hidden = hidden + prompt.adapters[depth](hidden)
        return torch.as_tensor(self.norm(hidden[:, -1]))

    def scores(self, users: Tensor) -> Tensor:
        """Return the scores of all items, float [batch, items]."""
        return users @ self.items.weight.T


class PromptEliminator(nn.Module):
    """Prefix vectors per value of each attribute, and bottleneck adapters.

    Args:
        sizes: How many values each attribute has.
        dim: The width of the recommender.
        layers: Its number of layers.
        length: The number of prefix vectors.
    """

    def __init__(self, sizes: Sequence[int], dim: int, layers: int, length: int = 4) -> None:
        super().__init__()
        self.length, self.dim = length, dim
        self.values = nn.ModuleList(nn.Embedding(size + 1, length * dim) for size in sizes)
        self.adapters = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, dim // 4), nn.GELU(), nn.Linear(dim // 4, dim)) for _ in range(layers)
        )
        for adapter in self.adapters:
            last = adapter[2]  # type: ignore[index]
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def prefix(self, chosen: Tensor) -> Tensor:
        """Return prefix vectors, float [batch, length, dim], of the chosen values, -1 where an attribute is not."""
        parts = [table(chosen[:, i] + 1) for i, table in enumerate(self.values)]
        return torch.stack(parts).sum(0).view(-1, self.length, self.dim)


@dataclass(frozen=True)
class PromptSettings:
    """How a prompt learns: ``penalty`` is lambda; every ``renewed`` steps discriminators join and ``kept`` stay."""

    penalty: float = 60.0
    steps: int = 300
    lr: float = 5e-3
    adversary_steps: int = 3
    adversary_lr: float = 2e-2
    renewed: int = 20
    kept: int = 4


@catalogued(
    "pfrec",
    area="fair",
    title="Selective Fairness in Recommendation via Prompts",
    reach="Python alone: it needs a recommender of sequences and its users' attributes, which no collection's format "
    "holds",
)
def train_prompt(
    model: SequenceRecommender,
    sequences: Tensor,
    following: Tensor,
    attributes: Tensor,
    chosen: Sequence[int],
    settings: PromptSettings,
) -> PromptEliminator:
    """Return a prompt that hides the chosen attributes of a frozen recommender's users.

    Args:
        model: The recommender, whose weights stay as they are.
        sequences: The items of each user, int64 [users, length], padded by 0 in front.
        following: The item that came next, int64 [users].
        attributes: The attributes of the users, int64 [users, attributes], values from 0.
        chosen: The places of the attributes to hide.
        settings: How the prompt learns.

    Raises:
        UsageError: For no chosen attribute, or one that there is not.
    """
    if not chosen or not all(0 <= each < attributes.shape[1] for each in chosen):
        raise UsageError(f"choose attributes from 0 to {attributes.shape[1] - 1}; got {list(chosen)}")
    frozen = [parameter.requires_grad for parameter in model.parameters()]
    model.requires_grad_(False)
    sizes = [int(attributes[:, i].max()) + 1 for i in range(attributes.shape[1])]
    prompt = PromptEliminator(sizes, model.items.embedding_dim, len(model.layers))
    asked = torch.full_like(attributes, -1)
    asked[:, list(chosen)] = attributes[:, list(chosen)]
    own = torch.optim.Adam(prompt.parameters(), settings.lr)
    falling = torch.optim.lr_scheduler.LambdaLR(own, lambda step: 1 - 0.9 * step / settings.steps)
    panels: list[_Panel] = []
    for step in range(settings.steps):
        if step % settings.renewed == 0:
            panels = [*panels[1 - settings.kept :], _Panel(model.items.embedding_dim, sizes, chosen, settings)]
        users = model(sequences, prompt, asked)
        for panel in panels:
            panel.learn(users.detach(), attributes)
        own.zero_grad()
        loss = functional.cross_entropy(model.scores(users), following)
        (loss + settings.penalty * torch.stack([panel.surprise(users) for panel in panels]).mean()).backward()
        own.step()
        falling.step()
    for parameter, before in zip(model.parameters(), frozen, strict=True):
        parameter.requires_grad_(before)
    return prompt.requires_grad_(False)


class _Panel:
    """One discriminator per chosen attribute, and how they learn."""

    def __init__(self, dim: int, sizes: Sequence[int], chosen: Sequence[int], settings: PromptSettings) -> None:
        self.chosen, self.settings = chosen, settings
        self.members = nn.ModuleList(_discriminator(dim, sizes[i]) for i in chosen)
        self.optimizer = torch.optim.Adam(self.members.parameters(), settings.adversary_lr)

    def learn(self, users: Tensor, attributes: Tensor) -> None:
        """Learn to guess the attributes of the users."""
        for _ in range(self.settings.adversary_steps):
            self.optimizer.zero_grad()
            losses = [
                functional.cross_entropy(member(users), attributes[:, i])
                for member, i in zip(self.members, self.chosen, strict=True)
            ]
            torch.stack(losses).sum().backward()
            self.optimizer.step()

    def surprise(self, users: Tensor) -> Tensor:
        """Return the cross-entropy of uniform answers, least where no attribute can be guessed."""
        return torch.stack([-functional.log_softmax(member(users), -1).mean() for member in self.members]).sum()


def _discriminator(dim: int, values: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, dim), nn.LeakyReLU(), nn.Linear(dim, values))
