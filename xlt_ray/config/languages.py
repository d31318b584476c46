"""What is known of each language: name, family, script, and how much text there is of it.

``resources`` follows the six classes of Joshi et al. 2020 (arXiv 2004.09095), joined two
by two: 4-5 high, 2-3 medium, 0-1 low. It is there for grouping in reports; nothing is
computed from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Resources = Literal["high", "medium", "low", "unknown"]


@dataclass(frozen=True, slots=True)
class Language:
    """One language by its ISO 639 code."""

    code: str
    name: str
    family: str
    script: str
    resources: Resources


_TABLE = """
qaa  Aranic       Toy Western      Latn  high
qab  Belic        Toy Western      Latn  high
qac  Corvish      Toy Western      Latn  medium
qad  Dunic        Toy Southern     Latn  medium
qae  Ereni        Toy Eastern      Cyrl  medium
qaf  Fozhi        Toy Eastern      Cyrl  low
af   Afrikaans    Indo-European    Latn  medium
ar   Arabic       Afro-Asiatic     Arab  high
ay   Aymara       Aymaran          Latn  low
az   Azerbaijani  Turkic           Latn  low
bg   Bulgarian    Indo-European    Cyrl  medium
bn   Bengali      Indo-European    Beng  medium
bzd  Bribri       Chibchan         Latn  low
ceb  Cebuano      Austronesian     Latn  medium
cni  Asháninka    Arawakan         Latn  low
cs   Czech        Indo-European    Latn  high
da   Danish       Indo-European    Latn  medium
de   German       Indo-European    Latn  high
el   Greek        Indo-European    Grek  medium
en   English      Indo-European    Latn  high
eo   Esperanto    Constructed      Latn  low
es   Spanish      Indo-European    Latn  high
et   Estonian     Uralic           Latn  medium
eu   Basque       Isolate          Latn  high
fa   Persian      Indo-European    Arab  high
fi   Finnish      Uralic           Latn  high
fr   French       Indo-European    Latn  high
ga   Irish        Indo-European    Latn  medium
gn   Guarani      Tupian           Latn  low
gu   Gujarati     Indo-European    Gujr  low
ha   Hausa        Afro-Asiatic     Latn  medium
hch  Wixarika     Uto-Aztecan      Latn  low
he   Hebrew       Afro-Asiatic     Hebr  medium
hi   Hindi        Indo-European    Deva  high
hr   Croatian     Indo-European    Latn  high
ht   Haitian      Creole           Latn  low
hu   Hungarian    Uralic           Latn  high
hy   Armenian     Indo-European    Armn  low
id   Indonesian   Austronesian     Latn  medium
it   Italian      Indo-European    Latn  high
ja   Japanese     Japonic          Jpan  high
jv   Javanese     Austronesian     Latn  low
ka   Georgian     Kartvelian       Geor  medium
kk   Kazakh       Turkic           Cyrl  medium
ko   Korean       Koreanic         Hang  high
lt   Lithuanian   Indo-European    Latn  medium
lv   Latvian      Indo-European    Latn  medium
ml   Malayalam    Dravidian        Mlym  low
mr   Marathi      Indo-European    Deva  medium
ms   Malay        Austronesian     Latn  medium
my   Burmese      Sino-Tibetan     Mymr  low
nah  Nahuatl      Uto-Aztecan      Latn  low
nb   Norwegian    Indo-European    Latn  low
nl   Dutch        Indo-European    Latn  high
oto  Otomí        Oto-Manguean     Latn  low
pa   Punjabi      Indo-European    Guru  medium
pl   Polish       Indo-European    Latn  high
pt   Portuguese   Indo-European    Latn  high
qu   Quechua      Quechuan         Latn  low
quy  Quechua      Quechuan         Latn  low
ro   Romanian     Indo-European    Latn  medium
ru   Russian      Indo-European    Cyrl  high
shp  Shipibo      Panoan           Latn  low
sk   Slovak       Indo-European    Latn  medium
sr   Serbian      Indo-European    Latn  high
sv   Swedish      Indo-European    Latn  high
sw   Swahili      Niger-Congo      Latn  medium
ta   Tamil        Dravidian        Taml  medium
tar  Rarámuri     Uto-Aztecan      Latn  low
te   Telugu       Dravidian        Telu  low
th   Thai         Kra-Dai          Thai  medium
tl   Tagalog      Austronesian     Latn  medium
tr   Turkish      Turkic           Latn  high
uk   Ukrainian    Indo-European    Cyrl  medium
ur   Urdu         Indo-European    Arab  medium
vi   Vietnamese   Austroasiatic    Latn  high
wo   Wolof        Niger-Congo      Latn  medium
xh   Xhosa        Niger-Congo      Latn  medium
yo   Yoruba       Niger-Congo      Latn  medium
zh   Chinese      Sino-Tibetan     Hani  high
zu   Zulu         Niger-Congo      Latn  medium
"""

_RESOURCES: dict[str, Resources] = {"high": "high", "medium": "medium", "low": "low"}


def _read_table() -> dict[str, Language]:
    known: dict[str, Language] = {}
    for line in _TABLE.strip().splitlines():
        code, name, *family, script, resources = line.split()
        known[code] = Language(code, name, " ".join(family), script, _RESOURCES[resources])
    return known


LANGUAGES = _read_table()


def language(code: str) -> Language:
    """What is known of a language; a code that is not listed stands for itself.

    >>> language("sw").family
    'Niger-Congo'
    >>> language("xyz")
    Language(code='xyz', name='xyz', family='unknown', script='unknown', resources='unknown')
    """
    return LANGUAGES.get(code, Language(code, code, "unknown", "unknown", "unknown"))
