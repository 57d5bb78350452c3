"""Two gloo processes that average gradients step as one process does, and stay the same to the bit."""

import os
import subprocess
import sys

import torch

WORKER = """
import sys
import torch
import torch.distributed as dist
from torch import nn

from lorank import lowrank

rank, world, port, out, *names = *map(int, sys.argv[1:4]), *sys.argv[4:]
if world > 1:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
for name in names:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 4))
    optimizer = lowrank.optimizer(name, model.named_parameters(), lr=0.02, rank=2, gap=3, interval=4)
    for step in range(7):
        x = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))[rank::world]
        (model(x) - x[:, :4]).square().mean().backward()
        for p in model.parameters():
            if world > 1 and p.grad is not None:
                dist.all_reduce(p.grad)
                p.grad /= world
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    torch.save(model.state_dict(), f"{out}/{name}-{world}-{rank}.pt")
"""
NAMES = ("galore", "fira", "frugal", "apollo", "owlore", "dct-galore")


def free_port():
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_two_processes_give_what_one_gives(tmp_path):
    port, env = free_port(), {**os.environ, "OMP_NUM_THREADS": "1"}
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(rank), str(world), str(port), str(tmp_path), *NAMES],
            env=env,
            stderr=subprocess.PIPE,
        )
        for rank, world in ((0, 1), (0, 2), (1, 2))
    ]
    for run in runs:
        _, errors = run.communicate(timeout=300)
        assert run.returncode == 0, errors.decode()
    for name in NAMES:
        files = [tmp_path / f"{name}-{end}.pt" for end in ("1-0", "2-0", "2-1")]
        one, first, second = (torch.load(file, weights_only=True) for file in files)
        for key in one:
            assert torch.equal(first[key], second[key]), (name, key)  # exact: the same averaged gradients
            torch.testing.assert_close(first[key], one[key], atol=1e-3, rtol=1e-3)
