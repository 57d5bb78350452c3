"""The number format that a machine gains from."""

import pytest
import torch

from lorank.errors import UsageError
from lorank.ranking.scorers import precision

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _forget():
    precision.best_precision.cache_clear()
    yield
    precision.best_precision.cache_clear()


def test_named_formats():
    assert precision.chosen_dtype("float32", CPU) is torch.float32
    assert precision.chosen_dtype("bfloat16", CPU) is torch.bfloat16
    with pytest.raises(UsageError, match="float16"):
        precision.chosen_dtype("float16", CPU)


@pytest.mark.parametrize(("able", "expected"), [(False, torch.float32), (True, torch.bfloat16)])
def test_auto_is_what_the_hardware_has(able, expected, monkeypatch):
    monkeypatch.setattr(precision, "cpu_multiplies_bfloat16", lambda: able)
    assert precision.chosen_dtype("auto", CPU) is expected


@pytest.mark.parametrize(
    ("able", "expected"),
    [
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, True),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, False),
        ({"cpu_name": "GenuineIntel Intel(R) Xeon(R) Processor", "avx512_bf16": True}, False),
        ({"cpu_name": "AMD EPYC 9R14", "avx512_bf16": True, "amx_bf16": False}, True),
        ({"cpu_name": "Neoverse-V1", "bf16": True}, True),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": False}, False),
        ({}, False),
    ],
)
def test_intel_without_amx_multiplies_float32_faster(able, expected, monkeypatch):
    monkeypatch.setattr(precision, "capabilities", lambda: able)
    assert precision.cpu_multiplies_bfloat16() is expected


def test_an_older_torch_is_asked_flag_by_flag(monkeypatch):
    name = str(precision.capabilities()["cpu_name"])
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    asked = precision.capabilities()
    assert (asked["avx512_bf16"], asked["amx_bf16"]) == (True, False)
    assert ("intel" in str(asked["cpu_name"]).lower()) == ("intel" in name.lower())
