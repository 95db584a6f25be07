"""A hub in a thread: what its client asks of a model's repository.

It tells the client that all files are small, which are sent with the commit.
"""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import yaml

TOKEN = "hf_of_this_test"
VALID = {  # some of what the hub takes in a card
    "license": "cc-by-4.0|mit|odbl|other",
    "pipeline_tag": "audio-classification|automatic-speech-recognition",
    "library_name": r"[\w-]+",
    "metrics": "accuracy|cer|f1|recall|wer",
    "datasets": r"[\w.-]+(/[\w.-]+)?",
    "language": "[a-z]{2,3}",
}


def faults(card):
    """Messages on the metadata of a card, as of the hub."""
    metadata = yaml.safe_load(card.split("---")[1])
    return [
        f'"{name}" with value "{value}" is not valid'
        for name, valid in VALID.items()
        for value in [*as_list(metadata.get(name, []))]
        if not re.fullmatch(valid, value, re.ASCII)
    ]


def as_list(value):
    return value if isinstance(value, list) else [value]


class Hub(BaseHTTPRequestHandler):
    """Answers the client; ``server.repos`` is what it has."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, body=b"", **headers):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def logged_in(self):
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def do_GET(self):
        path = self.path.partition("?")[0].removeprefix("/api/models")
        user, name, *rest = path.strip("/").split("/", maxsplit=4)
        name = f"{user}/{name}"
        repo = self.server.repos.get(name)
        if repo is None or (repo["private"] and not self.logged_in()):
            self.reply(404, X_Error_Code="RepoNotFound")
        elif rest[:1] == ["resolve"]:
            body = repo["files"][rest[2]]
            etag = f'"{object_id(body)}"'
            self.reply(200, body, ETag=etag, X_Repo_Commit=repo["sha"])
        elif rest[:1] == ["tree"]:
            files = [
                {"type": "file", "path": k, "size": len(v), "oid": object_id(v)}
                for k, v in repo["files"].items()
            ]
            self.reply(200, files)
        else:
            facts = {"id": name, "sha": repo["sha"], "siblings": []}
            self.reply(200, {**facts, "private": repo["private"]})

    do_HEAD = do_GET

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/validate-yaml":
            errors = faults(json.loads(body)["content"])
            answer = {"errors": [{"message": text} for text in errors]}
            self.reply(400 if errors else 200, answer)
        elif not self.logged_in():
            self.reply(401, {"error": "Invalid credentials"})
        elif self.path == "/api/repos/create":
            self.create(json.loads(body))
        elif self.path.endswith("/preupload/main"):
            files = json.loads(body)["files"]
            for file in files:
                file |= {"uploadMode": "regular", "shouldIgnore": False}
            self.reply(200, {"files": files})
        elif found := re.fullmatch(r"/api/models/(.+)/commit/main", self.path):
            self.commit(found[1], [json.loads(x) for x in body.splitlines()])

    def create(self, wanted):
        name = f"{wanted['organization'] or 'me'}/{wanted['name']}"
        answer = {"url": f"{self.server.url}/{name}", "id": name}
        there = name in self.server.repos
        if not there:
            private = wanted.get("visibility") == "private"
            new = {"private": private, "files": {}, "sha": "0" * 40}
            self.server.repos[name] = new
        self.reply(409 if there else 200, answer)

    def commit(self, name, operations):
        repo = self.server.repos[name]
        for operation in operations:
            value = operation["value"]
            if operation["key"] == "file":
                content = base64.b64decode(value["content"])
                repo["files"][value["path"]] = content
        repo["sha"] = f"{int(repo['sha'], 16) + 1:040x}"  # counts commits
        url = f"{self.server.url}/{name}/commit/{repo['sha']}"
        self.reply(200, {"commitUrl": url, "commitOid": repo["sha"]})


def object_id(content):
    """Name of a file's content in git."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def serving():
    """Run a hub → its server, with ``url`` and ``repos``."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.repos, server.url = {}, f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=[0.01]).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
