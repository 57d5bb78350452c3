"""LlamaIndex's Cohere postprocessor; see docs/serving.md.

(pip install llama-index-postprocessor-cohere-rerank)
"""

import os

from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.postprocessor.cohere_rerank import CohereRerank

ADDRESS = os.environ.get("LORANK_ADDRESS", "http://127.0.0.1:8080")
MODEL = os.environ.get("LORANK_MODEL", "minilm")
KEY = os.environ.get("LORANK_API_KEY", "none")
QUERY = "sort a list"
DOCUMENTS = ["the moon orbits the earth", "a list is sorted in place", "lists and how to sort them"]

reranker = CohereRerank(model=MODEL, api_key=KEY, base_url=ADDRESS, top_n=2)
nodes = [NodeWithScore(node=TextNode(text=text, id_=str(i))) for i, text in enumerate(DOCUMENTS)]
for found in reranker.postprocess_nodes(nodes, query_str=QUERY):
    print(found.node.node_id, found.score, found.node.text)
