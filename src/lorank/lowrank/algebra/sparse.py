r"""Sparse updates of a model's parameters: found by training, added to one another, put on and taken off.

    theta' = theta + d_language + d_ranking,    d = a few entries of theta, by name

Lottery-ticket sparse fine-tuning: train all of theta, keep the share of entries that moved most as the mask, go
back to theta and train again within the mask (``masked``); the difference is the update (``difference``). Updates
add, in any order, so that a language's update learned without judgments and a ranking update learned in another
language make a ranker for a language that has no judgments.

Litschko, Vulic and Glavas, Parameter-Efficient Neural Reranking for Cross-Lingual and Multilingual Retrieval,
2022, arXiv:2204.02292; Ansell et al., Composable Sparse Fine-Tuning for Cross-Lingual Transfer, 2021,
arXiv:2110.07560.

*Deviations*: the largest moves are chosen over all parameters named, not a parameter at a time. Language and
ranking adapters are stacked as bottlenecks one behind the other (`lorank.lowrank.bottleneck`), and as LoRAs by
activating both, which adds them.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import DataError, UsageError
from lorank.files import replaced_file

Entries = tuple[Tensor, Tensor]
"""Flat places [n], ascending, and what is added there [n]."""


@catalogued(
    "pe-clir-reranking",
    area="adapters.merge",
    title="Parameter-Efficient Neural Reranking for Cross-Lingual and Multilingual Retrieval",
    reach="Python alone: its updates are sparse, and folders and commands hold low-rank ones",
)
class SparseUpdate:
    """A few entries of some parameters and what is added to each.

    >>> one = SparseUpdate({"w": (torch.tensor([0, 2]), torch.tensor([1.0, 2.0]))})
    >>> (one + one).entries["w"][1].tolist(), len(one)
    ([2.0, 4.0], 2)
    """

    def __init__(self, entries: Mapping[str, Entries]) -> None:
        self.entries = dict(entries)

    def __len__(self) -> int:
        return sum(len(places) for places, _ in self.entries.values())

    def __add__(self, other: "SparseUpdate") -> "SparseUpdate":
        """Return the sum; what two updates add at the same place is added up."""
        total = dict(self.entries)
        for name, entries in other.entries.items():
            total[name] = _sum(total[name], entries) if name in total else entries
        return SparseUpdate(total)

    @torch.no_grad()
    def apply(self, model: nn.Module) -> dict[str, Tensor]:
        """Add the entries to ``model`` and return its former values there, by name."""
        parameters = dict(model.named_parameters())
        missing = self.entries.keys() - parameters.keys()
        if missing:
            raise UsageError(f"the model has no parameter {sorted(missing)[0]!r}; the update is another model's")
        former = {}
        for name, (places, values) in self.entries.items():
            flat = parameters[name].data.view(-1)
            former[name] = flat[places].clone()
            flat[places] += values.to(flat)
        return former

    @contextmanager
    def on(self, model: nn.Module) -> Iterator[nn.Module]:
        """Within it ``model`` has the entries added; afterwards its own values are back, bit by bit."""
        former = self.apply(model)
        try:
            yield model
        finally:
            with torch.no_grad():
                for name, (places, _) in self.entries.items():
                    model.get_parameter(name).data.view(-1)[places] = former[name]

    def save(self, path: str | Path) -> None:
        """Write the entries as one safetensors file."""
        tensors: dict[str, Tensor] = {}
        for name, (places, values) in self.entries.items():
            tensors |= {f"{name}:places": places.contiguous(), f"{name}:values": values.contiguous()}
        with replaced_file(path) as stage:
            save_file(tensors, stage)

    @classmethod
    def load(cls, path: str | Path) -> "SparseUpdate":
        """Read what ``save`` wrote."""
        tensors = load_file(path)
        names = [key.removesuffix(":places") for key in tensors if key.endswith(":places")]
        if 2 * len(names) != len(tensors) or any(f"{name}:values" not in tensors for name in names):
            raise DataError(path, None, "not a sparse update", "give a file that SparseUpdate.save wrote")
        return cls({name: (tensors[f"{name}:places"], tensors[f"{name}:values"]) for name in names})


def _sum(one: Entries, other: Entries) -> Entries:
    places = torch.cat([one[0], other[0]]).unique()
    values = torch.zeros(len(places), dtype=one[1].dtype)
    for own, added in (one, other):
        values[torch.searchsorted(places, own)] += added.to(values)
    return places, values


def snapshot(model: nn.Module, names: Iterable[str] | None = None) -> dict[str, Tensor]:
    """Return copies of the parameters called ``names``, or of all that are trained."""
    chosen = None if names is None else set(names)
    return {
        name: parameter.detach().clone()
        for name, parameter in model.named_parameters()
        if (parameter.requires_grad if chosen is None else name in chosen)
    }


def most_moved_places(before: Mapping[str, Tensor], model: nn.Module, share: float) -> dict[str, Tensor]:
    """Return the flat places, by parameter, of the ``share`` of entries that moved most since ``before``.

    >>> model = nn.Linear(2, 1, bias=False); before = snapshot(model)
    >>> with torch.no_grad(): _ = model.weight[0, 1].add_(1.0)
    >>> most_moved_places(before, model, 0.5)
    {'weight': tensor([1])}
    """
    if not 0 < share <= 1:
        raise UsageError(f"share {share!r} is not in (0, 1]")
    names = list(before)
    moves = [(model.get_parameter(name).detach() - before[name]).abs().flatten().float() for name in names]
    sizes = [len(move) for move in moves]
    chosen = torch.zeros(sum(sizes), dtype=torch.bool)
    chosen[torch.cat(moves).cpu().topk(max(round(share * sum(sizes)), 1)).indices] = True
    return {name: own.nonzero().flatten() for name, own in zip(names, chosen.split(sizes), strict=True) if own.any()}


@contextmanager
def masked(model: nn.Module, places: Mapping[str, Tensor]) -> Iterator[list[nn.Parameter]]:
    """Within it gradients are 0 outside ``places``; yields the parameters to train, the others are frozen.

    Optimizers that move entries without a gradient (weight decay) must not be given one.
    """
    was = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    handles, trained = [], []
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in places)
        if name in places:
            mask = torch.zeros(parameter.numel(), dtype=torch.bool, device=parameter.device)
            mask[places[name]] = True
            handles.append(parameter.register_hook(lambda grad, mask=mask.view_as(parameter): grad * mask))
            trained.append(parameter)
    try:
        yield trained
    finally:
        for handle in handles:
            handle.remove()
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(was[name])


def difference(before: Mapping[str, Tensor], model: nn.Module, places: Mapping[str, Tensor]) -> SparseUpdate:
    """Return what was added to ``before`` at ``places``."""
    entries = {}
    for name, own in places.items():
        moved = (model.get_parameter(name).detach() - before[name]).flatten().cpu()
        entries[name] = (own.cpu(), moved[own.cpu()].clone())
    return SparseUpdate(entries)


@torch.no_grad()
def restore(before: Mapping[str, Tensor], model: nn.Module) -> None:
    """Put the values of ``before`` back into ``model``."""
    for name, value in before.items():
        model.get_parameter(name).copy_(value)
