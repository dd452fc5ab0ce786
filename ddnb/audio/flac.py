"""The length of a FLAC file that does not state it: what was written into a pipe has no place to go back to."""

from __future__ import annotations

_SIZES = {
    1: 192,
    **{code: 576 << (code - 2) for code in range(2, 6)},
    **{code: 256 << (code - 8) for code in range(8, 16)},
}
_MORE_RATE = {12: 1, 13: 2, 14: 2}  # bytes of a sample rate at the end of a header
_LONGEST_HEADER = 16


def last_frame(tail: bytes, block: int) -> int | None:
    """Return the number of samples of a FLAC file, as its last frame counts them.

    Args:
        tail: the end of the file.
        block: samples of each frame but the last, where that is always the same number.

    Returns:
        The samples of one channel; None where no frame begins in the tail.
    """
    place = len(tail)
    while (place := tail.rfind(b"\xff", 0, place)) >= 0:
        if (end := _end_of_frame(tail[place : place + _LONGEST_HEADER], block)) is not None:
            return end
    return None


def _end_of_frame(head: bytes, block: int) -> int | None:
    """Return up to which sample a frame goes, if these bytes are its header."""
    if len(head) < 6 or head[1] not in (0xF8, 0xF9):
        return None
    size_code, rate_code, sides, bits = head[2] >> 4, head[2] & 15, head[3] >> 4, head[3] >> 1 & 7
    if not size_code or rate_code == 15 or sides > 10 or bits == 3 or head[3] & 1:
        return None
    first, ones = head[4], 0
    while ones < 8 and first << ones & 0x80:
        ones += 1
    if ones in (1, 8):
        return None
    place = 4 + max(ones, 1)
    number = first & (0x7F >> ones)
    for byte in head[5:place]:
        number = number << 6 | byte & 0x3F
    more = {6: 1, 7: 2}.get(size_code, 0)
    size = int.from_bytes(head[place : place + more], "big") + 1 if more else _SIZES[size_code]
    place += more + _MORE_RATE.get(rate_code, 0)
    if place >= len(head) or _crc(head[:place]) != head[place]:
        return None
    return (number if head[1] & 1 else number * block) + size


def _crc(content: bytes) -> int:
    crc = 0
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x107) if crc & 0x80 else crc << 1
    return crc
