"""A PyTerrier transformer (pip install python-terrier requests)

Stands behind any retriever that brings the texts: ``bm25 >> pt.text.get_text(index, "text") >> Reranker(...)``.
"""

import os

import pandas as pd
import pyterrier as pt
import requests

ADDRESS = os.environ.get("LORANK_ADDRESS", "http://127.0.0.1:8080")
MODEL = os.environ.get("LORANK_MODEL", "minilm")
KEY = os.environ.get("LORANK_API_KEY", "none")
QUERY = "sort a list"
DOCUMENTS = ["the moon orbits the earth", "a list is sorted in place", "lists and how to sort them"]


class Reranker(pt.Transformer):
    """Scores the documents of each query anew; columns qid, query, docno, text in, with score and rank out."""

    def __init__(self, address: str, model: str, key: str) -> None:
        self.address, self.model, self.key = address, model, key

    def transform(self, results: pd.DataFrame) -> pd.DataFrame:
        """Return the rows with the server's scores and the ranks that follow."""
        results = results.copy()
        scores = pd.Series(0.0, index=results.index)
        for _, rows in results.groupby("qid", sort=False):
            answer = requests.post(
                f"{self.address}/v1/rerank",
                timeout=60,
                headers={"Authorization": f"Bearer {self.key}"},
                json={
                    "model": self.model,
                    "query": rows["query"].iloc[0],
                    "documents": rows["text"].tolist(),
                    "return_documents": False,
                },
            )
            answer.raise_for_status()
            for row in answer.json()["results"]:
                scores.loc[rows.index[row["index"]]] = row["relevance_score"]
        results["score"] = scores
        return pt.model.add_ranks(results)


frame = pd.DataFrame({"qid": "1", "query": QUERY, "docno": [str(i) for i in range(3)], "text": DOCUMENTS})
ranked = Reranker(ADDRESS, MODEL, KEY).transform(frame).sort_values("rank").head(2)
for row in ranked.itertuples():
    print(row.docno, row.score, row.text)
