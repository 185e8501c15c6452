"""Takes the metadata out of image files, byte by byte, without touching a pixel; knows the files' parts, decodes nothing."""

from __future__ import annotations

import re

# After the pixels' own data a JPEG goes on with a marker; FF 00 and FF D0 to D7 belong to the data.
_MARKER = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")
_JPEG_KEEP = ((0xE0, b"JFIF\0"), (0xE2, b"ICC_P"), (0xEE, b"Adobe"))
_PNG_KEEP = frozenset(b"tRNS gAMA cHRM sRGB iCCP cICP sBIT pHYs hIST sPLT bKGD acTL fcTL fdAT".split())  # colour and animation
_WEBP_KEEP = frozenset((b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"ICCP"))
_GIF_LOOPS = (b"NETSCAPE2.0", b"ANIMEXTS1.0")


def metadata(data: bytes) -> bytes | None:
    """The file without EXIF, XMP, IPTC, comments and whatever hangs on behind; None for a format that has to be encoded anew.

    Colour profiles stay: without them the same pixels look different. A file without metadata comes back as it is.
    """
    try:
        if data.startswith(b"\xff\xd8"):
            return _jpeg(data)
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return _png(data)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _webp(data)
        if data.startswith((b"GIF87a", b"GIF89a")):
            return _gif(data)
        return data if data.startswith(b"BM") else None  # BMP has no room for metadata
    except IndexError:  # cut off, or not what it says
        return None


def _jpeg(data: bytes) -> bytes | None:
    kept, at = [data[:2]], 2
    while True:
        while data[at] == data[at + 1] == 0xFF:  # fill bytes
            at += 1
        marker = data[at + 1]
        if data[at] != 0xFF:
            return None
        if marker == 0xD9:  # the end; phones put further pictures with their own EXIF behind it
            return b"".join([*kept, b"\xff\xd9"])
        end = at + 2 if marker == 0x01 or 0xD0 <= marker <= 0xD7 else at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xDA:
            following = _MARKER.search(data, end)
            if following is None:
                return None
            end = following.start()
        content = data[at + 4 : end]
        if marker == 0xE0 and content.startswith(b"JFIF\0") and len(content) > 14:  # with a small picture inside
            kept.append(b"\xff\xe0\x00\x10" + content[:12] + b"\0\0")
        elif (not 0xE0 <= marker <= 0xEF and marker != 0xFE) or (marker, content[:5]) in _JPEG_KEEP:
            kept.append(data[at:end])
        at = end


def _png(data: bytes) -> bytes | None:
    kept, at = [data[:8]], 8
    while True:
        kind = data[at + 4 : at + 8]
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if not kind[0] & 32 or kind in _PNG_KEEP:  # a capital first letter: needed to draw the picture
            kept.append(data[at:end])
        if end > len(data):
            return None
        if kind == b"IEND":
            return b"".join(kept)
        at = end


def is_lossless_webp(data: bytes) -> bool:
    """Whether the picture, or its first frame, is stored without loss."""
    first = min((at for at in (data.find(b"VP8L"), data.find(b"VP8 ")) if at >= 0), default=-1)
    return first >= 0 and data[first : first + 4] == b"VP8L"


def _webp(data: bytes) -> bytes | None:
    kept, at = [b"WEBP"], 12
    whole = 8 + int.from_bytes(data[4:8], "little")
    while at < min(whole, len(data)):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + size + size % 2
        chunk = data[at:end]
        if data[at : at + 4] == b"VP8X":
            chunk = chunk[:8] + bytes([chunk[8] & ~0x0C]) + chunk[9:]  # the flags that say EXIF and XMP follow
        if data[at : at + 4] in _WEBP_KEEP:
            kept.append(chunk)
        at = end
    body = b"".join(kept)
    return None if at > len(data) else b"RIFF" + len(body).to_bytes(4, "little") + body


def gif_frames(data: bytes, most: int) -> int:
    """How many frames a GIF has, as far as most: nothing is decoded, and what is no part of a GIF is passed over."""
    n = 0
    try:
        at = 13 + _colours(data[10])
        while data[at] != 0x3B and n < most:
            if data[at] == 0x2C:
                n, at = n + 1, _blocks_end(data, at + 11 + _colours(data[at + 9]))
            else:
                at = _blocks_end(data, at + 2) if data[at] == 0x21 else at + 1
    except IndexError:  # it ends too early
        pass
    return n


def _colours(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _blocks_end(data: bytes, at: int) -> int:
    while data[at]:
        at += data[at] + 1
    return at + 1


def _gif(data: bytes) -> bytes | None:
    at = 13 + _colours(data[10])
    kept = [data[:at]]
    while data[at] != 0x3B:
        if data[at] == 0x2C:
            end = _blocks_end(data, at + 11 + _colours(data[at + 9]))
            keep = True
        elif data[at] == 0x21:
            end = _blocks_end(data, at + 2)
            keep = data[at + 1] == 0xF9 or (data[at + 1] == 0xFF and data[at + 3 : at + 14] in _GIF_LOOPS)
        else:
            return None
        if keep:
            kept.append(data[at:end])
        at = end
    return b"".join([*kept, b";"])
