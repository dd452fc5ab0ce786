"""Test the documentation: what it shows must exist and run."""

import json
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import ddnb
from ddnb.cli.main import build_parser
from ddnb.sampler import PARITY_SAMPLERS, SAMPLERS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_docstrings_exist_and_name_every_argument():
    for name in ddnb.__all__:
        text = getattr(ddnb, name).__doc__
        assert text, name
        code = getattr(getattr(ddnb, name), "__code__", None)
        for argument in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount] if code else ():
            assert argument in text, f"{name}: {argument}"


def test_readme_lists_the_registry():
    for name, entry in ddnb.list_checkpoints().items():
        row = next(line for line in README.splitlines() if line.startswith(f"| `{name}`"))
        assert f"| {entry['sample_rate']} | {entry['frames'] / entry['sample_rate']:.2f} | {entry['licence']} |" in row


def test_readme_and_changelog_name_every_sampler():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in changelog for name in SAMPLERS)
    assert all(name in README for name in PARITY_SAMPLERS)


def test_readme_commands_parse():
    """Catches a renamed option that the README still uses."""
    commands = re.findall(r"python -m ddnb (\S.*)$", README, re.M)
    assert len(commands) >= 6
    for command in commands:
        if "NAME" not in command:
            build_parser().parse_args(shlex.split(command.partition("#")[0].strip("`* ")))


def test_readme_python_runs(tmp_path, monkeypatch):
    """Run the six lines on the checkpoint that needs no download."""
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    quick = code.replace('"maestro-150k"', '"debug"').replace("seed=7)", "seed=7, steps=1, duration_s=0.05)")
    assert quick.count("debug") == 1
    scope = {}
    exec(quick, scope)
    assert (scope["again"].audio == scope["clips"].audio[:1]).all()


PAGES = sorted(
    path for folder in (".", "bench", "docs", "recipe", "tests/data") for path in (ROOT / folder).glob("*.md")
)
PAGES += sorted((ROOT / "bench" / "results").rglob("*.md"))


def test_links_inside_the_repository_have_a_target():
    assert len(PAGES) > 10
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_documented_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {
        t for page in PAGES for t in re.findall(r"(?:`|^|    )make ([a-z-]+)", page.read_text(encoding="utf-8"), re.M)
    }
    assert {"test", "lint", "judge"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_documented_modules_and_files_exist():
    """Catches commands and paths that moved: `python -m package.module`, `ddnb/...`, `bench/...`, `tests/...`."""
    for page in [*PAGES, ROOT / "Makefile"]:
        text = page.read_text(encoding="utf-8")
        found = re.findall(r"`((?:ddnb|bench|recipe|tests|tools|docs|notebooks)/[\w/.-]*\w)`", text)
        found += [f"{name.replace('.', '/')}.py" for name in re.findall(r"python -m ((?:bench|recipe)\.\w+)", text)]
        for path in found:
            assert re.search("NAME|NN_", path) or (ROOT / path).exists(), f"{page}: {path}"


@pytest.mark.slow
def test_the_wheel_holds_the_whole_package(tmp_path):
    """The wheel is unpacked in an empty folder, away from the checkout: data files and registry must be in it."""
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, ROOT], check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        assert json.loads(file.read("ddnb/checkpoints.json")) == ddnb.list_checkpoints()
        held = set(file.namelist())
        metadata = file.read(next(n for n in file.namelist() if n.endswith("METADATA"))).decode()
        file.extractall(tmp_path / "site")
    assert "ddnb/py.typed" in held
    for path in (ROOT / "ddnb").rglob("*"):  # assets, scripts and templates as well as modules
        if path.is_file() and "__pycache__" not in path.parts:
            assert path.relative_to(ROOT).as_posix() in held
    assert "Requires-Dist: safetensors>=0.4" in metadata
    code = "import ddnb; print(ddnb.__file__, ddnb.load('debug').frames)"
    environment = {"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin"}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == [str(tmp_path / "site/ddnb/__init__.py"), "32768"]
