"""What ``make app`` serves, asked as a stranger's page or program would; see tests/test_browser.py for its looks."""

import asyncio
import json
import os
import re
import shlex
import socket
import struct
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import psutil
import pytest
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parents[1]
V1 = "v1.kernel.websocket.jupyter.org"
CODE = "open('ran', 'w').close()"
REQUESTS = {
    "execute_request": {"code": CODE, "silent": False, "store_history": False, "user_expressions": {"x": CODE}},
    "inspect_request": {"code": "open", "cursor_pos": 2, "detail_level": 1},
    "complete_request": {"code": "op", "cursor_pos": 2},
    "history_request": {"output": True, "raw": True, "hist_access_type": "tail", "n": 10},
    "debug_request": {"type": "request", "seq": 1, "command": "evaluate", "arguments": {"expression": CODE}},
    "create_subshell_request": {},
    "input_reply": {"value": CODE},
}
ELSEWHERE = [
    *(
        "terminals",
        "terminals/1",
        "api/terminals",
        "terminals/websocket/1",
        "tree",
        "lab",
        "edit/notebooks/studio.ipynb",
    ),
    *("files/secret.txt", "files/notebooks/studio.ipynb", "api/contents", "api/contents/secret.txt", "api/sessions"),
    *("api/kernels", "api/kernelspecs", "api/config/x", "nbconvert/html/studio.ipynb", "notebooks/studio.ipynb"),
    *("voila/api/contents", "voila/tree", "voila/render/studio.ipynb", "voila/files/studio.ipynb", "studio.ipynb"),
    *("voila/files/own.png", "own.png", "voila/files/..%2fsecret.txt", "voila/files/../secret.png"),
    *("voila/static/..%2f..%2fsecret.txt", "voila/templates/lab/static/..%2f..%2f..%2fconf.json"),
]


