"""Judge what a checkpoint makes against recordings that were held out of its training.

    python -m bench.judge CKPT                 32 sounds of each category, with the checkpoint's own settings
    python -m bench.judge CKPT --per-category 64 --seed 1 --steps 12 --guidance-scale 1.5 --out FOLDER
    python -m bench.judge FOLDER               a folder of class folders of WAV files: kick/, snare/, ...
    python -m bench.judge real|noise           the training recordings; white noise

Reads build/default_data.npz (make dataset). Writes quality.md (the tables), quality.json (their figures, to compare
runs) and quality.png (spectrograms) to the folder. The same command gives the same figures.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.figures import measure
from bench.report import contact_sheet, write_report
from bench.sounds import Sounds, draw_some, gather, generate_each, make_noise, read_folder, select_recordings
from ddnb.sampler import SAMPLERS
from ddnb.schedule import GRIDS
from recipe.data import CATEGORIES, FRAMES, Prepared, load_prepared

ROOT = Path(__file__).parent.parent


def main(argv: Sequence[str] | None = None) -> None:
    """Judge one source of sounds and write three files."""
    argv = sys.argv[1:] if argv is None else list(argv)
    arguments = _parser().parse_args(argv)
    data = load_prepared(arguments.data)
    name, made, categories, frames = _sounds_to_judge(arguments, data)
    command = f"python -m bench.judge {shlex.join(argv)}"
    figures = {"command": command, "name": name, "seed": arguments.seed}
    figures |= measure(made, data, categories, frames, arguments.seed)
    text = write_report(figures, name, command)
    sheet = contact_sheet(made, select_recordings(data, True, categories, frames), categories, frames, name)
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    (out / "quality.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    (out / "quality.md").write_text(text, encoding="utf-8")
    (out / "quality.png").write_bytes(sheet)
    print(text.partition("\n## Each category")[0])
    print("\n".join(str(out / f"quality.{suffix}") for suffix in ("md", "json", "png")))


def _sounds_to_judge(arguments: argparse.Namespace, data: Prepared) -> tuple[str, Sounds, tuple[str, ...], int]:
    """Return the name of the sounds, the sounds, their categories, and their length in frames."""
    source, n, seed = arguments.source, arguments.per_category, arguments.seed
    options, opening = (
        {k: v for k in names if (v := getattr(arguments, k)) is not None} for names in (_GENERATE, _LOAD)
    )
    known = tuple(c for i, c in enumerate(CATEGORIES) if i in data.labels)
    is_folder = any((Path(source) / c).is_dir() for c in known)
    if (is_folder or source in ("real", "noise")) and (options or opening):
        raise SystemExit(f"{', '.join(options | opening)}: only for a checkpoint, and {source} is none.")
    if source == "real":
        return "training recordings", draw_some(select_recordings(data, False, known, FRAMES), n, seed), known, FRAMES
    if source == "noise":
        found = make_noise(dict.fromkeys(known, n), FRAMES, seed + 1)  # not the noise of the ceiling
    elif is_folder:
        found = read_folder(Path(source), known, n)
    else:
        found = generate_each(source, known, n, seed, options, opening)
    frames = min(FRAMES, max(len(audio) for sounds in found.values() for _, audio in sounds))
    return Path(source).name, gather(found), tuple(found), frames


_GENERATE: tuple[str, ...] = ("steps", "sampler", "grid", "duration_s", "batch_size")
_GENERATE += ("guidance_scale", "guidance_interval", "guidance_rescale")
_LOAD: tuple[str, ...] = ("device", "dtype")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.judge", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", metavar="CKPT", help="a checkpoint, a folder of class folders, 'real' or 'noise'")
    parser.add_argument(
        "--data", type=Path, default=ROOT / "build" / "default_data.npz", help="the prepared recordings"
    )
    parser.add_argument(
        "--per-category", type=int, default=32, metavar="N", help="sounds of each category (default: 32)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the sounds and of the draws (default: 0)")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "build" / "quality", help="folder for the report (default: build/quality)"
    )
    make = parser.add_argument_group("options for a checkpoint", "default: the checkpoint's own settings")
    make.add_argument("--steps", type=int)
    make.add_argument("--sampler", choices=tuple(SAMPLERS))
    make.add_argument("--grid", choices=tuple(GRIDS))
    make.add_argument("--guidance-scale", type=float)
    make.add_argument("--guidance-interval", type=float, nargs=2, metavar=("FROM", "TO"))
    make.add_argument("--guidance-rescale", type=float)
    make.add_argument("--duration-s", type=float)
    make.add_argument("--batch-size", type=int)
    make.add_argument("--device")
    make.add_argument("--dtype")
    return parser


if __name__ == "__main__":
    main()
