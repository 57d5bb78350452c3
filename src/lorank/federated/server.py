"""The server of a federation: what it remembers from round to round, and what it sends to whom.

It holds no data and no model. Its state is the last message, the message of the start, the factors that have been added
to the frozen weights so far (for clients that missed a round), and what its method remembers.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from lorank.errors import LorankError
from lorank.federated.aggregators.core.aggregator import Aggregator, Upload
from lorank.federated.aggregators.fedex_lora import DOWN, UP
from lorank.federated.layout import layers_with
from lorank.federated.messages import Message, pack, unpack
from lorank.federated.robust import bound_updates
from lorank.files import replaced_folder
from lorank.lowrank.algebra.factors import truncate
from lorank.lowrank.forms.form import Factors

logger = logging.getLogger("lorank")

WHOLE_UP, WHOLE_DOWN = "whole_B", "whole_A"
"""The names of a layer's whole residual, of all rounds, in a message to a client that missed some."""
PARTS = ("start", "last", "whole", "memory")


@dataclass
class Server:
    """The state of a federation between two rounds.

    Attributes:
        aggregator: The method.
        bound: What is done about updates that are too large, as in `Federation`.
        round: How many rounds are done.
        start: What the first client sent before round 1.
        last: What the server made in the last round.
        whole: The factors of all residuals so far, by layer.
    """

    aggregator: Aggregator
    bound: str | float = "none"
    round: int = 0
    start: Message = field(default_factory=dict)
    last: Message = field(default_factory=dict)
    whole: Message = field(default_factory=dict)
    _uploads: Mapping[str, Upload] = field(default_factory=dict, repr=False)

    def begin(self, start: Message) -> None:
        """Take what the first client sends before round 1."""
        self.start = self.last = start

    def close_round(self, uploads: Mapping[str, Upload]) -> list[str]:
        """Aggregate the uploads of a round, and return the names of the clients that were counted.

        An upload that is not of the shape of the last message, or not finite, is left out with a warning.

        Raises:
            LorankError: If no upload is left.
        """
        kept = {client: upload for client, upload in sorted(uploads.items()) if self._fits(client, upload)}
        if not kept:
            raise LorankError(f"no client sent anything usable in round {self.round + 1}")
        base = {name: tensor for name, tensor in self.last.items() if name.rpartition(".")[2] not in (UP, DOWN)}
        if self.bound != "none":
            kept = bound_updates(kept, base, None if isinstance(self.bound, str) else self.bound)
        self.last = self.aggregator.aggregate(kept, base)
        self._add_residual()
        self._uploads = kept
        self.round += 1
        return list(kept)

    def reply(self, client: str, installed: int) -> Message:
        """Return what goes to a client that has installed the message of round ``installed``, -1 for none."""
        if installed < 0 and self.round > 0:
            message = self.start | self.last
        elif self.round == 0:
            message = self.start
        else:
            message = self.last
        upload = self._uploads.get(client)
        message = self.aggregator.reply(message, client, None if upload is None else upload.tensors)
        if installed >= self.round - 1 or not self.whole:
            return message
        plain = {name: tensor for name, tensor in message.items() if name.rpartition(".")[2] not in (UP, DOWN)}
        return plain | self.whole

    def save(self, folder: Path) -> None:
        """Write the state as a folder, in one step."""
        with replaced_folder(folder) as stage:
            for name in PARTS:
                value = self.aggregator.memory() if name == "memory" else getattr(self, name)
                (stage / f"{name}.safetensors").write_bytes(pack(value))
            (stage / "server.json").write_text(json.dumps({"round": self.round}) + "\n", encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Take back what ``save`` wrote."""
        read = {name: unpack((folder / f"{name}.safetensors").read_bytes()) for name in PARTS}
        self.start, self.last, self.whole = read["start"], read["last"], read["whole"]
        if read["memory"]:
            self.aggregator.load_memory(read["memory"])
        self.round = int(json.loads((folder / "server.json").read_text(encoding="utf-8"))["round"])

    def _fits(self, client: str, upload: Upload) -> bool:
        try:
            self.aggregator.accept(upload, self.last)
        except LorankError as error:
            logger.warning("client %s is left out of round %d: %s", client, self.round + 1, error)
            return False
        return True

    @torch.no_grad()
    def _add_residual(self) -> None:
        for path in layers_with(self.last, UP, DOWN):
            up, down = self.last[f"{path}.{UP}"], self.last[f"{path}.{DOWN}"]
            joined = join(self.whole.get(f"{path}.{WHOLE_UP}"), self.whole.get(f"{path}.{WHOLE_DOWN}"), up, down)
            self.whole |= {f"{path}.{WHOLE_UP}": joined.B, f"{path}.{WHOLE_DOWN}": joined.A}


def join(up: Tensor | None, down: Tensor | None, more_up: Tensor, more_down: Tensor) -> Factors:
    """Return the sum of two products as one, of no more ranks than the layer has.

    >>> join(torch.ones(2, 3), torch.ones(3, 4), torch.ones(2, 1), torch.ones(1, 4)).A.shape
    torch.Size([2, 4])
    """
    B = more_up if up is None else torch.cat([up, more_up], 1)
    A = more_down if down is None else torch.cat([down, more_down])
    most = min(B.shape[0], A.shape[1])
    made = Factors(A, B, 1.0)
    return made if A.shape[0] <= most else truncate(made, most)
