"""The contract of every method of federated averaging, and the registry that its decorator fills.

One round: every client trains its adapter on its own data, ``pick`` says which tensors leave it, ``aggregate`` makes
one message of all, ``reply`` what of it one client gets, and ``install`` puts that in the client's state.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from torch import Tensor

from lorank.catalogue import catalogued
from lorank.errors import LorankError, UsageError, unknown_name
from lorank.federated.layout import Layout
from lorank.federated.messages import Message
from lorank.lowrank.forms.form import Factors


@dataclass(frozen=True)
class Upload:
    """What one client sends: its tensors, and its weight, which is mostly its number of training queries."""

    tensors: Message
    weight: float = 1.0


Uploads = Mapping[str, Upload]
"""The uploads of a round by the names of their clients."""

State = Mapping[str, Tensor]


class Aggregator(ABC):
    """How a server makes one adapter of many; instances may remember something from round to round."""

    adapter: ClassVar[str] = "lora"
    """The adapter that the method trains where none is named."""

    needs: ClassVar[tuple[str, ...]] = ()
    """The tensors that every layer of a suitable adapter has; empty where any adapter will do."""

    personal: ClassVar[bool] = False
    """True where what is shared is no whole model, so that each client keeps one of its own."""

    votes: ClassVar[bool] = False
    """True where messages are orders, to which no noise can be added and which no norm bounds."""

    def start(self, state: State, layout: Layout) -> Message:
        """Return what the first client sends before round 1, so that all clients begin alike."""
        return self.pick(state, layout)

    @abstractmethod
    def pick(self, state: State, layout: Layout) -> Message:
        """Return what leaves a client after it has trained.

        Args:
            state: All tensors of the client's adapter.
            layout: What their names mean.
        """

    @abstractmethod
    def aggregate(self, uploads: Uploads, last: Message) -> Message:
        """Return one message made of the uploads of a round.

        Args:
            uploads: What the clients sent, by their names.
            last: What the server made in the round before.
        """

    def accept(self, upload: Upload, last: Message) -> None:
        """Raise LorankError where an upload cannot be counted: tensors that the server did not send, or not finite.

        Args:
            upload: What a client sent.
            last: What the server made in the round before.
        """
        if not upload.tensors or not upload.weight > 0:
            raise LorankError("it sent no tensors, or a weight that is not above 0")
        for name, tensor in upload.tensors.items():
            if name not in last or last[name].shape != tensor.shape or last[name].dtype != tensor.dtype:
                raise LorankError(f"it sent {name[:80]!r} of shape {tuple(tensor.shape)}, which nobody asked for")
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise LorankError(f"{name} is not finite")

    def reply(self, message: Message, client: str, upload: Message | None) -> Message:
        """Return what of the server's message goes to one client, which is all of it unless a method says otherwise.

        Args:
            message: What ``aggregate`` returned.
            client: The client's name.
            upload: What the client sent in this round; None where it sent nothing.
        """
        return message

    def install(self, state: State, message: Message, layout: Layout) -> dict[str, Tensor]:
        """Return the client's state with the server's message in it."""
        return {**state, **{name: tensor for name, tensor in message.items() if name in state}}

    def residual(self, message: Message, layout: Layout) -> dict[str, Factors]:
        """Return what the message adds to the frozen weights themselves, by layer; mostly nothing."""
        return {}

    def memory(self) -> Message:
        """Return what the server must remember from round to round, as tensors."""
        return {}

    def load_memory(self, memory: Message) -> None:
        """Take back what ``memory`` gave."""

    def check(self, layout: Layout) -> None:
        """Raise UsageError where the adapter lacks the tensors that the method speaks of."""
        names = set(layout.scalings)
        lacking = [path for path in names if not all(f"{path}.{key}" in layout.trained for key in self.needs)]
        if lacking:
            raise UsageError(
                f"layer {min(lacking)} of the adapter trains no {', '.join(self.needs)}; this method is for an adapter "
                f"such as --adapter {self.adapter}"
            )


AGGREGATORS: dict[str, type[Aggregator]] = {}
"""Every method of aggregation by its name."""

Kind = TypeVar("Kind", bound=type[Aggregator])


def aggregator(
    name: str, *, title: str, area: str = "federated", published: bool | str = True
) -> Callable[[Kind], Kind]:
    """Decorate a class to register it as a way of aggregating, and to enter it in the catalogue.

    Args:
        name: The name that ``--method`` takes.
        title: The title of the paper or the idea.
        area: The area of the catalogue.
        published: The id of the catalogue where it differs from the name; False enters none.
    """

    def enter(kind: Kind) -> Kind:
        AGGREGATORS[name] = kind
        if published:
            catalogued(name if published is True else str(published), area=area, title=title)(kind)
        return kind

    return enter


def make_aggregator(name: str, **options: Any) -> Aggregator:
    """Return the aggregator called ``name`` with its options.

    Raises:
        UsageError: If the name or an option is not known.

    >>> type(make_aggregator("mean")).__name__
    'Mean'
    """
    if name not in AGGREGATORS:
        raise unknown_name("way of aggregating", name, AGGREGATORS)
    known = [key for key in inspect.signature(AGGREGATORS[name]).parameters if key not in ("args", "kwargs")]
    for option in options:
        if option not in known:
            raise unknown_name(f"option of method {name!r}:", option, known)
    return AGGREGATORS[name](**options)
