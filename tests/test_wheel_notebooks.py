"""Notebooks run in an empty folder that holds only them and the wheel, as on Colab before there is an address."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from test_notebooks import FASTER, ROOT, SOURCES, faster

HIDE = """
import sys
from pathlib import Path

checkouts = [place for place in sys.path if (Path(place) / "ddnb" / "__init__.py").is_file() and place != {target!r}]
sys.path[:] = [place for place in sys.path if place not in checkouts]
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from the checkout; or the one that DDNB_WHEEL names."""
    if os.environ.get("DDNB_WHEEL"):
        return Path(os.environ["DDNB_WHEEL"])
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.mark.slow
@pytest.mark.parametrize("source", [SOURCES[0], *SOURCES[-1:]], ids=lambda path: path.stem)
def test_a_notebook_and_the_wheel_are_enough(source, wheel, tmp_path, monkeypatch):
    """The first cell on Colab ended in an error, or the wheel lacks what a notebook needs."""
    check_in_empty_folder(source, wheel, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("DDNB_WHEEL"), reason="the other notebooks: DDNB_WHEEL=dist/ddnb-....whl")
@pytest.mark.parametrize("source", SOURCES[1:-1], ids=lambda path: path.stem)
def test_every_notebook_and_the_wheel_are_enough(source, wheel, tmp_path, monkeypatch):
    """As above."""
    check_in_empty_folder(source, wheel, tmp_path, monkeypatch)


def check_in_empty_folder(source, wheel, tmp_path, monkeypatch):
    """Run a notebook where ddnb is not installed; pip puts it into a folder beside."""
    here, target, hide = tmp_path / "content", tmp_path / "installed", tmp_path / "hide"
    for folder in (here, target, hide, tmp_path / "kernels" / "wheel"):
        folder.mkdir(parents=True)
    (here / wheel.name).write_bytes(wheel.read_bytes())
    (hide / "sitecustomize.py").write_text(HIDE.format(target=str(target)))
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": command, "display_name": "wheel", "language": "python"}
    (tmp_path / "kernels" / "wheel" / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", f"{hide}{os.pathsep}{target}")
    monkeypatch.setenv("PIP_TARGET", str(target))
    monkeypatch.setenv("PIP_NO_DEPS", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("DDNB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DDNB_FOREGROUND", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = faster(source) if source.stem in FASTER else nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell("import ddnb\nprint('from', ddnb.__file__)"))
    resources = {"metadata": {"path": str(here)}}
    NotebookClient(notebook, timeout=300, kernel_name="wheel", resources=resources).execute()
    printed = "".join(output.get("text", "") for output in notebook.cells[-1].outputs)
    assert printed.strip() == f"from {target / 'ddnb' / '__init__.py'}"
