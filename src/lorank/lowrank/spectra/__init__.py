"""What ranks a model, an adapter, a set of embeddings or a gradient really uses."""

from lorank.lowrank.spectra.gradients import GradientSpectrum, gradient_spectra
from lorank.lowrank.spectra.intruders import closest_cosines, intruder_curve, intruder_dimensions
from lorank.lowrank.spectra.rankme import is_bounded_by_rows, rankme
from lorank.lowrank.spectra.update import adapter_spectra, effective_rank, factor_spectrum

__all__ = [
    "GradientSpectrum",
    "adapter_spectra",
    "closest_cosines",
    "effective_rank",
    "factor_spectrum",
    "gradient_spectra",
    "intruder_curve",
    "intruder_dimensions",
    "is_bounded_by_rows",
    "rankme",
]