def app_command() -> list[str]:
    """Return the command with which ``make app`` serves the page, of the environment that has Voila."""
    lines = subprocess.run(["make", "--dry-run", "app"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (line,) = (line for line in lines.splitlines() if "voila notebooks/" in line)
    return [str(ROOT / ".venvs" / "current" / "bin" / "voila"), *shlex.split(line)[1:]]


class App:
    """A running server of a small notebook in place of the Studio, which takes a while to open."""

    def __init__(self, folder: Path):
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        (folder / "notebooks").mkdir()
        for place in ("secret.txt", "secret.png", "notebooks/own.png"):
            (folder / place).write_text("secret")
        cell = {"cell_type": "code", "execution_count": None, "id": "a", "metadata": {}, "outputs": [], "source": "1"}
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        notebook = {"cells": [cell], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
        (folder / "notebooks" / "studio.ipynb").write_text(json.dumps(notebook))
        command = [*app_command(), "--no-browser", f"--port={self.port}"]
        names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
        path = f"{Path(command[0]).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, **{name: str(folder / name.lower()) for name in names}}
        with (folder / "server.log").open("w") as log:
            self.server = subprocess.Popen(
                command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def wait(self) -> None:
        """Wait until it listens."""
        for _ in range(240):
            assert self.server.poll() is None, (self.folder / "server.log").read_text()[-3000:]
            with socket.socket() as asked:
                if asked.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.5)
        raise AssertionError((self.folder / "server.log").read_text()[-3000:])

    def close(self) -> None:
        """End the server, and its kernels, which would outlive it."""
        processes = [*psutil.Process(self.server.pid).children(recursive=True), self.server]
        for process in processes:
            process.kill()
        self.server.wait(30)

    def get(self, path: str, **headers: str) -> tuple[int, str]:
        """Return status and text of an answer."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def kernel(self) -> str:
        """Open the page; return the id of its kernel."""
        status, page = self.get("")
        assert status == 200
        return re.search(r'"kernelId": ?"([0-9a-f-]{36})"', page)[1]

    def listening(self) -> set[str]:
        """Return the addresses at which the server and its kernels listen."""
        processes = [self.server.pid, *(child.pid for child in psutil.Process(self.server.pid).children(True))]
        found = [one for one in psutil.net_connections("inet") if one.pid in processes and one.status == "LISTEN"]
        assert self.port in {one.laddr.port for one in found}
        return {one.laddr.ip for one in found}


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    app = App(tmp_path_factory.mktemp("app"))
    try:
        app.wait()
        yield app
    finally:
        app.close()


def test_only_this_computer_reaches_it(app):
    app.kernel()
    assert app.listening() == {"127.0.0.1"}


@pytest.mark.parametrize("path", ELSEWHERE)
def test_no_terminal_and_no_file_is_served(app, path):
    """Neither a list of files, nor a file, nor another notebook, nor a kernel that is not the page's own."""
    status, text = app.get(path)
    assert status >= 400 and "secret" not in text.replace("secret.", "")


@pytest.mark.parametrize("path", ["", "voila/api/shutdown/x", "api/kernels/x/channels"])
def test_another_name_of_this_computer_is_refused(app, path):
    """A stranger's page whose address is changed to 127.0.0.1 would read and steer the panel as its own."""
    assert app.get(path, Host=f"stranger.example:{app.port}")[0] in (403, 404, 405)


def message(kind: str, content: dict, channel: str) -> dict:
    """Return a message as a page sends it."""
    header = {"msg_id": uuid.uuid4().hex, "msg_type": kind, "session": "s", "username": "", "version": "5.3"}
    return {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": channel}


def packed(sent: dict) -> bytes:
    """Return a message in the protocol V1: offsets, the channel, and four parts."""
    names = ("header", "parent_header", "metadata", "content")
    parts = [sent["channel"].encode(), *(json.dumps(sent[name]).encode() for name in names)]
    offsets = [8 * (len(parts) + 2)]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    return struct.pack(f"<{len(offsets) + 1}Q", len(offsets), *offsets) + b"".join(parts)


async def answers_to(url: str, sent: list[dict], protocol: str | None) -> list[str]:
    """Send messages, and then a harmless one; return all that comes until that is answered."""
    socket = await websocket_connect(url, subprotocols=[protocol] if protocol else None)
    last, came = message("kernel_info_request", {}, "shell"), []
    for each in [*sent, last]:
        await socket.write_message(packed(each) if protocol else json.dumps(each), binary=bool(protocol))
    while True:
        answer = await asyncio.wait_for(socket.read_message(), 60)
        came.append(answer.decode(errors="replace") if isinstance(answer, bytes) else answer)
        if "kernel_info_reply" in came[-1] and last["header"]["msg_id"] in came[-1]:
            socket.close()
            return came


@pytest.mark.parametrize("protocol", [None, V1])
def test_a_page_runs_no_code_of_its_own(app, protocol):
    """It moves controls, whose messages are comm_msg; all that could run or read code is not answered."""
    url = f"ws://127.0.0.1:{app.port}/api/kernels/{app.kernel()}/channels?session_id=s"
    sent = [message(*request, channel) for request in REQUESTS.items() for channel in ("shell", "control", "stdin")]
    came = "\n".join(asyncio.run(answers_to(url, sent, protocol)))
    for kind in REQUESTS:
        assert kind not in came and kind.replace("_request", "_reply") not in came
    assert not any(one["header"]["msg_id"] in came for one in sent)
    assert not list(app.folder.rglob("ran"))


@pytest.mark.parametrize("headers", [{"Origin": "http://stranger.example"}, {"Host": "stranger.example"}])
def test_the_page_of_a_stranger_gets_no_connection(app, headers):
    """Browsers let any page open a websocket to 127.0.0.1, and say where it is from."""
    url = f"ws://127.0.0.1:{app.port}/api/kernels/{app.kernel()}/channels"

    async def connect():
        return await websocket_connect(HTTPRequest(url, headers=headers))

    with pytest.raises(HTTPClientError, match="403"):
        asyncio.run(connect())
