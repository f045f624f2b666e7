"""A stand-in for the hub on the loopback address: a real HTTP server with the shape of its API, which can misbehave.

``with Hub() as hub: hub.add("models", "owner/name", {"config.json": b"…"}, fault="gated")`` and a process with
``HF_ENDPOINT=hub.url`` downloads from it. A fault is of one repository:

    gated, private, missing           403, 401 and 404 as the hub says them
    busy                              429 with Retry-After, for the first file that is asked for
    broken                            500 once
    cut                               the first answer with a file's content ends in its middle
    truncated                         every such answer does
    slow                              a file's content waits a second
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

MAIN = "main"
DENIED = {
    "gated": (403, "GatedRepo", "Access to model is restricted and you are not in the authorized list"),
    "private": (401, "RepoNotFound", "Repository not found"),
    "missing": (404, "RepoNotFound", "Repository not found"),
}


@dataclass
class Repository:
    """Its files by revision, the name of a branch or a commit."""

    files: dict[str, dict[str, bytes]]
    fault: str | None = None
    asked: Counter[str] = field(default_factory=Counter)

    def commit(self, revision: str) -> str | None:
        """Of 40 hex digits; None where there is no such revision."""
        commits = {name: _oid(repr((name, sorted(files))).encode()) for name, files in self.files.items()}
        return commits.get(revision) or (revision if revision in commits.values() else None)

    def of(self, revision: str) -> dict[str, bytes]:
        """The files of a revision that is there."""
        return next(files for name, files in self.files.items() if self.commit(name) == self.commit(revision))


class Hub:
    """The server, while it is open: ``url``, and what was ``asked`` of it, method and path by line."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.asked: list[str] = []
        hub = self

        class Handler(_Handler):
            server_hub = hub

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def add(self, kind: str, name: str, files: dict[str, bytes], fault: str | None = None, revision: str = MAIN) -> str:
        """Puts a repository of "models" or "datasets" there, or another revision of one; its commit."""
        repository = self.repositories.setdefault((kind, name), Repository({}))
        repository.files[revision], repository.fault = files, fault
        return str(repository.commit(revision))

    def __enter__(self) -> Hub:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server_hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Not on stderr."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _answer(self, body: bytes = b"") -> None:
        url = urlsplit(self.path)
        self.server_hub.asked.append(f"{self.command} {url.path}")
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        api = parts[0] == "api"
        parts = parts[1:] if api else parts
        kind = parts.pop(0) if parts[0] in ("models", "datasets") else "models"
        name = "/".join(parts[:2])
        repository, what = self.server_hub.repositories.get((kind, name)), parts[2:]
        if repository is None and len(parts) and (kind, parts[0]) in self.server_hub.repositories:  # without an owner
            name, repository, what = parts[0], self.server_hub.repositories[kind, parts[0]], parts[1:]
        if repository is None or repository.fault in DENIED:
            self._refuse(*DENIED[repository.fault or "" if repository else "missing"])
        elif api:
            self._api(repository, name, what, parse_qs(url.query), body)
        else:
            self._file(repository, what[1], "/".join(what[2:]))

    def _refuse(self, status: int, code: str, message: str, **headers: str) -> None:
        self._send(
            status,
            json.dumps({"error": message}).encode(),
            **{"X-Error-Code": code, "X-Error-Message": message},
            **headers,
        )

    def _api(self, repository: Repository, name: str, what: list[str], query: dict[str, Any], body: bytes) -> None:
        action, revision = (what[0], what[1]) if len(what) > 1 else ("revision", MAIN)
        commit = repository.commit(revision)
        if commit is None:
            self._refuse(404, "RevisionNotFound", "Invalid rev id")
            return
        files = repository.of(revision)
        entries = {
            path: {"type": "file", "path": path, "size": len(content), "oid": _oid(content)}
            for path, content in files.items()
        }
        for path in files:
            for depth in range(1, path.count("/") + 1):
                folder = "/".join(path.split("/")[:depth])
                entries[folder] = {"type": "directory", "path": folder, "size": 0, "oid": "0" * 40}
        answer: Any
        if action == "revision":
            siblings = [{"rfilename": path} for path in files]
            answer = {
                "id": name,
                "modelId": name,
                "sha": commit,
                "siblings": siblings,
                "private": False,
                "gated": False,
                "tags": [],
            }
        elif action == "tree":
            inside = "/".join(what[2:])
            answer = [entry for path, entry in entries.items() if not inside or path.startswith(f"{inside}/")]
            if "true" not in str(query.get("recursive")).lower():
                depth = inside.count("/") + 1 if inside else 0
                answer = [entry for entry in answer if entry["path"].count("/") == depth]
            if inside and not answer:
                self._refuse(404, "EntryNotFound", f"{inside} does not exist")
                return
        elif action == "paths-info":
            given = parse_qs(body.decode()).get("paths") or json.loads(body or b"{}").get("paths", [])
            answer = [entries[path] for path in given if path in entries]
        else:
            self._refuse(404, "EntryNotFound", "there is no such page")
            return
        self._send(200, json.dumps(answer).encode())

    def _file(self, repository: Repository, revision: str, path: str) -> None:
        commit = repository.commit(revision)
        content = repository.of(revision).get(path) if commit else None
        if commit is None or content is None:
            self._refuse(404, "RevisionNotFound" if commit is None else "EntryNotFound", "it is not there")
            return
        headers = {"ETag": f'"{_oid(content)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        repository.asked[self.command] += 1
        first, fault = repository.asked[self.command] == 1, repository.fault
        if fault == "busy" and first:
            self._refuse(429, "TooMany", "Too many requests", **{"Retry-After": "1"})
        elif fault == "broken" and first:
            self._refuse(500, "", "Internal Error")
        elif fault in ("cut", "truncated") and self.command == "GET" and (first or fault == "truncated"):
            self._send(200, content, sent=len(content) // 2, **headers)
        else:
            if fault == "slow" and self.command == "GET":
                time.sleep(1)
            self._send(*self._ranged(content, headers))

    def _ranged(self, content: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        begin = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0] or 0)
        self.more = headers
        if not begin:
            return 200, content
        self.more = headers | {"Content-Range": f"bytes {begin}-{len(content) - 1}/{len(content)}"}
        return 206, content[begin:]

    more: ClassVar[dict[str, str]] = {}

    def _send(self, status: int, content: bytes, sent: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(content)),
            **self.more,
            **headers,
        }.items():
            self.send_header(name, value)
        self.more = {}
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:sent])
        if sent is not None:
            self.close_connection = True


def _oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()  # noqa: S324 (as git names a file)
