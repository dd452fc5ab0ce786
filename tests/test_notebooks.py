"""The notebooks: what stands in them, and that "Run all" makes sound. Both widget stacks run this file."""

import ast
import base64
import importlib.util
import io
import itertools
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import types
import wave
import zipfile
from importlib.metadata import version
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

import ddnb

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "notebooks").rglob("*.py"))
FROM_SCRATCH = {"from_scratch"}
"""Verbs of the notebooks whose lesson is the function itself: they alone may define one."""

FASTER = {
    "03_interpolate": {  # with all steps: with fewer, sounds do not come back, and a warning would say nothing
        "positions = 7  # @param": "positions = 3  # @param",
        "depths = [0.3, 0.6, 1.0]": "depths = [0.3, 1.0]",
        "clap, hat, 4)": "clap, hat, 2)",
        "clap, hat, 4, exact=False": "clap, hat, 2, exact=False",
    },
    "04_loops_and_beats": {"bars=6,": "bars=3,"},
    "05_finetune": {
        "steps = 300  # @param": "steps = 4  # @param",
        'settings = {"steps": steps,': 'settings = {"validate_every": 2, "steps": steps,',
        "scratch_steps = 800  # @param": "scratch_steps = 24  # @param",
    },
}
"""What is made smaller for a test run: a reader has a minute to wait, a test has not."""

TIME_LIMIT_S = 120
ICONS = set("play stop download upload trash save music check times random cog folder-open".split())  # noqa: SIM905


def tool(name):
    """A script of tools/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def builder():
    return tool("build_notebooks")


# in one group, so that pytest-xdist runs them in one process, which executes the notebook once
@pytest.fixture(params=[pytest.param(p, id=p.stem, marks=pytest.mark.xdist_group(p.stem)) for p in SOURCES])
def source(request) -> Path:
    return request.param


@pytest.fixture
def notebook(source) -> nbformat.NotebookNode:
    return nbformat.read(source.with_suffix(".ipynb"), as_version=4)


def code_cells(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def code_lines(text: str) -> int:
    """Lines that are code: neither empty nor a comment alone."""
    return sum(bool(line.strip()) and not line.lstrip().startswith("#") for line in text.splitlines())


def is_settings(text: str) -> bool:
    return "# @param" in text


def is_setup(text: str) -> bool:
    return text.startswith("# @title Set up")


# What stands in them


def test_there_is_a_notebook_for_every_source_and_none_without():
    """A renamed source would leave its old notebook behind, for ever out of date."""
    assert SOURCES
    built = sorted(path for path in (ROOT / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
    assert built == [source.with_suffix(".ipynb") for source in SOURCES]


def test_notebook_is_built_from_its_source(source, builder):
    """What Colab opens would differ from what is reviewed; also fails if a build is not the same on every machine."""
    assert source.with_suffix(".ipynb").read_bytes() == builder.build(source).encode(), "run 'make notebooks'"


def test_source_is_what_jupyter_would_write_back(source, tmp_path):
    """An author who saves in JupyterLab, with pairing on, would otherwise get a changed source."""
    (tmp_path / "jupytext.toml").write_bytes((ROOT / "jupytext.toml").read_bytes())
    copy = tmp_path / f"{source.stem}.ipynb"
    copy.write_bytes(source.with_suffix(".ipynb").read_bytes())
    command = [sys.executable, "-m", "jupytext", "--quiet", "--to", "py:percent", copy.name]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert copy.with_suffix(".py").read_text(encoding="utf-8") == source.read_text(encoding="utf-8")


def test_notebook_is_valid_and_clean(notebook):
    """Outputs, counts, widget state and a writer's own metadata make every diff unreadable and files large."""
    nbformat.validate(notebook)
    assert notebook.nbformat == 4 and notebook.nbformat_minor == 5
    assert set(notebook.metadata) == {"kernelspec", "accelerator", "colab"}
    assert notebook.metadata.kernelspec == {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert notebook.metadata.accelerator == "GPU"
    colab = dict(notebook.metadata.colab)
    assert colab.pop("private_outputs", True) is True
    assert colab == {"provenance": [], "gpuType": "T4", "toc_visible": True}
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"cellView", "tags"}
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None


