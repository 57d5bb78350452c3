"""How an update of one weight is written: one short file a form, all on the contract of ``form.Form``."""

from lorank.lowrank.forms import lora_asymmetry, lora_fa, lora_xs, vera
from lorank.lowrank.forms.dora import DoRA
from lorank.lowrank.forms.form import FORMS, Factors, Form, Site, form, form_type
from lorank.lowrank.forms.lora import LoRA

__all__ = [
    "DoRA",
    "FORMS",
    "Factors",
    "Form",
    "LoRA",
    "Site",
    "form",
    "form_type",
    "lora_asymmetry",
    "lora_fa",
    "lora_xs",
    "vera",
]
