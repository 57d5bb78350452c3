r"""PFRec: prompts that take chosen attributes of a user out of a frozen sequential recommender.

The recommender is a transformer over the items of a user, trained before and frozen. For the attributes that a user
chooses, prefix vectors made of the embeddings of these attributes' values are put before the keys of each layer, and
bottleneck adapters follow its attention and its feed-forward part. Both learn, against a discriminator per attribute
that guesses it from the user's vector, to recommend as before:

    \min_{prompt}  L_next(items) - \lambda \sum_{chosen a} CE(a, D_a(user vector)),      D_a minimises CE(a, D_a)

The two alternate: ``adversary_steps`` steps of the discriminators on the vectors as they are, then one of the prompt
against them. The prompt that is returned is the running mean of its steps, as the steps themselves go round the point
where both are content.

Whether an attribute is hidden is not for these discriminators to say, which the prompt has learned to fool:
`guess_attribute` trains a new one on some users' vectors and measures it on others.

Paper: Y. Wu et al., Selective Fairness in Recommendation via Prompts, SIGIR 2022.

*Deviations*: an adapter's output projection is 0 at the start, so that no prompt is exactly the base; adapters are as
wide as the recommender by default, where published ones are a quarter of it; discriminators see vectors that are
standardised over the batch, as else a prompt hides an attribute in directions of little variance alone; the mean of the
steps is ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from lorank.catalogue import catalogued
from lorank.errors import UsageError

HEADS = 2


class SequenceLayer(nn.Module):
    """A transformer layer over items that takes prefix vectors before its keys, and an adapter after each part.

    Args:
        dim: The width.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.before_attention, self.before_feed = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.mixed, self.joined = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.feed = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(
        self, hidden: Tensor, padded: Tensor, prefix: Tensor | None = None, adapters: nn.ModuleList | None = None
    ) -> Tensor:
        """Return the next hidden vectors, float [batch, length, dim].

        Args:
            hidden: float [batch, length, dim].
            padded: bool [batch, length], True where there is no item.
            prefix: float [batch, prefix, dim]; None puts nothing before the keys.
            adapters: Two modules, after the attention and after the feed-forward part; None adds nothing.
        """
        queries, keys, values = self.mixed(self.before_attention(hidden)).chunk(3, -1)
        if prefix is not None:
            _, more_keys, more_values = self.mixed(prefix).chunk(3, -1)
            keys, values = torch.cat([more_keys, keys], 1), torch.cat([more_values, values], 1)
            padded = functional.pad(padded, (prefix.shape[1], 0))
        found = functional.scaled_dot_product_attention(
            _split_heads(queries), _split_heads(keys), _split_heads(values), attn_mask=~padded[:, None, None, :]
        )
        attended: Tensor = self.joined(found.transpose(1, 2).flatten(2))
        hidden = _adapted(hidden + attended, adapters, 0)
        fed: Tensor = self.feed(self.before_feed(hidden))
        return _adapted(hidden + fed, adapters, 1)


def _adapted(hidden: Tensor, adapters: nn.ModuleList | None, part: int) -> Tensor:
    if adapters is None:
        return hidden
    added: Tensor = adapters[part](hidden)
    return hidden + added


def _split_heads(hidden: Tensor) -> Tensor:
    return hidden.view(*hidden.shape[:2], HEADS, -1).transpose(1, 2)


class SequenceRecommender(nn.Module):
    """A small transformer over items; the vector at the last one is the user's, next items are scored by inner
    products.

    Args:
        items: The number of items; item 0 is padding.
        dim: The width, an even number.
        layers: The number of layers.
        length: The most items that are read.
        seed: The seed of the first weights; the caller's generator is left as it is.
    """

    def __init__(self, items: int, dim: int = 32, layers: int = 2, length: int = 50, *, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.items, self.places = nn.Embedding(items, dim, padding_idx=0), nn.Embedding(length, dim)
            self.layers = nn.ModuleList(SequenceLayer(dim) for _ in range(layers))
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
        if prompt is None or chosen is None:
            for layer in self.layers:
                hidden = layer(hidden, padded)
        else:
            for layer, prefix, adapters in zip(self.layers, prompt.prefixes(chosen), prompt.adapters, strict=True):
                hidden = layer(hidden, padded, prefix, adapters)
        return torch.as_tensor(self.norm(hidden[:, -1]))

    def scores(self, users: Tensor) -> Tensor:
        """Return the scores of all items, float [batch, items]."""
        return users @ self.items.weight.T


class PromptEliminator(nn.Module):
    """Prefix vectors per layer and value of each attribute, and bottleneck adapters.

    Args:
        sizes: How many values each attribute has.
        dim: The width of the recommender.
        layers: Its number of layers.
        length: The number of prefix vectors of a layer.
        bottleneck: The inner width of the adapters; None takes ``dim``.
    """

    def __init__(
        self, sizes: Sequence[int], dim: int, layers: int, length: int = 10, bottleneck: int | None = None
    ) -> None:
        super().__init__()
        self.length, self.dim, self.count = length, dim, layers
        inner = dim if bottleneck is None else bottleneck
        self.values = nn.ModuleList(nn.Embedding(size + 1, layers * length * dim) for size in sizes)
        self.adapters = nn.ModuleList(nn.ModuleList(_adapter(dim, inner) for _ in range(2)) for _ in range(layers))

    def prefixes(self, chosen: Tensor) -> Sequence[Tensor]:
        """Return prefix vectors of each layer, float [batch, length, dim], of the chosen values, -1 where an
        attribute is not."""
        parts = [table(chosen[:, i] + 1) for i, table in enumerate(self.values)]
        return torch.stack(parts).sum(0).view(-1, self.count, self.length, self.dim).unbind(1)


def _adapter(dim: int, inner: int) -> nn.Sequential:
    last = nn.Linear(inner, dim)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(dim, inner), nn.GELU(), last)


