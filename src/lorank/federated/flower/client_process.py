"""A client of a federation over a network: it answers what the server asks, and comes back when the server does.

What leaves it: its name, the round that it has installed, how many tensors it sends, its weight, and the message that
the method picks. Its queries, documents, losses and measures stay; it writes the measures to its own folder.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lorank.errors import LorankError
from lorank.federated.client import Client
from lorank.federated.flower.library import TENSOR_TYPE, check_address, flower
from lorank.federated.messages import pack, packed_payload, unpack
from lorank.files import write_json
from lorank.progress import StageCallback

logger = logging.getLogger("lorank")

PAUSE = 0.5
"""Seconds between two attempts to reach a server that is away."""


class Answers:
    """What a client answers, in Flower's types."""

    def __init__(self, client: Client, on_progress: StageCallback, library: Any) -> None:
        self.client, self.on_progress, self.common = client, on_progress, library.common
        self.finished = False

    def get_properties(self, ins: Any) -> Any:
        """Return the client's name, the round of the message that it has installed, and how many tensors it sends."""
        own = {"name": self.client.name, "installed": self.client.installed, "tensors": self.client.tensors}
        return self.common.GetPropertiesRes(self._ok(), own)

    def get_parameters(self, ins: Any) -> Any:
        """Return what makes all clients start as this one does."""
        return self.common.GetParametersRes(self._ok(), self._packed(pack(self.client.begin())))

    def fit(self, ins: Any) -> Any:
        """Install the server's message, train, and return what the method picks."""
        client, number = self.client, int(ins.config["round"])
        data = ins.parameters.tensors[0]
        if client.installed != number - 1 or not client.restore(number - 1):
            client.receive(unpack(data), number - 1)
        loss = client.train(number, int(ins.config["steps"]), self.on_progress)
        sent = pack(client.send())
        row: dict[str, Any] = {"round": number, "loss": loss, "up": packed_payload(sent), "down": packed_payload(data)}
        if client.privacy is not None:
            row["epsilon"] = client.privacy.epsilon(number, client.examples)
        self._note(row, client.measure().measures)
        return self.common.FitRes(self._ok(), self._packed(sent), round(client.weight), {})

    def evaluate(self, ins: Any) -> Any:
        """Install the last message, and write the client's ranker; its dev measure stays in its folder."""
        client = self.client
        client.receive(unpack(ins.parameters.tensors[0]), int(ins.config["round"]))
        said = client.measure()
        client.save_ranker(client.folder / "model", said)
        self._note({"round": client.installed, "finished": True}, said.measures)
        self.finished = True
        return self.common.EvaluateRes(self._ok(), 0.0, 1, {})

    def _note(self, row: dict[str, Any], measures: dict[str, float]) -> None:
        write_json(self.client.folder / f"round-{row['round']:04d}.json", row | {"dev": measures})

    def _packed(self, data: bytes) -> Any:
        return self.common.Parameters([data], TENSOR_TYPE)

    def _ok(self) -> Any:
        return self.common.Status(self.common.Code.OK, "")


def run_client(
    client: Client,
    address: str,
    *,
    ca: Path | None = None,
    insecure: bool = False,
    patience: float = 600.0,
    on_progress: StageCallback = lambda what, done, total: None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Serve a federation until its server ends it; a server that went away is waited for.

    Args:
        client: The client; where its folder holds a state it goes on from there.
        address: HOST:PORT of the server.
        ca: The certificate of the authority that signed the server's; None for a connection without TLS.
        insecure: True allows a server on another machine without TLS.
        patience: The seconds for which a server that is away is waited for.
        on_progress: It receives stages.
        clock: Returns seconds.

    Raises:
        LorankError: If no server is there for that long.
    """
    check_address(address, ca is not None, insecure)
    library = flower()
    if client.privacy is not None:
        client.privacy.epsilon(1, client.examples)  # says at once what is missing
    if client.newest() >= 0:
        client.restore(client.newest())
    kind = type("FlowerClient", (Answers, library.client.Client), {})
    answers, since = kind(client, on_progress, library), clock()
    certificates = None if ca is None else ca.read_bytes()
    while not answers.finished:
        before = client.installed
        try:
            library.client.start_client(
                server_address=address, client=answers, root_certificates=certificates, insecure=ca is None
            )
        except library.grpc.RpcError as error:
            if client.installed != before:
                since = clock()
            if clock() - since > patience:
                raise LorankError(f"no server at {address} for {patience:g} seconds ({error.code()})") from error
            time.sleep(PAUSE)
            continue
        if not answers.finished:
            raise LorankError(f"the server at {address} ended before its last round; start it and this client again")
