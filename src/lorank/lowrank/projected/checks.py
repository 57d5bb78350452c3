"""Numbers and parameters that an optimizer cannot have, refused when it is made."""

from torch import nn

from lorank.errors import UsageError


def check_numbers(lr: float, rank: int | None, betas: tuple[float, float], eps: float, weight_decay: float) -> None:
    """Raise UsageError for a rate, a rank or another number of an optimizer that cannot be."""
    for name, value in (("lr", lr), ("eps", eps), ("weight_decay", weight_decay)):
        if not 0 <= value < float("inf"):
            raise UsageError(f"{name} is {value!r}; give a number from 0 up")
    if not all(0 <= beta < 1 for beta in betas):
        raise UsageError(f"betas are {betas!r}; give two numbers from 0 to below 1")
    check_rank(rank)


def check_rank(rank: object) -> None:
    """Raise UsageError for what is no rank."""
    if rank is not None and (not isinstance(rank, int) or isinstance(rank, bool) or rank < 0):
        raise UsageError(f"rank is {rank!r}; give a whole number from 0 up, or None for a quarter of the shorter side")


def check_parameter(parameter: nn.Parameter) -> None:
    """Raise UsageError for a parameter that is cut up over processes, or that holds no real numbers."""
    if "DTensor" in (type(parameter).__name__, type(parameter.data).__name__):
        raise UsageError(
            "a projector reads whole matrices, and this one is cut up over processes (DTensor); use DDP, which keeps "
            "them whole"
        )
    if not parameter.is_floating_point():
        raise UsageError(f"a parameter of dtype {parameter.dtype} cannot be stepped; dequantise it first")
