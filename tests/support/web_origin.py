"""A real web server on loopback, with files, redirects, faults and git repositories."""

from __future__ import annotations

import contextlib
import http.server
import os
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class WebOrigin:
    """`answers` has a function for each path; `seen` the headers of each request so far."""

    port: int = 0
    answers: dict[str, Callable[[http.server.BaseHTTPRequestHandler], None]] = field(
        default_factory=dict
    )
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    repositories: Path | None = None
    is_stopped: threading.Event = field(default_factory=threading.Event)
    scheme: str = "http"

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    @property
    def paths(self) -> list[str]:
        """What has been asked for."""
        return [path for path, _ in self.seen]

    def put(self, path: str, data: bytes, *, headers: Mapping[str, str] | None = None) -> str:
        """Serve bytes; the URL."""

        def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(data)

        self.answers[path] = answer
        return self.url(path)

    def put_status(self, path: str, status: int) -> str:
        def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        self.answers[path] = answer
        return self.url(path)

    def put_redirect(self, path: str, location: str, status: int = 302) -> str:
        def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            handler.send_header("Location", location)
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        self.answers[path] = answer
        return self.url(path)

    def put_slow(self, path: str) -> str:
        """A byte now and then, for ever."""

        def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.end_headers()
            with contextlib.suppress(OSError):
                while not self.is_stopped.wait(0.05):
                    handler.wfile.write(b".")

        self.answers[path] = answer
        return self.url(path)

    def put_silent(self, path: str) -> str:
        """Never an answer."""

        def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
            self.is_stopped.wait()

        self.answers[path] = answer
        return self.url(path)

    def put_endless(self, path: str) -> str:
        """Bytes without a length and without an end."""

        def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.end_headers()
            with contextlib.suppress(OSError):
                while not self.is_stopped.is_set():
                    handler.wfile.write(bytes(65536))

        self.answers[path] = answer
        return self.url(path)

    def put_repository(self, name: str) -> GitRepository:
        """Make an empty repository and serve it below /git/."""
        assert self.repositories is not None
        repository = GitRepository(self.repositories / name, self.url(f"/git/{name}"))
        repository.git("init", "--quiet", "-b", "main", ".")
        return repository


@dataclass(frozen=True)
class GitRepository:
    """A repository with a work tree, and where it is served."""

    path: Path
    url: str

    def git(self, *arguments: str) -> str:
        self.path.mkdir(parents=True, exist_ok=True)
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(self.path), "GIT_CONFIG_NOSYSTEM": "1",
            **{f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER")
               for what, value in (("NAME", "a"), ("EMAIL", "a@example.org"))},
        }  # fmt: skip
        return subprocess.run(
            ["git", *arguments], cwd=self.path, env=environment, check=True, text=True,
            stdout=subprocess.PIPE,
        ).stdout.strip()  # fmt: skip

    def commit(self, files: Mapping[str, bytes]) -> str:
        """Commit files; the commit."""
        for name, data in files.items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        self.git("add", "--all")
        self.git("commit", "--quiet", "-m", "a change")
        return self.git("rev-parse", "HEAD")


@contextlib.contextmanager
def web_origin(
    repositories: Path | None = None, *, certificate: Path | None = None
) -> Iterator[WebOrigin]:
    """Serve on a free port of loopback until the block ends; https with a certificate and key."""
    origin = WebOrigin(repositories=repositories, scheme="https" if certificate else "http")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def log_message(self, format: str, *arguments: object) -> None:
            return

        def _answer(self) -> None:
            origin.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
            answer = origin.answers.get(self.path)
            with contextlib.suppress(ConnectionError):
                if answer is not None:
                    answer(self)
                elif self.path.startswith("/git/") and origin.repositories is not None:
                    _git_backend(self, origin.repositories)
                else:
                    self.send_error(404)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    origin.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield origin
    finally:
        origin.is_stopped.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _git_backend(handler: http.server.BaseHTTPRequestHandler, repositories: Path) -> None:
    path, _, query = handler.path.partition("?")
    _, _, name, rest = path.split("/", 3)
    body = handler.rfile.read(int(handler.headers.get("Content-Length", "0")))
    environment = {
        "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(repositories),
        "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": f"/{name}/.git/{rest}", "QUERY_STRING": query,
        "REQUEST_METHOD": handler.command, "CONTENT_TYPE": handler.headers.get("Content-Type", ""),
        "HTTP_CONTENT_ENCODING": handler.headers.get("Content-Encoding", ""),
        "GIT_PROTOCOL": handler.headers.get("Git-Protocol", ""), "REMOTE_ADDR": "127.0.0.1",
        "GIT_CONFIG_NOSYSTEM": "1", "HOME": str(repositories),
    }  # fmt: skip
    output = subprocess.run(
        ["git", "http-backend"], env=environment, input=body, stdout=subprocess.PIPE, check=False,
        stderr=subprocess.DEVNULL,
    ).stdout  # fmt: skip
    head, _, content = output.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
    handler.send_response(int(headers.pop("Status", "200").split()[0]))
    for key, value in {**headers, "Content-Length": str(len(content))}.items():
        handler.send_header(key, value)
    handler.end_headers()
    handler.wfile.write(content)
