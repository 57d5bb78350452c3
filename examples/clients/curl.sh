#!/bin/sh
# The three shapes with curl; reads LORANK_ADDRESS, LORANK_MODEL, LORANK_API_KEY.
set -eu
address=${LORANK_ADDRESS:-http://127.0.0.1:8080}
model=${LORANK_MODEL:-}

ask() {
    curl --silent --show-error --fail-with-body "$address$1" \
        --header "Content-Type: application/json" --header "Authorization: Bearer ${LORANK_API_KEY:-none}" --data "$2"
    echo
}

echo "Jina, vLLM:"
ask /v1/rerank '{"model": "'"$model"'", "query": "sort a list", "top_n": 2, "documents":
    ["the moon orbits the earth", "a list is sorted in place", "lists and how to sort them"]}'
echo "Cohere:"
ask /v2/rerank '{"model": "'"$model"'", "query": "sort a list", "top_n": 2, "documents":
    ["the moon orbits the earth", "a list is sorted in place", "lists and how to sort them"]}'
echo "text-embeddings-inference:"
ask /rerank '{"model": "'"$model"'", "query": "sort a list", "texts":
    ["the moon orbits the earth", "a list is sorted in place", "lists and how to sort them"]}'
echo "JSON lines, as soon as they are scored:"
ask /v1/rerank '{"model": "'"$model"'", "query": "sort a list", "stream": true, "documents":
    ["the moon orbits the earth", "a list is sorted in place", "lists and how to sort them"]}'
