"""Write ``xlt_ray/config/languages.tsv``: rows that are there stay, others come from packages.

``pip install langcodes language_data urielplus``, then ``python -m benchmarks.language_table``.

- Names and scripts are those of the CLDR, by langcodes and language_data (MIT).
- Families are the highest nodes of Glottolog, as URIEL has them (Littell et al. 2017; CC BY-SA
  4.0), under the names that earlier rows give them.
- Classes of resources are of Joshi et al. 2020 (arXiv 2004.09095), whose list is by name; ISO 639-3
  codes as in a public copy, with the languages of FLORES-200. Of others they are unknown.
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

FILE = Path(__file__).parents[1] / "xlt_ray" / "config" / "languages.tsv"
HIGH = (
    "arb cmn eng fra deu jpn spa eus cat hrv ces nld fin hin hun ita kor pes pol por rus srp swe "
    "tur vie"
)
MEDIUM = (
    "amh hau swh tsn xho yor zul mar gle pan isl lao mlt san tir wol afr arz ben bul dan ekk ell "
    "fil tgl heb ind kaz ron tam tha ukr urd uzb zsm kat lat slv slk lav lit bel glg bos ceb"
)
LOW = (
    "ber nan sin ndb vmw kau ary fry acm acq aeb ajp apc ars ace als awa bem ban cjk dik dyu fon "
    "fuv gaz hne kac kam kbp kea khk kmb knc lim lua luo lus mag mos nqo nso nus pbt plt quy shn "
    "sot taq umb war kin kir quz mkd ibo mri mya nor tel jav sun azj sdc cnt bre mon orm min hye "
    "che mlg nep alb epo oci idu cym mal kan tgk nno nob bak tat vol hat ina chv nav arg aka asm "
    "ast ayr azb bam bho bjn bod bug crh dzo fao fij fur gla grn guj ilo kab kas khm kmr ckb kik "
    "kon lij lin lmo ltg lug mai mni nya ory pag pap run ltz sag sat scn smo sna snd som srd ssw "
    "szl tpi tso tuk tum twi uig vec ydd ewe"
)
NO_FAMILY = {"Unattested", "Unclassifiable"}
NO_TEXT = {"Sign Language"}


def main() -> None:
    import langcodes
    import urielplus
    from langcodes.data_dicts import LIKELY_SUBTAGS, MACROLANGUAGES

    with FILE.open(encoding="utf-8") as table:
        rows = {row["code"]: row for row in csv.DictReader(table, delimiter="\t")}

    def code_of(iso: str) -> str:
        """The code of a row: of two letters where there is one, and that of the macrolanguage for
        the language which is mostly meant by it."""
        plain: str = langcodes.standardize_tag(iso)
        return plain if plain in rows else str(langcodes.standardize_tag(iso, macro=True))

    classes = {
        code_of(iso): name
        for name, codes in (("low", LOW), ("medium", MEDIUM), ("high", HIGH))
        for iso in codes.split()
    }
    folder = Path(urielplus.__file__).parent / "database" / "original_uriel"
    features = np.load(folder / "family_features.npz", allow_pickle=True)
    is_member = features["data"][:, :, 0] > 0
    sizes = is_member.sum(axis=0)
    families = {
        str(iso): str(features["feats"][max(np.flatnonzero(row), key=lambda node: sizes[node])])[2:]
        for iso, row in zip(features["langs"], is_member, strict=True)
        if row.any()
    }
    of_macro = {
        MACROLANGUAGES[iso]: family for iso, family in families.items() if iso in MACROLANGUAGES
    }
    spelt: dict[str, Counter[str]] = defaultdict(Counter)
    for iso, family in families.items():
        if code_of(iso) in rows:
            spelt[family][rows[code_of(iso)]["family"]] += 1
    # Those without a family of their own come last, so that no code is taken by one of them.
    listed = {*f"{HIGH} {MEDIUM} {LOW}".split()} - families.keys()
    for iso in [*sorted(families), *sorted(listed, key=MACROLANGUAGES.__contains__)]:
        code = code_of(iso)
        wider = MACROLANGUAGES.get(iso) or MACROLANGUAGES.get(code, code)
        known = of_macro.get(wider) or rows.get(wider, {}).get("family", "Unclassifiable")
        family = families.get(iso, known)
        name = langcodes.Language.get(code).language_name()
        if code in rows or family in NO_TEXT or "[" in name:
            continue
        spelling = spelt[family].most_common(1)
        likely = LIKELY_SUBTAGS.get(code, "").split("-")
        rows[code] = {
            "code": code,
            "name": name,
            "family": "unknown" if family in NO_FAMILY else spelling[0][0] if spelling else family,
            "script": likely[1] if len(likely) > 1 else "unknown",
            "resources": classes.get(code, "unknown"),
        }
    with FILE.open("w", encoding="utf-8", newline="") as table:
        writer = csv.DictWriter(table, list(rows["en"]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        # Toy languages first, as before.
        is_toy = {code: code.startswith("qa") for code in rows}
        writer.writerows(
            sorted(rows.values(), key=lambda row: (not is_toy[row["code"]], row["code"]))
        )


if __name__ == "__main__":
    main()
