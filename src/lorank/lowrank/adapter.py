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
        """Write the adapter as a folder that lorank and, where it has the form, PEFT load; see ``folder.save``.

        Args:
            folder: The folder to write, which is made if need be; other files in it stay.
            base_name: The base model's name, for ``base_model_name_or_path``.
            task_type: PEFT's task type; None takes SEQ_CLS for a sequence classifier.
            probe: It scores a fixed set of inputs, by which the folder is checked; None leaves this check out.
            factors: True also writes what forms compute from the base's weights.

        Returns:
            The files written.

        Raises:
            LorankError: If what was read back differs; nothing is left behind then.
        """
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
        """Write the adapter in a format that other tools load; see ``export.export``.

        Args:
            folder: The folder to write, which appears only when all went well.
            format: The name of a format: ``peft``, ``portable`` or ``merged``.
            probe: It scores a fixed set of inputs, whose scores are compared; None compares none.
            limit: The largest change of a score, 0 or more, that is allowed; None allows any.
            base_name: The base model's name, for ``base_model_name_or_path``.
            task_type: PEFT's task type; None takes SEQ_CLS for a sequence classifier.
            rank: The highest rank of a ``portable`` update; a form that is no LoRA requires it or ``energy``.
            energy: The share of each update's squared norm, in (0, 1], that ``portable`` keeps.
            dtype: The number format of a ``merged`` model.
            tokenizer: The tokenizer to write beside a ``merged`` model; None writes none.

        Raises:
            LorankError: If a score moves by more than ``limit``; nothing is left behind then.
        """
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
