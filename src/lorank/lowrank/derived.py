r"""Factors that forms compute from W wherever they are loaded: how a folder tells whether they came out the same.

    sketch_l = P^T dW_l Q [4, 4],    P [out, 4] and Q [in, 4] of random signs, the same for a layer's path and sides

A folder keeps the sketch of every such layer's update. Where it is opened the factors are computed again, and the
sketch with them: |sketch' - sketch| <= 0.05 |sketch| estimates that dW is the same up to 5%. Singular vectors turn
when W changes, those of close singular values the most: a base in bfloat16 mostly passes, one in four bits mostly
does not, and another model never. Then the folder is refused. A folder that brings the factors themselves
(``factors=True``, and always where W was quantised) fits every copy of the base.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from lorank.errors import DataError
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.forms.form import Form, seeded_generator

SAME_UPDATE = 0.05
WIDTH = 4

Sketch = list[list[float]]


@torch.no_grad()
def sketch(path: str, form: Form, weight: Tensor) -> Sketch:
    """Return the sketch [4, 4] of the update of ``weight`` [out, in] by ``form``."""
    delta = form.delta(weight).double()
    sides = [
        torch.randint(0, 2, (side, WIDTH), generator=seeded_generator("sketch", path, side)).to(delta) * 2 - 1
        for side in delta.shape
    ]
    return (sides[0].t() @ delta @ sides[1]).tolist()


def sketches(forms: Mapping[str, Form], bases: Mapping[str, BaseLinear]) -> dict[str, Sketch]:
    """Return the sketch of every layer whose form computes factors from W."""
    return {path: sketch(path, form, bases[path].weight) for path, form in forms.items() if form.derived}


def check_sketches(
    forms: Mapping[str, Form], bases: Mapping[str, BaseLinear], saved: Mapping[str, Sketch], file: Path
) -> None:
    """Raise DataError where an update is not the one whose sketch was ``saved``.

    Args:
        forms: The updates as they were loaded, by path.
        bases: The frozen layers that they stand on, by path.
        saved: The sketch [4, 4] of each derived update, by path.
        file: The file that the sketches come from, which the error names.
    """
    for path, expected in saved.items():
        form = forms.get(path)
        if form is None or not form.derived:
            continue
        before = torch.tensor(expected, dtype=torch.float64)
        change = torch.tensor(sketch(path, form, bases[path].weight), dtype=torch.float64) - before
        if not change.norm() <= SAME_UPDATE * before.norm() + 1e-9:
            share = f"{100 * float(change.norm() / before.norm()):.0f}%" if before.any() else "all of it"
            raise DataError(
                file,
                None,
                f"the factors that a {type(form).__name__} computes from the weight of layer {path} came out "
                f"differently: its update would be another one, by about {share}",
                "load it on the base model in the dtype that it was trained on, neither quantised nor changed; or save "
                "it there with `factors=True`, or export it as 'portable', for use on any copy",
            )


def factors_of(form: Form) -> dict[str, Tensor]:
    """Return what ``form`` computed from W, by name."""
    return {name: getattr(form, name).detach() for name in form.derived}


@torch.no_grad()
def take_factors(form: Form, tensors: dict[str, Tensor]) -> bool:
    """Move the factors that ``tensors`` bring into ``form``, out of ``tensors``; return whether they are all there."""
    if not form.derived or not tensors.keys() >= set(form.derived):
        return False
    for name in form.derived:
        setattr(form, name, tensors.pop(name).to(getattr(form, name)))
    return True
