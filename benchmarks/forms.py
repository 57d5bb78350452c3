"""Cost of one training step of MiniLM under every form, beside the frozen floor and PEFT.

    OMP_NUM_THREADS=2 python benchmarks/forms.py                        all forms, wall clock
    OMP_NUM_THREADS=1 python benchmarks/forms.py --clock cpu            where other work shares the machine
    python benchmarks/forms.py --forms lora dora bone --again           these rows anew

Model, step, floor and memory are those of `training_step.py`: all-MiniLM-L6-v2 with a head of one label, fp32,
batch x tokens, every linear layer adapted at the given rank, scale 1; the floor is the same step with every weight
frozen but the head and gradients flowing to the embeddings' output. Each form has a process of its own in which
floor, lorank and (where PEFT has the form) PEFT take turns, one step each; medians over the rounds of each round's
ratio to its floor. Memory is the largest sum of live bytes allocated within a step. A form is marked *additive*
where its update is a plain product of thin factors (``as_lora``); those are the ones held to 1.35.

Rows are appended to a file as they are measured, and rows that are there already are not measured again, so the run
can be stopped and taken up. A form takes about twenty seconds on two threads and forty on one.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path

import torch
from torch import nn
from training_step import CLOCKS, live_peak, make, minilm, processor, step_of

PEFT: dict[str, Callable[[int], tuple[str, dict[str, object]]]] = {
    "lora": lambda r: ("LoraConfig", {"r": r, "lora_alpha": r}),
    "dora": lambda r: ("LoraConfig", {"r": r, "lora_alpha": r, "use_dora": True}),
    "gated": lambda r: ("AdaLoraConfig", {"init_r": r, "target_r": r, "total_step": 1000}),
    "gralora": lambda r: ("GraloraConfig", {"r": r, "alpha": r, "gralora_k": 2}),
    "vera": lambda r: ("VeraConfig", {"r": r}),
    "randlora": lambda r: ("RandLoraConfig", {"r": r, "randlora_alpha": r}),
    "c3a": lambda r: ("C3AConfig", {"block_size": 32}),
    "miss": lambda r: ("MissConfig", {"r": r}),
    "bone": lambda r: ("MissConfig", {"r": r, "init_weights": "bat"}),
}
"""PEFT's configuration of the forms it has, at rank r."""

OPTIONS: dict[str, dict[str, object]] = {"c3a": {"block": 32}}
"""Options that make lorank's form the same as PEFT's."""


def prepared(model: nn.Module) -> nn.Module:
    """Return ``model`` with its dropout switched off."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def ours(form: str, rank: int) -> tuple[nn.Module, list[nn.Parameter], bool]:
    """Return the model with lorank's form on it, what it trains, and whether the form is additive."""
    from lorank import lowrank

    model = prepared(minilm())
    adapter = lowrank.attach(model, form, rank=rank, trained=["classifier"], options=OPTIONS.get(form))
    additive = all(update.as_lora() is not None for update in adapter.forms.values())
    return model, list(adapter.parameters()), additive


def theirs(form: str, rank: int) -> tuple[nn.Module, list[nn.Parameter]]:
    """Return the model with PEFT's form on it, and what it trains."""
    import peft

    name, options = PEFT[form](rank)
    linear = sorted(
        {path.rpartition(".")[2] for path, module in minilm().bert.named_modules() if isinstance(module, nn.Linear)}
    )
    config = getattr(peft, name)(target_modules=linear, task_type="SEQ_CLS", **options)
    model = prepared(peft.get_peft_model(minilm(), config))
    return model, [parameter for parameter in model.parameters() if parameter.requires_grad]


def measure(form: str, rank: int, batch: int, tokens: int, repeats: int, clock: str) -> dict[str, object]:
    """Return the row of one form."""
    model, parameters, additive = ours(form, rank)
    steps = {
        "floor": step_of(*make("floor", rank), batch, tokens),
        "lorank": step_of(model, parameters, batch, tokens),
    }
    if form in PEFT:
        steps["peft"] = step_of(*theirs(form, rank), batch, tokens)
    for step in steps.values():
        step()
    memory = {side: live_peak(step) for side, step in steps.items()}
    now = CLOCKS[clock]
    seconds: dict[str, list[float]] = {side: [] for side in steps}
    for repeat in range(repeats):
        for side in steps if repeat % 2 else reversed(steps):
            start = now()
            steps[side]()
            seconds[side].append(now() - start)
    row: dict[str, object] = {"form": form, "additive": additive, "floor_seconds": statistics.median(seconds["floor"])}
    for side in ("lorank", "peft"):
        if side in steps:
            rounds = zip(seconds[side], seconds["floor"], strict=True)
            row[side] = {
                "trained": steps[side].trained,
                "time": statistics.median(own / floor for own, floor in rounds),
                "memory": memory[side] / memory["floor"],
            }
    return row


def table(rows: Iterable[dict]) -> str:
    """Return the rows as a table in Markdown."""
    lines = [
        "| form | trained | time / floor | PEFT | memory / floor | PEFT | additive |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        mine, peer = row["lorank"], row.get("peft")
        time, memory = (f"{peer[key]:.2f}" if peer else "" for key in ("time", "memory"))
        lines.append(
            f"| {row['form']} | {mine['trained']:,} | {mine['time']:.2f} | {time} | {mine['memory']:.2f} "
            f"| {memory} | {'yes' if row['additive'] else ''} |"
        )
    return "\n".join(lines)


def read_rows(path: Path) -> dict[str, dict]:
    """Return the rows measured so far by form; the last of a form counts."""
    if not path.is_file():
        return {}
    return {row["form"]: row for row in map(json.loads, path.read_text().splitlines())}


def main() -> None:
    """Measure what is missing and print the table."""
    from lorank.lowrank import FORMS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=list(FORMS), metavar="FORM")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--rows", type=Path, help="file of rows; by default runs/forms-CLOCK-THREADS.jsonl")
    parser.add_argument("--again", action="store_true", help="measure rows anew that are there already")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one, given.rank, given.batch, given.tokens, given.repeats, given.clock)))
        return
    threads = torch.get_num_threads()
    path = given.rows or Path(f"runs/forms-{given.clock}-{threads}.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    known = read_rows(path)
    todo = [form for form in given.forms if given.again or form not in known]
    size = [f"--{name}={getattr(given, name)}" for name in ("rank", "batch", "tokens", "repeats", "clock")]
    for index, form in enumerate(todo, 1):
        print(f"{form}: {index} of {len(todo)}", file=sys.stderr, flush=True)
        command = [sys.executable, __file__, "--one", form, *size]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TQDM_DISABLE": "1"})
        if done.returncode:
            print(done.stderr[-2000:], file=sys.stderr)
            raise SystemExit(f"{form} failed; the rows before it are in {path}")
        with path.open("a") as rows:
            rows.write(done.stdout.strip().splitlines()[-1] + "\n")
    print(
        f"{date.today()}, {processor()}, {threads} threads, torch {torch.__version__}, r={given.rank}, "
        f"{given.batch} x {given.tokens} tokens, {given.repeats} rounds, {given.clock} clock\n"
    )
    measured = read_rows(path)
    print(table(measured[form] for form in given.forms if form in measured))


if __name__ == "__main__":
    main()
