"""Each published projected optimizer as a point on the axes.

Defaults are those of the papers where they hold for fine-tuning; a rank is a quarter of each matrix's shorter side
unless it is given, which is the ratio of GaLore's published runs.
"""

from lorank.errors import unknown_name
from lorank.lowrank.projected.projection import Projection

PRESETS: dict[str, Projection] = {
    "galore": Projection(scale=0.25, lr=4e-4),
    "golore": Projection(projector="stiefel", scale=0.25, lr=4e-4),
    "q-galore": Projection(projector="int4", refresh="lazy", weights="int8", scale=0.25, lr=4e-4),
    "fira": Projection(residual="fira", scale=0.25, lr=4e-4),
    "frugal": Projection(projector="coordinates", residual="sign", moments="reset", rest_rate=0.1, lr=1e-4),
    "flora-compressor": Projection(
        projector="random", inner="adafactor", residual="current", moments="rotated", gap=1000, lr=1e-4
    ),
    "apollo": Projection(projector="random", residual="channel", lr=1e-4),
    "apollo-mini": Projection(projector="random", residual="channel", per="matrix", scale=128**0.5, rank=1, lr=1e-4),
    "dct-galore": Projection(projector="dct", moments="rotated", lr=1e-4),
    "gradnormlorp": Projection(weights="normalised", gap=250, scale=0.25, lr=4e-4),
    "owlore": Projection(layers="outliers", gap=100, lr=1e-4),
    "supervised-dictionary-learning": Projection(projector="identity", inner="sgd", weights="truncated", lr=1e-1),
    "adamw8bit": Projection(projector="identity", inner="adamw8bit", lr=1e-4),
    "adamw4bit": Projection(projector="identity", inner="adamw4bit", lr=1e-4),
}
"""Every projected optimizer by name."""


def optimizer_preset(name: str) -> Projection:
    """Return the optimizer called ``name``.

    >>> optimizer_preset("fira").residual
    'fira'
    """
    if name not in PRESETS:
        raise unknown_name("optimizer", name, PRESETS)
    return PRESETS[name]
