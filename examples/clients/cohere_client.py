"""Cohere's Python client (pip install cohere)"""

import os

import cohere

ADDRESS = os.environ.get("LORANK_ADDRESS", "http://127.0.0.1:8080")
MODEL = os.environ.get("LORANK_MODEL", "minilm")
KEY = os.environ.get("LORANK_API_KEY", "none")
QUERY = "sort a list"
DOCUMENTS = ["the moon orbits the earth", "a list is sorted in place", "lists and how to sort them"]

client = cohere.ClientV2(api_key=KEY, base_url=ADDRESS)
answer = client.rerank(model=MODEL, query=QUERY, documents=DOCUMENTS, top_n=2)
for row in answer.results:
    print(row.index, row.relevance_score, DOCUMENTS[row.index])
