"""``beat``: one-shots on a grid of 16 steps a bar, as a seamless loop and as a MIDI file.

A track of a pattern is a text with one character per step: ``.`` is a rest, ``1`` (soft) to ``9`` (loud) are hits. What
rings beyond the end of the loop continues at its beginning.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ..audio.channels import to_channels
from ..audio.io import peak_dbfs, resample
from ..audio.loop import loop_frames
from ..audio.mastering import LEAD_S, normalize, start_frame
from ..checkpoints.checkpoint import Checkpoint
from ..checks import whole, within
from ..clips.clip import Clip
from ..clips.provenance import Making, ModelRecord, Provenance, provenance_of, this_machine
from ..clips.source import OWN, AnySound, input_clip, input_record, require_sound
from ..display.html import sounds_html
from ..display.text import shown
from ..errors import ArgumentError, AudioError, Cancelled
from ..files import ASSETS, atomically, expand, free_name
from ..names import find_name
from .generate import generate
from .levels import NORMALIZED, require_level

if TYPE_CHECKING:
    import mido


STEPS = 16
"""Steps in a bar of four beats."""

TICKS = 120
"""MIDI ticks per step: 480 per beat."""

PEAK_DBFS = -6.0
"""Peak of a sound at the loudest velocity, before the level of its track."""

CHOKE_S = 0.005
"""Fade of a choked sound: long enough not to click."""

SILENT_DBFS = -120.0
OWN_NOTE = 75
"""Claves: the MIDI key of a track that is not named like a category."""


@dataclass(frozen=True, eq=False)
class Beat:
    """A drum beat; ``ddnb.beat`` makes one, its ``with`` methods make another one of it.

    Attributes:
        sounds: the sound of each track.
        tracks: the steps of each track, 16 per bar; they repeat.
        bpm: beats per minute, from 20 to 999.
        bars: bars of 4/4, from 1 to 64.
        swing: share of the first sixteenth in each pair, from 0.5 (straight) over 2/3 (triplets) to 0.75.
        sample_rate: Hz.
        seed: part of the name.
        pattern: the name of the pattern.
        provenance: checkpoint and machine.
        level: ``"normalized"``, to the loudness of loops; or ``"network"``, as the sounds add up.

    Raises:
        ArgumentError: a number out of its range, malformed steps, no hit at all, a track without a sound or a sound
            without a track.
        AudioError: a sound that is silent, not finite, or neither mono nor stereo.
    """

    sounds: Mapping[str, Clip]
    tracks: Mapping[str, str]
    bpm: float
    bars: int
    swing: float
    sample_rate: int
    seed: int
    pattern: str = "own"
    provenance: Provenance = field(default_factory=Provenance)
    level: str = NORMALIZED

    def __post_init__(self) -> None:
        require_level(self.level)
        loop_frames(self.bpm, self.bars, self.sample_rate)
        _find_hits(self.tracks, self.bars, self.swing)
        _require_tracks(self.sounds, self.tracks)
        if missing := [track for track in self.tracks if track not in self.sounds]:
            raise ArgumentError(f"No sound for {', '.join(missing)}: give one along with the steps.")
        for track, clip in self.sounds.items():
            _require_playable(track, clip)

    @cached_property
    def clip(self) -> Clip:
        """The rendered loop: ``loop_frames(bpm, bars, sample_rate)`` frames, stereo if one of the sounds is."""
        data, frames = drum_data(), loop_frames(self.bpm, self.bars, self.sample_rate)
        channels = max(len(clip.audio) for clip in self.sounds.values())
        sounds = {
            track: _prepare(clip, self.sample_rate, channels, PEAK_DBFS + data["levels_db"].get(track, 0.0))
            for track, clip in self.sounds.items()
        }
        step, timed = frames / (STEPS * self.bars), _find_hits(self.tracks, self.bars, self.swing)
        hits = [(track, round(at * step), velocity) for track, at, velocity in timed]
        loop = np.zeros((channels, frames), np.float32)
        for track, start, velocity in hits:
            sound = sounds[track] * (velocity / 9) ** 2  # 40 log10(velocity / 9) dB
            chokers = data["chokes"].get(track, ())
            if cuts := [other for choker, other, _ in hits if choker in chokers]:
                gap = min((cut - start - 1) % frames + 1 for cut in cuts)  # a hit meets itself one loop later
                sound = _choke(sound, gap, round(CHOKE_S * self.sample_rate))
            _add(loop, sound, start)
        clip = Clip(loop, self.sample_rate, self.seed, replace(self.provenance, making=self._making(frames)))
        if self.level != NORMALIZED:
            return clip
        return clip.edited(normalize(loop, self.sample_rate, align=False, by_loudness=True))

    def _making(self, frames: int) -> Making:
        return Making(
            "beat",
            pattern=self.pattern,
            tracks=dict(self.tracks),
            bpm=float(self.bpm),
            bars=int(self.bars),
            swing=float(self.swing),
            frames=frames,
            sounds={track: input_record(clip) for track, clip in self.sounds.items()},
        )

    def midi(self) -> mido.MidiFile:
        """Return the same hits as a MIDI file, for other sounds: channel 10, the keys of General MIDI percussion.

        Velocities are 14 to 127, notes last half a step, the file lasts whole bars.
        """
        from mido import Message, MetaMessage, MidiFile, MidiTrack, bpm2tempo

        notes, events = drum_data()["notes"], []
        for track, at, velocity in _find_hits(self.tracks, self.bars, self.swing):
            tick, key = round(at * TICKS), {"channel": 9, "note": notes.get(track, OWN_NOTE)}
            events.append((tick, Message("note_on", **key, velocity=round(velocity * 127 / 9))))
            events.append((tick + TICKS // 2, Message("note_off", **key)))
        events.sort(key=lambda event: (event[0], event[1].type))  # a note ends before the next begins
        events.append((STEPS * self.bars * TICKS, MetaMessage("end_of_track")))
        score = MidiTrack()
        score.append(MetaMessage("track_name", name=shown(self.pattern)))
        score.append(MetaMessage("set_tempo", tempo=bpm2tempo(self.bpm)))
        score.append(MetaMessage("time_signature", numerator=4, denominator=4))
        now = 0
        for tick, message in events:
            score.append(message.copy(time=tick - now))
            now = tick
        return MidiFile(type=0, ticks_per_beat=4 * TICKS, tracks=[score], charset="utf-8")

    def save(self, folder: str | Path, bits: str = "24", chunks: bool = True, to_rate: int | None = None) -> list[Path]:
        """Write the loop and its record as ``Clip.save`` does, and the MIDI file beside them; nothing is overwritten.

        Returns:
            The paths of the WAV file and of the MIDI file.
        """
        score = self.midi()
        wav = self.clip.save(folder, bits, chunks, to_rate)
        mid = free_name(wav.with_suffix(".mid"))
        atomically(mid, score.save)
        return [wav, mid]

    def with_sound(self, track: str, sound: AnySound) -> Beat:
        """Return this beat with another sound on a track: a clip, a sound file, or ``(array (C, T), sample_rate)``."""
        return replace(self, sounds={**self.sounds, track: input_clip(sound, track)})

    def with_steps(self, track: str, steps: str, sound: AnySound | None = None) -> Beat:
        """Return this beat with other steps on a track; a new track needs a sound."""
        sounds = self.sounds if sound is None else {**self.sounds, track: input_clip(sound, track)}
        return replace(self, tracks={**self.tracks, track: steps}, sounds=sounds)

    def with_(self, *, bpm: float | None = None, bars: int | None = None, swing: float | None = None) -> Beat:
        """Return this beat at another tempo, of another length, or with another swing."""
        given: dict[str, Any] = {"bpm": bpm, "bars": bars, "swing": swing}
        return replace(self, **{name: value for name, value in given.items() if value is not None})

    def _repr_html_(self) -> str:
        return sounds_html([self.clip.shown()])

    def __repr__(self) -> str:
        tracks = ", ".join(self.tracks)
        return f"<{self.pattern} beat at {self.bpm:g} BPM, {_count_bars(self.bars)}: {tracks}>"


def beat(
    ckpt: Checkpoint | None = None,
    pattern: str | Path | Mapping[str, Any] = "house",
    *,
    sounds: Mapping[str, AnySound] | None = None,
    bpm: float | None = None,
    bars: int | None = None,
    swing: float | None = None,
    seed: int | Mapping[str, int] = 0,
    level: str = NORMALIZED,
    **options: Any,
) -> Beat:
    """Make a drum beat: the tracks of a pattern play sounds of the network, or your own.

    Args:
        ckpt: what ``load`` returned; not needed where every track has a sound of yours.
        pattern: a name of ``list_patterns()``; a mapping like theirs, ``{"tracks": {"kick": "9...9...9...9..."}}``,
            with or without ``bpm`` (else 120) and ``swing`` (else 0.5); or a ``.json`` file with one, such as the
            record of a saved beat.
        sounds: your own sounds, track by track: a clip, a sound file, or ``(array (C, T), sample_rate)``. For the other
            tracks a sound is generated, in the category that is called like the track.
        bpm: beats per minute, from 20 to 999; the pattern's by default.
        bars: bars of 4/4, from 1 to 64; as many as the pattern has by default. More repeat it, fewer cut it.
        swing: share of the first sixteenth in each pair, from 0.5 (straight) over 2/3 (triplets) to 0.75.
        seed: of every generated sound; or one per category, ``{"kick": 7, "snare": 1}``.
        level: ``"normalized"`` gives the loop a loudness of -18 LUFS, or a peak of -1 dBFS where that is quieter;
            ``"network"`` leaves it as its sounds add up.
        options: more for ``generate``, such as ``steps`` and ``guidance_scale``.

    Returns:
        The beat, at the network's sample rate; without a network, at the highest of your sounds.

    Raises:
        FileNotFoundError: no such file.
        ArgumentError: an unknown or malformed pattern, a number out of its range, a track that nothing can play, or a
            sound without a track.
        AudioError: an unusable sound.
        Cancelled: interrupted before there was a sound for every track.
    """
    require_level(level)
    name, groove = _read_pattern(pattern)
    tracks, sounds = dict(groove["tracks"]), sounds or {}
    bpm = groove.get("bpm", 120) if bpm is None else bpm
    swing = groove.get("swing", 0.5) if swing is None else swing
    bars = max(1, max(map(len, tracks.values()), default=0) // STEPS) if bars is None else bars
    wanted = [track for track in tracks if track not in sounds]
    _require_tracks(sounds, tracks)
    _require_categories(wanted, ckpt)
    clips = {track: _require_playable(track, input_clip(sound, track)) for track, sound in sounds.items()}
    rate = max((clip.sample_rate for clip in clips.values()), default=0) if ckpt is None else ckpt.sample_rate
    loop_frames(bpm, bars, rate)  # this and the next line: checked before time is spent on sounds
    _find_hits(tracks, bars, swing)
    made_by = replace(provenance_of(ckpt, Making()), making=None) if ckpt and wanted else _without_network(rate)
    clips |= _generate_sounds(ckpt, wanted, seed, options | {"level": level})
    seed = 0 if isinstance(seed, Mapping) else whole("seed", seed)
    return Beat(
        {track: clips[track] for track in tracks},
        tracks,
        bpm,
        bars,
        swing,
        rate,
        seed,
        name,
        made_by,
        level,
    )


def _without_network(sample_rate: int) -> Provenance:
    return Provenance(model=ModelRecord(OWN, OWN, sample_rate), machine=this_machine())


def list_patterns() -> dict[str, dict[str, Any]]:
    """Return the built-in patterns: name -> bpm, swing, tracks."""
    return drum_data()["patterns"]


def drum_data() -> dict[str, Any]:
    """Return ``levels_db``, ``notes`` (MIDI keys) and ``chokes`` by category, and the ``patterns``."""
    return json.loads((ASSETS / "patterns.json").read_text(encoding="utf-8"))


def _read_pattern(pattern: str | Path | Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Return the name of a pattern and its content."""
    known = list_patterns()
    if isinstance(pattern, str) and pattern in known:
        return pattern, known[pattern]
    content: Any = pattern
    if not isinstance(pattern, Mapping):
        path = expand(pattern)
        if path.suffix.lower() != ".json":
            raise ArgumentError(
                f"Unknown pattern {pattern!r}. Known: {', '.join(known)}; or give a .json file, or a mapping like "
                "those of list_patterns()."
            )
        try:
            content = json.loads(path.read_text(encoding="utf-8-sig"))
        except ValueError as error:
            raise ArgumentError(f"{path.name} is not JSON: {error}") from error
    content = content.get("making", content) if isinstance(content, Mapping) else {}
    tracks = content.get("tracks")
    if not isinstance(tracks, Mapping) or not all(isinstance(steps, str) for steps in tracks.values()):
        raise ArgumentError("This pattern has no tracks: give {'tracks': {'kick': '9...9...9...9...'}, 'bpm': 120}.")
    return "own", content


