"""What ranks a model, an adapter, a set of embeddings or a gradient really uses."""

from lorank.lowrank.spectra.attention_limits import AttentionBound, attention_bounds, polynomial_attention
from lorank.lowrank.spectra.gradients import GradientSpectrum, gradient_spectra
from lorank.lowrank.spectra.intruders import closest_cosines, intruder_curve, intruder_dimensions
from lorank.lowrank.spectra.rankme import is_bounded_by_rows, rankme
from lorank.lowrank.spectra.update import adapter_spectra, effective_rank, factor_spectrum

__all__ = [
    "AttentionBound",
    "GradientSpectrum",
    "adapter_spectra",
    "attention_bounds",
    "closest_cosines",
    "effective_rank",
    "factor_spectrum",
    "gradient_spectra",
    "intruder_curve",
    "intruder_dimensions",
    "is_bounded_by_rows",
    "polynomial_attention",
    "rankme",
]
