"""Every method brings a rate at which it learns: at its own defaults it lowers a layer's loss beside plain LoRA."""

from statistics import mean

import pytest

from lorank import lowrank
from lorank.lowrank.forms.form import FORMS, ROUTED
from lorank.lowrank.layer_trial import lower_layer_loss
from lorank.lowrank.presets import PRESETS
from lorank.lowrank.rates import default_rate

SEEDS = (0, 1, 2)
METHODS = sorted({*PRESETS, *FORMS, *ROUTED})


@pytest.fixture(scope="module")
def lora():
    return mean(lower_layer_loss("lora", seed=seed) for seed in SEEDS)


@pytest.mark.filterwarnings("ignore::lorank.lowrank.forms.schedule.ScheduleWarning")
@pytest.mark.parametrize("method", METHODS)
def test_thirty_steps_at_its_own_defaults_lower_a_layers_loss_beside_lora(method, lora):
    lowered = [lower_layer_loss(method, seed=seed) for seed in SEEDS]
    assert min(lowered) > 0
    assert mean(lowered) > 0.25 * lora


def test_lora_itself_learns_at_its_rate(lora):
    assert lora > 0.3


@pytest.mark.parametrize("method", METHODS)
def test_a_rate_has_a_source_that_states_it(method):
    found = default_rate(method)
    kind, _, name = found.source.partition(" ")
    registry = {
        "form": {**FORMS, **ROUTED},
        "start": lowrank.STARTS,
        "rule": lowrank.RULES,
        "budget": lowrank.DYNAMIC,
        "preset": PRESETS,
    }
    assert found.value == registry[kind][name].lr  # exact: an attribute, copied
    assert 0 < found.value <= 50


def test_what_is_stated_in_place_of_the_methods_own_brings_its_rate():
    assert default_rate("lora", start="lora-ga") == default_rate("lora-ga")
    assert default_rate("lora", rule="loft") == default_rate("loft")
    assert default_rate("lora", budget="adalora") == default_rate("adalora")
    assert default_rate("rslora").source == "preset rslora"
    assert default_rate("rslora", rule="loft") == default_rate("loft")
    assert default_rate("loft", rule="adamw") == default_rate("lora")
    assert default_rate("adalora", budget="none").source == "form gated"