def _find_hits(tracks: Mapping[str, str], bars: int, swing: float) -> list[tuple[str, float, int]]:
    """Return every hit: its track, its time in steps from the beginning, and its velocity."""
    for track, steps in tracks.items():
        if not re.fullmatch(r"([.1-9]{16})+", steps):
            raise ArgumentError(
                f"{track}: {steps!r} ({len(steps)} steps): give {STEPS} per bar, each . (rest) or 1 (soft) to 9 (loud)."
            )
    try:
        within("swing", swing, 0.5, 0.75)
    except ArgumentError as error:
        raise ArgumentError(f"{error} 0.5 is straight; 2/3 makes triplets.") from None
    hits = [
        (track, k + k % 2 * (2 * swing - 1), int(steps[k % len(steps)]))
        for track, steps in tracks.items()
        for k in range(STEPS * bars)
        if steps[k % len(steps)] != "."
    ]
    if not hits:
        raise ArgumentError(f"No hit in {_count_bars(bars)}: give a track a step from 1 to 9.")
    return hits


def _count_bars(bars: int) -> str:
    return f"{bars} bar{'s' if bars > 1 else ''}"


def _require_tracks(sounds: Mapping[str, Any], tracks: Mapping[str, str]) -> None:
    if extra := [track for track in sounds if track not in tracks]:
        raise ArgumentError(f"No track for the sound of {', '.join(extra)}. This beat has: {', '.join(tracks)}.")


