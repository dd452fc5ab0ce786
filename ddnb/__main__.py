"""Run the command line: ``python -m ddnb generate --out sounds``."""

from .cli.main import cli, main

__all__ = ["main"]

if __name__ == "__main__":
    cli()
