"""Modules whose tensors accelerate keeps elsewhere (on the CPU, on disk) and brings in for the length of a call.

Such a module has the attribute ``_hf_hook``; between calls its parameters are on the device "meta". Updates and
weights that lorank reads outside of the module's own call are brought in here in the same way.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import nn

from lorank.errors import UsageError

HOOK = "_hf_hook"


def is_hooked(module: nn.Module) -> bool:
    """Return whether accelerate has replaced the module's ``forward`` to place its tensors."""
    return HOOK in module.__dict__


def is_offloaded(module: nn.Module) -> bool:
    """Return whether the module's tensors are elsewhere now and come in for a call."""
    return any(
        is_hooked(part) and any(own.is_meta for own in part._parameters.values() if own is not None)
        for part in module.modules()
    )


@contextmanager
def bring_in(module: nn.Module) -> Iterator[None]:
    """Within it the tensors of ``module`` and of all that it holds are on their device."""
    with ExitStack() as stack:
        for part in module.modules():
            if is_hooked(part):
                hook = getattr(part, HOOK)
                hook.pre_forward(part)
                stack.callback(hook.post_forward, part, None)
        yield


def refuse_offloaded(path: str, module: nn.Module, what: str) -> None:
    """Raise UsageError where ``module`` is offloaded, so that ``what`` cannot be done."""
    if is_offloaded(module):
        raise UsageError(
            f"layer {path} is offloaded by accelerate and cannot be {what}; take the hooks off first with "
            "accelerate.hooks.remove_hook_from_module(model, recurse=True)"
        )
