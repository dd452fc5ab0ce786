"""Run the scripts of tools/ on a copy of the tree, or on a small package."""

import io
import runpy
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OLD = "OWNER/REPO"
EXTRA = """
[![Open](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/{0}/blob/{1}/notebooks/01_generate.ipynb)
`git clone https://github.com/{0}.git`, `pip install "ddnb @ git+https://github.com/{0}@{1}"`,
`git clone git@github.com:{0}.git`, see https://github.com/{0}. A link: <https://github.com/{0}/issues>, and {0} alone.
Not ours: https://github.com/{0}-else, https://github.com/other/thing, https://github.com/SOME{0}
"""


KEPT = {"01_generate", "studio"}
"""The notebooks of the copy: one with a Colab badge in its text, and one with private outputs."""


@pytest.fixture
def tree(tmp_path) -> Path:
    """Copy everything that may hold the address, with a document that holds it in every form."""
    shutil.copytree(ROOT / "tools", tmp_path / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "notebooks").mkdir()
    for path in (ROOT / "notebooks").iterdir():
        if path.stem in KEPT and path.suffix in (".py", ".ipynb"):
            shutil.copy(path, tmp_path / "notebooks")
    for path in [*ROOT.glob("*.md"), *ROOT.glob("*.toml"), *ROOT.glob("*.cff")]:
        shutil.copy(path, tmp_path)
    run(tmp_path, "set_address.py", OLD, "main")  # whatever address the tree has now
    (tmp_path / "EXTRA.md").write_text(EXTRA.format(OLD, "main"), encoding="utf-8")
    return tmp_path


def run(tree: Path, script: str, *arguments: str, status: int = 0) -> str:
    """Run a script of the copy as the command line does, in this process; return what it printed."""
    path, printed = tree / "tools" / script, io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed), redirect_stderr(printed):
        patch.setattr(sys, "argv", [str(path), *arguments])
        patch.syspath_prepend(path.parent)
        patch.delitem(sys.modules, "build_notebooks", raising=False)  # that of another copy
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(path), run_name="__main__")
        sys.modules.pop("build_notebooks", None)
    assert ended.value.code == status, printed.getvalue()
    return printed.getvalue()


def contents(tree: Path) -> dict[Path, bytes]:
    """Read every file of the copy."""
    files = (path for path in tree.rglob("*") if path.is_file())
    return {path.relative_to(tree): path.read_bytes() for path in files if "__pycache__" not in path.parts}


def address(tree: Path, repo: str, ref: str) -> None:
    """Do what ``make address`` does."""
    run(tree, "set_address.py", repo, ref)
    run(tree, "build_notebooks.py")


def test_set_address_leaves_no_trace_of_the_old_address(tree):
    """Catches a badge, an install line or a document that still leads to the old repository."""
    address(tree, "some-one/the.music", "v1.0")
    (tree / "EXTRA.md").write_text((tree / "EXTRA.md").read_text().partition("Not ours")[0])
    for name, data in contents(tree).items():
        if name.parts[0] != "tools":  # they hold the placeholder
            assert OLD.encode() not in data, name
    assert 'Repository = "https://github.com/some-one/the.music"' in (tree / "pyproject.toml").read_text()
    for suffix in ("py", "ipynb"):
        text = (tree / "notebooks" / f"01_generate.{suffix}").read_text(encoding="utf-8")
        assert "github.com/github/some-one/the.music/blob/v1.0/notebooks/01_generate.ipynb" not in text
        assert "research.google.com/github/some-one/the.music/blob/v1.0/notebooks/01_generate.ipynb)" in text
        assert "install -q git+https://github.com/some-one/the.music@v1.0" in text
        assert "no public address" not in text


def test_set_address_writes_every_form_and_nothing_else(tree):
    """Catches a half-changed address, and a change to another repository's address that only looks like ours."""
    address(tree, "some-one/the.music", "v1.0")
    expected = EXTRA.partition("Not ours")[0].format("some-one/the.music", "v1.0")
    expected += "Not ours" + EXTRA.partition("Not ours")[2].format(OLD)
    assert (tree / "EXTRA.md").read_text(encoding="utf-8") == expected


def test_set_address_is_idempotent_and_reversible(tree):
    """Catches a rewrite that changes its own result; it must also work from one real address to the next, and back."""
    before = contents(tree)
    address(tree, "a/b", "main")
    once = contents(tree)
    address(tree, "a/b", "main")
    assert contents(tree) == once
    address(tree, "c.d/e_f", "v2")
    address(tree, "a/b", "main")
    assert contents(tree) == once
    address(tree, OLD, "main")
    assert contents(tree) == before


