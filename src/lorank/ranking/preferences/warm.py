r"""WARM: one reward model from several, by the mean of their weights.

    \theta = \frac{1}{M} \sum_m \theta_m

for models fine-tuned from one pretrained checkpoint with other seeds, orders of the data, or starting points along one
run (Baklava). The mean keeps what the runs agree on and forgets what each memorised. For low-rank runs it is the mean
of the merged weights, W + \frac{1}{M} \sum_m s B_m A_m: the mean of B times the mean of A is another matrix.

Paper: A. Ramé et al., WARM: On the Benefits of Weight Averaged Reward Models, ICML 2024.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.errors import DataError, UsageError
from lorank.manifest import CARD
from lorank.ranking.scorers.folders import written_whole


@catalogued(
    "warm",
    area="losses.preference",
    title="WARM: On the Benefits of Weight Averaged Reward Models",
    reach=("Python alone: it averages the tensors of whole models; `lorank adapter average` averages adapters"),
)
def average_weights(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of several models' tensors, added in float64; integer tensors must be equal.

    Raises UsageError where names, shapes or integers differ: then the models do not come from one.

    >>> average_weights([{"w": torch.tensor([1.0])}, {"w": torch.tensor([4.0])}])
    {'w': tensor([2.5000])}
    """
    if not states:
        raise UsageError("there are no models to average")
    first = states[0]
    for state in states[1:]:
        apart = sorted(first.keys() ^ state.keys())
        apart += [name for name in first.keys() & state.keys() if first[name].shape != state[name].shape]
        if apart:
            raise UsageError(
                f"the models do not come from one: {apart[0]} differs; average models with the same "
                "architecture and head, with their adapters merged"
            )
    averaged = {}
    for name, tensor in first.items():
        if tensor.is_floating_point():
            total = sum((state[name].double() for state in states[1:]), tensor.double())
            averaged[name] = (total / len(states)).to(tensor.dtype)
        elif all(torch.equal(tensor, state[name]) for state in states):
            averaged[name] = tensor.clone()
        else:
            raise UsageError(f"the models do not come from one: {name} holds different integers")
    return averaged


def average_folders(folders: Sequence[str | Path], out: str | Path) -> None:
    """Write to ``out`` a model folder with the mean weights of ``folders`` and all else from the first of them.

    Raises DataError for a folder without safetensors, and one that is an adapter: export it merged first.
    """
    homes = [Path(folder) for folder in folders]
    for home in homes:
        if (home / "adapter_config.json").is_file():
            raise DataError(
                home,
                None,
                "an adapter, whose factors have no mean that is the mean of its updates",
                "export it with `lorank adapter export --format merged`, and average those",
            )
        if not sorted(home.glob("*.safetensors")):
            raise DataError(home, None, "holds no safetensors", "give model folders")
    averaged = average_weights([_weights_of(home) for home in homes])
    with written_whole(out) as draft:
        for path in homes[0].iterdir():
            if path.is_file() and path.suffix != ".safetensors" and not path.name.endswith(".safetensors.index.json"):
                shutil.copy(path, draft / path.name)
        save_file(averaged, draft / "model.safetensors", metadata={"format": "pt"})
        if (draft / CARD).is_file():
            card = json.loads((draft / CARD).read_text(encoding="utf-8"))
            (draft / CARD).write_text(
                json.dumps(card | {"averaged": [home.name for home in homes]}, indent=2) + "\n", encoding="utf-8"
            )


def _weights_of(home: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for path in sorted(home.glob("*.safetensors")):
        tensors |= load_file(path)
    return tensors
