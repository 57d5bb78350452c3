"""`lorank adapter list`: every adapter, and on which axes it differs from plain LoRA."""

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from lorank.cli.width import cut_to_width
from lorank.errors import UsageError

if TYPE_CHECKING:
    from lorank.lowrank import Variant

PAGE = """# Adapters

Every name below is an `--adapter` of `lorank train`, a name in a recipe's `[adapter]` and for `lorank.lowrank.attach`.
This page is what `lorank adapter list --markdown` prints from the registries: a method that is registered is on it.

## By what differs from plain LoRA
A method stands on every axis on which it differs: *rank*: another form of the update, a budget of ranks, or a start
that shares ranks out; *optimization*: another scale or another rule of stepping; *initialization*: another start;
*experts*: several updates on one weight. Rank of dW and trained values are multiples of LoRA's on a layer of 48 x 64 at
rank 4, as the update is built; a budget moves both. *Adds up*: dW is a product of thin factors, so it converts to a
plain LoRA exactly. *PEFT*: PEFT loads the saved folder. *Tables*: it also stands on embeddings and convolutions, which
are adapted where `targets` names them (see below). *Rate*: the learning rate of `lorank train` where none is set, found
in `benchmarks/rates.md`. How they compare, each at its own learning rate, is measured in `benchmarks/arena.md`, what a
step costs in `benchmarks/forms.md`.

{variants}

## By the families of a review
Those of *Low-Rank Adaptation for Foundation Models: A Comprehensive Review* (arXiv:2501.00365), in our own words, with
the methods here that belong to them.

{families}

Of its families these have no method here: {absent}.

## On embeddings and convolutions
`targets = "all-linear"` adapts linear layers. A table or a kernel is adapted where `targets` names it, as in
`lorank train ... --set 'adapter.targets=["word_embeddings", "query", "value"]'`. Its weight is seen as a matrix, as in
PEFT: a table transposed, [dim, tokens], a kernel as [out, in / groups * kernel], and every method marked in the column
*tables* changes it as it changes a linear layer's. A LoRA looks its rows up; a form without thin factors writes dW once
per call; a convolution runs once with W + dW in float32 and twice in half precision. Dropout leaves whole tokens out of
the update. Where a table is tied to the head, the update is on the look-ups alone, and merging gives the table a weight
of its own.

Refused by name: methods that route tokens, bases in few bits, starts that read a layer's inputs (eva), tables with
`max_norm` or `scale_grad_by_freq`, weights that are computed (`weight_norm`), and in `lorank serve` adapters of such
layers, which are merged first. PEFT has no dilated kernel, no padding but zeros, and no DoRA in groups: these are saved
for lorank and exported `merged`.
"""

HEADS = (
    "adapter",
    "differs in",
    "form",
    "start",
    "rule",
    "budget",
    "rank of dW",
    "trained",
    "adds up",
    "PEFT",
    "tables",
    "rate",
)


def adapters(
    axis: Annotated[
        str | None, typer.Option(help="Only those on this axis: rank, optimization, initialization or experts.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the page docs/adapters.md.")] = False,
) -> None:
    """List every adapter: on which axes it differs from plain LoRA, its rank and its trained values beside LoRA's.

    Example: `lorank adapter list --axis initialization`
    """
    from lorank import index
    from lorank.errors import unknown_name

    axes = index.words("lowrank/taxonomy.py", "AXES")
    if axis is not None and axis not in axes:
        raise unknown_name("axis", axis, axes)
    from lorank.lowrank import taxonomy

    if markdown:
        if axis is not None or as_json:
            raise UsageError("--markdown prints the whole page; leave --axis and --json out")
        print(page(), end="")
        return
    found = taxonomy(axis)
    if as_json:
        print(json.dumps([variant.as_dict() for variant in found], indent=1))
        return
    rows = [HEADS, *(cells(variant) for variant in found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print(cut_to_width("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()))


def cells(variant: "Variant") -> tuple[str, ...]:
    """Return a method's row under ``HEADS``; what is LoRA's own is left empty."""
    own = {"start": "zero", "rule": "adamw", "budget": "none"}
    point = (getattr(variant, part) for part in own)
    return (
        variant.name,
        ", ".join(variant.axes),
        variant.form,
        *("" if value == plain else value for value, plain in zip(point, own.values(), strict=True)),
        f"{variant.rank:g}",
        f"{variant.values:g}",
        "yes" if variant.additive else "",
        "yes" if variant.peft else "",
        "yes" if variant.tables else "",
        f"{variant.lr:g}",
    )


def page() -> str:
    """Return the text of docs/adapters.md."""
    from lorank.lowrank import families, taxonomy
    from lorank.lowrank.families import ABSENT

    rows = [cells(variant) for variant in taxonomy()]
    methods = [(family.name, family.part, family.about, ", ".join(map(_link, family.methods))) for family in families()]
    return PAGE.format(
        variants=_table(HEADS, [(_link(name), *rest) for name, *rest in rows]),
        families=_table(("family", "part", "about", "methods"), methods),
        absent="; ".join(f"*{name}*, {about}" for name, about in ABSENT.items()),
    )


def _link(name: str) -> str:
    """Return the name, linked to the file of the method where the catalogue knows one."""
    from lorank import index

    known = {method.id: method.location for method in index.methods()}
    if name not in known:
        return name
    module = known[name].partition(":")[0]
    return f"[{name}](../src/{module.replace('.', '/')}.py)"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