def test_cell_ids_are_unique_and_allowed(notebook):
    """Colab and JupyterLab draw new ids for invalid or double ones, which changes the file on every save."""
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", i) for i in ids)


def test_ids_do_not_depend_on_the_neighbours(builder, tmp_path):
    """Numbered ids would change all below an inserted cell; equal cells must still get different ids."""
    cells = ["# %%\nprint(1)\n", "# %%\nprint(2)\n", "# %%\nprint(1)\n"]
    short, long = tmp_path / "a.py", tmp_path / "b.py"
    short.write_text("\n".join(cells))
    long.write_text("\n".join(["# %% [markdown]\n# New\n", *cells]))
    ids = [[cell["id"] for cell in json.loads(builder.build(path))["cells"]] for path in (short, long)]
    assert ids[1][1:] == ids[0] and len(set(ids[0])) == 3


def test_first_cell_has_title_and_its_own_badge(source, notebook, builder):
    """A badge copied from another notebook opens that other one."""
    first = notebook.cells[0]
    assert first.cell_type == "markdown"
    assert re.match(r"# [A-Z][^\n]+\n", first.source)
    path = source.with_suffix(".ipynb").relative_to(ROOT).as_posix()
    badge = r"\[!\[[^]]+\]\(https://colab\.research\.google\.com/assets/colab-badge\.svg\)\]\((\S+)\)"
    (link,) = re.findall(badge, first.source)
    start = f"https://colab.research.google.com/github/{builder.address()}/blob/"
    assert link.startswith(start) and link.endswith(f"/{path}")
    assert re.fullmatch(r"[\w.-]+", link.removeprefix(start).removesuffix(f"/{path}"))


def test_no_address_but_ours(notebook, builder):
    """Links die and move, and an address of a fork or of a private machine would be installed by every reader."""
    for cell in notebook.cells:
        for link in re.findall(r"https?://[^\s)\"'<>]+", cell.source):
            ours = f"https://github.com/{builder.address()}", f"/github/{builder.address()}/blob/"
            picture = "https://colab.research.google.com/assets/colab-badge.svg"
            assert link == picture or any(address in link for address in ours), link


def test_addresses_in_the_documents_are_ours(builder):
    """A badge or a clone command that "make address" forgot."""
    places = r"(?:colab\.research\.google\.com/github|(?:git\+|git clone )https://github\.com)/([\w.-]+/[\w.-]+?)(?:\.git)?(?![\w.-])"
    for document in [*ROOT.glob("*.md"), ROOT / "CITATION.cff"]:
        if document.exists():
            for address in re.findall(places, document.read_text(encoding="utf-8")):
                assert address == builder.address(), f"{document.name}: {address}"


def test_setup_cell_is_the_same_in_all(notebook, builder):
    """A setup that was mended in one notebook only; it is also the first code cell, or all above it fails."""
    cells = code_cells(notebook)
    ref = re.search(r"/blob/([\w.-]+)/", notebook.cells[0].source)[1]
    assert cells[0] == builder.setup_cell(builder.address(), ref)
    assert sum(map(is_setup, cells)) == 1
    assert code_lines(cells[0]) <= 20


def test_code_cells_are_short(source, notebook):
    """Logic that grows in a notebook has no test, and a wall of code is where musicians stop reading."""
    cells = code_cells(notebook)
    assert all(code_lines(text) <= (25 if is_settings(text) else 20) for text in cells)
    assert statistics.median(map(code_lines, cells)) <= 6
    assert sum(map(code_lines, cells)) <= 150
    logic = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    for text in cells:
        nodes = list(ast.walk(ast.parse(text)))
        assert not any(isinstance(node, ast.Try) for node in nodes)
        if source.stem.partition("_")[2] not in FROM_SCRATCH:
            assert not any(isinstance(node, logic) for node in nodes)


def test_settings_are_assignments_that_stay_forms(notebook):
    """Colab shows a line as a form field only if it is one assignment of a constant on one line."""
    for text in filter(is_settings, code_cells(notebook)):
        nodes = ast.parse(text).body
        assert all(isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) for node in nodes)
        assert all(node.lineno == node.end_lineno for node in nodes)
        assert all("# @param" in text.splitlines()[node.lineno - 1] for node in nodes)


