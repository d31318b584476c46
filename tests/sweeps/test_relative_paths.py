"""A sweep whose every path is relative, in a folder with blanks and letters outside ASCII."""

from __future__ import annotations

from pathlib import Path

from tests.sweeps.conftest import Place
from xlt_ray.config.trial import Model
from xlt_ray.modeling.encoder import load_encoder, load_tokenizer, save_encoder

SWEEP = """
name: relative
data: {source: files, root: my data}
model: ./my model
target:
  task: pos
  source_language: en
  epochs: 1
  batch_size: 4
  max_length: 16
  learning_rate: 1.0e-3
  evaluations: 1
search: {sampler: grid, trials: 1}
places: {store: stages}
"""
TAGGED = {"the": "DET", "dog": "NOUN", "cat": "NOUN", "sleeps": "VERB", "runs": "VERB"}
SENTENCES = (("the", "dog", "sleeps"), ("the", "cat", "runs"), ("the", "dog", "runs"))


def write_tags(folder: Path) -> None:
    folder.mkdir(parents=True)
    for language, split, times in (("en", "train", 4), ("en", "dev", 1), ("de", "test", 2)):
        blocks = [
            "".join(
                f"{number}\t{word}\t_\t{TAGGED[word]}\t_\t_\t_\t_\t_\t_\n"
                for number, word in enumerate(sentence, start=1)
            )
            for sentence in SENTENCES
        ]
        text = "\n".join(blocks * times) + "\n"
        (folder / f"{language}.{split}.conllu").write_text(text, encoding="utf-8")


def test_a_sweep_of_relative_paths_runs_to_its_end(tmp_path: Path) -> None:
    root = tmp_path / "mein Ördner"
    root.mkdir()
    model = Model(name="toy:2x32")
    tokenizer = load_tokenizer(model, tuple(TAGGED))
    save_encoder(load_encoder(model, tokenizer, 0), tokenizer, root / "my model")
    write_tags(root / "my data" / "pos")
    (root / "relative.yaml").write_text(SWEEP)
    place = Place(root, {"XLT_HOME": "my home"})
    ran = place.xlt("run", "relative.yaml")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (trial,) = place.trials("relative")
    assert trial["state"] == "complete"
    assert set(trial["scores"]["pos"]) == {"de"}
    assert (root / "stages" / "stages").is_dir()
    # From elsewhere, with what is the same folder from there: nothing is trained again.
    elsewhere = root / "elsewhere"
    elsewhere.mkdir()
    again = Place(elsewhere, {"XLT_HOME": "../my home"}).xlt(
        "run", "../relative.yaml", "data.root=../my data", "model=../my model",
        "places.store=../stages",
    )  # fmt: skip
    assert again.returncode == 0, again.stdout + again.stderr
    assert "0 new stages" in again.stdout
