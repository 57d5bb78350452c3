"""What the names of an adapter's tensors mean: which belong to a layer's update, which to a head trained whole."""

from collections.abc import Iterable
from dataclasses import dataclass

from lorank.lowrank import Adapter


@dataclass(frozen=True)
class Layout:
    """The parts of an adapter's state.

    Attributes:
        trained: The names of the tensors that training changes; the others are frozen and stay as they were drawn.
        heads: The names of the tensors of modules that are trained whole, such as a cross-encoder's classifier.
        scalings: The scale s of each layer's update, by the layer's path.
    """

    trained: frozenset[str]
    heads: frozenset[str]
    scalings: dict[str, float]

    @classmethod
    def of(cls, adapter: Adapter) -> "Layout":
        """Return the layout of an adapter."""
        heads = {f"{path}.{key}" for path, module in adapter.trained.items() for key in module.state_dict()}
        trained = frozenset(name for name, _ in adapter.named_parameters())
        return cls(trained, frozenset(heads), {path: form.scaling for path, form in adapter.forms.items()})

    def updates(self) -> list[str]:
        """Return the names of trained tensors that are no head's, sorted."""
        return sorted(self.trained - self.heads)


def layer_of(name: str) -> str:
    """Return the path of the layer that a tensor belongs to.

    >>> layer_of("encoder.layer.0.query.A")
    'encoder.layer.0.query'
    """
    return name.rpartition(".")[0]


def layers_with(names: Iterable[str], *tensors: str) -> list[str]:
    """Return the paths of the layers that have all of ``tensors``, sorted.

    >>> layers_with(["a.A", "a.B", "b.A"], "A", "B")
    ['a']
    """
    known = set(names)
    paths = {layer_of(name) for name in known}
    return sorted(path for path in paths if all(f"{path}.{tensor}" in known for tensor in tensors))
