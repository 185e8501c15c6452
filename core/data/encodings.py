"""Which encoding the words of a stranger are likeliest in, where nothing says it: the one in which they look most like words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
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
WINDOWS = (
    "cp1252",
    "cp1250",
    "cp1251",
    "koi8-r",
    "cp1253",
    "cp932",
    "gb18030",
    "cp950",
    "cp949",
    "cp866",
    "cp850",
    "cp437",
    "mac-roman",
)  # as texts are saved

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


def decoded(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except (UnicodeError, LookupError):
        return None


def likeliest(parts: Sequence[bytes], weak: Sequence[bytes] = (), among: Iterable[str] = ENCODINGS, otherwise: str = "cp437") -> str:
    """Of words that are not ASCII, in the order in which ties are decided; weak: words that may also be UTF-8."""
    scores = {
        one: sum(score(part, one) for part in parts) + sum(max(score(part, one), score(part, "utf-8")) for part in weak) for one in among
    }
    best = max(scores, key=lambda one: round(scores[one], 6))
    return best if scores[best] > 0.2 * (len(parts) + len(weak)) else otherwise


@lru_cache(maxsize=4096)
def score(part: bytes, encoding: str) -> float:
    """How much a name looks like one in this encoding, 0 to 1."""
    text = decoded(part, encoding)
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
