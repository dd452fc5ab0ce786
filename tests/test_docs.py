"""The documentation is tested: what it shows must exist and run."""

import json
import re
import shlex
import subprocess
import zipfile
from pathlib import Path

import pytest

import ddnb
from ddnb.cli.parser import _parser
from ddnb.sampler import PARITY_SAMPLERS, SAMPLERS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_public_name_has_a_docstring_and_functions_name_their_arguments():
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
    """A renamed option would leave the README's commands broken."""
    commands = re.findall(r"python -m ddnb (\S.*)$", README, re.M)
    assert len(commands) >= 6
    for command in commands:
        if "NAME" not in command:
            _parser().parse_args(shlex.split(command.partition("#")[0].strip("`* ")))


def test_readme_python_runs(tmp_path, monkeypatch):
    """The six lines, on the checkpoint that needs no download."""
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    quick = code.replace('"maestro-150k"', '"debug"').replace("seed=7)", "seed=7, steps=1, duration_s=0.05)")
    assert quick.count("debug") == 1
    scope = {}
    exec(quick, scope)
    assert (scope["again"].audio == scope["clips"].audio[:1]).all()


def test_links_inside_the_repository_lead_somewhere():
    for page in ("README.md", "CONTRIBUTING.md", "bench/README.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
            assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"


def test_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"(?:`|^)make ([a-z-]+)", README, re.M)):
        assert re.search(rf"^{target}:", makefile, re.M), target


@pytest.mark.slow
def test_the_wheel_holds_what_the_package_needs(tmp_path):
    """Built and installed in an empty place, away from the checkout: the registry must travel along."""
    import sys

    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, ROOT], check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        assert json.loads(file.read("ddnb/checkpoints.json")) == ddnb.list_checkpoints()
        metadata = file.read(next(n for n in file.namelist() if n.endswith("METADATA"))).decode()
        file.extractall(tmp_path / "site")
    assert "Requires-Dist: safetensors>=0.4" in metadata
    code = "import ddnb; print(ddnb.__file__, ddnb.load('debug').frames)"
    environment = {"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin"}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == [str(tmp_path / "site/ddnb/__init__.py"), "32768"]
