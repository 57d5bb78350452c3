"""Mixed batches of many LoRA adapters on one base: throughput as a share of one merged model, beside PEFT's.

    OMP_NUM_THREADS=1 python benchmarks/serving.py [--counts 1 16 64 256] [--rank 8] [--rows 256] [--tokens 128]
    OMP_NUM_THREADS=1 python benchmarks/serving.py --clock cpu     where other work shares the machine
    python benchmarks/serving.py --memory | --cold | --products    memory of 1,000 adapters; a cold one; the products
    OMP_NUM_THREADS=2 python benchmarks/serving.py --prefix --repeats 5     a causal list with and without prefix reuse
    python benchmarks/serving.py --beside      a quiet tenant beside floods, long lists, slow clients, ...; five minutes

A batch has ``rows`` pairs of about ``tokens`` tokens, divided evenly over the adapters; every adapter has rank
``rank`` on every linear layer of the encoder, and a head of its own. Models: all-MiniLM-L6-v2 as a cross-encoder,
and a randomly initialised RoBERTa of the same size with its two-layer head. Sides, which take turns in one process:

    merged        lorank's cross-encoder with one adapter merged into it, texts in, scores out
    mixed         lorank's engine with that many adapters, texts in, scores out
    peft merged   transformers with one adapter merged by PEFT, token ids in (so without tokenising)
    peft          PEFT's adapter_names, token ids in; batches of 2,048 tokens, rows sorted by adapter

The share is merged / mixed and peft merged / peft, the median over rounds of the ratio within a round. With
``--spread`` lengths vary by that share around ``tokens``; PEFT's batches are then padded as usual.
"""

import argparse
import copy
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lorank.lowrank.adapter_files import CONFIG, Contents, write
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.settings import LayerPlan, Settings
from lorank.lowrank.targets import select_targets
from lorank.ranking.scorers import CausalRanker, CrossEncoder
from lorank.serving.adapters.package import Package
from lorank.serving.adapters.source import LocalSource
from lorank.serving.adapters.store import FolderStore
from lorank.serving.forward.engine import MixedEngine
from lorank.serving.requests.engine import Job
from lorank.training.weights import new_modules

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
MODELS = ("minilm", "roberta")
HEADS = {"minilm": ["classifier"], "roberta": ["classifier"]}
MIB = 2**20


def say(text: str) -> None:
    """Print progress."""
    print(text, file=sys.stderr, flush=True)


def base(name: str) -> CrossEncoder:
    """Return the base model as a cross-encoder with a random head."""
    if name == "minilm":
        return CrossEncoder("minilm", head="random", max_length=512)
    from transformers import AutoModel, RobertaConfig

    config = RobertaConfig(
        vocab_size=30522,
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        max_position_embeddings=514,
        type_vocab_size=1,
        pad_token_id=1,
    )
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        AutoModel.from_config(config, add_pooling_layer=False).save_pretrained(folder)
        roberta_tokenizer().save_pretrained(folder)
        return CrossEncoder(folder, head="random", max_length=512)


