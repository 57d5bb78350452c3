"""AR2's opponent in the loop: a cross-encoder that learns to tell the relevant documents from the retriever's draws.

Before each step of the run it takes one of its own, on the lists of that step as the retriever draws them now:

    going down  -log softmax(o)_relevant  over the relevant and the drawn documents

and its scores are what the retriever's loss (`lorank.ranking.losses.ar2`) then learns against. Its first steps, the
loss's ``warmup``, are taken before the run's first one, since the judgment of a new head is noise. Its factors, its
head and its moments are part of every checkpoint; at the end it is saved beside the model, as a ranker of its own.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorank import lowrank
from lorank.data.collection import Collection
from lorank.errors import UsageError
from lorank.lowrank import Adapter
from lorank.ranking.losses import Loss, loss_options, requirements_of
from lorank.ranking.losses import loss as named_loss
from lorank.ranking.scorers import CrossEncoder
from lorank.ranking.scorers.bi_encoder import BiEncoder
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.ranking.scorers.scoring_mode import scoring
from lorank.training.hooks.hook import Access, Hook, Progress
from lorank.training.lists.batches import ListBatch
from lorank.training.lists.list_loss import batches_an_epoch, list_loss, lists_at, seed_of
from lorank.training.lists.lists import CandidateLists
from lorank.training.settings import Recipe
from lorank.training.weights import new_modules, parameter_groups
from lorank.tuned.naming import recognise
from lorank.tuned.open_ranker import open_base, open_ranker
from lorank.tuned.ranker import TunedRanker
from lorank.tuned.reading import ReadingSettings

logger = logging.getLogger(__name__)


@dataclass
class Opponent:
    """A cross-encoder with its adapter, and the texts of the run as it prepared them."""

    ranker: TrainableRanker
    adapter: Adapter
    inputs: Any

    def scores(self, batch: ListBatch) -> Tensor:
        """Return its scores [batch, list] of a grid, without a gradient, 0 where the mask has no document."""
        with scoring(self.ranker.module):
            found = self.ranker.forward(self.inputs, batch.queries, batch.documents, batch.mask)
        return found.float().cpu().clone()

    def save(self, folder: Path) -> None:
        """Write it as a ranker that `lorank rerank` opens."""
        TunedRanker(self.ranker, self.adapter).save(folder)


class Alternating(Hook):
    """Trains the opponent on each step's lists before the retriever learns from them."""

    def __init__(self, opponent: Opponent, lists: CandidateLists, recipe: Recipe) -> None:
        options = {**loss_options(recipe.loss.name), **recipe.loss.options}
        self.opponent, self.settings, self.seed = opponent, recipe.training, recipe.seed
        self.rate, self.warmup = float(options["opponent_rate"]), int(options["warmup"])
        self.lists = replace(lists, requires=frozenset({"draws"}))
        self.loss = named_loss("softmax")

    def begin(self, access: Access) -> None:
        """Make the opponent's optimizer and put it where the run is."""
        distributed = torch.distributed
        if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
            raise UsageError("ar2 trains its opponent on whole batches; train it in one process")
        self.device = access.optimizer.param_groups[0]["params"][0].device
        self.opponent.ranker.module.to(self.device)
        parameters, head_lr = dict(self.opponent.adapter.named_parameters()), self.settings.head_lr
        groups = parameter_groups(parameters, self.opponent.ranker, head_lr)
        for group in groups:
            group["lr"] = group["base_lr"] = self.rate * group.get("lr", self.settings.rate)
        decay = self.settings.weight_decay
        self.optimizer = torch.optim.AdamW(groups, betas=self.settings.betas, weight_decay=decay)
        self.per_epoch = batches_an_epoch(self.lists, self.settings.batch_size)

    def before_step(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        """Let the opponent take its step, and before the run's first one those of its warm-up."""
        run = optimizer.param_groups[0]
        if progress.step == 0:
            for step in range(self.warmup):
                self._step(step, 1.0, shift=1)
        self._step(progress.step, run["lr"] / run["base_lr"] if run["base_lr"] else 1.0)

    def _step(self, step: int, factor: float, shift: int = 0) -> None:
        """Take one step of the opponent on the lists of the run's ``step``."""
        parts = self.settings.accumulate
        for form in self.opponent.adapter.forms.values():
            form.train()
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        for part in range(parts):
            chosen = lists_at(self.lists, step * parts + part, self.settings.batch_size, self.per_epoch)
            batch = self.lists.collate(chosen)
            batch = replace(batch, mask=read_places(batch), first_stage=None, extras={}, routes=None)
            seed = seed_of(self.seed, step, part, 1 + shift)
            given = self.opponent.inputs, batch, self.loss, self.settings, seed, self.device
            (list_loss(self.opponent.ranker, *given) / parts).backward()
        if self.settings.clip is not None:
            torch.nn.utils.clip_grad_norm_(_parameters(self.optimizer), self.settings.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Return the opponent's factors and head, and the moments of its optimizer."""
        tensors = {f"opponent.{name}": value.detach().clone() for name, value in self.opponent.adapter.state().items()}
        for i, p in enumerate(_parameters(self.optimizer)):
            tensors |= {f"moment.{i}.{key}": torch.as_tensor(value) for key, value in self.optimizer.state[p].items()}
        return tensors

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take them back."""
        self.opponent.adapter.load_state(_under("opponent.", state))
        for i, p in enumerate(_parameters(self.optimizer)):
            moments = {key: value.clone() for key, value in _under(f"moment.{i}.", state).items()}
            if moments:
                self.optimizer.state[p] = moments


def read_places(batch: ListBatch) -> Tensor:
    """Return where documents are relevant or drawn, bool [batch, list]: what the opponent reads."""
    return batch.mask & ((batch.labels > 0) | (batch.extras["draws"] > 0))


def check_opponent(loss: Loss, ranker: TrainableRanker, recipe: Recipe) -> None:
    """Raise UsageError where a loss learns against an opponent and the ranker is no bi-encoder, or the other way."""
    if "opponent" in requirements_of(loss):
        if not isinstance(ranker, BiEncoder):
            raise UsageError(
                f"loss {recipe.loss.name!r} trains a bi-encoder against a cross-encoder, and this is a {ranker.kind}; "
                "take --kind bi-encoder, or another loss"
            )
    elif recipe.loss.opponent is not None:
        raise UsageError(f"loss.opponent is for a loss that learns against one, such as ar2, not {recipe.loss.name!r}")


def make_alternation(
    loss: Loss, ranker: TrainableRanker, data: Collection, lists: CandidateLists, recipe: Recipe
) -> Alternating | None:
    """Return the hook that trains the opponent of a loss, None where the loss has none.

    Args:
        loss: The loss of the run.
        ranker: The bi-encoder of the run, whose base the opponent has where the recipe names none.
        data: The collection.
        lists: The training lists.
        recipe: The recipe with its rates in place.

    Raises:
        UsageError: Where the opponent that the recipe names is no cross-encoder.
    """
    if "opponent" not in requirements_of(loss):
        return None
    made, adapter = _open(str(ranker.base), data, recipe)
    if recipe.loss.opponent is None:
        logger.warning(
            "the cross-encoder that the retriever learns from begins with a new head; as long as it ranks worse "
            "than the retriever, the retriever gets worse: train one first and give it by --set loss.opponent=RUN"
        )
    if adapter is None:
        rank = 8 if recipe.adapter.rank is None else recipe.adapter.rank
        adapter = lowrank.attach(made.module, "lora", rank=rank, seed=recipe.seed, trained=new_modules(made))
    texts = data.dev.queries | lists.split.queries
    inputs = made.prepare([texts[query] for query in lists.query_at], data.documents)
    return Alternating(Opponent(made, adapter, inputs), lists, recipe)


def _open(base: str, data: Collection, recipe: Recipe) -> tuple[CrossEncoder, Adapter | None]:
    """Return the cross-encoder that the recipe names, or ``base`` as one, and the adapter that it was trained with."""
    name, reading = recipe.loss.opponent, ReadingSettings(max_length=recipe.reading.max_length)
    if name is None or recognise(name, "loss.opponent").kind == "model":
        made: Any = open_base(name or base, "cross-encoder", data, recipe.seed, reading=reading)
        adapter = None
    else:
        tuned = open_ranker(name, collection=data, flag="loss.opponent")
        made, adapter = tuned.ranker, tuned.adapter
    if not isinstance(made, CrossEncoder):
        raise UsageError(f"loss.opponent = {name}: this is a {made.kind}; name a cross-encoder")
    return made, adapter


def _parameters(optimizer: torch.optim.Optimizer) -> Sequence[torch.nn.Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
