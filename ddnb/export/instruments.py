"""Instruments for samplers: SFZ, Decent Sampler, and a drum map as a table.

One-shots play to their end however short a key is pressed; loops repeat while it is held. One sound at several notes
plays as long as a key is held.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from xml.sax.saxutils import quoteattr

from ..generation.beat import OWN_NOTE, drum_data

KEYS = 128
RELEASE_S = 0.1
"""Fade of the notes of an instrument when their key is released."""

_MIDDLE_C = 60


@dataclass(frozen=True)
class Zone:
    """A sound on a key.

    Attributes:
        key: MIDI key.
        path: of the file, beside the instrument, with ``/``.
        category: its category; empty unless it has a single one.
        loop: whether it repeats.
        frames: its length.
        span: the lowest and the highest key on which it is played, transposed; on its own alone by default.
    """

    key: int
    path: str
    category: str
    loop: bool
    frames: int
    span: tuple[int, int] | None = None


def assign_keys(sounds: Sequence[tuple[str | None, bool]]) -> list[int | None]:
    """Return the key of each sound, given its category and whether it is a loop.

    The first sound of a drum is on its General MIDI key, so that the MIDI files of beats play it. All others are on the
    keys from middle C upwards and then downwards, category by category, loops last. The keys of absent drums stay empty
    as long as others are free. Sounds beyond the 128th have none.
    """
    notes: dict[str, int] = drum_data()["notes"]
    places: dict[int, int] = {}
    for i, (category, loop) in enumerate(sounds):
        if not loop and category in notes and notes[category] not in places.values():
            places[i] = notes[category]
    drums = {*notes.values(), OWN_NOTE}
    others = [key for key in (*range(_MIDDLE_C, KEYS), *range(_MIDDLE_C - 1, -1, -1)) if key not in drums]
    free = [*others, *sorted(drums - set(places.values()))]
    later = [i for i in range(len(sounds)) if i not in places]
    later.sort(key=lambda i: (sounds[i][1], sounds[i][0] is None, sounds[i][0] or "", i))
    places |= dict(zip(later, free, strict=False))
    return [places.get(i) for i in range(len(sounds))]


def spread_keys(zones: Sequence[Zone]) -> list[Zone]:
    """Let each sound of an instrument play the keys that are nearest to its own, all 128 together."""
    zones = sorted(zones, key=lambda zone: zone.key)
    borders = [(low.key + high.key) // 2 for low, high in pairwise(zones)]
    spans = zip([0, *(border + 1 for border in borders)], [*borders, KEYS - 1], strict=True)
    return [replace(zone, span=span) for zone, span in zip(zones, spans, strict=True)]


def write_sfz(zones: Sequence[Zone]) -> str:
    """Return the instrument as SFZ 1.0 text; hats choke as in a beat."""
    lines = ["// one-shots play to their end, loops repeat while their key is held, notes last as long as it is held"]
    groups, chokes = _choke_groups()
    for zone in zones:
        mode = f"loop_continuous loop_start=0 loop_end={zone.frames - 1}" if zone.loop else "one_shot"
        line = f"<region> sample={zone.path} key={zone.key} loop_mode={mode}"
        if zone.span:
            keys = f"lokey={zone.span[0]} hikey={zone.span[1]} pitch_keycenter={zone.key}"
            line = f"<region> sample={zone.path} {keys} loop_mode=no_loop ampeg_release={RELEASE_S}"
        if zone.category in groups:
            line += f" group={groups[zone.category]}"
        if zone.category in chokes:
            line += f" off_by={chokes[zone.category]} off_mode=fast"
        lines.append(line)
    return "\n".join(lines) + "\n"


def write_dspreset(zones: Sequence[Zone]) -> str:
    """Return the instrument as XML for Decent Sampler; hats choke as in a beat."""
    groups, chokes = _choke_groups()
    samples = []
    for zone in zones:
        attributes: dict[str, object] = {"path": zone.path, "rootNote": zone.key}
        low, high = zone.span or (zone.key, zone.key)
        attributes |= {"loNote": low, "hiNote": high}
        if zone.span:
            attributes |= {"loopEnabled": "false", "release": RELEASE_S}
        elif zone.loop:
            attributes |= {"loopEnabled": "true", "loopStart": 0, "loopEnd": zone.frames - 1}
        else:
            attributes |= {"loopEnabled": "false", "ampEnvEnabled": "false"}
        if zone.category in groups:
            attributes["tags"] = f"choke{groups[zone.category]}"
        if zone.category in chokes:
            attributes |= {"silencedByTags": f"choke{chokes[zone.category]}", "silencingMode": "fast"}
        samples.append("      <sample " + " ".join(f"{k}={quoteattr(str(v))}" for k, v in attributes.items()) + "/>")
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<DecentSampler>\n  <groups>\n    <group>\n'
    return head + "\n".join(samples) + "\n    </group>\n  </groups>\n</DecentSampler>\n"


def write_drum_map(zones: Sequence[Zone]) -> str:
    """Return a table of note, name and file, by note, as CSV."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(("note", "name", "file"))
    for zone in sorted(zones, key=lambda zone: zone.key):
        table.writerow((zone.key, zone.path.rpartition("/")[2].rpartition(".")[0], zone.path))
    return text.getvalue()


def _choke_groups() -> tuple[Mapping[str, int], Mapping[str, int]]:
    """Return the choke group that each category belongs to, and the group that chokes it."""
    groups: dict[str, int] = {}
    chokes: dict[str, int] = {}
    for number, (choked, chokers) in enumerate(drum_data()["chokes"].items(), 1):
        groups |= dict.fromkeys(chokers, number)
        chokes[choked] = number
    return groups, chokes
