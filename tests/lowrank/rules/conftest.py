"""Small problems for rules: one layer with a given gradient, and a few steps as the training loop makes them."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.lowrank.presets import PRESETS
from lorank.lowrank.rules import Losses, Rates, make_rule


class Given:
    """A layer W0 [out, in] with factors A, B and the linear loss <G, W>, so that dL/dW = G; float64."""

    def __init__(self, A, B, G, alpha=None, method="lora", held_out=None):
        A, B, self.G = (torch.tensor(t, dtype=torch.float64) for t in (A, B, G))
        out, width = self.G.shape
        self.model = nn.ModuleDict({"layer": nn.Linear(width, out, bias=False).double()})
        nn.init.zeros_(self.model["layer"].weight)
        self.adapter = lowrank.attach(self.model, method, rank=len(A), alpha=alpha)
        self.form = self.adapter.forms["layer"]
        with torch.no_grad():
            self.form.A.copy_(A)
            self.form.B.copy_(B)
            if method == "gated":
                self.form.gate.fill_(1.0)
        self.held_out = held_out

    def loss(self):
        x = torch.eye(self.G.shape[1], dtype=torch.float64)
        return (self.model["layer"](x).t() * self.G).sum()

    def step(self, rule, steps=1, of=100, **rates):
        return walk(self.adapter, rule, lambda step: self.loss(), steps, of=of, held_out=self.held_out, **rates)

    @property
    def pair(self):
        return self.form.A.detach().clone(), self.form.B.detach().clone()

    @property
    def product(self):
        return self.form.scaling * (self.form.B @ self.form.A).detach()


class Walk:
    """A run that can be left and taken up: rule, optimizer and where it stands."""

    def __init__(self, adapter, rule, loss, of, held_out=None, lr=0.01, betas=(0.9, 0.999), weight_decay=0.0, eps=1e-8):
        self.adapter, self.rule, self.loss, self.of, self.at = adapter, rule, loss, of, 0
        rates = Rates(lr, betas, eps, weight_decay)
        self.optimizer = rule.optimizer([{"params": list(adapter.parameters())}], adapter, rates)
        rule.begin(adapter, self.optimizer, of, Losses(loss, held_out or loss))

    def go(self, steps):
        for _ in range(steps):
            self.rule.before_step(self.at, self.of)
            value, penalty = self.loss(self.at), self.rule.penalty()
            (value if penalty is None else value + penalty).backward()
            self.rule.after_backward(float(value.detach()))
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.at += 1
            self.rule.after_step(self.at, self.of)
        return self

    def tensors(self):
        """All of a checkpoint, as the loop writes it: tensors under names."""
        state = {f"weights.{k}": v.clone() for k, v in self.adapter.state().items()}
        for index, entry in self.optimizer.state_dict()["state"].items():
            state |= {f"optimizer.{index}.{k}": torch.as_tensor(v).clone() for k, v in entry.items()}
        return state | {f"rule.{k}": v.clone() for k, v in self.rule.state().items()}

    def take_up(self, tensors, at):
        own = {
            part: {k.removeprefix(part + "."): v for k, v in tensors.items() if k.startswith(part + ".")}
            for part in ("weights", "optimizer", "rule")
        }
        self.adapter.load_state(own["weights"])
        moments = {}
        for key, value in own["optimizer"].items():
            index, name = key.split(".")
            moments.setdefault(int(index), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.rule.load_state(own["rule"])
        self.at = at
        return self


def walk(adapter, rule, loss, steps, *, of=None, held_out=None, **rates):
    return Walk(adapter, rule, loss, of or steps, held_out, **rates).go(steps)


def method_for(name):
    """The adapter on which a rule is tried: the one that its preset names, else LoRA."""
    return PRESETS[name].form if name in PRESETS else "lora"


@pytest.fixture
def given() -> type[Given]:
    return Given


@pytest.fixture(name="walk")
def walk_fixture() -> Callable[..., Walk]:
    return walk


@pytest.fixture
def open_walk() -> type[Walk]:
    return Walk


@pytest.fixture(name="method_for")
def method_for_fixture() -> Callable[[str], str]:
    return method_for


@pytest.fixture(name="make_rule")
def make_rule_fixture() -> Callable[..., object]:
    return make_rule
