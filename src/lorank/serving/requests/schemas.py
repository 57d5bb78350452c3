"""The three shapes of a rerank request, and the one that they all become.

Fields that the originals have and that change nothing here (`priority`, `rank_fields`, ...) are accepted and ignored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, FailFast, Field, Tag, TypeAdapter

from lorank.serving.requests.refusal import Refusal

TopN = Annotated[int, Field(ge=1, le=2**31 - 1, description="Return only the best so many.")]
Model = Annotated[str, Field(max_length=1000, description="The base, base:adapter, or adapter; see /v1/models.")]
Raw = Annotated[bool, Field(description="Scores as the model gives them, even where it has a calibration.")]


Threshold = Annotated[
    float | None,
    Field(
        allow_inf_nan=False,
        description="Return only results whose relevance_score is this or more; an empty list: nothing is relevant.",
    ),
]

Certified = Annotated[
    bool,
    Field(
        description="Return only results at the model's certified threshold or above it (`lorank calibrate "
        "--precision-at`); an empty list: nothing is relevant. Refused where the model has none."
    ),
]


class Text(BaseModel):
    """A document as an object."""

    text: str


Documents = Annotated[list[str | Text], FailFast()]
Texts = Annotated[list[str], FailFast()]


class _Request(BaseModel):
    model_config = ConfigDict(strict=True)

    query: str


class JinaRequest(_Request):
    """The shape of Jina, vLLM and llama.cpp."""

    model: Model | None = None
    documents: Documents
    top_n: TopN | None = None
    return_documents: bool | None = Field(None, description="Repeat the texts; default true, false when streamed.")
    raw_scores: Raw = False
    relevance_threshold: Threshold = None
    above_threshold: Certified = False
    stream: bool = Field(False, description="Answer in JSON lines, each slice as soon as it is scored.")

    def to_asked(self) -> "Asked":
        """Return what is asked, without the shape."""
        if self.stream and self.top_n is not None:
            raise Refusal(
                400,
                "top_n_streamed",
                'the best documents are known only at the end: leave out top_n, or send "stream": false',
            )
        shows = not self.stream if self.return_documents is None else self.return_documents
        return Asked(
            self.model,
            self.query,
            _texts(self.documents),
            self.top_n,
            shows,
            self.raw_scores,
            stream=self.stream,
            threshold=self.relevance_threshold,
            certified=self.above_threshold,
        )


class CohereRequest(_Request):
    """The shape of Cohere's version 2."""

    model: Model | None = None
    documents: Documents
    top_n: TopN | None = None
    max_tokens_per_doc: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Documents are cut where this model's own limit lies; a warning says so."
    )
    return_documents: bool = False
    raw_scores: Raw = False
    relevance_threshold: Threshold = None
    above_threshold: Certified = False

    def to_asked(self) -> "Asked":
        """Return what is asked, without the shape."""
        return Asked(
            self.model,
            self.query,
            _texts(self.documents),
            self.top_n,
            self.return_documents,
            self.raw_scores,
            threshold=self.relevance_threshold,
            certified=self.above_threshold,
        )


class TeiRequest(_Request):
    """The shape of text-embeddings-inference, recognised by `texts`; `model` is an addition."""

    model: Model | None = None
    texts: Texts
    raw_scores: Raw = False
    return_text: bool = False
    above_threshold: Certified = False
    truncate: bool | None = Field(None, description="False refuses lists with a text that is too long.")
    truncation_direction: Literal["left", "right", "Left", "Right"] = "right"

    def to_asked(self) -> "Asked":
        """Return what is asked, without the shape."""
        if self.truncation_direction.lower() == "left":
            raise Refusal(
                400,
                "truncation_direction",
                'long texts are cut at their end here; send "truncation_direction": "right", or cut them before',
            )
        return Asked(
            self.model,
            self.query,
            self.texts,
            None,
            self.return_text,
            self.raw_scores,
            whole_only=self.truncate is False,
            certified=self.above_threshold,
        )


def shape_of(body: Any) -> str:
    """Return which of the shapes of ``/rerank`` a body has."""
    has_texts = "texts" in body if isinstance(body, dict) else isinstance(body, TeiRequest)
    return "tei" if has_texts else "jina"


EitherRequest = Annotated[
    Annotated[JinaRequest, Tag("jina")] | Annotated[TeiRequest, Tag("tei")], Discriminator(shape_of)
]

JINA: TypeAdapter[JinaRequest] = TypeAdapter(JinaRequest)
COHERE: TypeAdapter[CohereRequest] = TypeAdapter(CohereRequest)
EITHER: TypeAdapter[JinaRequest | TeiRequest] = TypeAdapter(EitherRequest)


@dataclass(frozen=True)
class Asked:
    """A request, whatever its shape: see `JinaRequest` for the fields."""

    model: str | None
    query: str
    documents: Sequence[str]
    top_n: int | None
    shows: bool
    raw: bool
    whole_only: bool = False
    stream: bool = False
    threshold: float | None = None
    certified: bool = False


def _texts(documents: Sequence[str | Text]) -> list[str]:
    return [document if isinstance(document, str) else document.text for document in documents]
