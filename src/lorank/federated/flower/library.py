"""Flower, imported where it is needed, quiet, and kept from reporting its use to anybody."""

import logging
import os
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

from lorank.errors import LorankError, UsageError

TENSOR_TYPE = "safetensors"
"""What messages call the format of their one tensor: the bytes of a safetensors file."""


def flower() -> Any:
    """Return what of Flower is used, as a namespace.

    Raises:
        LorankError: If it is not installed.
    """
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    try:
        import flwr.client
        import flwr.common
        import flwr.server
        import grpc
    except ImportError as error:
        raise LorankError("a federation over a network needs Flower; pip install 'lorank[federated]'") from error
    logging.getLogger("flwr").setLevel(logging.ERROR)
    return SimpleNamespace(client=flwr.client, common=flwr.common, server=flwr.server, grpc=grpc)


def check_address(address: str, secured: bool, insecure: bool) -> None:
    """Raise UsageError for an address that leaves this machine without TLS, unless that was asked for.

    >>> check_address("127.0.0.1:8080", False, False)
    >>> check_address("10.0.0.5:8080", False, False)
    Traceback (most recent call last):
    lorank.errors.UsageError: 10.0.0.5:8080 is not on this machine; give certificates (--ca ...), or --insecure
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        raise UsageError(f"--address {address!r} is not HOST:PORT")
    if secured or insecure or _is_loopback(host.strip("[]")):
        return
    raise UsageError(f"{address} is not on this machine; give certificates (--ca ...), or --insecure")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
