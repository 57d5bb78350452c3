"""Where the factors of a form start: zero, the principal part of W, activations and gradients."""

from lorank.lowrank.starts import eva, gora, init_dynamics, loku, lora_ga, lora_sb, lors, olora, spectrum_ranks
from lorank.lowrank.starts.start import STARTS, Start, Statistics, start, start_named, start_options
from lorank.lowrank.starts.svd import Principal
from lorank.lowrank.starts.zero import Zero

__all__ = [
    "Principal",
    "STARTS",
    "Start",
    "Statistics",
    "Zero",
    "eva",
    "gora",
    "init_dynamics",
    "loku",
    "lora_ga",
    "lora_sb",
    "lors",
    "olora",
    "spectrum_ranks",
    "start",
    "start_named",
    "start_options",
]
