"""What the commands of the command line do; ``__main__`` says what they are called."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .audio import CEILING_DBFS, peak_dbfs
from .beats import beat
from .checkpoints import Checkpoint, convert, list_checkpoints, load, verify
from .clips import Clip, Clips
from .copies import originality
from .doctor import check_dataset
from .edits import extend, inpaint
from .engine import DEFAULT_STEPS, Tempo, seed_list
from .files import atomically, file_sha256, free_name
from .guidance import Category
from .interpolation import interpolate
from .loops import MAX_CENTS, loop_frames
from .packs import file_samples_sha256, pack, packed_name
from .pictures import contact_sheet
from .recipe import Recipe
from .records import PACK, read_clip, read_record, remade
from .runs import RunFolder
from .runtime import pick
from .schedule import time_grid
from .training import Record, finetune, from_scratch
from .verbs import generate, sound_files, vary

ANY = "any"
_SAY_S = 30.0  # a line at least this often
_SHEET = 64  # sounds on a contact sheet at most


def run_generate(arguments: argparse.Namespace) -> int:
    seeds = _seeds(arguments, arguments.n)  # what is wrong with the numbers is said before a download
    time_grid(arguments.grid or "log_snr", DEFAULT_STEPS if arguments.steps is None else arguments.steps)
    if not 0 <= arguments.width <= 1:
        raise ValueError(f"--width {arguments.width}: give a number from 0 to 1.")
    if arguments.bpm is not None:
        loop_frames(arguments.bpm, arguments.bars or 1, 44_100, arguments.beats_per_bar)
    _check_writable(arguments.out)
    ckpt = _ready(arguments)
    each = bool(ckpt.categories) and arguments.category is None
    if each and arguments.n is None and len(arguments.seed) == 1:
        seeds = _seeds(arguments, max(16, len(ckpt.categories)))
    options = _options(arguments) | _tempo(arguments) | {"width": arguments.width, "duration_s": arguments.duration_s}
    options["max_cents"] = _accepted_cents(arguments, ckpt)
    sheet = _Sheet(len(seeds))
    with _Bar("generating", "step") as bar:
        done, steps = 0, arguments.steps or DEFAULT_STEPS
        for wanted, some in _jobs(ckpt.categories if each else [arguments.category], seeds, _at_once(arguments, ckpt)):
            options["category"] = None if wanted == ANY and ANY not in ckpt.categories else wanted
            on_step = lambda step, _, __: bar(done * steps + step, len(seeds) * steps)  # noqa: B023, E731
            clips = generate(ckpt, seed=some, on_step=on_step, **options)
            _save(clips, arguments)  # as they come: what is finished is on the disk
            sheet.add(clips)
            done += len(clips)
            if len(clips) < len(some):
                return _stopped(done, len(seeds))
    sheet.save(arguments.out)
    if ckpt.info.get("untrained"):
        print(f"ddnb: {ckpt.name} is an untrained network, so this is noise, to see that all works.", file=sys.stderr)
    return 0


def run_vary(arguments: argparse.Namespace) -> int:
    seeds = _seeds(arguments, arguments.n)
    sounds = sound_files(arguments.audio) if arguments.audio.expanduser().is_dir() else [arguments.audio]
    options = _options(arguments) | _tempo(arguments) | {"match_level": arguments.match_level}
    options |= {"offset_s": arguments.offset_s, "duration_s": arguments.duration_s}
    options |= {} if arguments.max_cents is None else {"max_cents": arguments.max_cents}

    def make(sound: Path, seeds: Sequence[int], ckpt: Checkpoint, on_step) -> Clips:
        return vary(ckpt, read_clip(sound), arguments.strength, seed=seeds, on_step=on_step, **options)

    return _edit(arguments, "varying", make, sounds, seeds)


def run_inpaint(arguments: argparse.Namespace) -> int:
    seeds, (start_s, end_s) = _seeds(arguments, arguments.n), map(list, zip(*arguments.gap, strict=True))
    options = _options(arguments) | {"method": arguments.method, "loop": arguments.loop}

    def make(sound: Path, seeds: Sequence[int], ckpt: Checkpoint, on_step) -> Clips:
        return inpaint(ckpt, read_clip(sound), start_s, end_s, seed=seeds, on_step=on_step, **options)

    return _edit(arguments, "filling", make, [arguments.audio], seeds)


def run_extend(arguments: argparse.Namespace) -> int:
    seeds = _seeds(arguments, arguments.n)
    options = _options(arguments) | {"method": arguments.method, "backwards": arguments.backwards}

    def make(sound: Path, seeds: Sequence[int], ckpt: Checkpoint, on_step) -> Clips:
        return extend(ckpt, read_clip(sound), arguments.duration_s, seed=seeds, on_step=on_step, **options)

    return _edit(arguments, "extending", make, [arguments.audio], seeds)


def _edit(arguments: argparse.Namespace, what: str, make, sounds: Sequence[Path], seeds: list[int]) -> int:
    """Make new sounds of each of some sounds, and save them as they come."""
    for sound in sounds:
        if not sound.expanduser().is_file():
            raise FileNotFoundError(f"No sound file at {sound}.")
    _check_writable(arguments.out)
    ckpt = _ready(arguments)
    done, used, at_once = 0, 0, _at_once(arguments, ckpt)
    sheet = _Sheet(len(sounds) * len(seeds))
    with _Bar(what, "") as bar:
        for sound in sounds:
            for some in (seeds[i : i + at_once] for i in range(0, len(seeds), at_once)):
                try:
                    clips = make(sound, some, ckpt, _share(bar, done, len(some), len(sounds) * len(seeds)))
                except ValueError as error:
                    if len(sounds) == 1:
                        raise
                    print(f"ddnb: left out: {error}", file=sys.stderr)
                    break
                _save(clips, arguments)
                sheet.add(clips)
                done += len(clips)
                if len(clips) < len(some):
                    return _stopped(done, len(sounds) * len(seeds))
            else:
                used += 1
    sheet.save(arguments.out)
    return 0 if used else 2


def run_interpolate(arguments: argparse.Namespace) -> int:
    ends = [int(end) if end.isdecimal() and not Path(end).exists() else Path(end) for end in (arguments.a, arguments.b)]
    for end in ends:
        if isinstance(end, Path) and not end.expanduser().is_file():
            raise FileNotFoundError(f"No sound file at {end}.")
    _check_writable(arguments.out)
    ckpt = _ready(arguments)
    ends = [read_clip(end) if isinstance(end, Path) else end for end in ends]
    options = _options(arguments) | {"to_category": arguments.to_category, "duration_s": arguments.duration_s}
    with _Bar("interpolating", "step") as bar:
        clips = interpolate(
            ckpt, *ends, arguments.n, depth=arguments.depth, exact=arguments.exact, on_step=bar, **options
        )
    _save(clips, arguments)
    if (back := clips.settings["making"].get("round_trip_db")) is not None:
        way = ", by the exact way" if clips.settings["making"]["exact"] else ""
        print(f"ddnb: to noise and back{way}, the ends came within {back[0]:.0f} and {back[1]:.0f} dB", file=sys.stderr)
    sheet = _Sheet(len(clips))
    sheet.add(clips)
    sheet.save(arguments.out)
    return 0 if len(clips) == arguments.n else _stopped(len(clips), arguments.n)


def run_beat(arguments: argparse.Namespace) -> int:
    sounds = {}
    for given in arguments.sound:
        track, _, path = given.partition("=")
        if not path:
            raise ValueError(f"--sound {given}: give TRACK=FILE, such as kick=my-kick.wav.")
        sounds[track] = path
    _check_writable(arguments.out)
    ckpt = _ready(arguments)
    numbers = {"bpm": arguments.bpm, "bars": arguments.bars, "swing": arguments.swing, "seed": arguments.seed}
    steps = {} if arguments.steps is None else {"steps": arguments.steps}
    with _Bar("making its sounds", "step") as bar:
        made = beat(ckpt, arguments.pattern, sounds=sounds, on_step=bar, **numbers, **steps)
    for path in made.save(arguments.out, arguments.bits or "24"):
        print(path)
    return 0


def _share(bar: _Bar, done: int, some: int, sounds: int):
    """Progress of some of the sounds as that of all, in thousandths of a sound."""
    return lambda step, total, _: bar(round((done + some * step / total) * 1000), 1000 * sounds)


def _seeds(arguments: argparse.Namespace, n: int | None) -> list[int]:
    return seed_list(n, arguments.seed if len(arguments.seed) > 1 else arguments.seed[0])


def _ready(arguments: argparse.Namespace) -> Checkpoint:
    """The checkpoint, introduced."""
    ckpt = _load(arguments)
    print(f"ddnb: {ckpt!r}\nddnb: {pick(arguments.device, arguments.dtype).reason}", file=sys.stderr)
    return ckpt


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of sampling that the command has; a category ``any`` is none."""
    names = ("guidance_scale", "guidance_interval", "guidance_rescale", "steps", "sampler", "grid", "batch_size")
    options = {name: getattr(arguments, name) for name in names if getattr(arguments, name, None) is not None}
    return options | ({"category": arguments.category} if arguments.category not in (None, ANY) else {})