@dataclass(frozen=True)
class PromptSettings:
    """How a prompt learns: ``penalty`` is lambda, ``batch_size`` the users of a step, ``mean`` the decay of the running
    mean; ``seed`` decides weights and batches, and the caller's generator is left as it is."""

    penalty: float = 100.0
    steps: int = 1000
    batch_size: int = 2000
    lr: float = 5e-3
    adversary_steps: int = 6
    adversary_lr: float = 1e-2
    bottleneck: int | None = None
    mean: float = 0.99
    seed: int = 0


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
    dim, sizes = model.items.embedding_dim, [int(attributes[:, i].max()) + 1 for i in range(attributes.shape[1])]
    asked = torch.full_like(attributes, -1)
    asked[:, list(chosen)] = attributes[:, list(chosen)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        prompt = PromptEliminator(sizes, dim, len(model.layers), bottleneck=settings.bottleneck)
        panel = _Panel(dim, sizes, chosen, settings)
    own = torch.optim.Adam(prompt.parameters(), settings.lr, betas=(0.5, 0.99))
    falling = torch.optim.lr_scheduler.LambdaLR(own, lambda step: 1 - 0.9 * step / settings.steps)
    mean = torch.optim.swa_utils.AveragedModel(
        prompt, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(settings.mean)
    )
    rng = torch.Generator().manual_seed(settings.seed)
    for step in range(settings.steps):
        rows = torch.randint(len(sequences), (min(settings.batch_size, len(sequences)),), generator=rng)
        users = model(sequences[rows], prompt, asked[rows])
        panel.learn(users.detach(), attributes[rows])
        own.zero_grad()
        loss = functional.cross_entropy(model.scores(users), following[rows])
        (loss - settings.penalty * panel.loss(users, attributes[rows])).backward()
        nn.utils.clip_grad_norm_(prompt.parameters(), 1.0)
        own.step()
        falling.step()
        if step >= settings.steps // 3:
            mean.update_parameters(prompt)
    if settings.steps:
        prompt.load_state_dict(mean.module.state_dict())
    for parameter, before in zip(model.parameters(), frozen, strict=True):
        parameter.requires_grad_(before)
    return prompt.requires_grad_(False)


class _Panel:
    """One discriminator per chosen attribute, and how they learn."""

    def __init__(self, dim: int, sizes: Sequence[int], chosen: Sequence[int], settings: PromptSettings) -> None:
        self.chosen, self.settings = chosen, settings
        self.members = nn.ModuleList(_discriminator(dim, sizes[i]) for i in chosen)
        self.optimizer = torch.optim.AdamW(
            self.members.parameters(), settings.adversary_lr, betas=(0.5, 0.99), weight_decay=1e-3
        )

    def learn(self, users: Tensor, attributes: Tensor) -> None:
        """Learn to guess the attributes of the users."""
        for _ in range(self.settings.adversary_steps):
            self.optimizer.zero_grad()
            self.loss(users, attributes).backward()
            self.optimizer.step()

    def loss(self, users: Tensor, attributes: Tensor) -> Tensor:
        """Return the sum over attributes of the cross-entropy of the guesses."""
        losses = [
            functional.cross_entropy(member(users), attributes[:, i])
            for member, i in zip(self.members, self.chosen, strict=True)
        ]
        return torch.stack(losses).sum()


def _discriminator(dim: int, values: int, inner: int = 64) -> nn.Sequential:
    standardised = nn.BatchNorm1d(dim, affine=False, track_running_stats=False)
    return nn.Sequential(standardised, nn.Linear(dim, inner), nn.LeakyReLU(0.1), nn.Linear(inner, values))


@dataclass(frozen=True)
class Guessed:
    """How often a new discriminator guesses an attribute of users that it has not seen, and the interval of 95 % in
    which chance lies for so many of them."""

    accuracy: float
    chance: tuple[float, float]
    users: int

    @property
    def at_chance(self) -> bool:
        """True where the accuracy does not exceed the interval."""
        return self.accuracy <= self.chance[1]


def guess_attribute(
    vectors: Tensor, attribute: Tensor, *, hidden: int = 64, steps: int = 200, seed: int = 0
) -> Guessed:
    """Return how well a new discriminator guesses an attribute: trained on the first half of the users, measured on
    the second.

    Args:
        vectors: The users' vectors, float [users, dim], without a gradient.
        attribute: The attribute's values, int64 [users], from 0.
        hidden: The inner width; 0 is a linear discriminator.
        steps: The steps of AdamW on all of the first half.
        seed: The seed of its first weights.
    """
    from scipy.stats import binom

    half = len(vectors) // 2
    seen = vectors[:half]
    rows = (vectors - seen.mean(0)) / (seen.std(0) + 1e-6)
    values = int(attribute.max()) + 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        judge: nn.Module = nn.Linear(rows.shape[1], values)
        if hidden:
            judge = nn.Sequential(nn.Linear(rows.shape[1], hidden), nn.ReLU(), nn.Linear(hidden, values))
    optimizer = torch.optim.AdamW(judge.parameters(), 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        functional.cross_entropy(judge(rows[:half]), attribute[:half]).backward()
        optimizer.step()
    right = judge(rows[half:]).argmax(1) == attribute[half:]
    count = len(right)
    share = float(torch.bincount(attribute[half:], minlength=values).max()) / count
    low, high = (float(binom.ppf(q, count, share)) / count for q in (0.025, 0.975))
    return Guessed(float(right.double().mean()), (low, high), count)
