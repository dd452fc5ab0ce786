"""The Studio in a real browser: JupyterLab 4, the classic Notebook (which stands in for Colab's widgets), Voila.

``make test-browser`` makes what it needs. Every state is photographed into build/browser, for people to look at.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import zipfile
from pathlib import Path

import pytest
from named import write_named
from test_app import app_command

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parents[1]
SHOTS = ROOT / "build" / "browser"
LAPTOP, PHONE = {"width": 1366, "height": 900}, {"width": 390, "height": 844}
LONG = {"n": 16, "steps": 100, "duration_s": 20.0, "seed": 5}
CANCEL_S = 2.0

LAB_IDLE = """() => {
    const panel = window.jupyterapp && jupyterapp.shell.currentWidget;
    const kernel = panel && panel.sessionContext && panel.sessionContext.session && panel.sessionContext.session.kernel;
    return kernel && kernel.status === 'idle' && panel.content.model && panel.content.model.cells.length > 3;
}"""
LAB_RAN = """() => ![...document.querySelectorAll('.jp-InputPrompt')].some(e => e.textContent.includes('[*]'))
    && jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'"""
CLASSIC_READY = """() => window.Jupyter && Jupyter.notebook && Jupyter.notebook._fully_loaded && Jupyter.notebook.kernel
    && Jupyter.notebook.kernel.is_connected() && Jupyter.notebook.get_cells().length > 3"""


class FrontEnd:
    """A server with the notebook of the Studio, and how its page is opened."""

    def __init__(self, name: str, folder: Path, dark: bool = False):
        self.name, self.folder, self.dark, self.port = name, folder, dark, _free_port()
        stack = ROOT / ".venvs" / ("colab" if name == "notebook" else "current")
        work = folder / "notebooks"
        work.mkdir(parents=True)
        for linked in ("ddnb", "checkpoints.json"):
            (folder / linked).symlink_to(ROOT / linked)
        shutil.copy(ROOT / "notebooks" / "studio.ipynb", work)
        settings = folder / "settings" / "@jupyterlab" / "apputils-extension"
        settings.mkdir(parents=True)
        (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
        theme = "JupyterLab Dark" if dark else "JupyterLab Light"
        (settings / "themes.jupyterlab-settings").write_text(json.dumps({"theme": theme}))
        names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "DDNB_CACHE")
        own = {name: str(folder / name.lower()) for name in names}
        path = f"{stack / 'bin'}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**os.environ, **own, "PATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        self.environment.pop("DDNB_FOREGROUND", None)
        self.command = [str(stack / "bin" / self._program()), *self._arguments(work)]

    def _program(self) -> str:
        return {"lab": "jupyter-lab", "notebook": "jupyter-notebook", "voila": "voila"}[self.name]

    def _arguments(self, work: Path) -> list[str]:
        common = ["--no-browser", f"--port={self.port}"]
        if self.name == "voila":
            theme = ["--theme=dark"] if self.dark else []
            return ["studio.ipynb", *app_command()[2:], *common, *theme]
        common += ["--allow-root", "--ip=127.0.0.1"]
        if self.name == "notebook":
            return [*common, "--NotebookApp.token=", "--NotebookApp.password=", f"--notebook-dir={work}"]
        settings = [f"--LabApp.user_settings_dir={self.folder / 'settings'}", "--LabApp.expose_app_in_browser=True"]
        return [*common, "--ServerApp.token=", f"--ServerApp.root_dir={work}", *settings]

    @property
    def url(self) -> str:
        page = {"lab": "doc/tree/studio.ipynb", "notebook": "notebooks/studio.ipynb", "voila": ""}[self.name]
        return f"http://127.0.0.1:{self.port}/{page}"

    @contextlib.contextmanager
    def running(self):
        log = (self.folder / "server.log").open("w")
        server = subprocess.Popen(
            self.command,
            cwd=self.folder / "notebooks",
            env=self.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            self._wait_for(server)
            yield self
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
            _end_kernels(self.folder)

    def _wait_for(self, server) -> None:
        for _ in range(120):
            assert server.poll() is None, (self.folder / "server.log").read_text()[-3000:]
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.5)
        raise AssertionError((self.folder / "server.log").read_text()[-3000:])

    def open(self, page):
        """Open the page, run all cells; returns the panel."""
        page.goto(self.url, wait_until="domcontentloaded")
        if self.name == "lab":
            page.wait_for_function(LAB_IDLE, timeout=60_000)
            page.evaluate("() => jupyterapp.commands.execute('notebook:run-all-cells')")
        if self.name == "notebook":
            page.wait_for_function(CLASSIC_READY, timeout=60_000)
            page.evaluate("() => Jupyter.notebook.execute_all_cells()")
        return self.panel(page)

    def panel(self, page):
        panel = page.locator(".ddnb-studio").first
        panel.wait_for(timeout=90_000)
        return Panel(page, panel)


