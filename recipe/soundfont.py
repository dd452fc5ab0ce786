"""Read which recordings of a SoundFont 2 file a note plays: enough of the format to tell copies from originals.

Source: SoundFont Technical Specification 2.01, section 7: presets hold zones, zones point to instruments, whose zones
point to samples; generators 43 and 44 limit a zone to ranges of keys and velocities.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

_INSTRUMENT, _KEYS, _VELOCITIES, _SAMPLE = 41, 43, 44, 53
_RECORDS = {b"phdr": "<20sHHH12x", b"pbag": "<HH", b"pgen": "<HH", b"inst": "<20sH", b"ibag": "<HH", b"igen": "<HH"}
_RECORDS[b"shdr"] = "<20s26x"


class SoundFont:
    """The tables of a SoundFont file.

    Attributes:
        presets: (bank, program) -> (name, index of the preset).
    """

    def __init__(self, path: str | Path) -> None:
        raw = Path(path).read_bytes()
        self._tables = {tag: list(struct.iter_unpack(_RECORDS[tag], body)) for tag, body in _hydra(raw)}
        presets = self._tables[b"phdr"][:-1]  # the last record of each table marks its end
        self.presets = {(bank, program): (_text(name), i) for i, (name, program, bank, _) in enumerate(presets)}

    def samples(self, bank: int, program: int, key: int, velocity: int) -> tuple[str, ...]:
        """Return the sorted names of the recordings that a note plays; the sides of a stereo recording count as one."""
        first, last = (self._tables[b"phdr"][self.presets[bank, program][1] + i][3] for i in (0, 1))
        found = set()
        for instrument in self._targets(b"pbag", b"pgen", first, last, _INSTRUMENT, key, velocity):
            first, last = (self._tables[b"inst"][instrument + i][1] for i in (0, 1))
            samples = self._targets(b"ibag", b"igen", first, last, _SAMPLE, key, velocity)
            found |= {_text(self._tables[b"shdr"][s][0]) for s in samples}
        return tuple(
            sorted({re.sub(r" *\([LR]\)?$", "", name) for name in found})
        )  # names are limited to 20 characters

    def _targets(
        self, bags: bytes, generators: bytes, first: int, last: int, target: int, key: int, velocity: int
    ) -> Iterator[int]:
        """Yield what the zones from ``first`` to ``last`` that cover a note point to."""
        for zone in range(first, last):
            start, end = (self._tables[bags][zone + i][0] for i in (0, 1))
            values = dict(self._tables[generators][start:end])
            if target in values and _inside(key, values.get(_KEYS)) and _inside(velocity, values.get(_VELOCITIES)):
                yield values[target]


def _inside(value: int, bounds: int | None) -> bool:
    return bounds is None or bounds & 255 <= value <= bounds >> 8


def _hydra(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (tag, body) of each table in the list of type pdta."""
    for _, start, end in _chunks(raw, 12, len(raw)):
        if raw[start : start + 4] == b"pdta":
            yield from ((tag, raw[a:b]) for tag, a, b in _chunks(raw, start + 4, end) if tag in _RECORDS)


def _chunks(raw: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (tag, start, end) of each chunk."""
    while start + 8 <= end:
        tag, size = struct.unpack_from("<4sI", raw, start)
        yield tag, start + 8, start + 8 + size
        start += 8 + size + size % 2


def _text(name: bytes) -> str:
    return name.split(b"\0")[0].decode("latin1").strip()
