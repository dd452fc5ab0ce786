"""Make a virtual environment with the notebook packages of another machine: ``make_stack.py colab .venvs/colab``.

The versions come from tests/constraints-NAME.txt. Only what it lists is installed; torch and the rest are
borrowed from the environment that runs this script, which comes later on the path, so that own packages win.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ("nbclient", "nbformat", "pytest", "pytest-xdist")
WHERE = "import sysconfig; print(sysconfig.get_path('purelib'))"


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        print("usage: make_stack.py NAME FOLDER", file=sys.stderr)
        return 2
    name, folder = arguments[0], Path(arguments[1])
    listed = ROOT / "tests" / f"constraints-{name}.txt"
    if not listed.is_file():
        known = sorted(path.stem.removeprefix("constraints-") for path in listed.parent.glob("constraints-*.txt"))
        print(f"No {listed.relative_to(ROOT)}. Known stacks: {', '.join(known)}.", file=sys.stderr)
        return 2
    # cleared, since pip must not see, and could uninstall, what an earlier .pth file borrowed
    venv.EnvBuilder(clear=True, with_pip=True, symlinks=sys.platform != "win32").create(folder)
    python = next(path for path in (folder / "bin" / "python", folder / "Scripts" / "python.exe") if path.exists())
    subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", listed, *TOOLS], check=True)
    found = subprocess.run([python, "-c", WHERE], check=True, capture_output=True, text=True)
    site_packages = Path(found.stdout.strip())
    borrowed = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    (site_packages / "borrowed.pth").write_text("\n".join(borrowed) + "\n", encoding="utf-8")
    print(f"{folder}: {name}, Python {sys.version.split()[0]}, the rest from {sys.prefix}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