class Panel:
    """The Studio as a user sees it."""

    def __init__(self, page, root):
        self.page, self.root = page, root

    def button(self, name: str):
        return self.root.locator("button", has_text=re.compile(f"^\\s*{re.escape(name)}\\s*$")).locator("visible=true")

    def press(self, name: str) -> None:
        self.button(name).first.click()

    def tab(self, title: str) -> None:
        tab = self.root.locator(".lm-TabBar-tab, .p-TabBar-tab").filter(has_text=title).first
        for _ in range(5):  # classic loses a click while it is still laying out what came before
            tab.click()
            self.page.wait_for_timeout(300)
            if "mod-current" in tab.get_attribute("class"):
                return
        raise AssertionError(f"the tab {title} does not open")

    def text(self) -> str:
        return self.root.inner_text()

    def wait_for(self, words: str, timeout_s: float = 60) -> None:
        script = "([panel, words]) => panel.innerText.includes(words)"
        self.page.wait_for_function(script, arg=[self.root.element_handle(), words], timeout=timeout_s * 1000)

    def make(self, timeout_s: float = 90) -> None:
        """Press Make and wait until it can be pressed again."""
        self.press("Make")
        self.wait_until_done(timeout_s)

    def wait_until_done(self, timeout_s: float = 90) -> None:
        self.page.wait_for_timeout(300)
        handle = self.button("Make").first.element_handle()
        self.page.wait_for_function("button => !button.disabled", arg=handle, timeout=timeout_s * 1000)
        self.page.wait_for_timeout(300)

    def settings(self, change) -> None:
        """Change the settings through their text."""
        field = self.root.locator("textarea")
        if not field.is_visible():
            self.root.get_by_text("Settings as text").click()
        self.press("Show")
        self.page.wait_for_timeout(700)
        state = json.loads(field.input_value())
        change(state)
        field.fill(json.dumps(state))
        field.blur()
        self.page.wait_for_timeout(300)
        self.press("Apply")
        self.page.wait_for_timeout(700)

    def players(self):
        return self.root.locator("audio").locator("visible=true")

    def playing(self, i: int) -> float:
        """Seconds that a player has moved on within half a second."""
        script = """async audio => {
            const before = audio.currentTime;
            await new Promise(done => setTimeout(done, 300));
            return audio.paused ? 0 : audio.currentTime - before || audio.currentTime;
        }"""
        return self.players().nth(i).evaluate(script)


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def _end_kernels(folder: Path) -> None:
    """Kernels have sessions of their own and outlive their server."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(folder) in (process / "cmdline").read_bytes().decode(errors="replace"):
                os.kill(int(process.name), signal.SIGKILL)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    media = ["--autoplay-policy=no-user-gesture-required", "--use-fake-device-for-media-stream"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=path, args=[*quiet, *media, "--use-fake-ui-for-media-stream"]
        )
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport=LAPTOP, accept_downloads=True)
    yield context.new_page()
    context.close()


def photograph(panel: Panel, name: str) -> None:
    """The whole panel, in a window that is tall enough."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    usual = panel.page.viewport_size
    height = round(panel.root.bounding_box()["height"]) + 400
    panel.page.set_viewport_size({"width": usual["width"], "height": height})
    panel.page.wait_for_timeout(200)
    panel.root.screenshot(path=SHOTS / f"{name}.png")
    panel.page.set_viewport_size(usual)


