"""Feature rankers: LETOR rows in, scores out. Neural networks, tours, pointers, boosted networks and trees."""

import importlib
import pkgutil

from lorank import plugins
from lorank.ranking.scorers.features.models import feature_model, feature_models, model_options
from lorank.ranking.scorers.features.networks import NETWORKS
from lorank.ranking.scorers.features.ranker import FeatureRanker
from lorank.ranking.scorers.features.rows import FeatureLists

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
plugins.load()

__all__ = ["NETWORKS", "FeatureLists", "FeatureRanker", "feature_model", "feature_models", "model_options"]
