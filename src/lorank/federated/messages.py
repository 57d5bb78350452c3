"""Messages: the tensors that travel between a client and the server, by name, and their bytes.

A message is one safetensors file: 8 bytes of length, a header in JSON that lists names, shapes and dtypes, and then the
values. The *payload* is the values alone:

    payload = sum over tensors of (number of values) * (bytes per value)
"""

import json
from collections.abc import Mapping

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from lorank.errors import LorankError

Message = dict[str, Tensor]
"""Tensors by their names, ``layer.tensor``."""


def payload_bytes(message: Mapping[str, Tensor]) -> int:
    """Return the bytes of a message's values.

    >>> import torch
    >>> payload_bytes({"layer.R": torch.zeros(4, 4)})
    64
    """
    return sum(tensor.numel() * tensor.element_size() for tensor in message.values())


def pack(message: Mapping[str, Tensor]) -> bytes:
    """Return the message as the bytes of a safetensors file."""
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in message.items()})


def unpack(data: bytes) -> Message:
    """Return the message in the bytes of a safetensors file.

    Raises:
        LorankError: If the bytes are no such file.

    >>> import torch
    >>> unpack(pack({"layer.R": torch.eye(2)}))["layer.R"].tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    try:
        return dict(load(data))
    except (SafetensorError, ValueError) as error:
        raise LorankError(f"a message of {len(data)} bytes is no safetensors file ({error})") from error


def packed_payload(data: bytes) -> int:
    """Return the bytes of values in a packed message, as its own header and length say.

    >>> import torch
    >>> packed_payload(pack({"layer.R": torch.zeros(4, 4)}))
    64
    """
    return len(data) - 8 - int.from_bytes(data[:8], "little")


def packed_names(data: bytes) -> list[str]:
    """Return the names of the tensors in a packed message, as its header lists them.

    >>> import torch
    >>> packed_names(pack({"layer.R": torch.zeros(4, 4)}))
    ['layer.R']
    """
    size = int.from_bytes(data[:8], "little")
    return sorted(name for name in json.loads(data[8 : 8 + size]) if name != "__metadata__")