def _tempo(arguments: argparse.Namespace) -> dict[str, Any]:
    names = ("loop", "bpm", "bars", "beats_per_bar", "start_on_onset")
    return {name: getattr(arguments, name) for name in names}


def _accepted_cents(arguments: argparse.Namespace, ckpt: Checkpoint) -> float:
    """How far off in pitch a loop may be; above what is hardly heard, the one at the terminal is asked."""
    if arguments.max_cents is not None or not arguments.loop:
        return MAX_CENTS if arguments.max_cents is None else arguments.max_cents
    any_cents = Tempo(**_tempo(arguments), max_cents=12_000)
    cents = any_cents.length(ckpt, arguments.duration_s).cents
    if abs(cents) <= MAX_CENTS or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return MAX_CENTS
    answer = input(f"ddnb: loops of this length come out {cents:+.0f} cents off in pitch. Make them? [y/N] ")
    return abs(cents) if answer.strip().lower().startswith("y") else MAX_CENTS


def _at_once(arguments: argparse.Namespace, ckpt: Checkpoint) -> int:
    return arguments.batch_size or (1 if ckpt.device.type == "cpu" else 8)


def _stopped(done: int, asked: int) -> int:
    print(f"ddnb: stopped after {done} of {asked} sounds", file=sys.stderr)
    return 130


