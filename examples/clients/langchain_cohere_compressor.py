"""LangChain's Cohere compressor (pip install langchain-cohere)"""

import os

from langchain_cohere import CohereRerank
from langchain_core.documents import Document

ADDRESS = os.environ.get("LORANK_ADDRESS", "http://127.0.0.1:8080")
MODEL = os.environ.get("LORANK_MODEL", "minilm")
KEY = os.environ.get("LORANK_API_KEY", "none")
QUERY = "sort a list"
DOCUMENTS = ["the moon orbits the earth", "a list is sorted in place", "lists and how to sort them"]

compressor = CohereRerank(model=MODEL, cohere_api_key=KEY, base_url=ADDRESS, top_n=2)
kept = compressor.compress_documents([Document(text, metadata={"index": i}) for i, text in enumerate(DOCUMENTS)], QUERY)
for document in kept:
    print(document.metadata["index"], document.metadata["relevance_score"], document.page_content)
