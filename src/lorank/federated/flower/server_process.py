"""The server of a federation over a network: it waits for clients, asks each round of them, and remembers every round.

The run folder holds federation.json with a row per round and rounds/ with the server's state; a server that was killed
goes on from the last round that it finished, with the clients that come back.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorank.errors import LorankError, UsageError
from lorank.federated.aggregators.core.aggregator import Upload
from lorank.federated.flower.library import TENSOR_TYPE, check_address, flower
from lorank.federated.messages import pack, packed_payload, unpack
from lorank.federated.record import Round, claim, note
from lorank.federated.server import Server
from lorank.federated.settings import Federation
from lorank.progress import StageCallback

logger = logging.getLogger("lorank")


@dataclass(frozen=True)
class Certificates:
    """The files of TLS: the authority's certificate, the server's, and the server's key, all PEM."""

    ca: Path
    certificate: Path
    key: Path

    def read(self) -> tuple[bytes, bytes, bytes]:
        """Return the three files' bytes."""
        return self.ca.read_bytes(), self.certificate.read_bytes(), self.key.read_bytes()


@dataclass
class Rounds:
    """Flower's strategy of a federation: whom to ask, and what becomes of the answers.

    Attributes:
        server: The state of the federation.
        federation: Its settings.
        clients: How many clients a round waits for, 1 or more.
        patience: The seconds that it waits for them; with fewer it goes on, with none it stops.
        out: The run folder.
        description: What the record states beside the rounds.
        rows: The rounds so far.
        library: Flower.
        on_progress: It receives rounds.
        down: The bytes of this round's replies by client.
        names: The clients' names by Flower's number of their connection, which no client chooses.
        sizes: How many tensors each client says that it sends.
    """

    server: Server
    federation: Federation
    clients: int
    patience: float
    out: Path
    description: Mapping[str, Any]
    rows: list[Round]
    library: Any
    on_progress: StageCallback = lambda what, done, total: None
    down: dict[str, int] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    def initialize_parameters(self, client_manager: Any) -> Any:
        """Ask the first of the clients that send the most tensors how all start, where no round is known."""
        proxies = self._wait(client_manager)
        if not self.rows:
            name = min(proxies, key=lambda client: (-self.sizes[client], client))
            asked = self.library.common.GetParametersIns({})
            sent = proxies[name][0].get_parameters(asked, timeout=self.patience, group_id=0).parameters.tensors[0]
            self.server.begin(unpack(sent))
            self.rows.append(Round(0, up={name: packed_payload(sent)}))
            note(self.out, self.description, self.server, self.rows)
        return self._packed(b"")

    def evaluate(self, server_round: int, parameters: Any) -> None:
        """Return nothing: the server has no data to measure on."""

    def configure_fit(self, server_round: int, parameters: Any, client_manager: Any) -> list[tuple[Any, Any]]:
        """Return what each client is asked: to install its reply, and to train."""
        self.down = {}
        config = {"round": self.server.round + 1, "steps": self.federation.steps}
        return [
            (proxy, self.library.common.FitIns(self._reply(name, installed), config))
            for name, (proxy, installed) in sorted(self._wait(client_manager).items())
        ]

    def aggregate_fit(self, server_round: int, results: list[tuple[Any, Any]], failures: list[Any]) -> Any:
        """Close the round with what came back."""
        row = Round(self.server.round + 1, down=self.down)
        uploads = {}
        for proxy, result in results:
            name, data = self.names[proxy.cid], b"".join(result.parameters.tensors)
            try:
                uploads[name] = Upload(unpack(data), float(result.num_examples))
            except LorankError as error:
                logger.warning("client %s is left out of round %d: %s", name, row.round, error)
                continue
            row.up[name] = packed_payload(data)
        counted = self.server.close_round(uploads)
        if failures:
            logger.warning("round %d is without %d of its clients", row.round, len(failures))
        self.rows.append(row)
        note(self.out, self.description, self.server, self.rows)
        self.on_progress(f"round · {len(counted)} clients", row.round, self.federation.rounds)
        return self._packed(b""), {}

    def configure_evaluate(self, server_round: int, parameters: Any, client_manager: Any) -> list[tuple[Any, Any]]:
        """Return the last message for every client after the last round, and nothing before."""
        if self.server.round < self.federation.rounds:
            return []
        return [
            (proxy, self.library.common.EvaluateIns(self._reply(name, installed), {"round": self.server.round}))
            for name, (proxy, installed) in sorted(self._wait(client_manager).items())
        ]

    def aggregate_evaluate(self, server_round: int, results: list[Any], failures: list[Any]) -> Any:
        """Return nothing: what clients measure stays with them."""
        return None, {}

    def _wait(self, manager: Any) -> dict[str, tuple[Any, int]]:
        """Return the clients by their names, each with the round that it has installed."""
        manager.wait_for(self.clients, timeout=self.patience)
        found: dict[str, tuple[Any, int]] = {}
        for proxy in list(manager.all().values()):
            asked = self.library.common.GetPropertiesIns({})
            try:
                own = proxy.get_properties(asked, timeout=self.patience, group_id=0).properties
            except Exception as error:  # noqa: BLE001 - Flower raises bare exceptions for a client that is gone
                logger.warning("a client did not say who it is: %s", error)
                continue
            name, installed, size = own.get("name"), own.get("installed"), own.get("tensors")
            if not isinstance(name, str) or not isinstance(installed, int) or name in found:
                logger.warning("a client that calls itself %.80r is not asked: no name of its own", name)
                continue
            found[name], self.names[proxy.cid] = (proxy, installed), name
            self.sizes[name] = size if isinstance(size, int) else 0
        if not found:
            raise LorankError(f"no client came within {self.patience:g} seconds")
        if len(found) < self.clients:
            logger.warning("%d of %d clients are there; the round goes on without the others", len(found), self.clients)
        return found

    def _reply(self, name: str, installed: int) -> Any:
        data = pack(self.server.reply(name, installed))
        self.down[name] = packed_payload(data)
        return self._packed(data)

    def _packed(self, data: bytes) -> Any:
        return self.library.common.Parameters([data], TENSOR_TYPE)


