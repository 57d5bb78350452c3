"""How an update of one weight is written: one short file a form, all on the contract of ``form.Form``."""

from lorank.lowrank.forms import (
    bone,
    c3a,
    gralora,
    lora_asymmetry,
    lora_fa,
    lora_xs,
    miss,
    mora_square,
    nola,
    randlora,
    vera,
)
from lorank.lowrank.forms.dora import DoRA
from lorank.lowrank.forms.form import FORMS, Factors, Form, Site, form, form_type
from lorank.lowrank.forms.lora import LoRA

__all__ = [
    "bone",
    "c3a",
    "DoRA",
    "Factors",
    "Form",
    "form",
    "form_type",
    "FORMS",
    "gralora",
    "LoRA",
    "lora_asymmetry",
    "lora_fa",
    "lora_xs",
    "miss",
    "mora_square",
    "nola",
    "randlora",
    "Site",
    "vera",
]
