"""A local server of a made-up release of Llama 2: signed links, byte ranges, and the troubles of real ones."""

import hashlib
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SHARDS = {"7b": 1, "7b-chat": 1, "13b": 2, "13b-chat": 2, "70b": 8, "70b-chat": 8}
SIGNATURE = "Policy=e30&Signature=a~b-c_&Key-Pair-Id=K1"
SHARD_BYTES = 300_000


def made_up_release() -> dict[str, bytes]:
    """Every file of the release by its path."""
    files = {"LICENSE": b"a license", "USE_POLICY.md": b"a policy", "tokenizer.model": b"pieces"}
    files["tokenizer_checklist.chk"] = _checklist(files, ["tokenizer.model"])
    for size, count in SHARDS.items():
        folder = f"llama-2-{size}"
        names = [f"{folder}/consolidated.{number:02d}.pth" for number in range(count)]
        files |= {name: _content(name) for name in names}
        files[f"{folder}/params.json"] = f'{{"of": "{size}"}}'.encode()
        files[f"{folder}/checklist.chk"] = _checklist(files, [*names, f"{folder}/params.json"])
    return files


def _content(name: str) -> bytes:
    block = hashlib.sha256(name.encode()).digest()
    return (block * (SHARD_BYTES // len(block) + 1))[:SHARD_BYTES]


def _checklist(files: dict[str, bytes], names: list[str]) -> bytes:
    lines = [f"{hashlib.md5(files[name]).hexdigest()}  {name.split('/')[-1]}\n" for name in names]
    return "".join(lines).encode()


class ReleaseServer(ThreadingHTTPServer):
    """files: what it serves. cuts: per path, how many replies end after half of what was asked for.

    requests: the (path, first byte, bytes sent) of every reply; the first byte is 0 where no range was asked for.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.cuts, self.requests = made_up_release(), Counter(), []

    @property
    def link(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/*?{SIGNATURE}"

    def sent(self, path: str) -> list[tuple[int, int]]:
        """First byte and number of bytes of the replies for one path."""
        return [(first, count) for name, first, count in self.requests if name == path]

    def __enter__(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        path, _, query = self.path[1:].partition("?")
        if query != SIGNATURE or path not in self.server.files:
            self.send_error(403)
            return
        content, asked = self.server.files[path], self.headers["Range"]
        first = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        if asked and first >= len(content):
            self.server.requests.append((path, first, 0))
            self.send_error(416)
            return
        self._reply(path, content, first, partial=bool(asked))

    def _reply(self, path: str, content: bytes, first: int, partial: bool):
        self.send_response(206 if partial else 200)
        if partial:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        body = content[first:]
        if self.server.cuts[path]:
            self.server.cuts[path] -= 1
            body = body[: len(body) // 2]
        self.server.requests.append((path, first, len(body)))
        self.wfile.write(body)

    def log_message(self, *_):
        """The test's output is no access log."""
