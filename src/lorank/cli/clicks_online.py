"""`lorank clicks gossip`, `online` and `screen`: what is learned while clicks come in."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorank.cli.bad_rows import SkipBad, skipping
from lorank.cli.clicks import Log, clicks
from lorank.cli.progress import console, stage
from lorank.errors import DataError, UsageError

if TYPE_CHECKING:
    from lorank.ranking.clicks.online import Peer

__all__ = ["clicks", "gossip", "online", "screen"]


@clicks.command()
def gossip(
    logs: Annotated[list[Path], typer.Argument(help="One log for each peer.")],
    out: Annotated[Path, typer.Option(help="The run that every peer ends with.")],
    skip_bad: SkipBad = False,
    seed: Annotated[int, typer.Option(help="Seed of who meets whom.")] = 0,
) -> None:
    """Let peers with a log each gossip until all rank alike, and write the ranking as a run.

    Example: `lorank clicks gossip a.jsonl b.jsonl c.jsonl --out clicks.run`
    """
    from lorank.data import write_run
    from lorank.data.click_logs import read_log
    from lorank.ranking.clicks.online import Peer

    peers = []
    with skipping(skip_bad, out) as on_bad:
        for number, path in enumerate(logs):
            with stage(f"read {path}"):
                peer = Peer(f"{number}:{path.name}")
                for each in read_log(path, on_bad=on_bad):
                    peer.observe(each.query_id, each.doc_ids, each.clicks)
                peers.append(peer)
    meetings = spread(peers, seed)
    write_run(peers[0].scores(), out, "g-rank")
    console.print(f"{len(peers)} peers rank alike after {meetings} meetings", soft_wrap=True)
    print(out)


def spread(peers: "list[Peer]", seed: int) -> int:
    """Let random pairs of peers merge until all know all; return how many met."""
    import numpy as np

    rng, meetings = np.random.default_rng(seed), 0
    while any(len(peer.known) < len(peers) for peer in peers):
        one, other = rng.choice(len(peers), 2, replace=False)
        peers[one].merge(peers[other])
        peers[other].merge(peers[one])
        meetings += 1
    return meetings


@clicks.command()
def online(
    log: Log,
    delay: Annotated[int, typer.Option(min=0, help="After how many further lists the clicks of a list arrive.")] = 0,
    radius: Annotated[float, typer.Option(help="The size of steps.")] = 1.0,
    optimistic: Annotated[bool, typer.Option("--optimistic", help="Guess what has not arrived.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the weights to this JSON file.")] = None,
    skip_bad: SkipBad = False,
) -> None:
    """Replay a log of features once: a linear ranker learns from clicks that arrive late, judged before it learns.

    Example: `lorank clicks online --log log.jsonl --delay 20 --optimistic`
    """
    from collections import deque

    import numpy as np

    from lorank.data.bad_rows import collected
    from lorank.data.click_logs import read_log
    from lorank.files import write_json
    from lorank.ranking.clicks.online import DelayedDualAveraging

    learner, late = None, deque()  # type: ignore[var-annotated]
    right, pairs = 0.0, 0
    with skipping(skip_bad, out) as asked, collected(asked) as on_bad:
        for each in read_log(log, on_bad=on_bad):
            if each.features is None:
                on_bad(
                    DataError(log, each.line or None, "the list has no features", "give a log with features"),
                    each.session,
                )
                continue
            rows, clicked = np.array(each.features), np.array(each.clicks, bool)
            learner = learner or DelayedDualAveraging(rows.shape[1], radius=radius, optimistic=optimistic)
            number, weights = learner.play()
            gaps = (rows[clicked][:, None] - rows[~clicked][None, :]).reshape(-1, rows.shape[1])
            scores = gaps @ weights
            right, pairs = right + float((scores > 0).sum() + 0.5 * (scores == 0).sum()), pairs + len(gaps)
            slope = -(gaps / (1 + np.exp(np.clip(scores, -30, 30)))[:, None]).sum(0) / max(len(gaps), 1)
            late.append((number, slope))
            if len(late) > delay:
                learner.receive(*late.popleft())
    if learner is None:
        raise UsageError(f"{log} holds no impression")
    if out is not None:
        write_json(out, {"weights": learner.play()[1].tolist()})
    share = right / max(pairs, 1)
    print(f"{share:.4f} of {pairs:,} pairs in the order of the clicks, each judged before it was learned from")


@clicks.command()
def screen(
    log: Log,
    dwell: Annotated[
        float, typer.Option(help="Seconds of reading that count as a reward of 1, where there are no gains.")
    ] = 30.0,
    skip_bad: SkipBad = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List documents that are clicked more than what comes after the click justifies, by a log with dwell or gains.

    Example: `lorank clicks screen --log log.jsonl`
    """
    from lorank.data.bad_rows import collected
    from lorank.data.click_logs import read_log
    from lorank.ranking.clicks.online import ClickbaitScreen

    rows = []
    with skipping(skip_bad) as asked, collected(asked) as on_bad:
        for each in read_log(log, on_bad=on_bad):
            after = each.gains if each.gains is not None else each.dwell
            if after is None:
                lacking = "the list has neither dwell nor gains"
                on_bad(DataError(log, each.line or None, lacking, "log what follows a click"), each.session)
                continue
            scale = 1.0 if each.gains is not None else dwell
            rows += [(d, bool(c), min(1.0, max(0.0, a / scale))) for d, c, a in zip(each.doc_ids, each.clicks, after)]
    if not rows:
        raise UsageError(f"{log} holds no impression")
    number: dict[str, int] = {}
    for document, _, _ in rows:
        number.setdefault(document, len(number))
    found = ClickbaitScreen(len(number), rounds=max(2, len(rows)))
    for document, clicked, reward in rows:
        found.update(number[document], clicked, reward)
    out = [document for document, at in number.items() if found.eliminated()[at]]
    if as_json:
        print(json.dumps({"documents": len(number), "screened_out": out}, indent=1))
        return
    console.print(f"{len(out)} of {len(number)} documents are clicked more than is justified", soft_wrap=True)
    for document in out:
        print(document)