WATCH = """() => {
    window.seen = new Set();
    const look = () => {
        document.querySelectorAll('.ddnb-studio .progress-bar').forEach(bar => window.seen.add(bar.style.width));
        requestAnimationFrame(look);
    };
    look();
}"""


@pytest.mark.parametrize("name", ["lab", "notebook", "voila"])
def test_a_session_in_the_studio(name, page, tmp_path):
    """Make, hear, keep, vary, loop, cancel, export: what a musician does in the first ten minutes."""
    with FrontEnd(name, tmp_path / "work").running() as front:
        panel = front.open(page)
        panel.players().nth(3).wait_for(timeout=60_000)
        panel.wait_until_done()
        assert panel.players().count() == 4 and "kick" in panel.text()
        photograph(panel, f"{name}-1-opened")

        page.evaluate(WATCH)
        panel.settings(lambda state: state["Generate"].update(steps=60))
        panel.make()
        assert len(page.evaluate("() => [...window.seen]")) >= 4, "the bar was not seen to move"
        assert panel.players().count() == 4

        pads = panel.root.get_by_role("group", name="pads").get_by_role("button")
        assert pads.count() == 4
        pads.nth(0).click()
        assert panel.playing(0) > 0.1, "a click on a pad does not play"
        page.keyboard.press("2")
        assert panel.playing(1) > 0.1, "a key does not play its pad"
        pads.nth(2).focus()
        page.keyboard.press("Enter")
        assert panel.playing(2) > 0.1
        photograph(panel, f"{name}-2-four-kicks")

        keep = panel.root.locator("label", has_text=re.compile("^keep$")).locator("visible=true")
        assert keep.count() == 4
        for i in (0, 2):
            keep.nth(i).locator("input").click()
        panel.wait_for("Keepers (2)", 10)

        panel.button("vary this").nth(1).click()
        page.wait_for_timeout(500)
        panel.make()
        panel.wait_for("_vary_seed", 10)
        photograph(panel, f"{name}-3-varied")

        panel.tab("Loop")
        panel.settings(lambda state: state["Loop"].update(bpm=128.0, bars=2, n=1, steps=12))
        panel.make()
        panel.wait_for("loop_128bpm_2bars", 10)
        assert panel.players().first.evaluate("audio => [audio.duration, audio.loop]") == [3.75, True]
        photograph(panel, f"{name}-4-loop")

        panel.tab("Generate")
        panel.settings(lambda state: state["Generate"].update(LONG))
        panel.press("Make")
        panel.wait_for("left", 60)
        photograph(panel, f"{name}-5-working")
        began = time.monotonic()
        panel.press("Cancel")
        panel.wait_until_done(10)
        took = time.monotonic() - began - 0.6  # that it waits itself
        assert took < CANCEL_S, f"cancelling took {took:.1f} s"
        panel.wait_for("cancelled", 5)
        photograph(panel, f"{name}-6-cancelled")

        panel.tab("Beat")
        panel.make()
        panel.wait_for("house_beat_124bpm", 10)
        photograph(panel, f"{name}-7-beat")

        panel.tab("Keepers")
        page.wait_for_timeout(500)
        panel.press("Export a pack")
        panel.wait_for("Wrote ", 60)
        photograph(panel, f"{name}-8-exported")
        with page.expect_download() as download:
            panel.root.get_by_role("link", name="Download the pack").click()
        with zipfile.ZipFile(download.value.path()) as pack:
            assert pack.testzip() is None
            assert sum(one.endswith(".wav") for one in pack.namelist()) == 2
            assert any(one.endswith("manifest.json") for one in pack.namelist())