def roberta_tokenizer() -> object:
    """Return a tokenizer of whole words with RoBERTa's special tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    words = [*special, *WORDS, "the", "a"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(dict.fromkeys(words))}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_max_length=512,
        model_input_names=["input_ids", "attention_mask"],
    )


WORDS = [
    "time",
    "year",
    "people",
    "way",
    "day",
    "man",
    "thing",
    "woman",
    "life",
    "child",
    "world",
    "school",
    "state",
    "family",
    "student",
    "group",
    "country",
    "problem",
    "hand",
    "part",
    "place",
    "case",
    "week",
    "company",
    "system",
    "program",
    "question",
    "work",
    "government",
    "number",
    "night",
    "point",
    "home",
    "water",
    "room",
]


def contents(ranker: CrossEncoder, rank: int, seed: int) -> Contents:
    """Return a random LoRA of every linear layer of the encoder, with a head."""
    generator = torch.Generator().manual_seed(seed)
    trained = new_modules(ranker)
    plan, updates = {}, {}
    for path, module in select_targets(ranker.module, trained=trained).items():
        layer = BaseLinear(module)
        plan[path] = LayerPlan(rank, float(rank))
        updates[path] = {
            "lora_A.weight": torch.randn(rank, layer.in_features, generator=generator) * 0.02,
            "lora_B.weight": torch.randn(layer.out_features, rank, generator=generator) * 0.02,
        }
    heads = {
        path: {
            key: torch.randn(tensor.shape, generator=generator) * 0.02
            for key, tensor in ranker.module.get_submodule(path).state_dict().items()
        }
        for path in trained
    }
    return Contents(Settings(rank=rank), plan, updates, heads)


def texts(rows: int, tokens: int, spread: float) -> tuple[str, list[str]]:
    """Return a query of eight words and documents that make pairs of about ``tokens`` tokens."""
    rng = np.random.default_rng(0)
    lengths = np.rint((tokens - 12) * (1 + spread * rng.uniform(-1, 1, rows))).astype(int)
    return " ".join(WORDS[:8]), [" ".join(rng.choice(WORDS, length)) for length in lengths]


def lorank_sides(
    ranker: CrossEncoder, count: int, rank: int, query: str, documents: list[str]
) -> dict[str, Callable[[], object]]:
    """Return a merged cross-encoder and an engine with ``count`` adapters on the same rows."""
    packages = {f"a{i}": Package(contents(ranker, rank, i), Path("memory")) for i in range(count)}
    merged = copy.copy(ranker)
    merged.module = merge(copy.deepcopy(ranker.module), packages["a0"].contents)
    engine = MixedEngine(
        ranker, LocalSource({name: lambda own=own: own for name, own in packages.items()}), memory=1 << 30
    )
    share = len(documents) // count
    jobs = [Job(name, query, documents[i * share : (i + 1) * share]) for i, name in enumerate(packages)]
    return {"merged": lambda: merged.score(query, documents), "mixed": lambda: check(engine.score(jobs))}


def check(answers: list) -> None:
    """Raise the first error among the answers."""
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer


@torch.no_grad()
def merge(module: nn.Module, own: Contents) -> nn.Module:
    """Write an adapter into the weights of ``module``."""
    for path, update in own.updates.items():
        module.get_submodule(path).weight += update["lora_B.weight"] @ update["lora_A.weight"]
    return module.requires_grad_(False)


def peft_sides(
    ranker: CrossEncoder,
    count: int,
    rank: int,
    query: str,
    documents: list[str],
    dora: bool = False,
) -> dict[str, Callable[[], object]]:
    """Return a merged model and PEFT's mixed batches of ``count`` adapters."""
    import peft

    config = peft.LoraConfig(
        r=rank,
        lora_alpha=rank,
        target_modules="all-linear",
        init_lora_weights=False,
        task_type="SEQ_CLS",
        use_dora=dora,
    )
    merged = peft.get_peft_model(copy.deepcopy(ranker.module), config).merge_and_unload().eval()
    mixed = peft.get_peft_model(copy.deepcopy(ranker.module), config, adapter_name="a0")
    for i in range(1, count):
        mixed.add_adapter(f"a{i}", config)
    mixed.eval()
    batches = padded_batches(ranker, query, documents)
    names = [f"a{i * count // len(documents)}" for i in range(len(documents))]

    @torch.inference_mode()
    def run_merged() -> None:
        for batch, _ in batches:
            merged(**batch)

    @torch.inference_mode()
    def run_mixed() -> None:
        for batch, rows in batches:
            mixed(**batch, adapter_names=[names[row] for row in rows])

    return {"peft merged": run_merged, "peft": run_mixed}


