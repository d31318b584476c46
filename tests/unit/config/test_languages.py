"""Languages are known by all their codes; groups of languages follow from the table."""

from __future__ import annotations

import pytest

from xlt_ray.config.languages import language, languages

FLORES = """
    ace_Arab als_Latn amh_Ethi arb_Arab ayr_Latn azj_Latn cjk_Latn ckb_Arab dik_Latn est_Latn
    fuv_Latn gaz_Latn isl_Latn kas_Deva khk_Cyrl kmr_Latn knc_Arab ltg_Latn lug_Latn lvs_Latn
    mni_Beng nno_Latn npi_Deva nus_Latn ory_Orya pbt_Arab pes_Arab plt_Latn quy_Latn sat_Olck
    shn_Mymr swh_Latn tpi_Latn twi_Latn uig_Arab uzn_Latn ydd_Hebr zho_Hans zho_Hant zsm_Latn
"""


@pytest.mark.parametrize("code", FLORES.split())
def test_languages_of_flores_have_a_family_a_script_and_a_class(code: str) -> None:
    known = language(code)
    assert "unknown" not in (known.family, known.resources)
    assert known.script == code[-4:]
    assert known.code == code


@pytest.mark.parametrize(
    ("code", "name"),
    [("lug", "Ganda"), ("am", "Amharic"), ("zh-Hans", "Chinese"), ("pt-BR", "Portuguese"),
     ("swh", "Swahili"), ("eng", "English"), ("quy", "Quechua"), ("nb", "Norwegian")],
)  # fmt: skip
def test_codes_of_several_standards_are_understood(code: str, name: str) -> None:
    assert language(code).name.startswith(name)


@pytest.mark.parametrize("code", ["nonsense", "_", "", "Latn", "zzz", "en:de"])
def test_what_is_no_code_stands_for_itself(code: str) -> None:
    known = language(code)
    assert (known.name, known.family) == (code, "unknown")


def test_the_table_has_every_code_once_and_no_empty_cell() -> None:
    table = languages()
    assert len(table) > 7000
    assert all(
        known.name and known.family and known.script and known.resources for known in table.values()
    )
    assert {known.resources for known in table.values()} == {"high", "medium", "low", "unknown"}
