"""A small Hugging Face Hub on 127.0.0.1, kept in memory, for tests that push and pull with the real client.

It implements the part of the Hub's HTTP API that `huggingface_hub` uses for model and dataset repositories, which
share one namespace here: create and inspect a repository, list its tree, branch, upload (preupload, LFS in one piece
or in parts, verify), commit, and download with ETag, commit hash and range. Files are content-addressed and commits
are immutable, as on the real Hub, so old revisions stay readable. Xet storage is not supported: clients must run with
`HF_HUB_DISABLE_XET=1` (see `env`).

`break_request` makes requests fail, with a status or by closing the connection.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import huggingface_hub
import pytest
import transformers
import yaml
from huggingface_hub.repocard import REGEX_YAML_BLOCK

USER = "tester"
LFS_SUFFIXES = (".safetensors", ".bin", ".tar")


@dataclass(frozen=True)
class StoredFile:
    """The content of one file, and whether it was uploaded as a large file."""

    content: bytes
    is_lfs: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def oid(self) -> str:
        """Git's id of the blob, or of the pointer file for a large file."""
        blob = self.content
        if self.is_lfs:
            blob = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(blob)}\n".encode()
        return hashlib.sha1(b"blob %d\0" % len(blob) + blob).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.is_lfs else self.oid

    def tree_entry(self, path: str) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "path": path, "size": len(self.content), "oid": self.oid}
        if self.is_lfs:
            entry["lfs"] = {"oid": self.sha256, "size": len(self.content), "pointerSize": 130}
        return entry


@dataclass(frozen=True)
class Commit:
    parent: str | None
    message: str
    files: dict[str, StoredFile]

    @property
    def oid(self) -> str:
        tree = sorted((path, file.oid) for path, file in self.files.items())
        return hashlib.sha1(repr((self.parent, self.message, tree)).encode()).hexdigest()


@dataclass
class Repository:
    """Commits by id, and branches that point at them."""

    id: str
    private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, message: str, files: dict[str, StoredFile]) -> Commit:
        commit = Commit(self.branches.get(branch), message, files)
        self.commits[commit.oid] = commit
        self.branches[branch] = commit.oid
        return commit

    def at(self, revision: str) -> Commit | None:
        return self.commits.get(self.branches.get(revision, revision))

    def history(self, revision: str = "main") -> list[Commit]:
        """The commits of a revision, newest first."""
        commits, commit = [], self.at(revision)
        while commit is not None:
            commits.append(commit)
            commit = self.commits[commit.parent] if commit.parent else None
        return commits


@dataclass
class Fault:
    """A fault for requests whose "METHOD path" matches `pattern`: the first `skip` pass, the next `times` fail."""

    pattern: str
    status: int | None
    skip: int
    times: int