def padded_batches(ranker: CrossEncoder, query: str, documents: list[str]) -> list[tuple[dict[str, Tensor], range]]:
    """Return token batches of 2,048 tokens before padding, in the order of the rows."""
    encoded = [ranker.tokenizer(query, document)["input_ids"] for document in documents]
    batches, start = [], 0
    while start < len(encoded):
        stop, total = start, 0
        while stop < len(encoded) and (stop == start or total + len(encoded[stop]) <= 2048):
            total, stop = total + len(encoded[stop]), stop + 1
        inputs = ranker.tokenizer([query] * (stop - start), documents[start:stop], padding=True, return_tensors="pt")
        batches.append((dict(inputs), range(start, stop)))
        start = stop
    return batches


def take_turns(sides: dict[str, Callable[[], object]], repeats: int, clock: str) -> dict[str, list[float]]:
    """Return the seconds of each side, one a round, after a warm-up round."""
    now, seconds = CLOCKS[clock], {side: [] for side in sides}
    for repeat in range(repeats + 1):
        for side in list(sides) if repeat % 2 else list(reversed(sides)):
            start = now()
            sides[side]()
            if repeat:
                seconds[side].append(now() - start)
    return seconds


def throughput(given: argparse.Namespace) -> None:
    """Measure and print the table of shares."""
    print(
        f"{date.today()}, {processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}, rank "
        f"{given.rank}, {given.rows} rows of {given.tokens} tokens, spread {given.spread}, {given.repeats} rounds, "
        f"{given.clock} clock\n"
    )
    print(
        "| model | adapters | merged, rows/s | mixed, rows/s | mixed share | peft merged, rows/s | peft, rows/s "
        "| peft's share |\n|---|---:|---:|---:|---:|---:|---:|---:|"
    )
    for model in given.models:
        ranker = base(model)
        ranker.module.requires_grad_(False)
        query, documents = texts(given.rows, given.tokens, given.spread)
        for count in given.counts:
            say(f"{model}: {count} adapters")
            sides = lorank_sides(ranker, count, given.rank, query, documents)
            failed = ""
            if "peft" in given.sides:
                theirs = peft_sides(ranker, count, given.rank, query, documents)
                try:
                    theirs["peft"]()
                except Exception as error:  # noqa: BLE001  the table says what PEFT raises
                    failed = f"{type(error).__name__}: {str(error)[:60]}"
                    theirs.pop("peft")
                sides |= theirs
            seconds = take_turns(sides, given.repeats, given.clock)
            print(row(model, count, given.rows, seconds, failed), flush=True)


def row(model: str, count: int, rows: int, seconds: dict[str, list[float]], failed: str) -> str:
    """Return one line of the table."""

    def speed(side: str) -> str:
        return f"{rows / statistics.median(seconds[side]):.0f}" if side in seconds else failed or "-"

    def share(whole: str, side: str) -> str:
        if side not in seconds:
            return "-"
        return f"{statistics.median(a / b for a, b in zip(seconds[whole], seconds[side], strict=True)):.3f}"

    return (
        f"| {model} | {count} | {speed('merged')} | {speed('mixed')} | {share('merged', 'mixed')} "
        f"| {speed('peft merged')} | {speed('peft')} | {share('peft merged', 'peft')} |"
    )


def write_store(ranker: CrossEncoder, folder: Path, count: int, rank: int) -> None:
    """Write ``count`` adapters; all but the first share the first's files by hard links."""
    first = folder / "a0"
    first.mkdir(parents=True)
    write(contents(ranker, rank, 0), ranker.module, first, base_name="minilm", task_type=None)
    assert (first / CONFIG).is_file()
    for i in range(1, count):
        (folder / f"a{i}").mkdir()
        for path in first.iterdir():
            os.link(path, folder / f"a{i}" / path.name)


def resident() -> int:
    """Return the resident bytes of this process."""
    import psutil

    return psutil.Process().memory_info().rss


