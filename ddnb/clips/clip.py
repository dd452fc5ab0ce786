"""Clips: sounds with their provenance, that can be saved and shown."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np

from ..audio.io import peak_dbfs, write_wav
from ..audio.loop import SHORTEST_SEAM, loop_frames, seam_db
from ..audio.mastering import apply_edit, rate_edit
from ..audio.wav_chunks import acid, smpl
from ..display.html import sounds_html
from ..display.shown import Shown
from ..errors import ArgumentError
from ..files import atomically, claim_pair, expand, file_sha256, safe_name
from .provenance import InputRecord, Making, Provenance
from .record import FileFacts, LevelFacts, MusicFacts, SoundRecord

LONGEST_NAME = 140
"""Characters of a clip's name, so that a suffix and a number still fit into what every system takes."""

_NO_MAKING = Making()


@dataclass(frozen=True)
class Tempo:
    """The tempo that a sound was made for: it lasts exactly ``bars`` bars."""

    bpm: float
    bars: int
    beats_per_bar: int = 4

    @property
    def beats(self) -> int:
        return self.bars * self.beats_per_bar


@dataclass(frozen=True, eq=False)
class Clip:
    """One sound and its provenance.

    Attributes:
        audio: float32 (channels, frames), nominally within +-1.
        sample_rate: Hz.
        seed: the seed that it was made from; of an interpolation its place, counted from 0; 0 for input audio.
        provenance: how it was made, and what was done to it since.
    """

    audio: np.ndarray
    sample_rate: int
    seed: int
    provenance: Provenance = field(default_factory=Provenance)

    @property
    def settings(self) -> dict[str, Any]:
        """The provenance as a plain dictionary, as it is saved."""
        return self.provenance.to_dict()

    @property
    def making(self) -> Making:
        """The call that made it; an empty one for input audio."""
        return self.provenance.making or _NO_MAKING

    @property
    def duration_s(self) -> float:
        return self.audio.shape[-1] / self.sample_rate

    @property
    def tempo(self) -> Tempo | None:
        """The tempo that was asked for; None where none was."""
        making = self.making
        if making.bpm is None or making.bars is None:
            return None
        return Tempo(making.bpm, making.bars, making.beats_per_bar or 4)

    @property
    def loop(self) -> bool:
        """Return whether the end leads into the beginning."""
        return bool(self.making.loop) or self.making.verb == "beat"

    @property
    def kind(self) -> str:
        """``"loop"``, ``"bars"`` (of exact bars, but with an end), ``"one-shot"``, or ``"own"`` for input audio, which
        may be any of them.
        """
        if self.provenance.making is None:
            return "own"
        return "loop" if self.loop else "bars" if self.tempo else "one-shot"

    @property
    def name(self) -> str:
        """A file name without suffix: ``snare_drums_seed7``, ``texture_drums_loop_128bpm_2bars_seed0``,
        ``my-snare_vary_seed3``, ``a_to_b_2of8``; with its note where that is known, ``bass_F1_drums_seed1``.
        """
        # as a whole: its parts may come from a record that anybody has written
        return safe_name(self._plain_name, LONGEST_NAME)

    def _repr_html_(self) -> str:
        return sounds_html([self.shown()])

    @property
    def _plain_name(self) -> str:
        making, root = self.making, self.provenance.root_note
        note = root.name if root else ""
        if self.provenance.source is not None:
            return "_".join(filter(None, [_input_name(self.provenance.source), note]))
        if making.verb == "interpolate" and making.a and making.b:
            return "_".join([_input_name(making.a), "to", _input_name(making.b), f"{self.seed + 1}of{making.asked}"])
        if making.verb == "beat":
            parts = [making.pattern or "own", "beat"]
        elif making.verb in ("vary", "inpaint", "extend") and making.source:
            name = _input_name(making.source)
            parts = [name, "" if note in name.split("_") else note, making.verb]
        else:
            model = self.provenance.model
            parts = ["-".join(making.category or ()), note, model.name if model else "sound"]
        parts += ["loop"] if making.loop else []
        parts += _tempo_names(self.tempo) if self.tempo else []
        return "_".join([safe_name(part)[:40] for part in parts if part] + [f"seed{self.seed}"])

    @cached_property
    def seam_db(self) -> float | None:
        """Return how far the seam of a loop stands out, see ``audio.seam_db``.

        None for what is no loop, or too short; and for beats, where a hit on the first step is meant to stand out.
        """
        long_enough = self.audio.shape[-1] >= SHORTEST_SEAM
        return seam_db(self.audio) if self.making.loop and long_enough else None

    def edited(self, edit: Mapping[str, Any]) -> Clip:
        """Return the clip with an edit applied, see ``audio.mastering``, and noted in its provenance."""
        if not edit:
            return self
        audio = apply_edit(self.audio, edit, self.sample_rate)
        provenance = replace(self.provenance, edits=(*self.provenance.edits, edit))
        return replace(self, audio=audio, sample_rate=edit.get("to_rate", self.sample_rate), provenance=provenance)

    def at_rate(self, to_rate: int | None) -> Clip:
        """Return the clip at another sample rate, a loop resampled on its circle; None keeps it.

        Raises:
            ArgumentError: a rate that is not a whole number from 8,000 to 192,000.
        """
        if to_rate is None:
            return self
        edit = rate_edit(self.sample_rate, to_rate)
        if edit and self.loop:
            tempo, frames = self.tempo, round(self.audio.shape[-1] * to_rate / self.sample_rate)
            exact = tempo and loop_frames(tempo.bpm, tempo.bars, to_rate, tempo.beats_per_bar)
            edit["circle_frames"] = exact or frames
        return self.edited(edit)

    def reproducible(self) -> Provenance:
        """Return what ``remake`` needs to make this very clip again: the provenance with the clip's own seed."""
        making = self.provenance.making
        making = making and replace(making, seed=self.seed)
        return replace(self.provenance, making=making, root_note=None)

    def shown(self) -> Shown:
        """Return what notebooks display of it."""
        making = self.making
        details = [f"{how}, {making.steps} steps" for how in (making.sampler, making.method) if how]
        details += [f"strength {making.strength:g}"] if making.strength is not None else []
        marks = tuple(second / self.duration_s for second in self._marked_seconds())
        return Shown(self.audio, self.sample_rate, self.name, ", ".join(details), self.loop, self.seam_db, marks)

    def _marked_seconds(self) -> list[float]:
        """Return where gaps begin and end, or where a sound was extended."""
        making = self.making
        if making.verb == "inpaint":
            return [float(s) for side in (making.start_s, making.end_s) for s in np.atleast_1d(np.asarray(side))]
        if making.verb == "extend" and making.source_s is not None:
            return [self.duration_s - making.source_s if making.backwards else making.source_s]
        return []

    def save(self, folder: str | Path, bits: str = "24", chunks: bool = True, to_rate: int | None = None) -> Path:
        """Write the sound as WAV, and beside it a JSON record from which ``remake`` makes it again.

        Nothing is overwritten: a name that is taken gets a number. Integer formats lower a clip whose peak is above
        -1 dBFS and state the gain in the record (``level.gain_db``).

        Args:
            folder: the folder to write to; created if necessary.
            bits: ``"16"``, ``"24"`` or ``"float"``.
            chunks: write WAV chunks that state the loop, the tempo, or that it is a one-shot. Hardware samplers that
                refuse such files need plain ones.
            to_rate: sample rate of the file, Hz, from 8,000 to 192,000 (default: that of the clip).

        Returns:
            The path of the WAV file.

        Raises:
            ArgumentError: a file in place of a folder, unknown ``bits``, or a rate out of its range; nothing is
                written.
        """
        folder = expand(folder)
        if folder.suffix.lower() in (".wav", ".json") or folder.is_file():
            raise ArgumentError(
                f"{folder} is not a folder: give the folder to save in; the file will be {self.name}.wav."
            )
        return self.save_as(folder / f"{self.name}.wav", bits, chunks, to_rate)

    def save_as(self, path: Path, bits: str = "24", chunks: bool = True, to_rate: int | None = None) -> Path:
        """Write the sound and its record under a name of your own, with a number where that is taken. See ``save``.

        Raises:
            ArgumentError: unknown ``bits``, or a rate out of its range; nothing is written.
        """
        clip = self.at_rate(to_rate)
        path, beside = claim_pair(path)
        try:
            text = json.dumps(clip.write(path, bits, chunks).to_dict(), indent=2) + "\n"
            atomically(beside, lambda part: part.write_text(text, encoding="utf-8"))
        except BaseException:
            with contextlib.suppress(OSError):  # the disk may be gone
                path.unlink(missing_ok=True)
                beside.unlink(missing_ok=True)
            raise
        return path

    def write(self, path: Path, bits: str = "24", chunks: bool = True) -> SoundRecord:
        """Write the sound as WAV to a path that is free; return its record. See ``save``, and ``audio.write_wav``."""
        gain_db = write_wav(path, self.audio, self.sample_rate, bits, self._chunks() if chunks else ())
        channels, frames = self.audio.shape
        return SoundRecord(
            FileFacts(path.name, file_sha256(path), frames, self.sample_rate, channels, bits, chunks),
            self._music(),
            LevelFacts(
                peak_dbfs=round(peak_dbfs(self.audio), 3) if self.audio.any() else None,
                gain_db=gain_db,
                samples_over_full_scale=int((self.audio > 1).sum() + (self.audio < -1).sum()),
                seam_db=None if self.seam_db is None else round(self.seam_db, 1),
            ),
            self.reproducible(),
        )

    def _chunks(self) -> list[bytes]:
        """Return the WAV chunks that state what is known, and nothing else.

        For a loop without a tempo that is the loop alone: a program guesses its tempo better than a default would.
        """
        note, tempo = self.provenance.root_note, self.tempo
        chunks = [smpl(self.audio.shape[-1], self.sample_rate)] if self.loop else []
        if tempo:
            chunks.append(acid(tempo.bpm, tempo.beats, tempo.beats_per_bar))
        elif self.kind == "one-shot":
            chunks.append(acid(note=note.note if note else None))
        return chunks

    def _music(self) -> MusicFacts:
        tempo, length_s = self.tempo, Fraction(self.audio.shape[-1], self.sample_rate)
        if tempo is None:
            return MusicFacts(self.kind, exact_length_s=str(length_s), root_note=self.provenance.root_note)
        length_s = Fraction(60 * tempo.beats) / Fraction(tempo.bpm)  # before it was rounded to whole frames
        return MusicFacts(
            self.kind,
            tempo.bpm,
            tempo.bars,
            tempo.beats_per_bar,
            tempo.beats,
            str(length_s),
            self.provenance.root_note,
        )


