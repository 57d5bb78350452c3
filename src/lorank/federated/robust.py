"""What a server does about clients that send too much: every update is bounded before it is averaged."""

import logging
from statistics import median

from lorank.federated.aggregators.core.aggregator import Upload, Uploads
from lorank.federated.messages import Message
from lorank.federated.privacy import clip_difference, norm_of

logger = logging.getLogger("lorank")


def bound_updates(uploads: Uploads, last: Message, limit: float | None = None) -> dict[str, Upload]:
    """Return the uploads with every client's change of ``last`` no larger than a limit, and all of one weight.

    A weight is what a client says of itself, so where clients are not trusted none counts more than another.

    Args:
        uploads: What the clients sent.
        last: What the server made in the round before.
        limit: The largest norm of a change; None takes the median of the clients' own norms, which no minority of
            clients can raise above what an honest one sends.

    >>> import torch
    >>> sent = {name: Upload({"a": torch.tensor([value])}) for name, value in zip("xyz", (1.0, 2.0, 90.0))}
    >>> bound_updates(sent, {"a": torch.zeros(1)})["z"].tensors["a"].item()
    2.0
    """
    norms = {client: norm_of(difference(upload.tensors, last)) for client, upload in uploads.items()}
    finite = {client: norm for client, norm in norms.items() if norm < float("inf")}
    for client in norms.keys() - finite.keys():
        logger.warning("client %s sent numbers that are not finite; it is left out of this round", client)
    most = limit if limit is not None else median(finite.values()) if finite else 0.0
    return {client: Upload(clip_difference(uploads[client].tensors, last, most)) for client in finite}


def difference(message: Message, last: Message) -> Message:
    """Return what a message changes of ``last``; tensors that are not there count as 0."""
    return {name: tensor - last[name] if name in last else tensor for name, tensor in message.items()}