def run_server(
    federation: Federation,
    address: str,
    out: Path,
    *,
    clients: int = 2,
    patience: float = 600.0,
    certificates: Certificates | None = None,
    insecure: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    on_progress: StageCallback = lambda what, done, total: None,
) -> Server:
    """Serve a federation to its last round, and return the server's state.

    Args:
        federation: The method, its rounds and steps.
        address: HOST:PORT of the server.
        out: The run folder.
        clients: How many clients a round waits for.
        patience: The seconds that it waits, and that a client may take for a round.
        certificates: Of TLS; None for connections without.
        insecure: True allows other machines without TLS.
        resume: True goes on from the last round in ``out``.
        overwrite: True replaces an earlier run in ``out``.
        on_progress: It receives rounds.
    """
    check_address(address, certificates is not None, insecure)
    if clients < 1:
        raise UsageError(f"--clients {clients}: give 1 or more")
    library = flower()
    description = json.loads(json.dumps({"federation": federation.as_plain()}))
    rows = claim(out, description, resume, overwrite)
    server = Server(federation.aggregator(), federation.bound)
    if rows:
        server.load(out / "rounds" / f"{rows[-1].round:04d}")
    kind = type("FlowerRounds", (Rounds, library.server.strategy.Strategy), {})
    strategy = kind(server, federation, clients, patience, out, description, rows, library, on_progress)
    left = max(federation.rounds - server.round, 0)
    library.server.start_server(
        server_address=address,
        config=library.server.ServerConfig(num_rounds=left, round_timeout=patience),
        strategy=strategy,
        certificates=None if certificates is None else certificates.read(),
    )
    return server
