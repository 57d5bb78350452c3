"""Weighted means of tensors over those clients that sent them."""

from collections.abc import Iterable

import torch
from torch import Tensor

from lorank.errors import LorankError
from lorank.federated.aggregators.core.aggregator import Uploads


def shares(uploads: Uploads, name: str) -> dict[str, float]:
    """Return the share w_i of each client that sent the tensor ``name``; the shares add up to 1."""
    weights = {client: upload.weight for client, upload in uploads.items() if name in upload.tensors}
    total = sum(weights.values())
    if not total > 0:
        raise LorankError(f"no client of a weight above 0 sent {name}")
    return {client: weight / total for client, weight in weights.items()}


@torch.no_grad()
def weighted_mean(uploads: Uploads, name: str) -> Tensor:
    """Return sum_i w_i T_i of the tensor ``name``, summed in float64.

    >>> from lorank.federated.aggregators.core.aggregator import Upload
    >>> sent = {"a": Upload({"T": torch.tensor([1.0])}, 3), "b": Upload({"T": torch.tensor([5.0])}, 1)}
    >>> weighted_mean(sent, "T").item()
    2.0
    """
    own = shares(uploads, name)
    first = next(uploads[client].tensors[name] for client in own)
    total = torch.zeros(first.shape, dtype=torch.float64)
    for client, share in own.items():
        tensor = uploads[client].tensors[name]
        if tensor.shape != first.shape:
            raise LorankError(
                f"{name} has shape {tuple(tensor.shape)} from {client} and {tuple(first.shape)} from another client; "
                "train all with the same adapter and rank"
            )
        total += share * tensor.double().cpu()
    return total.to(first.dtype)


def names_in(uploads: Uploads) -> list[str]:
    """Return the names of all tensors that any client sent, sorted."""
    return sorted({name for upload in uploads.values() for name in upload.tensors})


def mean_of_all(uploads: Uploads, names: Iterable[str] | None = None) -> dict[str, Tensor]:
    """Return the weighted mean of each named tensor, of all where none is named, over the clients that sent it."""
    return {name: weighted_mean(uploads, name) for name in (names_in(uploads) if names is None else names)}