def test_checkpoints_offered_in_forms_exist(notebook):
    """A form would offer a name that was renamed in the registry."""
    for text in filter(is_settings, code_cells(notebook)):
        for default, options in re.findall(r'^checkpoint = "(.*?)"\s+# @param \[(.*?)\]', text, re.MULTILINE):
            assert {default, *re.findall(r'"(.*?)"', options)} <= set(ddnb.list_checkpoints())


def test_text_comes_before_code_and_in_short_pieces(notebook):
    """Code nobody introduced, and walls of text."""
    kinds = [cell.cell_type for cell in notebook.cells]
    hidden = ["remove-cell" in cell.metadata.get("tags", ()) for cell in notebook.cells]
    pairs = zip(itertools.pairwise(kinds), hidden[1:], strict=True)
    assert all(before == "markdown" for (before, kind), check in pairs if kind == "code" and not check)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            words = re.sub(r"\]\(\S+\)", "]", cell.source).split()
            assert len(words) <= 120, cell.source


def test_notebook_has_its_parts(notebook):
    """A lesson without a way home with the result, a way on, a cure, and credits."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for part in ("Try this", "If something goes wrong", "Credits"):
        assert re.search(rf"^## .*{part}", text, re.MULTILINE), part


def test_names_of_ddnb_exist(notebook):
    """A renamed function is noticed here at once, for cells too that a test run does not reach."""
    from ddnb import runtime, widgets

    modules = {"ddnb": ddnb, "widgets": widgets, "runtime": runtime}
    for text in code_cells(notebook):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
                assert hasattr(modules[node.value.id], node.attr), f"{node.value.id}.{node.attr}"
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ddnb":
                module = importlib.import_module(node.module)
                for alias in node.names:
                    found = hasattr(module, alias.name) or importlib.util.find_spec(f"{node.module}.{alias.name}")
                    assert found, f"{node.module}.{alias.name}"


# Names that work on one widget stack only, or that our rules exclude

FORBIDDEN = {
    *("anywidget", "enable_custom_widget_manager", "jupyter_ui_poll", "pyplot", "from_url", "append_display_data"),
    *("TagsInput", "ColorsInput", "Stack", "TimePicker", "DatetimePicker", "Play"),
    *("description_tooltip", "overflow_x", "overflow_y", "text_color", "_ipython_display_", "_repr_mimebundle_"),
}
FORBIDDEN_OPTIONS = {
    "Tab": {"titles"},
    "Accordion": {"titles"},
    "RadioButtons": {"orientation"},
    "IntSlider": {"behavior"},
    "FloatSlider": {"behavior"},
    "FloatLogSlider": {"behavior"},
}


def traps(code: str) -> list[str]:
    """What in ``code`` works on one of the widget stacks only, or is against the rules for widgets and sound."""
    found = []
    for node in ast.walk(ast.parse(code)):
        names = []
        if isinstance(node, ast.Name):
            names = [node.id]
        elif isinstance(node, ast.Attribute):
            names = [node.attr]
            if node.attr == "border" and isinstance(node.ctx, ast.Load):
                found.append("Layout.border read")
            if node.attr in ("load", "save") and ast.unparse(node.value) == "torchaudio":
                found.append(f"torchaudio.{node.attr}")
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [part for alias in node.names for part in f"{getattr(node, 'module', '')}.{alias.name}".split(".")]
            if getattr(node, "module", "") == "IPython.display" and "Audio" in names:
                found.append("IPython.display.Audio")
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names = [node.name]
        elif isinstance(node, ast.Call):
            found += _traps_of_call(node)
        found += [name for name in names if name in FORBIDDEN]
    return found


def _traps_of_call(call: ast.Call) -> list[str]:
    function = ast.unparse(call.func)
    short = function.split(".")[-1]
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    constants = {name: value.value for name, value in given.items() if isinstance(value, ast.Constant)}
    found = [name for name in given if name in FORBIDDEN | FORBIDDEN_OPTIONS.get(short, set())]
    if "tooltip" in given and short not in ("Button", "ToggleButton"):
        found.append("tooltip")
    if short == "Audio" and (constants.get("autoplay", 1), constants.get("loop", 1)) != (False, False):
        found.append("Audio defaults")
    if function in ("widgets.Image", "ipywidgets.Image") and "layout" not in given:
        found.append("Image stretched")
    if "icon" in constants and constants["icon"] not in ICONS:
        found.append("icon")
    if "<" in str(constants.get("description", "")):
        found.append("HTML in description")
    if constants.get("weights_only") is False:
        found.append("weights_only=False")
    return found


@pytest.mark.parametrize(
    "code",
    [
        "import anywidget",
        "from google.colab.output import enable_custom_widget_manager",
        "ipywidgets.Tab(children, titles=['a'])",
        "ipywidgets.Text(tooltip='a')",
        "ipywidgets.Text(description_tooltip='a')",
        "if box.layout.border: pass",
        "ipywidgets.Layout(overflow_x='auto')",
        "ipywidgets.Audio(value=wav, format='wav')",
        "ipywidgets.Audio.from_url(url, loop=False)",
        "ipywidgets.HTML(description='<b>a</b>')",
        "ipywidgets.RadioButtons(orientation='horizontal')",
        "ipywidgets.IntSlider(behavior='drag')",
        "button.style.text_color = 'red'",
        "ipywidgets.TagsInput()",
        "from ipywidgets import Stack",
        "widget._ipython_display_()",
        "output.append_display_data(widget)",
        "ipywidgets.Button(icon='floppy-disk')",
        "ipywidgets.Image(value=png)",
        "ipywidgets.Play()",
        "import matplotlib.pyplot as plt",
        "from IPython.display import Audio",
        "torchaudio.load(path)",
        "torch.load(path, weights_only=False)",
    ],
)
def test_traps_are_noticed(code):
    """The guard itself: a check that finds nothing would let everything pass."""
    assert traps(code)


@pytest.mark.parametrize("path", [*sorted((ROOT / "ddnb").rglob("*.py")), *SOURCES], ids=lambda path: path.stem)
def test_no_traps(path):
    """A name that exists in JupyterLab but not in Colab, or the other way round, fails in front of a class."""
    assert traps(path.read_text(encoding="utf-8")) == []


# The setup cell


def test_setup_fails_with_a_sentence_where_there_is_nothing_to_install(builder, tmp_path, monkeypatch):
    """Opened from a badge that leads nowhere yet, pip would fail with a page about a repository OWNER/REPO."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match=r"Put the file ddnb-\*\.whl beside this notebook.*checkout"):
        exec(builder.setup_cell(builder.PLACEHOLDER, "main"), {})


