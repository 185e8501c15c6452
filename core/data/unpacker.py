"""What comes out of a zip: counted, in pieces, whatever it is packed with."""

from __future__ import annotations

import bz2
import io
import lzma
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator

from core.data.tables import clean
from core.errors import Invalid

MAX_TOTAL_BYTES = 20_000_000_000
MAX_RATIO = 200  # unpacked bytes per packed byte, once past RATIO_FROM
RATIO_FROM = 1_000_000


def bomb(title: str, what: str) -> Invalid:
    return Invalid(f"{title} is not imported: {what}.", "This looks like a zip made to fill a disk. Pack the images again.")


class Unpacker:
    """Reads entries and counts the bytes that really come out, over all entries together."""

    def __init__(self, archive: zipfile.ZipFile, title: str) -> None:
        self.archive, self.title = archive, title
        self.packed = self.unpacked = 0

    def read(self, info: zipfile.ZipInfo, limit: int) -> bytes:
        """The entry's bytes; Invalid if the archive is a bomb, ValueError with the reason if only the entry is bad."""
        return b"".join(self.blocks(info, limit))

    def blocks(self, info: zipfile.ZipInfo, limit: int) -> Iterator[bytes]:
        """The same, a piece at a time."""
        self.packed += info.compress_size
        size = 0
        try:
            for block in _unpacked(self.archive, info):
                size += len(block)
                self.unpacked += len(block)
                if size > RATIO_FROM and size > MAX_RATIO * info.compress_size:
                    raise bomb(self.title, f"{clean(info.filename)} grows more than {MAX_RATIO}-fold")
                if self.unpacked > RATIO_FROM and self.unpacked > MAX_RATIO * self.packed:
                    raise bomb(self.title, f"its entries grow more than {MAX_RATIO}-fold")
                if self.unpacked > MAX_TOTAL_BYTES:
                    raise bomb(self.title, f"it holds more than {MAX_TOTAL_BYTES / 1e9:.0f} GB")
                if size > info.file_size:
                    raise zipfile.BadZipFile
                if size > limit:
                    raise ValueError(f"it has more than {limit / 1e6:.0f} MB")
                yield block
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, struct.error, UnicodeError):
            raise ValueError("it is damaged inside the zip") from None


PIECE = 1 << 18  # bytes that are read, and that come out, at a time
MAX_DICTIONARY = 1 << 26  # bytes; LZMA's, which a zip may ask for at will
METHODS = {zipfile.ZIP_STORED: "Stored", zipfile.ZIP_DEFLATED: "Deflate", zipfile.ZIP_BZIP2: "BZip2", zipfile.ZIP_LZMA: "LZMA"}
OTHER_METHODS = {1: "Shrink", 6: "Implode", 9: "Deflate64", 93: "Zstandard", 95: "XZ", 96: "JPEG", 97: "WavPack", 98: "PPMd"}


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """What comes out of an entry, never more than a piece at once: zipfile lets LZMA and BZip2 grow without a bound."""
    if info.flag_bits & 1:
        raise ValueError("it is encrypted")
    if info.compress_type not in METHODS:
        raise ValueError(f"it is packed with {method(info)}, which Loupe does not read")
    file, checksum, size, left = archive.fp, 0, 0, info.compress_size
    assert file is not None
    file.seek(info.header_offset)
    header = file.read(30)
    if len(header) < 30 or not header.startswith(b"PK\3\4"):
        raise zipfile.BadZipFile
    # By its own header, which may have another extra field than the directory, but not another name.
    name_size, extra_size = struct.unpack("<HH", header[26:30])
    if file.read(name_size) != info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437"):
        raise zipfile.BadZipFile
    at = info.header_offset + 30 + name_size + extra_size
    if info.compress_type == zipfile.ZIP_LZMA:
        file.seek(at)
        expand, used = _lzma(file.read(9), info.file_size)
        at, left = at + used, left - used
    else:
        expand = {zipfile.ZIP_STORED: _as_it_is, zipfile.ZIP_DEFLATED: _deflate, zipfile.ZIP_BZIP2: _bzip2}[info.compress_type]()

    def packed() -> Iterator[bytes]:
        nonlocal at, left
        while left > 0:
            file.seek(at)  # another entry may have been read meanwhile
            if not (data := file.read(min(PIECE, left))):
                raise EOFError
            at, left = at + len(data), left - len(data)
            yield data

    for block in expand(packed()):
        size, checksum = size + len(block), zlib.crc32(block, checksum)
        yield block
    if size != info.file_size or checksum != info.CRC:
        raise zipfile.BadZipFile


Expand = Callable[[Iterator[bytes]], Iterator[bytes]]


def _as_it_is() -> Expand:
    return iter


