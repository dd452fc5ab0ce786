"""Measure how far a folder's sounds move what the built-in network makes.

    python -m bench.folder                  fitting alone, about five minutes
    python -m bench.folder --steps 500      and fine-tuning, about ten minutes more

The folders are kits that were never trained on. A third of each is kept back; the network is fitted to the rest. The
distance of two sets is the energy distance of log-mel features in dB (``bench.quality``), 0 for two sets of one kind.
The share of the way is 1 - fitted / before, with both distances taken to the kept sounds and reduced by that of the
recordings the network was fitted to.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

import ddnb
from bench.common import describe_run, markdown_table
from bench.quality import features, find_nearest
from ddnb.audio.io import read
from recipe.data import CATEGORIES, FRAMES, SAMPLE_RATE, load_prepared

KITS = Path("build/packages/hydrogen-drumkits/usr/share/hydrogen/data/drumkits")
FOLDERS = {
    "electronic kicks": ("kick", ["ElectricEmpireKit/EE_Kick*"]),
    "acoustic kicks": (
        "kick",
        ["Millo_MultiLayered?/bd_*", "The Black Pearl 1.0/PearlKick*", "ForzeeStereo/Kick*", "BJA_Pacific/BD_*"],
    ),
    "hand drums": ("perc", ["circAfrique v4/Djembe*", "Gimme A Hand 1.0/Bongo*"]),
    "snares": ("snare", ["The Black Pearl 1.0/PearlSnare-*", "BJA_Pacific/SN*", "Millo_MultiLayered2/?snare*"]),
}
"""Folder -> category and files of the kits."""

HELD_OUT = {"basses": ("bass", "fluid/"), "textures": ("texture", "sonic-pi/")}
"""Folder -> category and names of held-out recordings of the data set."""

_MADE, _SEED, _KEPT = 24, 100, 3
COPY_DB = 2.5
"""Distance below which a sound counts as a near copy."""


def main() -> None:
    """Measure each folder and write a report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="drums")
    parser.add_argument("--steps", type=int, default=0, help="steps of fine-tuning after fitting (default: 0)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    ckpt, rows = ddnb.load(arguments.checkpoint, device="cpu"), []
    for name, (category, sounds) in load_folders().items():
        with tempfile.TemporaryDirectory() as place:
            rows += measure_folder(ckpt, name, category, sounds, arguments.steps, Path(place))
        print(*rows[-1], flush=True)
    heads = ["folder", "files", "network", "distance", "share of the way", "near copies", "nearest, dB", "seconds"]
    steps = f" --steps {arguments.steps}" if arguments.steps else ""
    lines = ["# A folder's own sound", "", f"`python -m bench.folder{steps}`: {describe_run()}.", ""]
    lines += markdown_table(heads, rows)
    (arguments.out / "folder.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def load_folders() -> dict[str, tuple[str, list[np.ndarray]]]:
    """Return the category and the sounds of each folder."""
    found = {}
    for name, (category, patterns) in FOLDERS.items():
        paths = sorted(path for pattern in patterns for path in KITS.glob(pattern))
        found[name] = category, [read(path, SAMPLE_RATE, 1)[0][0] for path in paths]
    data = load_prepared(Path("build/default_data.npz"))
    for name, (category, begin) in HELD_OUT.items():
        mine = np.flatnonzero(data.held_out & (data.labels == CATEGORIES.index(category)))
        found[name] = category, [data.sounds[i] / np.float32(32768) for i in mine if data.names[i].startswith(begin)]
    return {name: (category, [x for x in sounds if np.abs(x).max() > 0]) for name, (category, sounds) in found.items()}


class Kit:
    """A folder, a third of which is kept back.

    Attributes:
        place: the folder with the used files, in a class folder.
        used: number of used files.
        floor: distance of the used to the kept sounds.
    """

    def __init__(self, category: str, sounds: Sequence[np.ndarray], place: Path) -> None:
        order = np.random.default_rng(0).permutation(len(sounds))
        kept, used = ([sounds[i] for i in some] for some in (order[::_KEPT], order[np.arange(len(order)) % _KEPT > 0]))
        self.category, self.place, self.used = category, place, len(used)
        (place / category).mkdir(parents=True)
        for number, sound in enumerate(used):
            soundfile.write(place / category / f"{number:03}.wav", sound, SAMPLE_RATE, "FLOAT")
        self._kept, self._used = _pad(kept), _pad(used)
        self.floor = max(0.0, distance(self._used, self._kept))

    def judge(self, network: ddnb.Checkpoint) -> tuple[float, np.ndarray]:
        """Return the distance of what a network makes to the kept sounds, and the nearest used sound of each, in dB."""
        clips = ddnb.generate(network, _MADE, _SEED, category=self.category, level="network")
        made = _pad([clip.audio[0] for clip in clips])
        return distance(made, self._kept), find_nearest(made, self._used)[0]

    def share(self, before: float, far: float) -> float:
        """Return the share of the way."""
        return (before - far) / (before - self.floor)


def measure_folder(
    ckpt: ddnb.Checkpoint, name: str, category: str, sounds: Sequence[np.ndarray], steps: int, place: Path
) -> list[list[str]]:
    """Return a row for the network before, one for the fitted one, and one for the fine-tuned one."""
    kit, began = Kit(category, sounds, place / "sounds"), time.perf_counter()
    networks = {"before": (ckpt, 0.0), "fitted": (ddnb.fit(ckpt, kit.place), time.perf_counter() - began)}
    if steps:
        began = time.perf_counter()
        for _ in ddnb.finetune(ckpt, kit.place, place / "run", steps=steps, device="cpu"):
            pass
        networks["fine-tuned"] = ddnb.load(place / "run"), time.perf_counter() - began
    before, rows = 0.0, list[list[str]]()
    for label, (network, seconds) in networks.items():
        far, nearest = kit.judge(network)
        before = before if rows else far
        way = f"{kit.share(before, far):.0%}" if rows else ""
        copies = f"{(nearest < COPY_DB).mean():.0%}"
        row = [name, str(kit.used), label, f"{far:.2f}", way, copies, f"{np.median(nearest):.1f}", f"{seconds:.1f}"]
        rows.append(row)
    return [*rows, [name, str(kit.used), "recordings", f"{kit.floor:.2f}", "", "", "", ""]]


def distance(a: Tensor, b: Tensor) -> float:
    """Return the energy distance of two sets of sounds in dB, unbiased; source: Szekely & Rizzo 2013."""
    x, y = (features(each) for each in (a, b))
    return 2 * float(_rms(x, y).mean()) - _within(x) - _within(y)


def _within(x: np.ndarray) -> float:
    return float(_rms(x, x).sum()) / (len(x) * (len(x) - 1))


def _rms(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(x[:, None] - y[None]).mean(-1))


def _pad(sounds: Sequence[np.ndarray]) -> Tensor:
    out = np.zeros((len(sounds), FRAMES), np.float32)
    for row, sound in zip(out, sounds, strict=True):
        row[: min(len(sound), FRAMES)] = sound[:FRAMES]
    return torch.from_numpy(out)


if __name__ == "__main__":
    main()