def _require_categories(wanted: list[str], ckpt: Checkpoint | None) -> None:
    """Refuse tracks for which the network cannot make a sound."""
    if ckpt is not None and not callable(ckpt):
        raise TypeError(f"ckpt={ckpt!r}: pass what ddnb.load returns; a pattern goes into pattern=...")
    if unknown := [track for track in wanted if ckpt is None or find_name(track, ckpt.categories) is None]:
        why = "no network is given" if ckpt is None else f"{ckpt.name} has no category of that name"
        raise ArgumentError(
            f"No sound for {', '.join(unknown)}: {why}. Give your own, sounds={{{unknown[0]!r}: 'file.wav'}}, or a "
            "network that makes them, ddnb.load('drums')."
        )


def _generate_sounds(
    ckpt: Checkpoint | None, wanted: list[str], seed: int | Mapping[str, int], options: dict[str, Any]
) -> dict[str, Clip]:
    """Generate one sound per category; progress is counted over all of them."""
    on_step = options.pop("on_step", None)
    made: dict[str, Clip] = {}
    if not wanted and (extra := [name for name in options if name != "level"]):
        raise ArgumentError(f"Every track has a sound, so nothing is generated: leave out {', '.join(extra)}.")
    seeds = seed if isinstance(seed, Mapping) else dict.fromkeys(wanted, seed)
    if lacking := [category for category in wanted if category not in seeds]:
        raise ArgumentError(f"seed={seed!r}: give one for {', '.join(lacking)} as well.")

    def report(done: int, total: int, denoised: Tensor) -> None:
        if on_step is not None:
            on_step(len(made) * total + done, len(wanted) * total, denoised)

    for category in wanted:
        clips = generate(ckpt, 1, seeds[category], category=category, on_step=report, **options)
        if not clips:
            raise Cancelled(f"stopped after {len(made)} of {len(wanted)} sounds; every track needs one")
        made[category] = clips[0]
    return made


