"""Jina's API has no client of its own; with requests."""

import os
import sys

import requests

ADDRESS = os.environ.get("LORANK_ADDRESS", "http://127.0.0.1:8080")
MODEL = os.environ.get("LORANK_MODEL", "minilm")
KEY = os.environ.get("LORANK_API_KEY", "none")
QUERY = "sort a list"
DOCUMENTS = ["the moon orbits the earth", "a list is sorted in place", "lists and how to sort them"]

answer = requests.post(
    f"{ADDRESS}/v1/rerank",
    timeout=60,
    headers={"Authorization": f"Bearer {KEY}"},
    json={"model": MODEL, "query": QUERY, "documents": DOCUMENTS, "top_n": 2},
)
if not answer.ok:
    sys.exit(answer.json()["message"])
for row in answer.json()["results"]:
    print(row["index"], row["relevance_score"], row["document"]["text"])