def memory(given: argparse.Namespace) -> None:
    """Serve every one of ``given.registered`` adapters once and print what that took beside the base."""
    before = resident()
    ranker = base("minilm")
    ranker.score("warm up", ["the tokenizer and the products"] * 8)
    alone = resident() - before
    weights = sum(p.numel() * p.element_size() for p in ranker.module.parameters())
    with tempfile.TemporaryDirectory() as folder:
        write_store(ranker, Path(folder), given.registered, given.rank)
        settled = resident()
        engine = MixedEngine(ranker, FolderStore(folder), memory=int(given.budget * weights))
        highest = settled
        for i in range(given.registered):
            check(engine.score([Job(f"a{i}", "query", ["a document"])]))
            highest = max(highest, resident())
        stats = engine.stats()
    print(
        f"base weights {weights / MIB:.1f} MiB (process with the base {alone / MIB:.1f} MiB above the imports); "
        f"{given.registered} adapters of rank {given.rank} served once each with a budget of {given.budget} x the "
        f"base: pool at most {stats['memory_limit_bytes'] / MIB:.1f} MiB, {stats['resident']} in memory at the end, "
        f"{stats['evictions']} sent out; resident memory grew by {(highest - settled) / MIB:.1f} MiB; base and "
        f"adapters together {(weights + highest - settled) / weights:.2f} x the base's weights"
    )


def cold(given: argparse.Namespace) -> None:
    """Print how long the first use of an adapter takes beyond a later one, files in the page cache."""
    ranker, now = base("minilm"), CLOCKS[given.clock]
    with tempfile.TemporaryDirectory() as folder:
        write_store(ranker, Path(folder), 41, given.rank)
        engine = MixedEngine(ranker, FolderStore(folder), memory=1 << 28)
        job = lambda i: check(engine.score([Job(f"a{i}", "query", ["a document"])]))  # noqa: E731
        job(40)
        times = {"first": [], "later": []}
        for i in range(40):
            for which in ("first", "later"):
                start = now()
                job(i)
                times[which].append(now() - start)
    first, later = (statistics.median(times[which]) * 1e3 for which in ("first", "later"))
    print(
        f"first use of a cold adapter of rank {given.rank}: {first:.1f} ms with one short document, "
        f"{first - later:.1f} ms more than the same request later; slowest {max(times['first']) * 1e3:.1f} ms, "
        f"{given.clock} clock"
    )