@pytest.mark.parametrize("name", ["lab", "notebook", "voila"])
def test_a_stretch_is_chosen_on_the_waveform(name, page, tmp_path):
    """By dragging: without a trip to Python while the pointer moves, and with the right place at the end."""
    with FrontEnd(name, tmp_path / "work").running() as front:
        panel = front.open(page)
        panel.players().nth(3).wait_for(timeout=60_000)
        panel.wait_until_done()
        panel.button("fill / extend").first.click()
        wave = panel.root.locator(".ddnb-region img")
        wave.wait_for(timeout=60_000)
        page.wait_for_timeout(1500)  # until it is drawn for the last time
        wave.scroll_into_view_if_needed()
        box = wave.bounding_box()
        middle = box["y"] + box["height"] / 2
        page.mouse.move(box["x"] + 0.6 * box["width"], middle)
        page.mouse.down()
        page.mouse.move(box["x"] + 0.4 * box["width"], middle)
        page.mouse.move(box["x"] + 0.2 * box["width"], middle)
        page.mouse.up()
        page.wait_for_timeout(700)
        state = {}
        panel.settings(lambda shown: state.update(shown["Inpaint / extend"]))
        length = 65536 / 44100
        assert state["region"] == pytest.approx([0.2 * length, 0.6 * length], abs=0.02)
        photograph(panel, f"{name}-9-stretch")
        panel.settings(lambda shown: shown["Inpaint / extend"].update(n=1, steps=6))
        panel.make()
        panel.wait_for("inpaint_seed", 10)


@pytest.mark.parametrize("name", ["lab", "notebook", "voila"])
def test_bad_uploads_are_told_and_the_panel_lives_on(name, page, tmp_path):
    """A text file named .wav is refused by the panel, 300 MB by the page: they never leave it."""
    text, huge, good = (tmp_path / name for name in ('it\'s "a" é🥁.wav', "huge.wav", "good.flac"))
    text.write_text("this is no sound\n" * 100)
    with huge.open("wb") as file:
        file.truncate(300_000_000)
    good.write_bytes(next((ROOT / "ddnb" / "assets" / "one-shots").rglob("*.flac")).read_bytes())
    with FrontEnd(name, tmp_path / "work").running() as front:
        panel = front.open(page)
        panel.players().nth(3).wait_for(timeout=60_000)
        panel.wait_until_done()
        panel.tab("Vary")

        def upload(path: Path) -> None:
            panel.root.locator("input[type=file]").locator("visible=true").first.set_input_files(path)

        upload(text)
        panel.wait_for("cannot be read as sound", 15)
        photograph(panel, f"{name}-10-bad-upload")
        upload(huge)
        panel.wait_for("huge.wav has 300 MB; the limit of uploads is 7 MB", 15)
        panel.tab("Generate")
        panel.make()
        assert panel.players().count() == 4
        panel.tab("Vary")
        upload(good)
        panel.wait_for("good.flac, ", 15)


@pytest.mark.parametrize("name", ["lab", "notebook", "voila"])
def test_a_name_is_text_in_the_page(name, page, tmp_path):
    """A sound, a folder, a model, a category and a track that are called like an element with code."""
    hostile = '<img src=x onerror="window.hacked=1">'
    folder = tmp_path / hostile
    folder.mkdir()
    sound, model = folder / f"{hostile}.flac", write_named(folder / f"{hostile}.safetensors", [hostile, "other"])
    shutil.copy(next((ROOT / "ddnb" / "assets" / "one-shots").rglob("*.flac")), sound)
    with FrontEnd(name, tmp_path / "work").running() as front:
        panel = front.open(page)
        panel.players().nth(3).wait_for(timeout=60_000)
        panel.wait_until_done()
        panel.tab("Vary")
        panel.settings(lambda state: state["Vary"].update(sound={"path": str(folder)}, n=2, steps=4))
        panel.wait_for("1 sounds in this folder", 10)
        assert page.evaluate("() => [...document.querySelectorAll('datalist option')].map(o => o.value)").count(
            str(sound)
        )
        panel.settings(lambda state: state["Vary"].update(sound={"path": str(sound)}))
        panel.wait_for(f"{hostile}.flac", 10)
        panel.make()
        photograph(panel, f"{name}-11-hostile-sound")
        panel.settings(lambda state: state.update(model=f"no{hostile}"))
        panel.press("Load")
        panel.wait_for("stopped by an error", 30)
        assert hostile in panel.text()
        panel.settings(lambda state: state.update(model=str(model)))
        panel.press("Load")
        panel.wait_for("done", 60)
        steps = {"tracks": {hostile: "9...9...9...9..."}, "swing": 0.5}
        panel.settings(lambda state: state.update(tab="Beat") or state["Beat"].update(groove=steps, bars=1, steps=4))
        panel.make()
        panel.root.locator("button", has_text=hostile).first.wait_for(timeout=30_000)
        assert page.evaluate("() => window.hacked") is None and not page.locator("img[src=x]").count()
        photograph(panel, f"{name}-12-hostile-track")


