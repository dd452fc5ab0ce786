"""Commands for checkpoints: ``checkpoints``, ``verify``, ``convert``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..checkpoints.conversion import convert, verify
from ..checkpoints.registry import list_checkpoints
from .common import LOG, Commands, add_format, progress_bar, stated_format


def add_commands(commands: Commands) -> None:
    """Add the commands."""
    parser = commands.add_parser("checkpoints", help="list the known checkpoints")
    parser.set_defaults(run=run_checkpoints)

    parser = commands.add_parser("verify", help="check a published checkpoint against its published numbers")
    parser.add_argument("name")
    parser.add_argument("--full", action="store_true", help="also the published sample: minutes on a CPU")
    parser.set_defaults(run=run_verify)

    parser = commands.add_parser("convert", help="write a checkpoint in another format")
    parser.add_argument("source", help="anything that --checkpoint takes")
    target = "FILE.safetensors, FILE.ckpt (for the original code) or FOLDER (for diffusers)"
    parser.add_argument("target", type=Path, help=target)
    parser.add_argument("--dtype", default="float32", choices=("float32", "float16"), help="(default: float32)")
    add_format(parser)
    parser.set_defaults(run=run_convert)


def run_checkpoints(arguments: argparse.Namespace) -> int:
    """List the registry."""
    for name, entry in list_checkpoints().items():
        seconds = entry["frames"] / entry["sample_rate"]
        sizes = (f"{s['size_mb']} MB to download" for s in entry.get("sources", ()) if "size_mb" in s)
        size = next(sizes, "built in")
        print(f"{name:18} {entry['sample_rate']} Hz, {seconds:.2f} s, licence {entry['licence']}, {size}")
        print(f"{'':18} {entry['description']}")
    return 0


def run_verify(arguments: argparse.Namespace) -> int:
    """Check a published checkpoint; the status is 1 if a number differs."""
    with progress_bar("downloading", "B") as bar:
        checks = verify(arguments.name, full=arguments.full, on_progress=bar)
    for check in checks:
        verdict = "ok  " if check["ok"] else "FAIL"
        print(f"{verdict} {check['what']}: {check['got']:.4f}, published {check['expected']} +- {check['tolerance']}")
    if not checks:
        print(f"{arguments.name} opens and fits the network; no numbers are published to check it against.")
    return 0 if all(check["ok"] for check in checks) else 1


def run_convert(arguments: argparse.Namespace) -> int:
    """Convert a checkpoint."""
    path = convert(arguments.source, arguments.target, dtype=arguments.dtype, **stated_format(arguments))
    print(path)
    LOG.info("Wrote %s", path)
    return 0
