"""What a server has added to a client's frozen weights: factors beside the adapter, so that the base stays as it is."""

from lorank import lowrank
from lorank.federated.aggregators.core.aggregator import Aggregator
from lorank.federated.layout import Layout, layers_with
from lorank.federated.messages import Message
from lorank.federated.server import WHOLE_DOWN, WHOLE_UP, join
from lorank.lowrank.algebra.factors import add
from lorank.lowrank.algebra.sets import attach_factors, factors_of, heads_of
from lorank.lowrank.forms.form import Factors

BESIDE = "residual"
"""The name of the frozen adapter that holds the residual on a client's model."""


class Residual:
    """The sum of all residuals that a client was sent, by layer, and the frozen adapter that applies it."""

    def __init__(self) -> None:
        self.factors: dict[str, Factors] = {}
        self.beside: lowrank.Adapter | None = None

    def take(self, message: Message, aggregator: Aggregator, adapter: lowrank.Adapter) -> None:
        """Add what ``message`` adds to the frozen weights, or take the whole where it brings that."""
        layout = Layout.of(adapter)
        whole = layers_with(message, WHOLE_UP, WHOLE_DOWN)
        for path in whole:
            pair = message[f"{path}.{WHOLE_DOWN}"], message[f"{path}.{WHOLE_UP}"]
            self.factors[path] = Factors(*pair, layout.scalings[path])
        more = {} if whole else aggregator.residual(message, layout)
        for path, added in more.items():
            known = self.factors.get(path)
            joined = join(known and known.B, known and known.A, added.B, added.A)
            self.factors[path] = Factors(joined.A, joined.B, layout.scalings[path])
        if whole or more:
            self._lay(adapter)

    def joined_with(self, adapter: lowrank.Adapter) -> lowrank.Adapter:
        """Return the adapter with the residual as further ranks of it; the model then has no other."""
        if self.beside is None:
            return adapter
        own, heads = factors_of(adapter), heads_of(adapter)
        total = {path: add(factors, self.factors[path]) for path, factors in own.items()}
        self.beside.detach()
        adapter.detach()
        return attach_factors(adapter.model, total, heads=heads)

    def state(self) -> Message:
        """Return the factors by name."""
        state: Message = {}
        for path, factors in self.factors.items():
            state |= {f"{path}.A": factors.A, f"{path}.B": factors.B}
        return state

    def load_state(self, state: Message, adapter: lowrank.Adapter) -> None:
        """Take back what ``state`` gave, and lay it on the adapter's model."""
        scalings = Layout.of(adapter).scalings
        self.factors = {
            path: Factors(state[f"{path}.A"], state[f"{path}.B"], scalings[path])
            for path in layers_with(state, "A", "B")
        }
        self._lay(adapter)

    def _lay(self, adapter: lowrank.Adapter) -> None:
        """Put the residual on the model in the place of an older one; what is trained stays what was trained."""
        if self.beside is not None:
            self.beside.detach()
            self.beside = None
        if not self.factors:
            return
        trained = list(adapter.parameters())
        self.beside = attach_factors(adapter.model, self.factors, name=BESIDE)
        for parameter in self.beside.parameters():
            parameter.requires_grad_(False)
        for parameter in trained:
            parameter.requires_grad_(True)