@pytest.mark.parametrize("name", ["ddnb-0.1.0-py3-none-any.whl", "ddnb-0.1.0-py3-none-any (1).whl"])
@pytest.mark.parametrize("uploaded", [False, True])
def test_setup_installs_the_wheel_beside_the_notebook_or_an_uploaded_one(
    builder, name, uploaded, tmp_path, monkeypatch, capsys
):
    """On Colab, where most begin, the first cell ended in an error; pip refuses a wheel that a browser renamed."""
    asked = []

    def upload():
        asked.append("upload")
        (tmp_path / name).touch()
        return {name: b""}

    class Shell:
        def run_line_magic(self, magic, line):
            asked.append((magic, line))

    colab = types.ModuleType("google.colab")
    colab.files = types.SimpleNamespace(upload=upload)
    google = types.ModuleType("google")
    google.colab = colab
    monkeypatch.setitem(sys.modules, "google", google)
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    if not uploaded:
        (tmp_path / name).touch()
    exec(builder.setup_cell(builder.PLACEHOLDER, "main"), {"get_ipython": Shell})
    *before, (magic, line) = asked
    assert before == (["upload"] if uploaded else [])
    assert magic == "pip" and re.fullmatch(r"install -q '.*ddnb-0\.1\.0-py3-none-any\.whl'", line)
    assert ("Choose the file" in capsys.readouterr().out) == uploaded


