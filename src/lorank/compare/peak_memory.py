"""The most memory that a process held since it was last asked to forget: of the accelerator, or else of the system."""

from contextlib import suppress
from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak() -> None:
    """Let the peak begin anew, where the system can."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        CLEAR.write_text("5")


def peak_bytes() -> float | None:
    """Return the peak in bytes, None where the system does not tell."""
    import torch

    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated())
    with suppress(OSError):
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024.0 * int(line.split()[1])
    return None
