"""Masked language modelling on a user's own documents: an encoder from nothing, or a first stage of adaptation."""

from lorank.training.pretraining.run import Pretrained, pretrain
from lorank.training.pretraining.settings import FactoredSettings, MaskingSettings, PretrainRecipe

__all__ = ["FactoredSettings", "MaskingSettings", "PretrainRecipe", "Pretrained", "pretrain"]
