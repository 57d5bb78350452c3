"""Where modules stand in a model: wrappers around it, every path of a module, and putting another in its place."""

from torch import nn

from lorank.errors import UsageError

SHARDED = ("DistributedDataParallel", "FullyShardedDataParallel", "FSDPModule")
"""Wrappers that have already counted or cut up the parameters, so that none can be added under them."""


def unwrap_model(model: nn.Module) -> nn.Module:
    """Return the model inside ``nn.DataParallel`` and ``torch.compile``, so that paths are those of the model alone.

    Raises:
        UsageError: for a wrapper that would never synchronise parameters added after it.

    >>> inner = nn.Linear(2, 2); unwrap_model(nn.DataParallel(inner)) is inner
    True
    """
    while True:
        kind = next((base.__name__ for base in type(model).__mro__ if base.__name__ in SHARDED), None)
        if kind is not None:
            raise UsageError(
                f"the model is already a {kind}, which does not synchronise parameters that come later; "
                "put the adapter on the model first and wrap it afterwards"
            )
        inner = model.module if isinstance(model, nn.DataParallel) else getattr(model, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def find_paths(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """Return every path of each module by its first path; a module that is shared has several.

    >>> layer = nn.Linear(2, 2); find_paths(nn.Sequential(layer, layer))["0"]
    ('0', '1')
    """
    first: dict[int, str] = {}
    found: dict[str, tuple[str, ...]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        own = first.setdefault(id(module), path)
        found[own] = (*found.get(own, ()), path)
    return found


def replace_module(model: nn.Module, path: str, module: nn.Module) -> None:
    """Put ``module`` in the place of the one at ``path`` of ``model``, wherever else that one stands as well.

    >>> layer = nn.Linear(2, 2); model = nn.Sequential(layer, layer)
    >>> replace_module(model, "1", nn.Identity()); model[0]
    Identity()
    """
    replace_modules(model, [(model.get_submodule(path), module)])


def replace_modules(model: nn.Module, pairs: list[tuple[nn.Module, nn.Module]]) -> None:
    """Put the second of each pair in every place of ``model`` where the first stands."""
    instead = {id(old): new for old, new in pairs}
    places = [
        (parent, name, instead[id(child)])
        for parent in model.modules()
        for name, child in parent._modules.items()
        if id(child) in instead
    ]
    for parent, name, module in places:
        setattr(parent, name, module)
