"""The table of encoders: its numbers agree with each other, and estimates fit what they promise."""

from __future__ import annotations

import pytest

from xlt_ray.config.model_presets import (
    PRESETS,
    activation_bytes,
    estimate,
    find_preset,
    state_bytes,
)

PLAIN = ("bert", "roberta", "xlm-roberta", "xlm-roberta-xl", "electra", "distilbert")


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_shapes_are_possible(preset):
    assert preset.hidden_size % preset.num_heads == 0
    assert preset.vocabulary_size * preset.hidden_size < 1.1 * preset.num_parameters or (
        preset.architecture == "rembert"  # its embeddings are narrower than the rest
    )


@pytest.mark.parametrize(
    "preset",
    [preset for preset in PRESETS if preset.architecture in PLAIN],
    ids=lambda value: value.name,
)
def test_parameters_of_plain_transformers_follow_from_their_shape(preset):
    width = preset.hidden_size
    layer = 12 * width**2 + 13 * width
    rows = preset.vocabulary_size + preset.max_positions
    counted = rows * width + preset.num_layers * layer
    assert counted == pytest.approx(preset.num_parameters, rel=0.01)


def test_ids_are_distinguished_and_found_by_their_short_names():
    names = [name for preset in PRESETS for name in preset.names]
    assert len(set(names)) == len(names)
    assert all(find_preset(name) in PRESETS for name in names)
    assert find_preset("labse") is None
    assert find_preset("LaBSE") is None


@pytest.mark.parametrize("gpu", [24e9, 80e9])
@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_what_is_recommended_fits_and_fewer_gpus_do_not(preset, gpu):
    needs = estimate(preset, gpu_bytes=gpu)
    held = state_bytes(preset.num_parameters, needs.num_gpus, needs.zero_stage)
    assert held + needs.micro_batch * activation_bytes(preset, 256) <= 0.9 * gpu
    if needs.num_gpus > 1:
        assert state_bytes(preset.num_parameters, needs.num_gpus // 2, 3) > 0.5 * gpu


def test_small_encoders_need_one_gpu_and_the_largest_several():
    needs = {preset.name.rpartition("/")[2]: estimate(preset, gpu_bytes=24e9) for preset in PRESETS}
    assert needs["xlm-roberta-base"].num_gpus == needs["xlm-roberta-large"].num_gpus == 1
    assert needs["xlm-roberta-xxl"].num_gpus >= 4
    assert needs["xlm-roberta-base"].micro_batch > needs["xlm-roberta-large"].micro_batch