class _Sheet:
    """A picture of what was made, of up to 64 sounds evenly."""

    def __init__(self, sounds: int):
        self.every, self.seen, self.shown = -(-sounds // _SHEET), 0, []

    def add(self, clips: Clips) -> None:
        self.shown += [clip for place, clip in enumerate(clips, self.seen) if place % self.every == 0]
        self.seen += len(clips)

    def save(self, folder: Path) -> None:
        if len(self.shown) > 1:
            sheet = free_name(folder.expanduser() / "contact-sheet.png")
            atomically(sheet, lambda part: part.write_bytes(contact_sheet(self.shown)))
            print(f"ddnb: {len(self.shown)} of them at a glance: {sheet}", file=sys.stderr)


def _jobs(categories: Sequence[Category | None], seeds: list[int], at_once: int) -> Iterator[tuple]:
    """Category and seeds of each batch; the categories share the seeds as evenly as can be."""
    for number, wanted in enumerate(categories):
        first, end = (-(-len(seeds) * k // len(categories)) for k in (number, number + 1))
        for i in range(first, end, at_once):
            yield wanted, seeds[i : min(i + at_once, end)]


def run_finetune(arguments: argparse.Namespace) -> int:
    if not arguments.data.expanduser().is_dir():  # said before a download
        raise FileNotFoundError(f"No folder of sounds at {arguments.data}.")
    several = int(os.environ.get("WORLD_SIZE", 1)) > 1  # then accelerate says who computes where
    where = pick(arguments.device)
    show = os.environ.get("RANK", "0") == "0"
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # queues and containers stop a job so: save, then end
    recipe = Recipe(**{field.name: getattr(arguments, field.name) for field in fields(Recipe)})
    with _Bar("downloading", "B") as loading, _Bar("reading", "file") as reading, _Bar("training", "step") as bar:
        if arguments.scratch:
            ckpt = from_scratch(arguments.scratch, seed=recipe.seed, device="cpu", **_stated(arguments))
        else:
            ckpt = load(arguments.checkpoint, device="cpu", dtype="float32", on_progress=loading, **_stated(arguments))
        if show:
            print(f"ddnb: {ckpt!r}\nddnb: {'as accelerate says' if several else where.reason}", file=sys.stderr)
        options = {"device": where.device, "on_file": reading} | asdict(recipe)
        run = RunFolder(arguments.out)
        records = finetune(ckpt, arguments.data, arguments.out, **options)
        if show:
            print(f"ddnb: {_plan(run)}", file=sys.stderr)
        said = began = time.monotonic()
        first = None  # of the steps that are made now
        for record in records:
            first = record.step if first is None else first
            now = time.monotonic()
            if show:
                bar(record.step, record.steps)
            if show and (record.validation_loss is not None or record.demo or record.advice or now - said > _SAY_S):
                left = (now - began) * (record.steps - record.step) / max(1, record.step - first)
                said = now
                _say(record, left)
    if show and run.last_step() < recipe.steps:
        return 130
    if show:
        print(run.last_path)
    return 0


def _plan(run: RunFolder) -> str:
    """What is about to be trained, in a line."""
    settings = run.settings()
    recipe, sounds = settings["recipe"], settings["sounds"]
    skipped = f", {sounds['unusable']} files cannot be used (see check-dataset)" if sounds["unusable"] else ""
    parts = [
        f"{sounds['used']} sounds, {sounds['held_out']} more held out{skipped}",
        f"categories {', '.join(settings['categories'])}" if settings["categories"] else "no categories",
        f"batches of {recipe['batch_size']}, learning rate {recipe['learning_rate']:g}",
        "clips from anywhere in a sound" if recipe["crop"] else "clips from the beginning of each sound",
    ]
    step = run.last_step()
    return "; ".join(parts) + (f"; going on from step {step} of {recipe['steps']}" if step >= 0 else "")


def _say(record: Record, seconds_left: float) -> None:
    parts = [f"step {record.step} of {record.steps}"]
    parts += [f"loss {record.loss:.4f}"] if record.loss is not None else []
    parts += [f"validation {record.validation_loss:.4f}"] if record.validation_loss is not None else []
    parts += [f"{tqdm.format_interval(seconds_left)} left"] if 0 < record.step < record.steps else []
    tqdm.write(f"ddnb: {', '.join(parts)}", file=sys.stderr)
    if record.demo is not None:
        tqdm.write(f"ddnb: to listen to: {record.demo}", file=sys.stderr)
    if record.advice is not None:
        tqdm.write(f"ddnb: {record.advice}", file=sys.stderr)


def _stated(arguments: argparse.Namespace) -> dict[str, int]:
    """What the command says about the format; what it does not say is left to the checkpoint."""
    given = {"sample_rate": arguments.sample_rate, "frames": arguments.frames}
    return {name: value for name, value in given.items() if value is not None}


def _load(arguments: argparse.Namespace) -> Checkpoint:
    with _Bar("downloading", "B") as bar:
        return load(
            arguments.checkpoint,
            device=arguments.device,
            dtype=arguments.dtype,
            sample_rate=arguments.sample_rate,
            frames=arguments.frames,
            on_progress=bar,
        )


def run_check_dataset(arguments: argparse.Namespace) -> int:
    if not arguments.folder.expanduser().is_dir():  # said before a download
        raise FileNotFoundError(f"No folder of sounds at {arguments.folder}.")
    ckpt = from_scratch(arguments.scratch, **_stated(arguments)) if arguments.scratch else None
    ckpt = _load(arguments) if arguments.checkpoint is not None else ckpt
    with _Bar("listening", "file") as bar:
        report = check_dataset(arguments.folder, ckpt, on_file=bar)
    print(report)
    return 0


def run_pack(arguments: argparse.Namespace) -> int:
    _check_writable(arguments.out.parent)
    sounds = []
    for place in arguments.sounds:
        sounds += _readable(place) if place.expanduser().is_dir() else [place]
    names = ("bits", "format", "level", "instruments")
    options = {name: getattr(arguments, name) for name in names} | {"chunks": not arguments.no_chunks}
    print(pack(sounds, arguments.out, **options))
    return 0


def _readable(folder: Path) -> list[Path]:
    """The files of a folder that are sounds; of the others it is said why not."""
    found = []
    for path in sound_files(folder):
        try:
            read_clip(path)
        except ValueError as error:
            print(f"ddnb: left out: {error}", file=sys.stderr)
        else:
            found.append(path)
    return found


def run_originality(arguments: argparse.Namespace) -> int:
    given = [sound.expanduser() for sound in arguments.sounds]
    sounds = [file for path in given for file in (sound_files(path) if path.is_dir() else [path])]
    with _Bar("comparing", "sound") as bar:
        report = originality(sounds, arguments.data, on_progress=bar)
    print(report)
    return 1 if report.duplicates or any(row.near for row in report.rows) else 0


def run_remake(arguments: argparse.Namespace) -> int:
    _check_writable(arguments.out)
    made = remade(arguments.record, arguments.checkpoint, arguments.sounds)
    asked, is_pack = 1, PACK in (record := read_record(arguments.record))
    if is_pack:
        asked = len(record["sounds"])
    files, samples, other_bits = 0, 0, False
    for record, clip in made:
        file = record.get("file", {})
        bits, chunks = arguments.bits or str(file.get("bits", "24")), bool(file.get("chunks"))
        name = packed_name(file["name"]) if is_pack else clip.name
        path = clip.save_as(arguments.out.expanduser() / f"{name}.wav", bits, chunks)
        _say_saved(path, clip, bits)
        other_bits |= bits != file.get("bits")
        if "samples_sha256" in file:
            samples += file_samples_sha256(path) == file["samples_sha256"]
        else:
            files += file_sha256(path) == file.get("sha256")
    if not other_bits:
        print(f"ddnb: {_how_many_same(files, samples, asked)}", file=sys.stderr)
    return 0


def _how_many_same(files: int, samples: int, asked: int) -> str:
    """Of sounds that were made again; of those that were FLAC files, and are WAV now, the samples are compared."""
    if asked == 1:
        exact = "the same file, byte for byte" if files else "not quite the file it was"
        return "the same sound, sample for sample" if samples else exact
    said = f"{files} of {asked} are the same file, byte for byte"
    return f"{said}; {samples}, which were FLAC, are the same sound, sample for sample" if samples else said


def run_checkpoints(arguments: argparse.Namespace) -> int:
    for name, entry in list_checkpoints().items():
        seconds = entry["frames"] / entry["sample_rate"]
        size = next((f"{s['size_mb']} MB to fetch" for s in entry.get("sources", ()) if "size_mb" in s), "built in")
        print(f"{name:18} {entry['sample_rate']} Hz, {seconds:.2f} s, licence {entry['licence']}, {size}")
        print(f"{'':18} {entry['description']}")
    return 0


def run_verify(arguments: argparse.Namespace) -> int:
    with _Bar("downloading", "B") as bar:
        checks = verify(arguments.name, full=arguments.full, on_progress=bar)
    for check in checks:
        verdict = "ok  " if check["ok"] else "FAIL"
        print(f"{verdict} {check['what']}: {check['got']:.4f}, published {check['expected']} +- {check['tolerance']}")
    if not checks:
        print(f"{arguments.name} opens and fits the network; no numbers are published to check it against.")
    return 0 if all(check["ok"] for check in checks) else 1


def run_convert(arguments: argparse.Namespace) -> int:
    stated = {"sample_rate": arguments.sample_rate, "frames": arguments.frames}
    print(convert(arguments.source, arguments.target, dtype=arguments.dtype, **stated))
    return 0


def _save(clips: Clips, arguments: argparse.Namespace) -> list[Path]:
    bits, paths = arguments.bits or "24", []
    for clip in clips:
        paths.append(clip.save(arguments.out, bits))
        _say_saved(paths[-1], clip, bits)
    return paths


def _say_saved(path: Path, clip: Clip, bits: str) -> None:
    print(path, flush=True)
    if clip.seam_db is not None:
        heard = "cannot be told from its inside" if clip.seam_db <= 0 else "sticks out"
        print(f"ddnb: {path.stem}: the seam {heard} ({clip.seam_db:+.0f} dB)", file=sys.stderr)
    if bits != "float" and (over := peak_dbfs(clip.audio) - CEILING_DBFS) > 0:
        print(f"ddnb: {clip.name} was turned down by {over:.1f} dB to fit; --bits float keeps it", file=sys.stderr)


def _check_writable(folder: Path) -> None:
    """Learn before the work, not after it, that its result cannot be kept."""
    there = folder.expanduser().absolute()
    while not there.exists():
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise OSError(f"{folder} is not a folder that can be written to ({error.strerror}); choose another.") from error


class _Bar:
    """A bar that takes ``(done, total, ...)`` and shows from the first call on; on terminals only, not in logs."""

    def __init__(self, what: str, unit: str):
        self.what, self.unit, self.bar = what, unit, None

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def __call__(self, done: int, total: int | None, *_: object) -> None:
        if self.bar is None:
            self.bar = tqdm(desc=self.what, total=total, unit=self.unit, unit_scale=self.unit == "B", disable=None)
        self.bar.total = total  # may grow on the way
        self.bar.update(done - self.bar.n)
