"""Zips as systems pack them that write no UTF-8."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

from tests.data.opened import picture


class Entry(zipfile.ZipInfo):
    """An entry whose name is written in an encoding that the zip does not tell."""

    name_bytes: bytes

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:
        return self.name_bytes, self.flag_bits & ~0x800


def packed(path: Path, *names: tuple[str, str], unicode_path: str = "", crc_of: str = "") -> Path:
    """A zip of pictures with (name, encoding); unicode_path: the encoding of the field's text, crc_of: another name that it is about."""
    with zipfile.ZipFile(path, "w") as z:
        for i, (name, encoding) in enumerate(names):
            if encoding == "said":
                z.writestr(name, picture(i))
                continue
            info = Entry(str(i))
            info.name_bytes, info.create_system = name.encode(encoding), 0
            if unicode_path:
                crc = zlib.crc32(crc_of.encode(encoding) or info.name_bytes)
                body = struct.pack("<BI", 1, crc) + name.encode(unicode_path)
                info.extra = struct.pack("<HHI", 0x5455, 4, 7) + struct.pack("<HH", 0x7075, len(body)) + body
            z.writestr(info, picture(i))
    return path
