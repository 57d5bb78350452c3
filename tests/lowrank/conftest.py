"""Small models for the low-rank tests: a plain tower, and tiny random encoders whose heads are new."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D


class Tower(nn.Module):
    """Three linear layers that are not square, one without bias, one stored transposed, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Linear(6, 10)
        self.narrow = nn.Linear(10, 5, bias=False)
        self.transposed = Conv1D(7, 5)
        self.head = nn.Linear(7, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.wide(x))
        return self.head(torch.tanh(self.transposed(torch.tanh(self.narrow(x))))).squeeze(-1)


def make_tower(dtype: torch.dtype = torch.float32) -> Tower:
    tower = Tower()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return tower.to(dtype)


def shake(adapter: object, size: float = 0.1, seed: int = 3) -> None:
    """Move every trained value, as training would, halfway through its schedule."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter += size * torch.randn(parameter.shape, generator=generator).to(parameter)
    for form in adapter.forms.values():
        form.advance(1, 2)


@pytest.fixture
def tower() -> Callable[..., Tower]:
    return make_tower


@pytest.fixture(name="shake")
def shake_fixture() -> Callable[..., None]:
    return shake


def one_layer(weight: list[list[float]], method: str, **keywords: object) -> tuple[nn.ModuleDict, object]:
    """A model that is one linear layer with this weight and bias 0, in float64, and an adapter's form on it."""
    from lorank import lowrank

    linear = nn.Linear(len(weight[0]), len(weight)).double()
    with torch.no_grad():
        linear.weight.copy_(torch.tensor(weight, dtype=torch.float64))
        linear.bias.zero_()
    model = nn.ModuleDict({"layer": linear})
    return model, lowrank.attach(model, method, **keywords).forms["layer"]


@pytest.fixture(name="one_layer")
def one_layer_fixture() -> Callable[..., tuple[nn.ModuleDict, object]]:
    return one_layer


def set_tensors(form: nn.Module, **values: object) -> None:
    """Overwrite parameters and buffers of ``form`` by dotted name (two underscores for a dot)."""
    for name, value in values.items():
        tensor = dict([*form.named_parameters(), *form.named_buffers()])[name.replace("__", ".")]
        with torch.no_grad():
            tensor.copy_(torch.as_tensor(value, dtype=tensor.dtype).reshape(tensor.shape))


@pytest.fixture(name="set_tensors")
def set_tensors_fixture() -> Callable[..., None]:
    return set_tensors


SMALL = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}


def _configs() -> dict[str, object]:
    from transformers import BertConfig, DebertaV2Config, ModernBertConfig, RobertaConfig

    return {
        "bert": BertConfig(**SMALL),
        "roberta": RobertaConfig(**SMALL, type_vocab_size=1),
        "deberta-v2": DebertaV2Config(
            **SMALL,
            relative_attention=True,
            position_buckets=8,
            max_relative_positions=-1,
            pos_att_type=["p2c", "c2p"],
            pooler_hidden_size=16,
        ),
        "modernbert": ModernBertConfig(**SMALL, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2),
    }


ARCHITECTURES = ("bert", "roberta", "deberta-v2", "modernbert")


@pytest.fixture(scope="session")
def encoder_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A saved tiny random encoder an architecture, without a scoring head; weights larger than by default."""
    from transformers import AutoModel

    folders = {}
    for name, config in _configs().items():
        torch.manual_seed(11)
        keywords = {"add_pooling_layer": False} if name == "bert" else {}
        model = AutoModel.from_config(config, **keywords)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 2:
                    parameter += 0.2 * torch.randn(parameter.shape)
        folders[name] = tmp_path_factory.mktemp(name) / "base"
        model.save_pretrained(folders[name])
    return folders


@pytest.fixture(scope="session")
def make_scorer(encoder_folders: dict[str, Path]) -> Callable[[str], tuple[nn.Module, list[str]]]:
    """name -> (a sequence classifier on that encoder, the modules that are new in it); heads differ by call."""
    from transformers import AutoModelForSequenceClassification

    from lorank import lowrank

    def make(name: str) -> tuple[nn.Module, list[str]]:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            encoder_folders[name], num_labels=1, output_loading_info=True
        )
        return model.eval(), lowrank.new_head_modules(model, info["missing_keys"])

    return make


@pytest.fixture(scope="session")
def token_batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(3, 60, (6, 11), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    mask[4, 3:] = 0
    return {"input_ids": ids * mask, "attention_mask": mask}


@pytest.fixture(scope="session")
def probe(token_batch: dict[str, Tensor]) -> Callable[[nn.Module], Tensor]:
    return lambda model: model(**token_batch).logits.squeeze(-1)
