"""The families of a review of low-rank adaptation, and which registered methods stand for each.

Low-Rank Adaptation for Foundation Models: A Comprehensive Review, 2025, arXiv:2501.00365. Its families are in three
parts: foundations (what an update is made of and how it is trained), frontiers (several updates, and what they are
for beside training), and applications, of which this house has one: ranking.

*Deviations*: [~] the review's families under our own words, and which method stands for which is our reading.
"""

from dataclasses import dataclass

from lorank.catalogue import catalogued


@dataclass(frozen=True)
class Family:
    """A family of the review: its ``part``, what it ``is`` about, and the ids of the registered ``methods``."""

    name: str
    part: str
    about: str
    methods: tuple[str, ...]


FAMILIES = (
    Family(
        "parameter decomposition",
        "foundations",
        "the update, or W with it, split into parts that train better",
        ("dora", "bora", "edora", "lora-xs", "svfit", "salt", "loldu", "nora-nested", "lora-mini"),
    ),
    Family(
        "parameter pruning",
        "foundations",
        "values or layers that the update does without",
        ("lors", "losia", "lift-principal-weights", "loram", "diffora", "selective-lora-indicator"),
    ),
    Family(
        "freezing and sharing",
        "foundations",
        "factors that are not trained, or the same in all layers",
        ("lora-fa", "lora-asymmetry", "lamda", "pmss", "miss", "vera", "nola", "tied-lora", "mos-shards", "singlora"),
    ),
    Family("quantisation", "foundations", "low-rank updates on a base of few bits", ("qdylora",)),
    Family(
        "rank refinement",
        "foundations",
        "each layer its own number of ranks, before training or during it",
        (
            "adalora",
            "sora",
            "dylora",
            "elalora",
            "increlora",
            "alora-allocate",
            "autolora-meta",
            "triadaptlora",
            "dora-dynamic",
            "lora-squared",
            "rankadaptor",
            "sensitivity-lora",
            "plop",
            "gora",
            "lora-squeeze",
        ),
    ),
    Family(
        "rank augmentation",
        "foundations",
        "a higher rank from as many trained values",
        ("chain-of-lora", "mora-square", "gralora", "randlora", "c3a", "bone"),
    ),
    Family(
        "training process",
        "foundations",
        "the scale, the learning rates, and the steps of the factors",
        (
            "rslora",
            "rora-scaling",
            "lora-plus",
            "lora-pro",
            "loft",
            "altlora",
            "allora",
            "bilora",
            "coto",
            "fast-forward",
            "polyak-momentum",
        ),
    ),
    Family(
        "initialisation",
        "foundations",
        "where the factors start",
        ("pissa", "olora", "eva", "lora-ga", "lora-sb", "lora-init-dynamics"),
    ),
    Family(
        "theory",
        "foundations",
        "what low-rank updates can express",
        ("lora-expressive-power", "lora-asymmetry", "lora-init-dynamics"),
    ),
    Family(
        "composition of updates",
        "frontiers",
        "several trained updates made into one",
        ("adarank-merge", "psec", "eigenlorax", "sg-lora", "pe-clir-reranking", "trans-lora"),
    ),
    Family(
        "generalised updates",
        "frontiers",
        "updates that are multiplied onto W or stand behind it",
        ("lorma", "bone", "hydra", "flora-batched"),
    ),
    Family(
        "mixture of experts",
        "frontiers",
        "several updates on one weight, chosen or mixed by the input or the task",
        ("mixture-of-routers", "base-layers", "flylora", "mhr", "palora"),
    ),
    Family(
        "several tasks",
        "frontiers",
        "updates that share a base and keep out of each other's way",
        ("taps", "palora", "mhr", "flylora"),
    ),
    Family("unlearning", "frontiers", "updates that make a model forget", ("loku",)),
    Family(
        "serving", "frontiers", "many updates of one base in one batch", ("s-lora", "flora-batched", "alora-activated")
    ),
    Family(
        "retrieval and ranking", "applications", "updates of rankers", ("scattered-connected-iaa", "pe-clir-reranking")
    ),
)

ABSENT = {
    "long sequences": "attention over longer texts than the base was trained on",
    "continual learning": "one update after another without forgetting",
    "federated learning": "updates that are averaged over clients that keep their data",
}
"""Families of the review that no registered method stands for."""


@catalogued(
    "lora-review",
    area="adapters.form",
    title="Low-Rank Adaptation for Foundation Models: A Comprehensive Review",
    reach="`lorank adapter list --markdown`, and Python: an overview of methods has no place in a recipe",
)
def families(method: str | None = None) -> list[Family]:
    """Return the families that lorank has methods of; those of one ``method`` where it is given.

    >>> [family.name for family in families("mhr")]
    ['mixture of experts', 'several tasks']
    """
    return [family for family in FAMILIES if method is None or method in family.methods]
