from __future__ import annotations

from xlt_ray.config.languages import language


def test_toy_languages_have_two_scripts_and_every_resource_class(toy):
    known = [language(code) for code in toy.parallel_languages()]
    assert {language.script for language in known} == {"Latn", "Cyrl"}
    assert {language.resources for language in known} == {"high", "medium", "low"}
    assert len({language.family for language in known}) >= 2
