"""The names in a zip, of any system: UTF-8, Info-ZIP's Unicode path, or the encoding that all of them together are likeliest in."""

from __future__ import annotations

import re
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

# In the order in which ties are decided; the first two are what Windows packs with in the west.
ENCODINGS = {
    "cp437": "Latin, DOS",
    "cp850": "western Europe, DOS",
    "cp1252": "western Europe",
    "cp1250": "central Europe",
    "cp852": "central Europe, DOS",
    "cp1251": "Cyrillic",
    "cp866": "Cyrillic, DOS",
    "koi8-r": "Cyrillic, Unix",
    "cp1253": "Greek",
    "cp932": "Japanese",
    "gb18030": "Chinese, simplified",
    "cp950": "Chinese, traditional",
    "cp949": "Korean",
}
UNICODE_PATH = 0x7075  # APPNOTE 4.6.9
UTF8 = 0x800  # the flag by which a name says that it is UTF-8
SHOWN = 4  # names in the sentence about a guess
ASKED = 500  # different names from which the encoding is guessed

# How much of a text one expects to lie in a range of two-byte codes, (first bytes, second bytes, weight): what is taught at school first.
_RANGES: dict[str, tuple[tuple[range, range, float], ...]] = {
    "cp932": ((range(0x82, 0x84), range(0x40, 0x100), 1.0), (range(0x88, 0x98), range(0x40, 0x100), 0.7), (range(0x98, 0xF0), range(0x40, 0x100), 0.2)),
    "gb18030": ((range(0xB0, 0xD8), range(0xA1, 0x100), 0.7), (range(0xD8, 0xF8), range(0xA1, 0x100), 0.3)),
    "cp950": ((range(0xA4, 0xC7), range(0x40, 0x100), 0.7), (range(0xC9, 0xFA), range(0x40, 0x100), 0.2)),
    "cp949": ((range(0xB0, 0xC9), range(0xA1, 0x100), 0.7),),
}  # fmt: skip
_OTHER_TWO_BYTES = 0.05
# Those met most often, which weigh 1: short names are told apart by them.
_OFTEN = {
    "cp932": "日本人大小中上下左右前後内外東西南北山川田木林森花草水火土金石空雨雪風犬猫鳥魚馬牛羊虫車駅電道町村市国会社学校生年月日時分今何白黒赤青"
    "黄緑茶色良品不合格正常異欠陥傷写真画像検査表裏手足目口耳心食飯肉米果物野菜子女男父母名新古高安多少長短早明暗京阪",
    "gb18030": "的一是不了人在有我他这中大来上国个到说们为子和你地出道也时年得就那要下以生会自着去之过家学对可里后小么心多天而能好都然没日于起还发成"
    "事只作当想看文无开手十用主行方又如前所本见经头面公同三已老从动两长知样正常异坏猫狗犬苹果香蕉花草树木车鸟鱼马牛羊合格良品否图片照测试训练数据红黄蓝绿白黑类",
    "cp950": "的一是不了人在有我他這中大來上國個到說們為子和你地出道也時年得就那要下以生會自著去之過家學對可裡後小麼心多天而能好都然沒日於起還發成"
    "事只作當想看文無開手十用主行方又如前所本見經頭面公同三已老從動兩長知樣正常異壞貓狗犬蘋果香蕉花草樹木車鳥魚馬牛羊合格良品否圖片照測試訓練數據紅黃藍綠白黑類",
    "cp949": "이다는에의을가고하한지로사은어나도를있그들자기아인대해서리일시것과스수정부라만보전여제원상주구국공성소장조경동신선안생개고양강아바나새물꽃차"
    "무량불합격정상사진품말산강남북학교나무집차길검흰빨파노초록람음면식오우유두비터트프레드",
    "latin": "äöüßÄÖÜéèêëàâçîïôûùñáíóúãõåøæœ",  # of western Europe: in those of central Europe the same bytes mean rarer letters
    "central": "áéíóúýčďěňřšťůžąćęłńóśźżőűöüäôľĺŕăâîșțđ",
}  # fmt: skip


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
    encoding = chosen or _likeliest(_parts(raw[i] for i in raw if i not in plain), _parts(weak.values()))
    sure = plain.keys() - {i for i, data in weak.items() if _of(data, encoding) > _of(data, "utf-8")}
    unclear: list[bytes] = []
    for i, data in raw.items():
        if i in sure or (text := _decoded(data, encoding)) is None:
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
    return _decoded(data, "utf-8")


def _decoded(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except (UnicodeError, LookupError):
        return None


def _parts(names: Iterable[bytes]) -> list[bytes]:
    """The different names of folders and files that are not ASCII, without what is the same in all encodings."""
    found: dict[bytes, None] = {}
    for name in names:
        found |= dict.fromkeys(part for part in name.split(b"/") if not part.isascii())
        if len(found) >= ASKED:
            break
    return list(found)


def _likeliest(parts: Sequence[bytes], weak: Sequence[bytes]) -> str:
    """weak: names that may also be UTF-8."""
    scores = {
        one: sum(_score(part, one) for part in parts) + sum(max(_score(part, one), _score(part, "utf-8")) for part in weak)
        for one in ENCODINGS
    }
    best = max(ENCODINGS, key=lambda one: round(scores[one], 6))
    return best if scores[best] > 0.2 * (len(parts) + len(weak)) else "cp437"


def _of(name: bytes, encoding: str) -> float:
    return sum(_score(part, encoding) for part in _parts([name]))


@lru_cache(maxsize=4096)
def _score(part: bytes, encoding: str) -> float:
    """How much a name looks like one in this encoding, 0 to 1."""
    text = _decoded(part, encoding)
    if text is None:
        return 0.0
    weights = [weight for word in re.findall(r"[^\W\d_]+|[^\w\s]", text) if not word.isascii() for weight in _weights(word, encoding)]
    return sum(weights) / len(weights) if weights else 0.0


def _weights(word: str, encoding: str) -> list[float]:
    if encoding in _RANGES:
        return [_of_two_bytes(letter, encoding) for letter in word if not letter.isascii()]
    odd = [letter for letter in word if not letter.isascii()]
    scripts = {unicodedata.name(letter, "?").split()[0] for letter in word}
    if len(scripts) > 1 or not word.isalpha() or not re.fullmatch(r".?[^\W\d_]*", word) or not _one_case(word):
        return [0.0] * len(odd)
    if scripts != {"LATIN"}:
        return [0.2 if len(word) == 1 else 0.8 if word.isupper() else 0.9] * len(odd)
    usual = _OFTEN["central" if encoding in ("cp1250", "cp852") else "latin"]
    if 2 * len(odd) > len(word):  # Latin letters with marks stand among plain ones
        return [0.1] * len(odd)
    return [0.8 if letter.lower() in usual else 0.4 for letter in odd]


def _one_case(word: str) -> bool:
    return word.islower() or word.isupper() or word[1:].islower()


def _of_two_bytes(letter: str, encoding: str) -> float:
    if letter in _OFTEN[encoding]:
        return 1.0
    code = letter.encode(encoding)
    if len(code) != 2:
        return _OTHER_TWO_BYTES
    return next((weight for first, second, weight in _RANGES[encoding] if code[0] in first and code[1] in second), _OTHER_TWO_BYTES)
