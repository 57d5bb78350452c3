"""One owner in a federation: its collection, its ranker, and the adapter of which only a part ever leaves it."""

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from lorank import lowrank
from lorank.errors import LorankError
from lorank.federated.aggregators.core.aggregator import Aggregator
from lorank.federated.layout import Layout
from lorank.federated.messages import Message, pack, unpack
from lorank.federated.privacy import Privacy
from lorank.federated.residual import Residual
from lorank.files import write_bytes
from lorank.progress import StageCallback
from lorank.training.dev import DevMeasure, DevResult, dev_record
from lorank.training.hooks.hook import Progress
from lorank.training.lists.list_loss import seed_of
from lorank.training.loop.loop import train
from lorank.training.plan import Plan
from lorank.tuned.ranker import TunedRanker


@dataclass
class Client:
    """An owner that trains, with everything that stays at its place.

    Attributes:
        name: Its name in the federation.
        plan: Its training run: collection, lists, ranker, adapter, loss.
        dev: Its look at its own dev split.
        aggregator: The method, which says what leaves and how messages are installed.
        folder: Where it keeps its state.
        privacy: What is done to what leaves it.
        noise: The source of the noise that nobody else may know.
        installed: The round of the message that is installed; -1 before any.
    """

    name: str
    plan: Plan
    dev: DevMeasure
    aggregator: Aggregator
    folder: Path
    privacy: Privacy | None = None
    noise: torch.Generator = field(default_factory=torch.Generator)
    installed: int = -1
    _received: Message = field(default_factory=dict, repr=False)
    _residual: Residual = field(default_factory=Residual, repr=False)

    @property
    def adapter(self) -> lowrank.Adapter:
        """The adapter that is trained."""
        adapter = self.plan.weights.adapter
        assert adapter is not None
        return adapter

    @property
    def layout(self) -> Layout:
        """What the names of the adapter's tensors mean."""
        return Layout.of(self.adapter)

    @property
    def examples(self) -> int:
        """How many training lists it has."""
        return len(self.plan.lists.epoch(0))

    @property
    def weight(self) -> float:
        """Its weight in a mean: its training lists, or 1 where messages are private, as their number tells of it."""
        return float(self.examples) if self.privacy is None else 1.0

    @property
    def tensors(self) -> int:
        """How many tensors it sends in a round: the client that sends the most begins, as it has all layers."""
        return len(self.aggregator.pick(self.adapter.state(), self.layout))

    def begin(self) -> Message:
        """Return what makes all clients start as this one does."""
        return self.aggregator.start(self.adapter.state(), self.layout)

    def receive(self, message: Message, number: int) -> None:
        """Install the server's message of round ``number``; one that is installed already changes nothing.

        Raises:
            LorankError: If a later one is installed, which is then of another federation.
        """
        if number == self.installed:
            return
        if number < self.installed:
            raise LorankError(
                f"{self.folder} holds round {self.installed} of a federation, and the server is at round {number}; "
                "give this client another folder, or remove that one"
            )
        self.adapter.load_state(self.aggregator.install(self.adapter.state(), message, self.layout))
        self._received = {name: tensor for name, tensor in message.items() if name in self.layout.trained}
        self._residual.take(message, self.aggregator, self.adapter)
        self.installed = number
        self.save_state()

    def train(self, number: int, steps: int, on_progress: StageCallback) -> float:
        """Train ``steps`` steps of round ``number`` on the client's own lists, and return their mean loss."""
        seed, losses = seed_of(self.plan.recipe.seed, number, 0, 0), []
        place = self.folder / "rounds" / f"{number:04d}"
        session = self.plan.session(place, None, steps=steps, looks=[steps])
        session = replace(session, seed=seed, lists=replace(self.plan.lists, seed=seed))

        def report(progress: Progress) -> None:
            losses.append(progress.loss)
            on_progress(f"train {self.name}", progress.step, progress.steps)

        train(session, on_progress=report)
        shutil.rmtree(place / "checkpoints", ignore_errors=True)
        return mean(losses)

    def send(self) -> Message:
        """Return what leaves the client, clipped and noised where that is asked for."""
        message = self.aggregator.pick(self.adapter.state(), self.layout)
        if self.privacy is not None:
            message = self.privacy.protect(message, self._received, self.noise)
        return {name: tensor.detach().clone() for name, tensor in message.items()}

    def measure(self) -> DevResult:
        """Return what the client's own dev split says of its ranker as it stands."""
        return self.dev.look()

    def save_ranker(self, folder: Path, dev: DevResult) -> None:
        """Write the client's tuned ranker, with its own first stage and the mix that its own dev chose.

        What the server has added to the base's weights becomes a part of the adapter, which has more ranks then.
        """
        adapter = self._residual.joined_with(self.adapter)
        first_stage = self.plan.found.first_stage if dev.mix.first_stage else None
        record = dev_record(self.dev.sample, dev)
        TunedRanker(self.plan.ranker, adapter, first_stage, dev.mix, dev=record).save(folder)

    def save_state(self) -> None:
        """Write all that the client must remember between this message and the next, and drop older states."""
        state = {f"adapter/{name}": tensor for name, tensor in self.adapter.state().items()}
        state |= {f"residual/{name}": tensor for name, tensor in self._residual.state().items()}
        state |= {f"received/{name}": tensor for name, tensor in self._received.items()}
        state["noise"] = self.noise.get_state()
        self.folder.mkdir(parents=True, exist_ok=True)
        write_bytes(self._state_of(self.installed), pack(state))
        self._state_of(self.installed - 2).unlink(missing_ok=True)

    def restore(self, number: int) -> bool:
        """Go back to when the message of round ``number`` was just installed; return False where nothing is kept."""
        path = self._state_of(number)
        if not path.exists():
            return False
        state = unpack(path.read_bytes())
        self.adapter.load_state(_under("adapter/", state))
        self._received = _under("received/", state)
        self._residual.load_state(_under("residual/", state), self.adapter)
        self.noise.set_state(state["noise"])
        self.installed = number
        return True

    def newest(self) -> int:
        """Return the newest round whose message was installed and is kept, -1 where there is none."""
        return max((int(path.stem.rpartition("-")[2]) for path in self.folder.glob("state-*.safetensors")), default=-1)

    def _state_of(self, number: int) -> Path:
        return self.folder / f"state-{number:04d}.safetensors"


def _under(prefix: str, tensors: Message) -> dict[str, Any]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
