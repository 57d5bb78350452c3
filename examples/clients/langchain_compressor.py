"""A LangChain document compressor of a dozen lines; see docs/serving.md.

LangChain's own JinaRerank always calls Jina's address; this one calls yours (pip install langchain-core requests).
"""

import os
from collections.abc import Sequence

import requests
from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document

ADDRESS = os.environ.get("LORANK_ADDRESS", "http://127.0.0.1:8080")
MODEL = os.environ.get("LORANK_MODEL", "minilm")
KEY = os.environ.get("LORANK_API_KEY", "none")
QUERY = "sort a list"
DOCUMENTS = ["the moon orbits the earth", "a list is sorted in place", "lists and how to sort them"]


class Reranker(BaseDocumentCompressor):
    """Keeps the best ``top_n`` documents, best first, with their score in the metadata."""

    address: str
    model: str
    key: str
    top_n: int = 5

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks = None
    ) -> list[Document]:
        answer = requests.post(
            f"{self.address}/v1/rerank",
            timeout=60,
            headers={"Authorization": f"Bearer {self.key}"},
            json={
                "model": self.model,
                "query": query,
                "top_n": self.top_n,
                "documents": [document.page_content for document in documents],
            },
        )
        answer.raise_for_status()
        return [
            Document(
                documents[row["index"]].page_content,
                metadata={**documents[row["index"]].metadata, "relevance_score": row["relevance_score"]},
            )
            for row in answer.json()["results"]
        ]


compressor = Reranker(address=ADDRESS, model=MODEL, key=KEY, top_n=2)
kept = compressor.compress_documents([Document(text, metadata={"index": i}) for i, text in enumerate(DOCUMENTS)], QUERY)
for document in kept:
    print(document.metadata["index"], document.metadata["relevance_score"], document.page_content)
