"""Each published projected optimizer as a point on the axes, entered in the catalogue under its name.

Defaults are those of the papers where they hold for fine-tuning; a rank is a quarter of each matrix's shorter side
unless it is given, which is the ratio of GaLore's published runs.
"""

from lorank.catalogue import enter_method
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
    "coso": Projection(projector="orthogonal", gap=10, scale=0.25, lr=4e-4),
    "gorp": Projection(projector="momentum", residual="companion", rest_rate=2.5, gap=10, scale=0.25, lr=4e-4),
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


enter_method(
    "galore",
    area="optim.lowrank",
    title="GaLore: Memory-Efficient LLM Training by Gradient Low-Rank Projection",
    location=f"{__name__}:PRESETS",
)
enter_method(
    "q-galore",
    area="optim.lowrank",
    title="Q-GaLore: Quantized GaLore with INT4 Projection and Layer-Adaptive Low-Rank Gradients",
    location=f"{__name__}:PRESETS",
)
enter_method(
    "fira",
    area="optim.lowrank",
    title="Fira: Can We Achieve Full-rank Training of LLMs Under Low-rank Constraint?",
    location=f"{__name__}:PRESETS",
)
enter_method(
    "frugal",
    area="optim.lowrank",
    title="FRUGAL: Memory-Efficient Optimization by Reducing State Overhead for Scalable Training",
    location=f"{__name__}:PRESETS",
)
enter_method(
    "flora-compressor",
    area="optim.lowrank",
    title="Flora: Low-Rank Adapters Are Secretly Gradient Compressors",
    location=f"{__name__}:PRESETS",
)
enter_method(
    "dct-galore",
    area="optim.lowrank",
    title="SVD-Free Low-Rank Adaptive Gradient Optimization for Large Language Models",
    location=f"{__name__}:PRESETS",
)
enter_method(
    "gradnormlorp",
    area="optim.lowrank",
    title="Gradient Weight-normalized Low-rank Projection for Efficient LLM Training",
    location=f"{__name__}:PRESETS",
)
enter_method(
    "owlore",
    area="optim.lowrank",
    title="OwLore: Outlier-weighed Layerwise Sampled Low-Rank Projection for Memory-Efficient LLM Fine-tuning",
    location=f"{__name__}:PRESETS",
)
enter_method(
    "supervised-dictionary-learning",
    area="optim.lowrank",
    title="Supervised Dictionary Learning with Auxiliary Covariates",
    location=f"{__name__}:PRESETS",
)
enter_method(
    "coso",
    area="continual",
    title="Continuous Subspace Optimization for Continual Learning",
    location=f"{__name__}:PRESETS",
)
enter_method(
    "gorp",
    area="continual",
    title="Continual Gradient Low-Rank Projection Fine-Tuning for LLMs",
    location=f"{__name__}:PRESETS",
)
