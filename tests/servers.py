"""Local HTTP servers that behave like the real ones, and badly on request."""

import hashlib
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class PlainHandler(BaseHTTPRequestHandler):
    """Serves ``server.files`` with ranges; ``server.plan`` is what to do wrong, one entry per request."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        server.requests.append((self.path, self.headers.get("Range")))
        fault = server.plan.pop(0) if server.plan else None
        if isinstance(fault, int):
            return self.send_error(fault)
        if self.path not in server.files:
            return self.send_error(404)
        if server.delay is not None:
            server.delay.wait(10)
        if fault == "redirect":
            self.send_response(302)
            self.send_header("Location", self.path)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        content, status, start = server.files[self.path], 200, 0
        tag = f'"{hashlib.sha256(content).hexdigest()}"'
        wanted = self.headers.get("Range")
        if self.headers.get("If-Range", tag) != tag:
            wanted = None
        if wanted and "ignore range" not in str(fault):
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                return self.send_error(416)
            status = 206
        if fault == "wrong range":
            start = max(0, start - 1000)
        body = content[start:]
        kind = "text/html" if fault == "html" else "application/octet-stream"
        if fault == "wrong bytes":
            body = bytes(len(body))
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if fault != "no length":
            self.send_header("Content-Length", str(len(body)))
        if server.tagged:
            self.send_header("ETag", tag)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Connection", "close")
        self.end_headers()
        if isinstance(fault, float):
            body = body[: int(len(content) * fault) - start]
        if fault == "drip":
            for i in range(0, len(body), len(body) // 20):
                self.wfile.write(body[i : i + len(body) // 20])
                time.sleep(0.02)
            return None
        self.wfile.write(body[: len(body) // 2] if "cut" in str(fault) else body)
        self.close_connection = True
        if fault is not None and server.changed is not None:
            server.files[self.path] = server.changed
        return None

    def log_message(self, *_):
        pass


class HubHandler(PlainHandler):
    """Answers like the Hub: ``/owner/name/resolve/main/path`` with the headers its client asks for."""

    def _find(self):
        repo_and_path = self.path.lstrip("/").split("/resolve/main/")
        return self.server.files.get("/".join(repo_and_path)) if len(repo_and_path) == 2 else None

    def _headers(self, content, length):
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", "0123456789abcdef0123456789abcdef01234567")
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def _missing(self):
        repo = "/".join(self.path.removeprefix("/api/models").lstrip("/").split("/")[:2])
        known = any(name.startswith(repo + "/") for name in self.server.files)
        body = json.dumps({"error": "Entry not found" if known else "Repository not found"}).encode()
        self.send_response(404)
        self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_HEAD(self):
        self.server.requests.append(("HEAD " + self.path, None))
        content = self._find()
        if content is None:
            return self._missing()
        self.send_response(200)
        return self._headers(content, len(content))

    def do_GET(self):
        self.server.requests.append((self.path, self.headers.get("Range")))
        content = self._find() or self._list()
        if content is None:
            return self._missing()
        self.send_response(200)
        self._headers(content, len(content))
        return self.wfile.write(content)

    def _list(self):
        """The names of a repository's files, as ``/api/models/owner/name/tree/main`` gives them."""
        if not self.path.startswith("/api/models/"):
            return None
        repo = "/".join(self.path.split("/")[3:5]) + "/"
        names = [name.removeprefix(repo) for name in self.server.files if name.startswith(repo)]
        entries = [{"type": "file", "path": name, "size": 1, "oid": "0"} for name in names]
        return json.dumps(entries).encode() if names else None


@contextmanager
def serve(files, *, handler=PlainHandler, plan=(), delay=None, tagged=False, changed=None):
    """Serve ``files`` (path -> bytes) on a free port of this machine; yields the server, its address in ``url``.

    ``tagged`` sends ETags; ``changed`` is what the file becomes after the first fault.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.files, server.plan, server.requests, server.delay = files, list(plan), [], delay
    server.tagged, server.changed = tagged, changed
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