def _require_playable(track: str, clip: Clip) -> Clip:
    audio, rate = clip.audio, clip.sample_rate
    require_sound(audio, rate, track)
    if len(audio) > 2:
        raise AudioError(f"{track}: its audio has the shape {audio.shape}; give 1 or 2 channels, (channels, frames).")
    if audio.shape[1] < LEAD_S * rate or peak_dbfs(audio) < SILENT_DBFS:
        raise AudioError(f"{track}: its audio is silent, or shorter than a millisecond.")
    return clip


def _prepare(clip: Clip, sample_rate: int, channels: int, level_dbfs: float) -> np.ndarray:
    """Return a sound from its attack on, at this peak, (channels, frames)."""
    audio = to_channels(resample(clip.audio, clip.sample_rate, sample_rate), channels)
    start, peak = start_frame(audio, sample_rate), np.abs(audio).max()
    return audio[:, start:] * np.float32(10 ** (level_dbfs / 20) / peak)


def _choke(sound: np.ndarray, gap: int, fade: int) -> np.ndarray:
    """Cut a sound after ``gap`` frames, with a fade."""
    sound = sound[:, : gap + fade]
    return sound * np.interp(np.arange(sound.shape[1]), (gap, gap + fade), (1, 0))


def _add(loop: np.ndarray, sound: np.ndarray, start: int) -> None:
    """Add a sound to a loop from ``start`` on, wrapping around as often as necessary."""
    while sound.shape[1]:
        piece = sound[:, : loop.shape[1] - start]
        loop[:, start : start + piece.shape[1]] += piece
        sound, start = sound[:, piece.shape[1] :], 0
