"""Test requirements.txt: installing it on Colab must change nothing there, and it must list what ddnb imports."""

import ast
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROVIDED_BY_COLAB = {"google", "packaging"}
"""Imports that are guarded by ``runtime.in_colab()``, or come with every kernel: ipykernel needs ``packaging``."""


def requirements_in(path: Path) -> list[Requirement]:
    """Parse a requirements file."""
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line]


NOT_IN_COLAB = {"mido", "pyloudnorm"}
"""Pure Python whose only dependency, packaging, is in Colab: installing it replaces nothing."""

REQUIREMENTS = requirements_in(ROOT / "requirements.txt")
COLAB = {canonicalize_name(r.name): r for r in requirements_in(ROOT / "tests" / "data" / "colab-packages.txt")}


LOWEST = requirements_in(ROOT / "tests" / "constraints-lowest.txt")


def third_party_imports(path: Path) -> set[str]:
    """Return the top-level names of all imports of a file, except those of the standard library and ddnb."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"ddnb"}


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda r: r.name)
def test_colab_has_each_requirement(requirement):
    """Otherwise pip would replace a package that Colab's kernel has loaded, and ask for a restart."""
    assert requirement.marker is None
    if requirement.name in NOT_IN_COLAB:
        return
    listed = COLAB[canonicalize_name(requirement.name)]
    (pin,) = listed.specifier
    assert pin.operator == "=="
    assert requirement.specifier.contains(pin.version), f"{requirement} but Colab has {pin.version}"


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda r: r.name)
def test_only_lower_bounds(requirement):
    """A pin or an upper bound fits Colab only for a while; a link or an option cannot be compared at all."""
    assert [specifier.operator for specifier in requirement.specifier] == [">="]
    assert requirement.url is None


def test_the_lowest_versions_are_the_ones_that_are_tested():
    """A bound that nobody tries, as nothing installs so old a version, is a guess (make test-lowest)."""
    bounds = {requirement.name: str(requirement.specifier).replace(">=", "==") for requirement in REQUIREMENTS}
    assert bounds.items() <= {requirement.name: str(requirement.specifier) for requirement in LOWEST}.items()


def test_every_package_is_listed_once():
    """With two bounds for one package the looser one misleads."""
    names = [canonicalize_name(requirement.name) for requirement in REQUIREMENTS]
    assert len(set(names)) == len(names) >= 10


@pytest.mark.parametrize(
    "path", [*sorted((ROOT / "ddnb").rglob("*.py")), *sorted((ROOT / "notebooks").rglob("*.py"))], ids=lambda p: p.stem
)
def test_every_import_is_listed(path):
    """Catches an import that works only where another package happens to bring it."""
    listed = {canonicalize_name(requirement.name) for requirement in REQUIREMENTS}
    needed = third_party_imports(path)
    if path.parent.name == "notebooks" or path.name == "colab.py":
        needed -= PROVIDED_BY_COLAB
    assert {canonicalize_name(name) for name in needed} <= listed


def test_imports_are_found_at_any_depth(tmp_path):
    """A test that overlooks imports inside functions would pass for every file."""
    file = tmp_path / "a.py"
    file.write_text("import os\nfrom . import b\ndef f():\n    from x.y import z\n    import u.v as w, ddnb\n")
    assert third_party_imports(file) == {"x", "u"}