@pytest.mark.parametrize("name", ["lab", "notebook"])
def test_a_reload_in_the_middle_of_a_job(name, page, tmp_path):
    """The page comes back with the panel, which still knows the job and can cancel it."""
    with FrontEnd(name, tmp_path / "work").running() as front:
        panel = front.open(page)
        panel.players().nth(3).wait_for(timeout=60_000)
        panel.wait_until_done()
        panel.settings(lambda state: state["Generate"].update(LONG))
        save = {
            "lab": "() => jupyterapp.commands.execute('docmanager:save')",
            "notebook": "() => Jupyter.notebook.save_notebook()",  # a promise, which is waited for
        }
        page.evaluate(save[name])
        page.wait_for_timeout(2000)
        panel.press("Make")
        panel.wait_for("left", 60)
        page.on("dialog", lambda dialog: dialog.accept())
        page.reload(wait_until="domcontentloaded")
        panel = front.panel(page)
        panel.button("Cancel").first.wait_for(timeout=60_000)
        panel.press("Cancel")
        panel.wait_for("cancelled", 15)
        panel.settings(lambda state: state["Generate"].update(n=1, steps=2, duration_s=0.0))
        panel.make()
        assert panel.players().count() == 1


def test_a_visitor_who_reloads_gets_a_panel_of_his_own(page, tmp_path):
    """In Voila a page is a kernel: the job of the page that was left must not hold up the new one."""
    with FrontEnd("voila", tmp_path / "work").running() as front:
        panel = front.open(page)
        panel.players().nth(3).wait_for(timeout=60_000)
        panel.settings(lambda state: state["Generate"].update(LONG))
        panel.press("Make")
        panel.wait_for("left", 60)
        page.reload(wait_until="domcontentloaded")
        panel = front.panel(page)
        panel.players().nth(3).wait_for(timeout=90_000)
        panel.wait_until_done()
        assert "In [" not in page.inner_text("body") and "import" not in page.inner_text("body"), "code is shown"


@pytest.mark.parametrize(
    ("name", "shade"),
    [("lab", "light"), ("lab", "dark"), ("notebook", "light"), ("voila", "light"), ("voila", "dark")],
)
def test_themes_and_widths(name, shade, page, tmp_path):
    """Nothing sticks out on a phone; the pictures are for people to look at. Classic has no dark theme."""
    with FrontEnd(name, tmp_path / "work", dark=shade == "dark").running() as front:
        panel = front.open(page)
        panel.players().nth(3).wait_for(timeout=60_000)
        panel.wait_until_done()
        photograph(panel, f"{name}-{shade}-laptop")
        panel.tab("Beat")
        panel.make()
        photograph(panel, f"{name}-{shade}-laptop-beat")
        panel.tab("Generate")
        panel.make()
        page.set_viewport_size(PHONE)
        if name == "lab":
            page.evaluate("() => jupyterapp.shell.collapseLeft()")
        page.wait_for_timeout(700)
        photograph(panel, f"{name}-{shade}-phone")
        sticks_out = panel.root.evaluate("panel => panel.scrollWidth - panel.clientWidth")
        assert sticks_out <= (10 if name == "notebook" else 1)  # its tabs never get narrower than 35 px


def test_the_microphone_cell_records_a_wav_in_the_browser(page):
    """The script that Colab runs, with the browser's own test tone in place of a microphone."""
    import base64
    import io

    import numpy as np
    import soundfile

    from ddnb.widgets.colab import microphone_js

    page.goto("about:blank")
    with _served_page() as url:  # a microphone wants a page of its own machine, or https
        page.goto(url)
        page.context.grant_permissions(["microphone"])
        wav = base64.b64decode(page.evaluate(microphone_js(1.5)), validate=True)
    audio, rate = soundfile.read(io.BytesIO(wav))
    assert rate in (44100, 48000) and len(audio) / rate == pytest.approx(1.5, abs=0.5)
    assert np.abs(audio).max() > 0.01


@contextlib.contextmanager
def _served_page():
    import http.server
    import threading

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>page</title><body></body>")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
