"""Colour profiles for tests, written tag by tag."""

from __future__ import annotations

import struct

DISPLAY_P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))  # XYZ (D50) of red, green, blue


def profile(primaries: tuple[tuple[float, float, float], ...] = DISPLAY_P3, gamma: float = 2.2) -> bytes:
    """An ICC profile of version 2: of a screen with three primaries, or without any of grey."""
    white, curve = _xyz(0.9642, 1.0, 0.8249), b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    tags = {b"wtpt": white, b"desc": b"desc" + bytes(4) + struct.pack(">I", 2) + b"x\0" + bytes(78)}
    tags |= {name + b"XYZ": _xyz(*at) for name, at in zip((b"r", b"g", b"b"), primaries, strict=False)}
    tags |= {name + b"TRC": curve for name in ((b"r", b"g", b"b") if primaries else (b"k",))}
    table, body, at = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data
    header = struct.pack(">I4sI4s4s4s", at + len(body), bytes(4), 0x02100000, b"mntr", b"RGB " if primaries else b"GRAY", b"XYZ ")
    header += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + _xyz(0.9642, 1.0, 0.8249)[8:]
    return header.ljust(128, b"\0") + table + body


def _xyz(x: float, y: float, z: float) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(v * 65536) for v in (x, y, z)))


def ink() -> bytes:
    """A CMYK profile in which every full ink, and any mixture of them, is a middle green, Lab (50, -60, 30), and with key black."""
    table = bytes(range(256))
    green, black = bytes((128, 68, 158)), bytes((0, 128, 128))
    paper = bytes((255, 128, 128)) + black + (green + black) * 7  # the grid of 2 × 2 × 2 × 2, key changing fastest
    unit = b"".join(struct.pack(">i", 65536 * (i % 4 == 0)) for i in range(9))
    lut = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + unit + table * 4 + paper + table * 3
    plain = bytearray(profile(()))
    plain[12:24] = b"prtrCMYKLab "
    count = struct.unpack(">I", plain[128:132])[0]
    tags = [struct.unpack(">4sII", plain[132 + 12 * i : 144 + 12 * i]) for i in range(count)]
    kept = [(name, bytes(plain[at : at + size])) for name, at, size in tags if name != b"kTRC"] + [(b"A2B0", lut + bytes(-len(lut) % 4))]
    at, listed, body = 132 + 12 * len(kept), struct.pack(">I", len(kept)), b""
    for name, data in kept:
        listed += name + struct.pack(">II", at + len(body), len(data))
        body += data
    return struct.pack(">I", at + len(body)) + bytes(plain[4:128]) + listed + body
