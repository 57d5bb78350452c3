"""Every method under DistributedDataParallel: two processes with data of their own train on, and end up the same."""

import socket

import pytest
import torch
from torch import distributed, nn

from adapter_methods import METHODS, attach

STEPS = 6


class Tower(nn.Module):
    def __init__(self):
        super().__init__()
        self.wide, self.narrow, self.transposed = nn.Linear(6, 10), nn.Linear(10, 5, bias=False), nn.Linear(5, 7)
        self.head = nn.Linear(7, 1)

    def forward(self, x):
        return self.head(self.transposed(torch.tanh(self.narrow(torch.tanh(self.wide(x)))))).squeeze(-1)


def differing(name, rank):
    """Train ``name`` in this process and return the tensors that differ from the other's."""
    torch.manual_seed(0)
    model = Tower()
    adapter = attach(model, (name, None, {}))
    wrapped = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=0.02, weight_decay=0.1)
    for step in range(STEPS):
        x = torch.randn(5, 3, 6, generator=torch.Generator().manual_seed(10 * step + rank))
        optimizer.zero_grad()
        (wrapped(x) - 1 - rank).square().mean().backward()
        optimizer.step()
        adapter.advance(step + 1, STEPS)
    found = []
    for key, tensor in adapter.state().items():
        both = [torch.empty_like(tensor) for _ in range(2)]
        distributed.all_gather(both, tensor.contiguous())
        if not torch.equal(*both):
            found.append(key)
    return found


def work(rank, port, report):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        for name in METHODS:
            found = differing(name, rank)
            if rank == 0:
                report.put((name, found))
    finally:
        distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_train_on_and_agree_on_every_tensor():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = torch.multiprocessing.get_context("spawn")
    report = context.Queue()
    torch.multiprocessing.spawn(work, (port, report), nprocs=2)
    results = dict(report.get(timeout=60) for _ in METHODS)
    assert results == {name: [] for name in METHODS}


def test_a_stopped_factor_stays_where_it_is_in_a_group_of_one(tmp_path):
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        model = Tower()
        adapter = attach(model, ("lamda", None, {}), seed=0)
        wrapped = nn.parallel.DistributedDataParallel(model)
        optimizer = torch.optim.AdamW(adapter.parameters(), lr=0.1, weight_decay=0.5)
        for step in range(10):
            optimizer.zero_grad()
            wrapped(torch.randn(8, 6, generator=torch.Generator().manual_seed(step))).square().sum().backward()
            optimizer.step()
            adapter.advance(step + 1, 10)
            parts = [part.detach().clone() for part in adapter.forms["wide"].P]
            if step == 3:
                stopped = parts
        assert all(torch.equal(one, other) for one, other in zip(stopped, parts, strict=True))
        assert adapter.forms["wide"].S.abs().min() > 0
    finally:
        distributed.destroy_process_group()


@pytest.mark.parametrize("name", ["flylora", "losia"])
def test_alone_nothing_is_exchanged(name):
    adapter = attach(Tower(), (name, None, {}))
    adapter.model(torch.ones(2, 6)).sum().backward()
    adapter.advance(1, 4)