@dataclass(frozen=True, eq=False)
class Clips(Sequence[Clip]):
    """Sounds made in one call.

    Attributes:
        audio: float32 (B, channels, frames).
        sample_rate: Hz.
        seeds: one per clip.
        provenance: how they were made; the seed is that of each clip.
        pitches_hz: the pitch of each clip, None for those without; empty if none has any.
        edits: what was done to each clip since the network made it, see ``audio.mastering``; empty if nothing was.
    """

    audio: np.ndarray
    sample_rate: int
    seeds: list[int]
    provenance: Provenance = field(default_factory=Provenance)
    pitches_hz: tuple[float | None, ...] = ()
    edits: tuple[Mapping[str, Any], ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """The provenance as a plain dictionary, as it is saved."""
        return self.provenance.to_dict()

    @property
    def complete(self) -> bool:
        """Return whether as many clips were finished as the call asked for."""
        making = self.provenance.making
        return making is None or making.asked is None or len(self) >= making.asked

    def __len__(self) -> int:
        return len(self.audio)

    @overload
    def __getitem__(self, index: int) -> Clip: ...
    @overload
    def __getitem__(self, index: slice) -> Clips: ...
    def __getitem__(self, index: int | slice) -> Clip | Clips:
        if isinstance(index, slice):
            some = self.audio[index], self.sample_rate, self.seeds[index], self.provenance
            return Clips(*some, self.pitches_hz[index], self.edits[index])
        return Clip(self.audio[index], self.sample_rate, self.seeds[index], self._provenance_of(index))

    def _provenance_of(self, index: int) -> Provenance:
        """Return the provenance of one clip, with its note and its edit."""
        provenance, making = self.provenance, self.provenance.making
        if self.edits and self.edits[index]:
            provenance = replace(provenance, edits=(*provenance.edits, self.edits[index]))
        if making is not None and self.pitches_hz and (hz := self.pitches_hz[index]) is not None:
            making = replace(making, note_hz=hz)
            provenance = replace(provenance, making=making, root_note=making.root_note)
        return provenance

    def save(self, folder: str | Path, bits: str = "24", chunks: bool = True, to_rate: int | None = None) -> list[Path]:
        """Write every clip, as ``Clip.save`` does; return the paths of the WAV files."""
        return [clip.save(folder, bits, chunks, to_rate) for clip in self]

    def _repr_html_(self) -> str:
        return sounds_html([clip.shown() for clip in self])

    def __repr__(self) -> str:
        seconds = self.audio.shape[-1] / self.sample_rate
        return f"<{len(self)} clips of {seconds:.2f} s at {self.sample_rate} Hz, seeds {self.seeds}>"


def _tempo_names(tempo: Tempo) -> list[str]:
    """Return bars, and the tempo if it is a whole number: some programs read ``120.75bpm`` as 75."""
    whole = [f"{tempo.bpm:.0f}bpm"] if tempo.bpm == int(tempo.bpm) else []
    return [*whole, f"{tempo.bars}bar{'s' if tempo.bars > 1 else ''}"]


def _input_name(source: InputRecord) -> str:
    """Return the name of input audio, as a part of a file name."""
    name = source.name if source.name is not None else f"seed{source.seed}"
    return safe_name(Path(name).stem)[:40]
