"""Build notebooks/*.ipynb from notebooks/*.py: ``build_notebooks.py`` writes them, ``--check`` only compares."""

from __future__ import annotations

import hashlib
import re
import sys
from collections import Counter
from pathlib import Path

import jupytext
import nbformat

ROOT = Path(__file__).resolve().parents[1]
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
COLAB = {"gpuType": "T4", "provenance": [], "toc_visible": True}
PLACEHOLDER = "OWNER/REPO"

SETUP = """\
# @title Set up: run this cell first
import sys
from importlib.util import find_spec
from pathlib import Path

sys.path[:0] = [".."] if Path("../ddnb/__init__.py").is_file() else []
if not getattr(find_spec("ddnb"), "origin", None):  # a mere folder of that name has none
    INSTALL
from ddnb.runtime import summary

print(summary())
"""
INSTALL = 'get_ipython().run_line_magic("pip", "install -q git+https://github.com/{repo}@{ref}")'
# While there is no address: the newest wheel beside the notebook, on a mounted Drive, or uploaded.
# Browsers number files, "ddnb-1.0 (1).whl", and pip wants the proper name: a copy gets it, the user's file stays.
WHEEL = """\
import tempfile

    from packaging.version import Version

    wheels = [*Path().glob("ddnb-[0-9]*.whl"), *Path("/content/drive/MyDrive/ddnb").glob("ddnb-[0-9]*.whl")]
    if not wheels and "google.colab" in sys.modules:
        print("Choose the file ddnb-*.whl. In the folder ddnb of a mounted Drive it is found without asking.")
        from google.colab import files

        wheels = [Path(name) for name in files.upload() if name.startswith("ddnb-") and name.endswith(".whl")]
    if not wheels:
        raise RuntimeError("Put the file ddnb-*.whl beside this notebook, or open it inside a checkout of ddnb.")
    version, _, wheel = max((Version(w.stem.replace("(", "-").split("-")[1]), w.stat().st_mtime, w) for w in wheels)
    copy = Path(tempfile.mkdtemp(), f"ddnb-{version}-py3-none-any.whl")
    copy.write_bytes(wheel.read_bytes())
    get_ipython().run_line_magic("pip", f"install -q '{copy}'")"""


def setup_cell(repo: str, ref: str) -> str:
    """Return the setup cell of every notebook, for the repository ``repo`` ("owner/name") at the tag ``ref``."""
    install = WHEEL if repo == PLACEHOLDER else INSTALL.format(repo=repo, ref=ref)
    return SETUP.replace("INSTALL", install).rstrip("\n")


def address(root: Path = ROOT) -> str:
    """Return "owner/name" from the one place where it stands: Repository in pyproject.toml."""
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    (found,) = re.findall(r'^Repository = "https://github\.com/([^"]+)"$', text, re.MULTILINE)
    return found


def build(source: Path) -> str:
    """Return the notebook of a source as text: no outputs, the same ids and bytes each time."""
    notebook = jupytext.read(source, fmt="py:percent")
    private = notebook.metadata.get("colab", {}).get("private_outputs", False)
    colab = COLAB | ({"private_outputs": True} if private else {})
    notebook.metadata = nbformat.from_dict({"accelerator": "GPU", "colab": colab, "kernelspec": KERNEL})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    seen: Counter[str] = Counter()
    for cell in notebook.cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:8]
        cell.id = f"{digest}-{seen[digest]}" if seen[digest] else digest
        seen[digest] += 1
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k in ("cellView", "tags")})
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.validate(notebook)
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def main(arguments: list[str]) -> int:
    stale = []
    for source in sorted((ROOT / "notebooks").rglob("*.py")):
        target, text = source.with_suffix(".ipynb"), build(source)
        if not target.exists() or target.read_bytes() != text.encode():
            stale.append(target.relative_to(ROOT))
            if "--check" not in arguments:
                target.write_bytes(text.encode())
    if "--check" not in arguments:
        print(f"written: {', '.join(map(str, stale)) or 'nothing, all are as built'}")
        return 0
    if stale:
        print(f"not as built from their .py: {', '.join(map(str, stale))}. Run 'make notebooks'.")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
