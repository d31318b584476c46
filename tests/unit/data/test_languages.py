from __future__ import annotations

from xlt_ray.config.languages import LANGUAGES, language


def test_unknown_codes_stand_for_themselves():
    assert language("tlh").name == "tlh"
    assert language("tlh").resources == "unknown"


def test_toy_languages_have_two_scripts_and_every_resource_class(toy):
    known = [LANGUAGES[code] for code in toy.parallel_languages()]
    assert {language.script for language in known} == {"Latn", "Cyrl"}
    assert {language.resources for language in known} == {"high", "medium", "low"}
    assert len({language.family for language in known}) >= 2
