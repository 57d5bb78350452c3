"""A small chat endpoint on loopback: what a function replies to the last message."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread


@contextmanager
def serve_chat(reply: Callable[[str], str]) -> Iterator[str]:
    """Serve ``reply`` of the first message's text; yields the name by which a judge is opened."""

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            text = {"choices": [{"message": {"content": reply(body["messages"][0]["content"])}}]}
            sent = json.dumps(text).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *said: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Answers)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"openai:http://127.0.0.1:{server.server_port}/v1#planted"
    finally:
        server.shutdown()
        server.server_close()