@pytest.mark.parametrize(
    ("names", "newest"),
    [
        (["ddnb-0.9.0-py3-none-any.whl", "ddnb-0.10.0-py3-none-any.whl", "ddnb-0.2.0-py3-none-any.whl"], "0.10.0"),
        (["ddnb-1.0.whl", "ddnb-1.0 (1).whl"], "1.0"),
        (["ddnb-1.0-py3-none-any(2).whl", "ddnb-1.0-py3-none-any.whl"], "1.0"),
        (["ddnb-1.0rc1-py3-none-any.whl", "ddnb-1.0-py3-none-any.whl", "ddnb-notes.whl"], "1.0"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
@pytest.mark.parametrize("backwards", [False, True])
def test_setup_installs_a_copy_of_the_newest_wheel(builder, names, newest, backwards, tmp_path, monkeypatch):
    """An arbitrary one was installed, and the user's file renamed; of one version the latest file counts."""
    installed = []

    class Shell:
        def run_line_magic(self, magic, line):
            installed.append(Path(line.partition("'")[2].rstrip("'")))

    here, scratch = tmp_path / "here", tmp_path / "scratch"
    here.mkdir(), scratch.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for age, name in enumerate(reversed(names) if backwards else names):
        (here / name).write_text(name)
        os.utime(here / name, (1e9 + age, 1e9 + age))
    exec(builder.setup_cell(builder.PLACEHOLDER, "main"), {"get_ipython": Shell})
    (copy,) = installed
    assert copy.name == f"ddnb-{newest}-py3-none-any.whl" and here not in copy.parents
    same = [name for name in (reversed(names) if backwards else names) if re.match(rf"ddnb-{newest}(?![\w])", name)]
    assert copy.read_text() == same[-1]
    assert sorted(path.name for path in here.iterdir()) == sorted(names)
    assert all((here / name).read_text() == name for name in names)


def test_setup_installs_from_the_address_only_where_ddnb_is_missing(builder, tmp_path, monkeypatch):
    """A setup that installs over a checkout, or at another tag than its badge."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    asked = []

    class Shell:
        def run_line_magic(self, name, line):
            asked.append((name, line))

    cell = builder.setup_cell("me/mine", "v1.2")
    exec(cell, {"get_ipython": Shell})
    assert asked == []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    exec(cell, {"get_ipython": Shell})
    assert asked == [("pip", "install -q git+https://github.com/me/mine@v1.2")]


def test_setup_prefers_the_checkout_it_lies_in(builder, tmp_path, monkeypatch, capsys):
    """Another ddnb that is installed would be used in place of the one beside the notebooks."""
    (tmp_path / "ddnb").mkdir()
    (tmp_path / "ddnb" / "__init__.py").touch()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    monkeypatch.setattr(sys, "path", list(sys.path))
    exec(builder.setup_cell(builder.PLACEHOLDER, "main"), {})
    assert sys.path[0] == ".."
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    for word in ("cpu", version("torch"), version("ipywidgets"), str(tmp_path / "cache")):
        assert word.lower() in printed.lower()


# Run all


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """Name of a kernel that is this very interpreter, offline, with settings and folders of its own."""
    folder = tmp_path_factory.mktemp("jupyter")
    spec = folder / "kernels" / "ddnb-test" / "kernel.json"
    spec.parent.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec.write_text(json.dumps({"argv": command, "display_name": "test", "language": "python"}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder))
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
            patch.setenv(name, str(folder / name.lower()))
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("DDNB_FOREGROUND", "1")
        patch.setenv("DDNB_CACHE", str(folder / "cache"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("OMP_NUM_THREADS", "1")  # two threads that share a busy core wait for each other ten times over
        yield "ddnb-test"


def faster(source: Path) -> nbformat.NotebookNode:
    """A notebook with what takes long in it made smaller."""
    notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    for slow, quick in FASTER.get(source.stem, {}).items():
        (cell,) = (cell for cell in notebook.cells if slow in cell.source)
        cell.source = cell.source.replace(slow, quick)
    return notebook


def run(notebook, kernel: str, folder: Path):
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=TIME_LIMIT_S, kernel_name=kernel, resources=resources).execute()
    return notebook


@pytest.mark.notebooks
def test_kernel_is_of_this_environment(kernel, tmp_path):
    """A kernel of another environment would test its packages instead, and both stacks would be one."""
    names = ("ipywidgets", "ipython", "ipykernel", "traitlets", "jupyter_client", "tornado", "widgetsnbextension")
    code = (
        "import json, sys\nimport IPython, ipykernel, ipywidgets\nfrom importlib.metadata import version\n"
        "print(json.dumps([sys.prefix, IPython.__version__, ipykernel.__version__, ipywidgets.__version__]))\n"
        f"print(json.dumps({{name: version(name) for name in {names}}}))"
    )
    cells = [nbformat.v4.new_code_cell(code)]
    executed = run(nbformat.v4.new_notebook(cells=cells), kernel, tmp_path)
    imported, versions = map(json.loads, "".join(o.text for o in executed.cells[0].outputs).splitlines())
    assert imported == [sys.prefix, *(version(name) for name in ("ipython", "ipykernel", "ipywidgets"))]
    assert versions == {name: version(name) for name in names}
    listed = ROOT / "tests" / f"constraints-{Path(sys.prefix).name}.txt"
    if Path(sys.prefix).parent.name == ".venvs":
        from packaging.requirements import Requirement

        lines = [line for line in listed.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        wanted = [r for r in map(Requirement, lines) if r.marker is None or r.marker.evaluate()]
        assert len(wanted) >= 7
        for requirement in wanted:
            assert requirement.specifier.contains(version(requirement.name)), requirement


def html_of(notebook) -> list[str]:
    """Every piece of HTML that stands in an executed notebook, in outputs and in widgets."""
    saved = notebook.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {}).get("state", {})
    pieces = [m["state"]["value"] for m in saved.values() if m["model_name"] == "HTMLModel" and "value" in m["state"]]
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return pieces + [output.data["text/html"] for output in outputs if "text/html" in output.get("data", {})]


def sounds_of(pieces: list[str]) -> list[tuple[int, np.ndarray]]:
    """Rate and samples, (frames, channels) from -1 to 1, of every player, read with Python's own wave module."""
    sounds = []
    for data in re.findall(r'<audio[^>]* src="data:audio/wav;base64,([^"]+)"', "".join(pieces)):
        with wave.open(io.BytesIO(base64.b64decode(data, validate=True))) as file:
            assert file.getsampwidth() == 2
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())
            assert len(samples) == file.getnframes()
            sounds.append((file.getframerate(), samples / 32768))
    return sounds


@pytest.fixture(scope="module")
def executed(kernel, tmp_path_factory):
    """Run a notebook once, from a fresh kernel in an empty folder; keep it, its time and its folder."""
    done = {}

    def once(source: Path):
        if source not in done:
            folder = tmp_path_factory.mktemp(source.stem)
            began = time.monotonic()
            notebook = run(faster(source), kernel, folder)
            done[source] = notebook, time.monotonic() - began, folder
        return done[source]

    return once


@pytest.mark.notebooks
def test_run_all_passes(source, executed):
    """Broken calls, cells in the wrong order, a need for a network, a file or an account; warnings readers see."""
    notebook, seconds, _ = executed(source)
    assert seconds < TIME_LIMIT_S
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.text


@pytest.mark.notebooks
def test_run_all_makes_sound_that_plays(source, executed):
    """A player without a sound in it: wrong encoding, an empty or cut WAV file, silence, a widget nobody shows."""
    notebook, _, _ = executed(source)
    sounds = sounds_of(html_of(notebook))
    assert sounds
    for rate, samples in sounds:
        assert 8000 <= rate <= 48000
        assert len(samples) >= rate // 10
        assert np.sqrt(np.mean(samples**2)) > 1e-4, "silent"
        assert len(np.unique(samples)) > 100, "a constant or a click"


@pytest.mark.notebooks
def test_sound_within_the_first_three_code_cells(source, executed):
    """A first success that comes too late; and a player that is made but not put on the screen."""
    notebook, _, _ = executed(source)
    early = [cell for cell in notebook.cells if cell.cell_type == "code"][:3]
    saved = notebook.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {}).get("state", {})
    shown, pieces = [], []
    for data in (output.data for cell in early for output in cell.outputs if "data" in output):
        pieces.append(data.get("text/html", ""))
        view = data.get("application/vnd.jupyter.widget-view+json")
        shown += [view["model_id"]] if view else []
    while shown:  # a box holds its children as "IPY_MODEL_<id>"
        state = saved[shown.pop()]["state"]
        pieces.append(state["value"] if isinstance(state.get("value"), str) else "")
        shown += [child.removeprefix("IPY_MODEL_") for child in state.get("children", ())]
    assert sounds_of(pieces)


@pytest.mark.notebooks
def test_generate_notebook_keeps_what_it_shows(executed):
    """Other sounds, another rate or length in the players than in the files; records or the zip left out."""
    source = ROOT / "notebooks" / "01_generate.py"
    notebook, _, folder = executed(source)
    ckpt = ddnb.load("drums")
    files = sorted((folder / "sounds").glob("*.wav"))
    assert len(files) == 4
    assert all(path.with_suffix(".json").is_file() for path in files)
    assert (folder / "sounds.zip").is_file()
    players = [samples for rate, samples in sounds_of(html_of(notebook)) if rate == ckpt.sample_rate]
    for path in files:
        with wave.open(str(path)) as file:
            assert (file.getframerate(), file.getnframes(), file.getnchannels()) == (44100, ckpt.frames, ckpt.channels)
            assert file.getsampwidth() == 3
            raw = np.frombuffer(file.readframes(file.getnframes()), np.uint8).reshape(-1, 3)
        samples = (raw.astype(np.int32) * (1 << np.array([8, 16, 24]))).sum(axis=1).astype(np.int32) / 2**31
        gain_db = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["level"]["gain_db"]
        samples = samples.reshape(-1, ckpt.channels)
        whole = samples * 10 ** (-gain_db / 20)
        samples = samples if np.abs(whole).max() > 1 else whole  # what is over full scale, a player turns down as well
        assert any(x.shape == samples.shape and np.abs(x - samples).max() < 1e-4 for x in players), path.name


def printed_by(notebook) -> str:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return "".join(output.text for output in outputs if output.get("name") == "stdout")


@pytest.mark.notebooks
@pytest.mark.xdist_group("02_vary")
def test_vary_notebook_keeps_variations_that_can_be_made_again(executed):
    """Variations without their records, or a record that another sound comes out of; a zip left out."""
    notebook, _, folder = executed(ROOT / "notebooks" / "02_vary.py")
    files = sorted((folder / "variations").glob("*.wav"))
    assert len(files) == 4 and all(path.with_suffix(".json").is_file() for path in files)
    assert (folder / "variations.zip").is_file()
    assert "largest difference: 0.000000" in printed_by(notebook)


@pytest.mark.notebooks
@pytest.mark.xdist_group("03_interpolate")
def test_interpolate_notebook_walks_and_warns(executed):
    """A walk that loses its own ends, which a reader would see in red; no example of one that does."""
    notebook, _, folder = executed(ROOT / "notebooks" / "03_interpolate.py")
    names = sorted(path.name for path in (folder / "walk").glob("*.wav"))
    assert names == [f"tom_C3_drums_seed4_to_clap_drums_seed4_{place}of3.wav" for place in (1, 2, 3)]
    said = printed_by(notebook)
    assert min(float(level) for level in re.findall(r"came back ([\d.]+) dB", said)) > 20
    assert re.search(r"loses (clap|open_hat)_drums_seed[45] \(-?\d+ dB\)", said)
    exact = re.search(r"exact: ([\d.]+) ([\d.]+) dB", said)
    assert min(float(level) for level in exact.groups()) > 20


@pytest.mark.notebooks
@pytest.mark.xdist_group("04_loops_and_beats")
def test_loops_notebook_makes_loops_of_exact_length(executed):
    """A loop of nearly a bar, a player that stops at its end, a seam to be heard, a beat without its MIDI file."""
    notebook, _, folder = executed(ROOT / "notebooks" / "04_loops_and_beats.py")
    frames = {}
    for path in (folder / "loops").glob("*.wav"):
        with wave.open(str(path)) as file:
            frames[path.name] = file.getnframes()
    beat = "house_beat_120bpm_2bars_seed7"
    loops = [f"texture_drums_loop_120bpm_1bar_seed{seed}.wav" for seed in (7, 8, 9)]
    assert frames == {f"{beat}.wav": round(2 * 4 * 60 / 120 * 44_100)} | dict.fromkeys(loops, 88_200)
    assert (folder / "loops" / f"{beat}.mid").is_file()
    loop, plain = re.search(r"seam of the loop (\S+) dB, of the other (\S+) dB", printed_by(notebook)).groups()
    assert float(loop) <= 0 < 6 < float(plain)
    page = "".join(html_of(notebook))
    loops = len(re.findall("<audio [^>]*controls loop", page))
    assert loops > 20
    assert page.count("<audio") == loops + 1  # the one that shows what no loop sounds like


def widget_values(notebook) -> list[str]:
    """What stands in the HTML widgets of an executed notebook."""
    saved = notebook.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"].values()
    return [str(w["state"]["value"]) for w in saved if w["model_name"] == "HTMLModel"]


@pytest.mark.notebooks
@pytest.mark.xdist_group("05_finetune")
def test_finetune_notebook_trains_and_exports(executed):
    """A training that shows nothing, demos of one moment only, a model or a pack that nothing opens."""
    notebook, _, folder = executed(ROOT / "notebooks" / "05_finetune.py")
    said = widget_values(notebook)
    assert any("step 4 of 4: done" in text for text in said) and any("step 24 of 24: done" in text for text in said)
    page = "".join(html_of(notebook))
    for heading in ("step 0, before", "step 12", "step 24", "Sounds in one-shots", "fitted", "trained", "weight 1.2"):
        assert heading in page
    with zipfile.ZipFile(folder / "my-run.zip") as pack:
        assert any(name.endswith(".wav") for name in pack.namelist())
    for run, step in (("my-run", 4), ("my-run-scratch", 24)):
        last = ddnb.load(folder / run / "last.safetensors")
        assert set(last.own_categories) == {"hat", "kick", "snare"} and last.info["training"]["step"] == step


@pytest.mark.notebooks
def test_training_is_stopped_and_resumed_by_the_same_cell(kernel, tmp_path):
    """The stop button loses what was learned, ends in a traceback, or leaves a folder that the cell refuses."""
    notebook = faster(ROOT / "notebooks" / "05_finetune.py")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    train = next(cell for cell in code if "widgets.follow" in cell.source)
    notebook.cells = [*code[: code.index(train) + 1], nbformat.v4.new_code_cell(train.source)]
    resources = {"metadata": {"path": str(tmp_path)}}
    client = NotebookClient(notebook, timeout=TIME_LIMIT_S, kernel_name=kernel, resources=resources)
    log = tmp_path / "my-run-scratch" / "log.csv"

    def interrupt():
        while not (log.is_file() and log.read_text().count("\n") > 5):
            time.sleep(0.05)
        os.kill(client.km.provisioner.pid, signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    client.execute()
    said = [text for text in widget_values(notebook) if text.startswith("training, step") and "of 24:" in text]
    stopped, done = sorted(said, key=lambda text: "done" in text)
    assert "stopped; run the same cell again to resume" in stopped and "step 24 of 24: done" in done
    assert 3 <= int(re.search(r"step (\d+)", stopped)[1]) < 24  # a step is in the log before it is shown
    assert not any(output.output_type in ("error", "stream") for cell in notebook.cells[-2:] for output in cell.outputs)
    steps = [int(line.split(",")[0]) for line in log.read_text().splitlines()[1:]]
    assert steps == list(range(25))


def test_example_in_one_file_writes_what_it_says(tmp_path, monkeypatch, capsys):
    """The example no longer runs, grows beyond 40 lines, or writes other files than it prints."""
    path = ROOT / "examples" / "one_file.py"
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 40
    spec = importlib.util.spec_from_file_location("one_file", path)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    monkeypatch.chdir(tmp_path)
    example.main(steps=1)
    assert len(list((tmp_path / "sounds").glob("*.wav"))) == 4
    assert capsys.readouterr().out == "Wrote 4 sounds to sounds/\n"
