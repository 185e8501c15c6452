"""The names in a zip, of any system: UTF-8, Info-ZIP's Unicode path, or the encoding that all of them together are likeliest in."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from core.data.encodings import ENCODINGS, decoded, likeliest, score

UNICODE_PATH = 0x7075  # APPNOTE 4.6.9
UTF8 = 0x800  # the flag by which a name says that it is UTF-8
SHOWN = 4  # names in the sentence about a guess
ASKED = 500  # different names from which the encoding is guessed


@dataclass(frozen=True)
class Names:
    all: list[str]  # of every entry
    encoding: str = ""  # that was guessed or chosen; "" where the zip says it all
    unclear: tuple[bytes, ...] = ()  # the first of those names that only this encoding could read

    def said(self) -> str:
        """What was made of them, for people."""
        how = ENCODINGS.get(self.encoding, "")
        return f"Names in the zip do not say how they are written, and were read as {how} ({self.encoding}): {self._as(self.encoding)}"

    def readings(self) -> dict[str, str]:
        """How they would read in each encoding in which all of them can be read and none reads as before."""
        found: dict[str, str] = {}
        for encoding in (self.encoding, *ENCODINGS):
            text = self._as(encoding)
            readable = "�" not in text and text.isprintable() and text not in found.values()
            if readable or encoding == self.encoding:
                found[encoding] = text
        return found

    def _as(self, encoding: str) -> str:
        return ", ".join(part.decode(encoding, "replace") for part in self.unclear)


def read(infos: Sequence[zipfile.ZipInfo], chosen: str = "") -> Names:
    """Every entry's name; what is not said is guessed from all of them together, unless the encoding was chosen."""
    names = [_told(info) for info in infos]
    raw = {i: infos[i].orig_filename.encode("cp437") for i, name in enumerate(names) if name is None}
    plain = {i: text for i, data in raw.items() if (text := _utf8(data)) is not None}
    if len(plain) == len(raw):  # many tools write UTF-8 without saying so
        return Names([plain[i] if name is None else name for i, name in enumerate(names)])
    weak = {i: raw[i] for i, text in plain.items() if max(text) < "\u0800"}  # 猫 of Chinese Windows is è in UTF-8, too
    encoding = chosen or likeliest(_parts(raw[i] for i in raw if i not in plain), _parts(weak.values()))
    sure = plain.keys() - {i for i, data in weak.items() if _of(data, encoding) > _of(data, "utf-8")}
    unclear: list[bytes] = []
    for i, data in raw.items():
        if i in sure or (text := decoded(data, encoding)) is None:
            names[i] = plain.get(i) or data.decode("cp437")
        else:
            names[i] = text
            unclear.append(data)
    return Names([name or "" for name in names], encoding, tuple(_parts(unclear)[:SHOWN]))


def _told(info: zipfile.ZipInfo) -> str | None:
    """The name where the zip says how it is written, or it is ASCII."""
    if info.flag_bits & UTF8 or info.orig_filename.isascii():
        return info.orig_filename
    at, extra = 0, info.extra
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, at)
        body, at = extra[at + 4 : at + 4 + size], at + 4 + size
        if kind == UNICODE_PATH and len(body) > 5 and body[0] == 1:
            (crc,) = struct.unpack_from("<I", body, 1)
            if crc == zlib.crc32(info.orig_filename.encode("cp437")):  # else the entry was renamed by who does not know the field
                return _utf8(body[5:])
    return None


def _utf8(data: bytes) -> str | None:
    return decoded(data, "utf-8")


def _parts(names: Iterable[bytes]) -> list[bytes]:
    """The different names of folders and files that are not ASCII, without what is the same in all encodings."""
    found: dict[bytes, None] = {}
    for name in names:
        found |= dict.fromkeys(part for part in name.split(b"/") if not part.isascii())
        if len(found) >= ASKED:
            break
    return list(found)


def _of(name: bytes, encoding: str) -> float:
    return sum(score(part, encoding) for part in _parts([name]))
