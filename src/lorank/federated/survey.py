"""The strategies that the survey of federated low-rank adaptation lists, and what each one is here.

Yang et al., Federated Low-Rank Adaptation for Foundation Models: A Survey, 2025, arXiv:2505.13502.
"""

from dataclasses import dataclass

from lorank.catalogue import catalogued

NOT_YET = "not yet"


@dataclass(frozen=True)
class Strategy:
    """A published strategy: its name, the survey's section, ``method`` of `lorank federate`, and how it is meant.

    ``method`` is empty where lorank has nothing of the kind.
    """

    name: str
    section: str
    method: str = ""
    how: str = ""


AGGREGATION, INITIALISATION = "distributed: server aggregation", "distributed: initialisation"
RANKS, PERSONAL, CLUSTERS = "heterogeneity: ranks", "heterogeneity: personal", "heterogeneity: clusters"
SPARSE, SPLIT, COMPRESSED = "efficiency: sparse", "efficiency: split", "efficiency: compression"

STRATEGIES = (
    Strategy("FedIT", AGGREGATION, "mean", "each factor is averaged on its own"),
    Strategy("FFA-LoRA", AGGREGATION, "mean", "with `--adapter lora-fa`: A is frozen, so the mean of B is exact"),
    Strategy("CoLR", AGGREGATION, "mean", "with `--adapter lora-fa`: one factor is fixed and the other is sent"),
    Strategy("RoLoRA", AGGREGATION, "", "alternates which factor is trained and averaged"),
    Strategy("LoRA-A2", AGGREGATION, "", "alternates factors and chooses ranks"),
    Strategy("FlexLoRA", AGGREGATION, "", "cuts the mean of the products off by SVD for each client"),
    Strategy("FedPipe", AGGREGATION, "", "chooses weights, ranks and precisions per client"),
    Strategy("FLoRA", AGGREGATION, "fedex-lora", "the same exact mean; FLoRA stacks all factors"),
    Strategy("FedEx-LoRA", AGGREGATION, "fedex-lora", "the mean of factors, and the residual in factors"),
    Strategy("LoRA-FAIR", AGGREGATION, "", "corrects the mean of B by a regularised fit"),
    Strategy("FedInc", AGGREGATION, "mean", "with `--rounds 1`"),
    Strategy("SLoRA", INITIALISATION, "", "starts from a sparse federated update by SVD"),
    Strategy("FeDeRA", INITIALISATION, "mean", "with `--start svd`: factors start at the weight's principal part"),
    Strategy("FedLoRU", INITIALISATION, "fedex-lora", "low-rank updates accumulate in the frozen weights"),
    Strategy("Fed-SB", INITIALISATION, "fed-sb", "later than the survey: R alone, from one start"),
    Strategy("HetLoRA", RANKS, "", "pads factors of unlike ranks with zeros"),
    Strategy("RBLA", RANKS, "", "averages each rank over the clients that have it"),
    Strategy("replication of ranks", RANKS, "", "fills missing ranks from clients that have them"),
    Strategy("LEGEND", RANKS, "legend-fedft", "depth and rising ranks by device, layers averaged over their owners"),
    Strategy("FedDPA", PERSONAL, "", "a global and a local adapter, mixed per instance"),
    Strategy("FDLoRA", PERSONAL, "", "two adapters per client, fused by search"),
    Strategy("FedSA-LoRA", PERSONAL, "fedsa-lora", "A is shared, B and the head stay"),
    Strategy("PerFIT", PERSONAL, "", "searches an architecture per client"),
    Strategy("FedAMoLE", PERSONAL, "", "mixtures of experts, assigned by data"),
    Strategy("FedMoE", PERSONAL, "", "mixtures of experts per client"),
    Strategy("HyperFLoRA", PERSONAL, "", "a network writes each client's adapter"),
    Strategy("FL-TAC", CLUSTERS, "", "clusters the adapters of tasks"),
    Strategy("FedLFC", CLUSTERS, "", "clusters clients by language family"),
    Strategy("FedHLT", CLUSTERS, "", "a tree of languages"),
    Strategy("FLASC", SPARSE, "", "sends the largest entries alone"),
    Strategy("adaptive importance-aware LoRA", SPARSE, "", "ranks by importance per client"),
    Strategy("FibecFed", SPARSE, "", "a curriculum and layers by Fisher information"),
    Strategy("Fed-piLot", SPARSE, "legend-fedft", "layers by memory; here by depth, and not by information gain"),
    Strategy("FedFMSL", SPARSE, "", "sparsely activated experts"),
    Strategy("FedRA", SPARSE, "legend-fedft", "layers by device, averaged over owners; here by depth, not at random"),
    Strategy("split fine-tuning over wireless networks", SPLIT, "", "the model is cut between client and server"),
    Strategy("FedsLLM", SPLIT, "", "the model is cut between client and servers"),
    Strategy("SplitLoRA", SPLIT, "", "the model is cut between client and server"),
    Strategy("CG-FedLLM", COMPRESSED, "", "an autoencoder of gradients"),
    Strategy("FedBiOT", COMPRESSED, "", "clients train on a compressed model"),
)
"""Every strategy of the survey's lists, in its order, and three of later date or beside it."""


@catalogued(
    "fedlora-survey",
    area="federated",
    title="Federated Low-Rank Adaptation for Foundation Models: A Survey",
    reach="lorank federate strategies; a table of what is there trains nothing, so it has no recipe",
)
def survey_table() -> str:
    """Return the strategies as a Markdown table.

    >>> survey_table().splitlines()[2]
    '| distributed: server aggregation | FedIT | `mean` | each factor is averaged on its own |'
    """
    lines = ["| section | strategy | --method | how |", "|---|---|---|---|"]
    for each in STRATEGIES:
        method = f"`{each.method}`" if each.method else NOT_YET
        lines.append(f"| {each.section} | {each.name} | {method} | {each.how} |")
    return "\n".join(lines)