@pytest.mark.parametrize("arguments", [(), ("a/b",), ("a", "main"), ("a/b/c", "main"), ("a/b", "x/y"), ("a/b", "")])
def test_set_address_rejects_invalid_addresses(tree, arguments):
    """``make address`` without REPO= would write an empty address everywhere."""
    before = contents(tree)
    assert "usage" in run(tree, "set_address.py", *arguments, status=2)
    assert contents(tree) == before


def test_build_check_reports_a_changed_source_and_a_missing_notebook(tree):
    """CI would pass with a notebook that is not the one reviewed."""
    run(tree, "build_notebooks.py")
    run(tree, "build_notebooks.py", "--check")
    source = tree / "notebooks" / "01_generate.py"
    source.write_text(source.read_text(encoding="utf-8") + "\n# %%\n1 + 1\n", encoding="utf-8")
    before = contents(tree)
    assert "01_generate.ipynb" in run(tree, "build_notebooks.py", "--check", status=1)
    assert contents(tree) == before, "a check must not write"
    run(tree, "build_notebooks.py")
    run(tree, "build_notebooks.py", "--check")
    source.with_suffix(".ipynb").unlink()
    assert "01_generate.ipynb" in run(tree, "build_notebooks.py", "--check", status=1)


def test_build_removes_outputs(tree):
    """Outputs and widget state of an author's run would be committed."""
    run(tree, "build_notebooks.py")
    notebook = tree / "notebooks" / "01_generate.ipynb"
    clean = notebook.read_bytes()
    notebook.write_bytes(clean.replace(b'"execution_count": null', b'"execution_count": 3'))
    run(tree, "build_notebooks.py", "--check", status=1)
    run(tree, "build_notebooks.py")
    assert notebook.read_bytes() == clean


def test_make_stack_lists_the_known_stacks(tree):
    """A typing error would create an empty environment that tests nothing."""
    (tree / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "constraints-colab.txt", tree / "tests")
    assert "colab" in run(tree, "make_stack.py", "colb", str(tree / "stack"), status=2)
    assert not (tree / "stack").exists()


# --- draw_imports -----------------------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path) -> Path:
    """Write a package of three layers: low; box of a and b; top. One import is inside a function."""
    files = {
        "__init__.py": "from .top import run\n",
        "low.py": "import os\n",
        "box/__init__.py": "from .a import one\n",
        "box/a.py": "from . import b\nfrom ..low import thing\n\none = 1\n",
        "box/b.py": "import os.path\n",
        "top.py": "def run():\n    from thing.box.a import one\n    import thing.low as low\n",
    }
    for name, text in files.items():
        (tmp_path / "thing" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "thing" / name).write_text(text, encoding="utf-8")
    return tmp_path / "thing"


def draw(package: Path, status: int = 0) -> list[str]:
    return run(ROOT, "draw_imports.py", str(package), status=status).splitlines()


def test_imports_are_drawn_layer_by_layer(package):
    assert draw(package) == [
        "  3  top 3",
        "  2  box 6",
        "  1  low 1",
        "3 packages and modules in 3 layers, 6 files, 6 imports, no circle",
    ]


@pytest.mark.parametrize(
    ("file", "line", "circle"),
    [
        ("low.py", "def f():\n    from . import top\n", {"thing.low", "thing.top"}),  # inside a function
        ("box/b.py", "from .a import one\n", {"thing.box.a", "thing.box.b"}),  # inside a package
        ("low.py", "from .box.b import x\n", {"low", "box"}),  # between packages, not between files
    ],
)
def test_a_circle_of_imports_is_an_error(package, file, line, circle):
    path = package / file
    path.write_text(path.read_text(encoding="utf-8") + line, encoding="utf-8")
    (message,) = draw(package, status=1)
    assert message.startswith("Imports go in a circle: ")
    first, *rest = message.partition(": ")[2].split(" -> ")
    assert first == rest[-1] and circle <= set(rest)


def test_ddnb_has_no_circle_of_imports():
    """An independent count of the files: a script that reads none of them would find no circle either."""
    *_, last = run(ROOT, "draw_imports.py").splitlines()
    assert f" {len(list((ROOT / 'ddnb').rglob('*.py')))} files, " in last