def _deflate() -> Expand:
    def expand(packed: Iterator[bytes]) -> Iterator[bytes]:
        stream = zlib.decompressobj(-15)
        for data in packed:
            while data and not stream.eof:
                if block := stream.decompress(data, PIECE):
                    yield block
                data = stream.unconsumed_tail
        while not stream.eof and (block := stream.decompress(stream.unconsumed_tail, PIECE)):  # what is left in its window
            yield block

    return expand


def _buffered(stream: bz2.BZ2Decompressor | lzma.LZMADecompressor) -> Expand:
    def expand(packed: Iterator[bytes]) -> Iterator[bytes]:
        for data in packed:
            while not stream.eof:
                if block := stream.decompress(data, PIECE):
                    yield block
                elif not stream.needs_input:
                    break
                data = b""
                if stream.needs_input:
                    break

    return expand


def _bzip2() -> Expand:
    return _buffered(bz2.BZ2Decompressor())


def _lzma(head: bytes, size: int) -> tuple[Expand, int]:
    """For an entry that unpacks to size bytes, and how long its head is; see section 5.8.8 of PKWARE's APPNOTE."""
    if len(head) < 9 or struct.unpack("<H", head[2:4])[0] != 5:
        raise zipfile.BadZipFile
    bits, dictionary = struct.unpack("<BI", head[4:9])
    if bits >= 9 * 5 * 5:
        raise zipfile.BadZipFile
    # More of the past than the whole entry is never looked at, so what the zip asks for need not be given.
    dictionary = max(4096, min(dictionary, size))
    if dictionary > MAX_DICTIONARY:
        raise ValueError(f"it is packed with a dictionary of {dictionary / 1e6:.0f} MB; up to {MAX_DICTIONARY / 1e6:.0f} MB are read")
    one = {"id": lzma.FILTER_LZMA1, "dict_size": dictionary, "lc": bits % 9, "lp": bits // 9 % 5, "pb": bits // 45}
    try:
        return _buffered(lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[one])), 9
    except (ValueError, lzma.LZMAError):
        raise zipfile.BadZipFile from None


def method(info: zipfile.ZipInfo) -> str:
    return OTHER_METHODS.get(info.compress_type, f"method {info.compress_type}")


def count_entries(f: io.BufferedReader) -> int:
    """At least the number of entries, counted in the bytes of the directory and not taken from what the zip says."""
    size = f.seek(0, os.SEEK_END)
    tail_at = max(0, size - 65_635)  # a comment of the longest, and both records of the end
    f.seek(tail_at)
    tail = f.read()
    end = tail.rfind(b"PK\5\6")
    if end < 0 or len(tail) < end + 22:
        raise zipfile.BadZipFile
    _, length, _ = struct.unpack("<HII", tail[end + 10 : end + 20])
    if tail[max(0, end - 20) : end].startswith(b"PK\6\7"):  # zip64: zipfile believes its record, whatever the other one says
        (told_at,) = struct.unpack("<Q", tail[end - 12 : end - 4])
        end -= 76
        if end < 0 or not tail.startswith(b"PK\6\6", end):
            raise zipfile.BadZipFile
        if told_at < tail_at + end and f.seek(told_at) == told_at and f.read(4) == b"PK\6\6":  # which newer Pythons believe instead
            raise zipfile.BadZipFile
        (length,) = struct.unpack("<Q", tail[end + 40 : end + 48])
    stop = tail_at + end
    if length > stop:
        raise zipfile.BadZipFile
    n, block_size = 0, 1 << 22
    f.seek(stop - length)
    carried = b""
    while length > 0 and (block := f.read(min(block_size, length))):
        length -= len(block)
        n += (carried + block).count(b"PK\1\2")
        carried = block[-3:]
    return n


def check_sizes(infos: list[zipfile.ZipInfo], start_dir: int, title: str) -> None:
    at = sorted(infos, key=lambda i: i.header_offset)
    starts = [*(i.header_offset for i in at), start_dir]
    for info, following in zip(at, starts[1:], strict=True):
        # The local header has at least 30 bytes and the name; its extra field only makes the entry longer.
        if info.header_offset + 30 + len(info.orig_filename) + info.compress_size > following:
            raise bomb(title, f"its entries overlap ({clean(info.filename)})")
        if info.file_size > RATIO_FROM and info.file_size > MAX_RATIO * info.compress_size:
            raise bomb(title, f"{clean(info.filename)} grows more than {MAX_RATIO}-fold")
    if sum(i.file_size for i in infos) > MAX_TOTAL_BYTES:
        raise Invalid(f"{title} holds more than {MAX_TOTAL_BYTES / 1e9:.0f} GB of files.", "Split it into several zips.")