def products(given: argparse.Namespace) -> None:
    """Print the time of each way to add the updates, as a multiple of the base's product, over adapters a forward."""
    from lorank.serving.forward.products import PRODUCTS, Stack, multiply_folded
    from lorank.serving.forward.segments import Runs

    print(
        f"2,048 lines, rank {given.rank}, {torch.get_num_threads()} threads\n\n| layer | adapters | "
        + " | ".join([*PRODUCTS, "folded"])
        + " |\n|---|---:|"
        + "---:|" * (len(PRODUCTS) + 1)
    )
    for name, width, out, parts in (
        ("qkv", 384, 384, 3),
        ("dense", 384, 384, 1),
        ("up", 384, 1536, 1),
        ("down", 1536, 384, 1),
    ):
        for count in (1, 2, 4, 8, 16, 32, 64):
            x, W, b = torch.randn(2048, width), torch.randn(parts * out, width), torch.randn(parts * out)
            y = torch.empty(2048, parts * out)
            stack = Stack(
                torch.randn(count, parts * given.rank, width), torch.randn(count, parts * given.rank, out), parts
            )
            runs = Runs(tuple(range(0, 2049, 2048 // count)))
            sides = {"base": lambda: torch.addmm(b, x, W.t(), out=y)}  # noqa: B023
            for way, product in PRODUCTS.items():
                sides[way] = lambda product=product: product(x, y, stack, runs)  # noqa: B023
            sides["folded"] = lambda: multiply_folded(x, W, b, stack, runs)  # noqa: B023
            with torch.inference_mode():
                seconds = take_turns(sides, given.repeats, given.clock)
            fastest = {side: min(own) for side, own in seconds.items()}
            cells = [f"{1 + fastest[way] / fastest['base']:.3f}" for way in PRODUCTS]
            print(f"| {name} | {count} | {' | '.join(cells)} | {fastest['folded'] / fastest['base']:.3f} |", flush=True)


def causal_folder(folder: Path) -> Path:
    """Write a random Qwen3 of 25 million weights, with a tokenizer of whole words; return the folder."""
    from transformers import AutoModelForCausalLM, Qwen3Config

    tokenizer = roberta_tokenizer()
    tokenizer.add_tokens(["Yes", "No"])
    tokenizer.model_max_length = 1024
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=512,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=64,
        intermediate_size=1536,
        max_position_embeddings=1024,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def prefix(given: argparse.Namespace) -> None:
    """Measure a list of 50 documents of 60 tokens behind a prefix of 200, with and without its reuse."""
    words, (query, documents) = np.random.default_rng(1).choice(WORDS, 191), texts(50, 72, 0.3)
    prompt = f"{' '.join(words)} $query the $documents a"
    with tempfile.TemporaryDirectory() as name:
        folder = causal_folder(Path(name))
        rankers = {
            reuse: CausalRanker(folder, prompt=prompt, chat="off", reuse_prefix=reuse) for reuse in (False, True)
        }
    sides = {
        "whole": lambda: rankers[False].score(query, documents),
        "reused": lambda: rankers[True].score(query, documents),
    }
    apart = np.abs(sides["whole"]() - sides["reused"]()).max()
    seconds = take_turns(sides, given.repeats, given.clock)
    ratio = statistics.median(a / b for a, b in zip(seconds["whole"], seconds["reused"], strict=True))
    print(
        f"{date.today()}, {processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"{given.repeats} rounds, {given.clock} clock\n\n"
        f"whole {statistics.median(seconds['whole']):.2f} s, reused {statistics.median(seconds['reused']):.2f} s, "
        f"median ratio {ratio:.2f}; scores differ by at most {apart:.1e}"
    )


def processor() -> str:
    """Return the processor's name and the number of cores at hand."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{next(names, platform.processor())}, {len(os.sched_getaffinity(0))} cores"


def main() -> None:
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--counts", nargs="+", type=int, default=[1, 16, 64, 256], help="adapters in a batch")
    parser.add_argument("--sides", nargs="+", default=["lorank", "peft"], choices=["lorank", "peft"])
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--rows", type=int, default=256, help="pairs in a batch, a multiple of the counts")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--spread", type=float, default=0.0, help="how much lengths vary, as a share of --tokens")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--registered", type=int, default=1000, help="adapters of --memory")
    parser.add_argument("--budget", type=float, default=0.25, help="of --memory, as a share of the base's weights")
    for name, text in (
        ("memory", "memory of many registered adapters"),
        ("cold", "first use of a cold adapter"),
        ("prefix", "a causal list with and without prefix reuse"),
        ("products", "ways to add the updates, over adapters a forward"),
    ):
        parser.add_argument(f"--{name}", action="store_true", help=f"measure only: {text}")
    parser.add_argument("--beside", action="store_true", help="measure only: a quiet tenant beside its neighbours")
    parser.add_argument("--neighbours", nargs="+", default="abcde", choices="abcde", help="which of --beside")
    parser.add_argument("--beside-seconds", type=float, default=30.0, help="of each neighbour")
    given = parser.parse_args()
    if given.beside:
        from serving_neighbours import report

        raise SystemExit(report(given.beside_seconds, given.beside_seconds / 2, given.neighbours))
    if given.memory and not os.environ.get("LORANK_MEASURES_MEMORY"):
        environment = {**os.environ, "LORANK_MEASURES_MEMORY": "1"}
        raise SystemExit(subprocess.run([sys.executable, *sys.argv], check=False, env=environment).returncode)
    chosen = [
        task
        for name, task in (("memory", memory), ("cold", cold), ("products", products), ("prefix", prefix))
        if getattr(given, name)
    ]
    for task in chosen or [throughput]:
        task(given)


if __name__ == "__main__":
    main()
