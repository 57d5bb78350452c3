"""An adapter: the updates that lie on a model, and how they are saved, loaded and exported."""

from pathlib import Path

import torch
from torch import nn

from lorank.lowrank import folder as folder_of
from lorank.lowrank.agreement import Probe
from lorank.lowrank.export import ExportOptions, ExportReport, export
from lorank.lowrank.updates import Updates


class Adapter(Updates):
    """The updates that one ``attach`` or ``load`` put on a model, and the modules trained whole with them.

    ``layers`` maps paths to ``Adapted`` layers, ``forms`` paths to this adapter's updates, ``trained`` paths
    to the modules trained whole.
    """

    def save(
        self,
        folder: str | Path,
        *,
        base_name: str | None = None,
        task_type: str | None = None,
        probe: Probe | None = None,
        factors: bool = False,
    ) -> list[Path]:
        """Write the adapter folder; see ``folder.save``."""
        return folder_of.save(self, folder, base_name=base_name, task_type=task_type, probe=probe, factors=factors)

    def export(
        self,
        folder: str | Path,
        format: str = "peft",
        *,
        probe: Probe | None = None,
        limit: float | None = 1e-4,
        base_name: str | None = None,
        task_type: str | None = None,
        rank: int | None = None,
        energy: float | None = None,
        dtype: torch.dtype = torch.float32,
        tokenizer: object | None = None,
    ) -> ExportReport:
        """Write the adapter for others to load; see ``export.export``."""
        options = ExportOptions(base_name, task_type, rank, energy, dtype, tokenizer)
        return export(self, folder, format, probe=probe, limit=limit, options=options)


def load(model: nn.Module, folder: str | Path, *, name: str = "default", trainable: bool = True) -> Adapter:
    """Put the adapter in ``folder``, written by lorank or by PEFT (type LORA), on ``model``.

    Args:
        model: the original base, with the number of labels that the adapter was trained for.
        folder: an adapter folder; safetensors only.
        name: of the adapter on this model.
        trainable: whether its parameters may be trained on, or are frozen.

    Returns:
        The adapter, active. Modules trained whole are overwritten by the folder's.

    Raises:
        DataError: for a folder that does not fit the model; UsageError: for PEFT types and options that
        lorank does not know. The model is as it was then.
    """
    return folder_of.restore(model, Path(folder), Adapter, name=name, trainable=trainable)