class HubError(Exception):
    """An error response of the Hub. The client maps `code` to its exception classes."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class LoopbackHub:
    """The server, used as `with LoopbackHub() as hub:`. A client needs `endpoint` and `token`."""

    token = "hf_loopback_token_for_tests"

    def __init__(self, multipart_chunk_size: int = 256 * 1024) -> None:
        self.multipart_chunk_size = multipart_chunk_size
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.parts: dict[tuple[str, int], bytes] = {}
        self.requests: list[str] = []
        self.lock = threading.RLock()
        self._faults: list[Fault] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.hub = self  # type: ignore[attr-defined]
        port = self._server.server_address[1]
        self.endpoint = f"http://127.0.0.1:{port}"
        # Large files are on another host, as on the real Hub: clients follow its links without sending their token.
        self.storage = f"http://localhost:{port}/storage"

    def __enter__(self) -> "LoopbackHub":
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def env(self, home: Path, token: str | None = None) -> dict[str, str]:
        """Return environment variables for a new process: this server, caches in `home`, and a token if given."""
        variables = {"HF_ENDPOINT": self.endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
        variables |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        return variables if token is None else variables | {"HF_TOKEN": token}

    def use_here(self, patch: pytest.MonkeyPatch) -> None:
        """Configure this process as `env` configures a new one: the client only reads variables at its import."""
        links = self.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr(huggingface_hub.constants, "ENDPOINT", self.endpoint)
        patch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", links)
        patch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        # transformers caches a client, which keeps the endpoint of its first use.
        patch.setattr(transformers.utils.hub, "_hf_api", None)

    @contextmanager
    def break_request(
        self, pattern: str, *, status: int | None = None, skip: int = 0, times: int = 1
    ) -> Iterator[Fault]:
        """In this block, let requests that match the pattern fail with `status`, or be cut off if it is `None`."""
        fault = Fault(pattern, status, skip, times)
        self._faults.append(fault)
        try:
            yield fault
        finally:
            self._faults.remove(fault)

    def take_fault(self, request: str) -> Fault | None:
        with self.lock:
            self.requests.append(request)
            for fault in self._faults:
                if not re.search(fault.pattern, request):
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                elif fault.times > 0:
                    fault.times -= 1
                    return fault
        return None

    def repository(self, repo_id: str, *, authorized: bool) -> Repository:
        repository = self.repositories.get(repo_id)
        if repository is None or (repository.private and not authorized):
            raise HubError(404 if authorized else 401, "Repository not found", "RepoNotFound")
        return repository

    def commit_at(self, repo_id: str, revision: str, *, authorized: bool) -> Commit:
        commit = self.repository(repo_id, authorized=authorized).at(revision)
        if commit is None:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit


# The routes of the Hub, tried from the top. A repository is named "owner/name".
_REPO = r"(?P<repo_id>[\w.-]+/[\w.-]+)"
_REVISION = r"(?P<revision>[^/]+)"
_KIND = r"(?:models|datasets)"
_ROUTES = [
    ("GET", r"/api/whoami-v2", "whoami"),
    ("POST", r"/api/validate-yaml", "validate_yaml"),
    ("POST", r"/api/repos/create", "create_repository"),
    ("GET", rf"/api/{_KIND}/{_REPO}", "model_info"),
    ("GET", rf"/api/{_KIND}/{_REPO}/revision/{_REVISION}", "model_info"),
    ("GET", rf"/api/{_KIND}/{_REPO}/tree/{_REVISION}(?:/(?P<folder>.+))?", "tree"),
    ("POST", rf"/api/{_KIND}/{_REPO}/paths-info/{_REVISION}", "paths_info"),
    ("GET", rf"/api/{_KIND}/{_REPO}/refs", "refs"),
    ("POST", rf"/api/{_KIND}/{_REPO}/branch/{_REVISION}", "create_branch"),
    ("POST", rf"/api/{_KIND}/{_REPO}/preupload/{_REVISION}", "preupload"),
    ("POST", rf"/api/{_KIND}/{_REPO}/commit/{_REVISION}", "create_commit"),
    ("POST", rf"/(?:datasets/)?{_REPO}\.git/info/lfs/objects/batch", "lfs_batch"),
    ("PUT", r"/storage/(?P<sha256>\w{64})", "store"),
    ("PUT", r"/storage/(?P<sha256>\w{64})/(?P<part>\d+)", "store_part"),
    ("POST", r"/storage/(?P<sha256>\w{64})/complete", "complete_parts"),
    ("POST", rf"/(?:datasets/)?{_REPO}\.git/info/lfs/objects/verify", "lfs_verify"),
    ("GET", r"/storage/(?P<sha256>\w{64})", "load"),
    ("GET", rf"/(?:datasets/)?{_REPO}/resolve/{_REVISION}/(?P<path>.+)", "resolve"),
]
_PUBLIC = {"validate_yaml", "model_info", "tree", "paths_info", "refs", "resolve"}
_SIGNED_LINKS = {"store", "store_part", "complete_parts", "load"}  # the link grants access; no token may be sent


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the test output quiet; `LoopbackHub.requests` has the log."""

    def do_GET(self) -> None:
        self._answer("GET")

    def do_HEAD(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    @property
    def hub(self) -> LoopbackHub:
        return self.server.hub  # type: ignore[attr-defined, no-any-return]

    @property
    def authorized(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.hub.token}"

    def _answer(self, method: str) -> None:
        path = urlsplit(self.path).path
        self.body = self._read_body()
        fault = self.hub.take_fault(f"{self.command} {path}")
        if fault is not None and fault.status is None:
            self.close_connection = True
            return
        try:
            if fault is not None and fault.status is not None:
                raise HubError(fault.status, "Broken on purpose")
            for route_method, pattern, name in _ROUTES:
                match = re.fullmatch(pattern, path)
                if match and route_method == method:
                    if name not in _PUBLIC | _SIGNED_LINKS and not self.authorized:
                        raise HubError(401, "Invalid username or password.")
                    if name in _SIGNED_LINKS and "Authorization" in self.headers:
                        raise HubError(400, "Storage was sent a token, which belongs to the Hub alone")
                    fields = {key: unquote(value) for key, value in match.groupdict().items() if value is not None}
                    with self.hub.lock:
                        getattr(self, name)(**fields)
                    return
            raise HubError(404, f"The loopback Hub has no {method} {path}")
        except HubError as error:
            headers = {"X-Error-Message": str(error)} | ({"X-Error-Code": error.code} if error.code else {})
            self._send(error.status, json.dumps({"error": str(error)}).encode(), headers)

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _send_json(self, value: Any, headers: dict[str, str] | None = None) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _send_file(self, content: bytes, headers: dict[str, str]) -> None:
        """Send the content, or the part that the request's Range header requests."""
        requested = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if requested is None:
            self._send(200, content, headers)
            return
        start, end = int(requested[1]), int(requested[2] or len(content) - 1)
        content_range = {"Content-Range": f"bytes {start}-{end}/{len(content)}"}
        self._send(206, content[start : end + 1], headers | content_range)

    # Accounts and repositories

    def whoami(self) -> None:
        self._send_json({"type": "user", "name": USER, "orgs": [], "auth": {"type": "access_token"}})

    def validate_yaml(self) -> None:
        """Check that the metadata of a card is a mapping in valid YAML, which is part of the Hub's check."""
        block = REGEX_YAML_BLOCK.search(json.loads(self.body)["content"])
        try:
            metadata = yaml.safe_load(block[2]) if block else {}
        except yaml.YAMLError as error:
            metadata = str(error)
        errors = [] if isinstance(metadata, dict) else [{"message": f"Invalid metadata: {metadata}"}]
        self._send(400 if errors else 200, json.dumps({"errors": errors, "warnings": []}).encode())

    def create_repository(self) -> None:
        request = json.loads(self.body)
        repo_id = f"{request.get('organization') or USER}/{request['name']}"
        answer = {"id": repo_id, "name": repo_id, "url": f"{self.hub.endpoint}/{repo_id}"}
        if repo_id in self.hub.repositories:
            self._send(409, json.dumps(answer | {"error": "You already created this model repo"}).encode())
            return
        repository = Repository(repo_id, private=request.get("visibility") == "private")
        attributes = StoredFile(b"*.safetensors filter=lfs\n", is_lfs=False)
        repository.commit("main", "initial commit", {".gitattributes": attributes})
        self.hub.repositories[repo_id] = repository
        self._send_json(answer)

    def model_info(self, repo_id: str, revision: str = "main") -> None:
        commit = self.hub.commit_at(repo_id, revision, authorized=self.authorized)
        siblings = [{"rfilename": path} for path in sorted(commit.files)]
        private = self.hub.repositories[repo_id].private
        self._send_json({"id": repo_id, "sha": commit.oid, "private": private, "siblings": siblings, "tags": []})

    def tree(self, repo_id: str, revision: str, folder: str = "") -> None:
        files = self.hub.commit_at(repo_id, revision, authorized=self.authorized).files
        prefix = f"{folder}/" if folder else ""
        entries = [file.tree_entry(path) for path, file in sorted(files.items()) if path.startswith(prefix)]
        if folder and not entries:
            raise HubError(404, f"{folder} does not exist on {revision}", "EntryNotFound")
        self._send_json(entries)

    def paths_info(self, repo_id: str, revision: str) -> None:
        files = self.hub.commit_at(repo_id, revision, authorized=self.authorized).files
        paths = json.loads(self.body)["paths"]
        self._send_json([files[path].tree_entry(path) for path in paths if path in files])

    def refs(self, repo_id: str) -> None:
        branches = self.hub.repository(repo_id, authorized=self.authorized).branches
        heads = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": oid} for n, oid in branches.items()]
        self._send_json({"branches": heads, "converts": [], "tags": []})

    def create_branch(self, repo_id: str, revision: str) -> None:
        repository = self.hub.repository(repo_id, authorized=True)
        if revision in repository.branches:
            raise HubError(409, f"Reference {revision} already exists")
        start = json.loads(self.body or b"{}").get("startingPoint", "main")
        repository.branches[revision] = self.hub.commit_at(repo_id, start, authorized=True).oid
        self._send_json({})

    # Uploads: preupload returns how to upload each file, LFS stores the large files, a commit publishes all of them

    def preupload(self, repo_id: str, revision: str) -> None:
        stored = self.hub.commit_at(repo_id, revision, authorized=True).files
        answer = []
        for request in json.loads(self.body)["files"]:
            path = request["path"]
            mode = "lfs" if path.endswith(LFS_SUFFIXES) else "regular"
            oid = stored[path].etag if path in stored else None
            answer.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self._send_json({"files": answer})

    def lfs_batch(self, repo_id: str) -> None:
        objects = []
        for request in json.loads(self.body)["objects"]:
            sha256, size = request["oid"], request["size"]
            answer: dict[str, Any] = {"oid": sha256, "size": size}
            if sha256 not in self.hub.objects:
                upload: dict[str, Any] = {"href": f"{self.hub.storage}/{sha256}"}
                chunk_size = self.hub.multipart_chunk_size
                if size > chunk_size:
                    parts = range(1, -(-size // chunk_size) + 1)
                    links = {str(part): f"{self.hub.storage}/{sha256}/{part}" for part in parts}
                    upload = {"href": upload["href"] + "/complete", "header": {"chunk_size": str(chunk_size), **links}}
                verify = {"href": f"{self.hub.endpoint}/{repo_id}.git/info/lfs/objects/verify"}
                answer["actions"] = {"upload": upload, "verify": verify}
            objects.append(answer)
        self._send_json({"transfer": "basic", "objects": objects})

    def store(self, sha256: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != sha256:
            raise HubError(400, "Content does not match its SHA-256")
        self.hub.objects[sha256] = self.body
        self._send(200, b"")

    def store_part(self, sha256: str, part: str) -> None:
        self.hub.parts[sha256, int(part)] = self.body
        self._send(200, b"", {"ETag": hashlib.md5(self.body).hexdigest()})

    def complete_parts(self, sha256: str) -> None:
        parts = [self.hub.parts[sha256, part["partNumber"]] for part in json.loads(self.body)["parts"]]
        self.body = b"".join(parts)
        self.store(sha256)

    def lfs_verify(self, repo_id: str) -> None:
        request = json.loads(self.body)
        content = self.hub.objects.get(request["oid"])
        if content is None or len(content) != request["size"]:
            raise HubError(404, f"Object {request['oid']} was not uploaded to {repo_id}")
        self._send_json({})

    def create_commit(self, repo_id: str, revision: str) -> None:
        repository = self.hub.repository(repo_id, authorized=True)
        files = dict(self.hub.commit_at(repo_id, revision, authorized=True).files)
        if revision not in repository.branches:
            raise HubError(400, f"{revision} is not a branch")
        lines = [json.loads(line) for line in self.body.splitlines()]
        if lines[0]["value"].get("parentCommit") not in (None, repository.branches[revision]):
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        message = lines[0]["value"]["summary"]
        for line in lines[1:]:
            kind, value = line["key"], line["value"]
            path = value["path"]
            if kind == "file":
                files[path] = StoredFile(base64.b64decode(value["content"]), is_lfs=False)
            elif kind == "lfsFile" and value["oid"] in self.hub.objects:
                files[path] = StoredFile(self.hub.objects[value["oid"]], is_lfs=True)
            elif kind == "deletedFile" and path in files:
                del files[path]
            else:
                raise HubError(400, f"Cannot commit {kind} of {path}")
        commit = repository.commit(revision, message, files)
        url = f"{self.hub.endpoint}/{repo_id}/commit/{commit.oid}"
        self._send_json({"success": True, "commitOid": commit.oid, "commitUrl": url, "hookOutput": ""})

    # Downloads: a large file is a redirect to storage, as on the real Hub

    def resolve(self, repo_id: str, revision: str, path: str) -> None:
        commit = self.hub.commit_at(repo_id, revision, authorized=self.authorized)
        headers = {"X-Repo-Commit": commit.oid}
        file = commit.files.get(path)
        if file is None:
            missing = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}
            self._send(404, b"Entry not found", headers | missing)
            return
        headers |= {"ETag": f'"{file.etag}"', "Accept-Ranges": "bytes"}
        if not file.is_lfs:
            self._send_file(file.content, headers)
            return
        linked = {"X-Linked-ETag": f'"{file.etag}"', "X-Linked-Size": str(len(file.content))}
        self._send(302, b"", headers | linked | {"Location": f"{self.hub.storage}/{file.sha256}"})

    def load(self, sha256: str) -> None:
        if sha256 not in self.hub.objects:
            raise HubError(404, f"No object {sha256}")
        self._send_file(self.hub.objects[sha256], {"ETag": f'"{sha256}"', "Accept-Ranges": "bytes"})
