"""Run the command line: ``python -m ddnb generate --out sounds``."""

from .cli.parser import cli

if __name__ == "__main__":
    cli()
