"""All files of a sweep are checked before it starts: every fault with its file and line."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from xlt_ray.config.sweep import SweepSpec, sweep_of
from xlt_ray.config.yaml import parse_document
from xlt_ray.data.task import task_named
from xlt_ray.errors import SpecError, SpecErrors
from xlt_ray.home import Home
from xlt_ray.sweep import runner
from xlt_ray.sweep.read_facts import refuse_faulty, text_shares
from xlt_ray.sweep.runner import checked_facts, make_alone

CONFIG = {
    "model_type": "bert", "num_hidden_layers": 2, "hidden_size": 4, "max_position_embeddings": 64,
    "vocab_size": 8,
}  # fmt: skip
TABLE = "bert.embeddings.word_embeddings.weight"


def weights(rows: int = 8, *, cut: int = 0) -> bytes:
    size = rows * 4 * 4
    tensor = {"dtype": "F32", "shape": [rows, 4], "data_offsets": [0, size]}
    header = json.dumps({TABLE: tensor, "__metadata__": {"format": "pt"}}).encode()
    content = len(header).to_bytes(8, "little") + header + bytes(size)
    return content[: len(content) - cut]


def tokenizer(pieces: int = 8) -> str:
    return json.dumps(
        {
            "model": {
                "type": "WordPiece",
                "vocab": {f"w{number}": number for number in range(pieces)},
            }
        }
    )


def conllu(number: int, seed: str) -> str:
    rows = [("the", "DET"), (f"{seed}dog", "NOUN"), ("barks", "VERB")]
    cells = [f"{place}\t{word}\t_\t{tag}" + "\t_" * 6 for place, (word, tag) in enumerate(rows, 1)]
    sentences = ["\n".join([f"# sent_id = {seed}{row}", *cells, ""]) for row in range(number)]
    return "\n".join(sentences) + "\n"


def conll(number: int, seed: str) -> str:
    return f"{seed}\tB-PER\nHill\tI-PER\nsees\tO\n\n" * number


def pairs(number: int, seed: str) -> str:
    labels = ("entailment", "neutral", "contradiction")
    lines = [f"{row}\t{seed} one {row}\t{seed} two\t{labels[row % 3]}" for row in range(number)]
    return "\n".join(["id\tsentence1\tsentence2\tlabel", *lines, ""])


def scores(number: int, seed: str) -> str:
    lines = [f"{row}\t{seed} one {row}\t{seed} two\t{row % 6}" for row in range(number)]
    return "\n".join(["id\tsentence1\tsentence2\tscore", *lines, ""])


def choices(number: int, seed: str) -> str:
    return "".join(
        json.dumps(
            {"idx": row, "premise": f"{seed} one", "question": "cause", "choice1": "a",
             "choice2": "b", "label": row % 2}
        ) + "\n"
        for row in range(number)
    )  # fmt: skip


def squad(number: int, seed: str) -> str:
    questions = [
        {"id": f"q{row}", "question": "who ?",
         "answers": [{"text": "dog", "answer_start": len(seed) + 1}]}
        for row in range(number)
    ]  # fmt: skip
    paragraph = {"context": f"{seed} dog barks", "qas": questions}
    return json.dumps({"data": [{"title": "t", "paragraphs": [paragraph]}]}, indent=1)


FORMATS: dict[str, tuple[str, str, Callable[[int, str], str]]] = {
    "pos": ("pos", "conllu", conllu),
    "ner-panx": ("ner-panx", "conll", conll),
    "xnli": ("pairs/xnli", "tsv", pairs),
    "stsb-score": ("pairs/stsb", "tsv", scores),
    "xcopa": ("choice/xcopa", "jsonl", choices),
    "xquad": ("qa/xquad", "json", squad),
}
"""Folder, ending and content of the files of a task of every format."""
METRICS = {"stsb-score": "pearson", "xquad": "f1"}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "model.safetensors").write_bytes(weights())
    (folder / "tokenizer.json").write_text(tokenizer())
    return folder


@pytest.fixture
def sweep_on(tmp_path: Path, model: Path) -> Callable[..., SweepSpec]:
    """A sweep on a task, whose files are written unless they are there."""

    def sweep(task: str, *overrides: str) -> SweepSpec:
        folder, ending, content = FORMATS[task]
        for name, number in (("en.train", 6), ("en.dev", 4), ("en.test", 5), ("de.test", 5)):
            file = tmp_path / "data" / folder / f"{name}.{ending}"
            file.parent.mkdir(parents=True, exist_ok=True)
            if not file.exists():
                file.write_text(content(number, name[:2]), encoding="utf-8")
        text = f"""
name: t
data: {{source: files, root: {tmp_path / "data"}}}
model: {model}
target: {{task: {task}, learning_rate: 1e-4, batch_size: 2, max_length: 16}}
search: {{trials: 1}}
objective: {{metric: {METRICS.get(task, "accuracy")}}}
"""
        return sweep_of(parse_document(text, "f.yaml", overrides))

    return sweep


@pytest.fixture
def check(tmp_path: Path) -> Callable[[SweepSpec], list[str]]:
    """The warnings of a sweep that passes."""
    return lambda sweep: [
        str(warning)
        for warning in refuse_faulty(sweep, checked_facts(sweep), tmp_path / "cache").warnings
    ]


def faults(check: Callable[[SweepSpec], list[str]], sweep: SweepSpec) -> tuple[SpecError, ...]:
    with pytest.raises(SpecErrors) as caught:
        check(sweep)
    return caught.value.problems


@pytest.mark.parametrize("task", FORMATS)
def test_files_of_every_format_pass_without_a_warning(task, sweep_on, check):
    assert check(sweep_on(task)) == []


FAULTY = [
    # task, what is replaced in the test file, by what, line, complaint
    ("pos", "en0\n1\tthe\t_\tDET", "en0\n1\tthe\t_\tDETT", 2, "unknown label 'DETT'"),
    ("pos", "1\tthe\t_\tDET" + "\t_" * 6, "1\tthe", 2, "has 2 columns"),
    ("pos", "1\tthe", "1\tth\udce9", 2, "not UTF-8"),
    ("pos", "\n\n# sent_id = en1\n", "\n", 5, "no empty line before it"),
    ("ner-panx", "Hill\tI-PER", "Hill\tI-PERS", 2, "unknown label 'I-PERS'"),
    ("ner-panx", "Hill\tI-PER", "Hill", 2, "is not `word TAB tag`"),
    ("xnli", "neutral", "neutrl", 3, "unknown label 'neutrl'"),
    ("xnli", "sentence2\tlabel", "sentence1\tlabel", 1, "the header lacks sentence2"),
    ("stsb-score", "\t1\n", "\t6\n", 3, "'6' is not a score"),
    ("stsb-score", "\t1\n", "\n", 3, "has 3 columns"),
    ("stsb-score", "\tscore", "\tlabel", 1, "the header lacks score"),
    ("xcopa", '"label": 1}', '"label": 2}', 2, "label 2 is not a place"),
    ("xcopa", '"label": 1}', '"label": 1', 2, "is not JSON"),
    ("xcopa", '"choice2": "b", "label": 1', '"label": 1', 2, "has 1 options"),
    ("xcopa", '"label": 1}', '"label": 1, "choice3": "c"}', 2, "has 3 options"),
    ("xquad", '"answer_start": 3', '"answer_start": 2', 10, "question q0: 'dog' is not at 2"),
    ("xquad", '"question": "who ?",', "", 10, "question q0: data.0.paragraphs.0.qas.0.question"),
    ("xquad", '"answer_start": 3', '"answer_start": 3,', 16, "Invalid JSON"),
]  # fmt: skip


@pytest.mark.parametrize(("task", "right", "wrong", "line", "complaint"), FAULTY)
def test_a_faulty_file_is_refused_with_its_line(
    tmp_path, sweep_on, check, task, right, wrong, line, complaint
):
    sweep = sweep_on(task)
    folder, ending, content = FORMATS[task]
    text = content(5, "en")
    assert right in text
    file = tmp_path / "data" / folder / f"de.test.{ending}"
    file.write_bytes(text.replace(right, wrong, 1).encode("utf-8", "surrogateescape"))
    first, *_ = faults(check, sweep)
    assert (first.fields["file"], first.fields["line"]) == (str(file), line)
    with pytest.raises(SpecError, match=complaint):
        raise first
    assert str(first).startswith(f"{file}:{line}: ")


def test_a_file_shows_its_first_five_faults(tmp_path, sweep_on, check):
    sweep = sweep_on("pos")
    file = tmp_path / "data/pos/de.test.conllu"
    text = conllu(8, "de")
    file.write_text(text.replace("NOUN", "NOON").replace("\tVERB\t_", "\tVERB", 2))
    *shown, last = faults(check, sweep)
    assert [fault.fields["line"] for fault in shown] == [3, 4, 8, 9, 13]
    assert "has 10 faults, of which the first 5 are shown" in str(last)


def test_faults_of_several_files_are_raised_together(tmp_path, sweep_on, check):
    sweep = sweep_on("xnli")
    for name in ("en.train", "de.test"):
        file = tmp_path / f"data/pairs/xnli/{name}.tsv"
        file.write_text(file.read_text().replace("neutral", "nix", 1))
    names = {Path(fault.fields["file"]).name for fault in faults(check, sweep)}
    assert names == {"en.train.tsv", "de.test.tsv"}


def test_files_that_the_sweep_does_not_read_may_be_faulty(tmp_path, sweep_on, check):
    sweep = sweep_on("xnli", "evaluate.languages=[en]")
    file = tmp_path / "data/pairs/xnli/de.test.tsv"
    file.write_text(file.read_text().replace("neutral", "nix"))
    assert check(sweep) == []


def test_a_second_check_reads_no_line(sweep_on, check, monkeypatch):
    sweep = sweep_on("pos")
    check(sweep)
    monkeypatch.setattr("xlt_ray.data.sources.local_files.FilesSource.examine", pytest.fail)
    assert check(sweep) == []


def test_a_changed_file_is_read_again(tmp_path, sweep_on, check):
    sweep = sweep_on("pos")
    check(sweep)
    file = tmp_path / "data/pos/de.test.conllu"
    file.write_text(file.read_text().replace("VERB", "VREB", 1))
    assert [fault.fields["line"] for fault in faults(check, sweep)] == [4]


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, sweep_on, check):
    (tmp_path / "cache").write_text("a file")
    assert check(sweep_on("pos")) == []


@pytest.mark.parametrize("name", ["en.test", "en.dev"])
def test_a_copy_of_the_training_data_is_refused(tmp_path, sweep_on, check, name):
    sweep = sweep_on("xnli")
    folder = tmp_path / "data/pairs/xnli"
    (folder / f"{name}.tsv").write_text((folder / "en.train.tsv").read_text())
    (fault,) = faults(check, sweep)
    assert f"xnli/en: {name[3:]} and train hold the same examples" in str(fault)


def test_equal_dev_and_test_sets_have_a_warning(tmp_path, sweep_on, check):
    sweep = sweep_on("xnli")
    folder = tmp_path / "data/pairs/xnli"
    (folder / "en.test.tsv").write_text((folder / "en.dev.tsv").read_text())
    (warning,) = check(sweep)
    assert "xnli: en/dev, en/test hold the same examples" in warning


def test_a_language_that_is_a_copy_of_another_one_has_a_warning(tmp_path, sweep_on, check):
    sweep = sweep_on("xnli")
    folder = tmp_path / "data/pairs/xnli"
    (folder / "de.test.tsv").write_text((folder / "en.test.tsv").read_text())
    (warning,) = check(sweep)
    assert "xnli: de/test, en/test hold the same examples" in warning


def test_a_run_checks_all_files_before_it_starts(tmp_path, sweep_on, monkeypatch):
    def begun(*_: object) -> None:
        pytest.fail("the run has begun")

    monkeypatch.setattr(runner, "open_store", begun)
    sweep, home = sweep_on("pos"), Home(tmp_path / "home")
    file = tmp_path / "data/pos/de.test.conllu"
    file.write_text(file.read_text().replace("VERB", "VREB", 1))
    with pytest.raises(SpecErrors, match=r"de\.test\.conllu:4: unknown label 'VREB'"):
        runner.run(sweep, home, None)
    with pytest.raises(SpecErrors, match=r"de\.test\.conllu:4: unknown label 'VREB'"):
        next(make_alone(sweep, home))


def test_a_run_shows_every_warning_once_before_it_starts(tmp_path, sweep_on, check, monkeypatch):
    class Begun(Exception):
        pass

    def begin(*_: object) -> None:
        raise Begun

    warnings: list[str] = []
    reporter = SimpleNamespace(warned=warnings.append)
    monkeypatch.setattr(runner, "sole_driver", begin)
    sweep = sweep_on("pos", "target.warmup=0.1", "target.size=2")
    (tmp_path / "data/pos/da.tset.conllu").write_text("")
    with pytest.raises(Begun):
        runner.run(sweep, Home(tmp_path / "home"), reporter)
    assert warnings == check(sweep)
    assert len(warnings) == 2
    assert any("target.warmup" in warning for warning in warnings)
    assert any("da.tset.conllu" in warning for warning in warnings)


def test_repeated_ids_have_a_warning(tmp_path, sweep_on, check):
    sweep = sweep_on("xnli")
    file = tmp_path / "data/pairs/xnli/de.test.tsv"
    file.write_text(file.read_text().replace("\n3\t", "\n2\t").replace("\n4\t", "\n2\t"))
    for _ in range(2):
        (warning,) = check(sweep)
        assert "xnli/de/test: 2 ids" in warning
        assert "'2'" in warning


@pytest.mark.parametrize(
    "name",
    ["da.tset.conllu", "de.validation.conllu", "de.Test.conllu", "de.test.conllu.gz",
     ".test.conllu", "de_gsd-ud-test.conllu", "de.test.tsv", "de.conllu"],
)  # fmt: skip
def test_a_file_that_no_task_reads_has_a_warning(tmp_path, sweep_on, check, name):
    sweep = sweep_on("pos")
    (tmp_path / "data/pos" / name).write_text(conllu(3, "x"))
    (tmp_path / "data/pos/README.txt").write_text("notes")
    (warning,) = check(sweep)
    assert f"{tmp_path / 'data/pos' / name}: no task reads this file" in warning


def test_a_file_beside_two_tasks_has_one_warning(tmp_path, sweep_on, check):
    intermediate = "{task: stsb, size: 4, batch_size: 2, learning_rate: 1e-4, max_length: 16}"
    sweep = sweep_on("stsb-score", f"intermediate={intermediate}")
    folder, label = tmp_path / "data/pairs/stsb", task_named("stsb").labels[0]
    for file in folder.glob("*.tsv"):
        header, *rows = file.read_text().splitlines()
        file.write_text("\n".join([f"{header}\tlabel", *(f"{row}\t{label}" for row in rows)]))
    (folder / "da.tset.tsv").write_text("")
    (warning,) = check(sweep)
    assert "da.tset.tsv: no task reads this file" in warning


@pytest.mark.parametrize("code", ["zh-Hant", "sr+Latn", "sr@latin", "sme", "pcm", "qaa", "de_gsd"])
def test_codes_of_languages_pass(tmp_path, sweep_on, check, code):
    sweep = sweep_on("pos")
    (tmp_path / f"data/pos/{code}.test.conllu").write_text(conllu(3, "x"))
    assert check(sweep) == []


@pytest.mark.parametrize("code", ["DE", "german language", "1"])
def test_a_wrong_code_of_a_language_has_a_warning(tmp_path, sweep_on, check, code):
    sweep = sweep_on("pos")
    (tmp_path / f"data/pos/{code}.test.conllu").write_text(conllu(3, "x"))
    (warning,) = check(sweep)
    assert repr(code) in warning


ALIGN = "align={objective: weam, aligner: auto, steps: 2, batch_size: 2, max_length: 16}"


def texts(root: Path, **files: str) -> None:
    for name, text in files.items():
        file = root / "data/parallel/p" / f"{name}.tsv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def test_translations_without_common_ids_have_a_warning(tmp_path, sweep_on, check):
    texts(tmp_path, en="1\tone\n", de="1\teins\n", fr="2\tdeux\n")
    (warning,) = check(sweep_on("pos", ALIGN))
    assert "no id of fr is one of another language" in warning


def test_every_faulty_line_of_parallel_text_is_raised(tmp_path, sweep_on, check):
    texts(tmp_path, en="1\tone\n2 two\n3\n", de="1\teins\nx\n")
    found = [
        (Path(fault.fields["file"]).name, fault.fields["line"])
        for fault in faults(check, sweep_on("pos", ALIGN))
    ]
    assert sorted(found) == [("de.tsv", 2), ("en.tsv", 2), ("en.tsv", 3)]


@pytest.mark.parametrize(
    ("name", "good", "bad", "asked"),
    [
        ("lexicon/en-de.tsv", "the\tder\n", "the der\n", ["target.hybrid.ratio=0.5"]),
        ("neighbours/en.tsv", "the\ta\n", "the a\n", ["target.robust={method: augment}"]),
        ("parallel/p/en.tsv", "1\tone\n", "1 one\n", [ALIGN]),
        ("alignments/p/de-en.tsv", "1\t0-0\n", "1\t0-7\n", [ALIGN]),
    ],
)
def test_all_faults_of_word_lists_and_alignments_are_raised_at_once(
    tmp_path, sweep_on, check, name, good, bad, asked
):
    texts(tmp_path, en="1\tone\n", de="1\teins\n")
    file = tmp_path / "data" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(good + 7 * bad)
    *shown, last = faults(check, sweep_on("pos", *asked))
    assert [(fault.fields["file"], fault.fields["line"]) for fault in shown] == [
        (str(file), line) for line in range(2, 7)
    ]
    assert "has 7 faults, of which the first 5 are shown" in str(last)


def test_faults_of_all_lexicons_of_a_language_are_raised_together(tmp_path, sweep_on, check):
    sweep = sweep_on("pos", "target.hybrid.ratio=0.5")
    for target in ("de", "fr"):
        file = tmp_path / f"data/lexicon/en-{target}.tsv"
        file.parent.mkdir(exist_ok=True)
        file.write_text("the\n")
    assert len(faults(check, sweep)) == 2


def test_an_alignment_without_common_sentences_is_refused(tmp_path, sweep_on, check):
    texts(tmp_path, en="1\tone\n", de="2\teins\n")
    (fault,) = faults(check, sweep_on("pos", ALIGN))
    assert "de, en share no parallel sentence" in str(fault)
    assert check(sweep_on("pos", "align={objective: mlm, steps: 20, max_length: 16}")) == []


def test_few_translations_are_counted(tmp_path, sweep_on, check):
    many = "".join(f"{number}\tone\n" for number in range(9))
    texts(tmp_path, en=many, de=many.replace("\tone", "x\teins") + "1\teins\n")
    for _ in range(2):
        warnings = check(sweep_on("pos", ALIGN))
        assert "at most 1 sentences of de have a translation" in "\n".join(warnings)


def test_diagnostics_without_common_sentences_are_refused(tmp_path, sweep_on, check):
    texts(tmp_path, en="1\tone\n", de="2\teins\n")
    (fault,) = faults(check, sweep_on("pos", "evaluate.diagnostics=[cka]"))
    assert "de: shares no parallel sentence with en" in str(fault)


def test_an_alignment_keeps_sentences_to_train_on(tmp_path, sweep_on, check):
    texts(tmp_path, en="1\tone\n2\ttwo\n", de="1\teins\n2\tzwei\n")
    align = "align={objective: tlm, steps: 20, max_length: 16, held_out: %d}"
    assert check(sweep_on("pos", align % 1)) == []
    (fault,) = faults(check, sweep_on("pos", align % 2))
    assert "all 2 parallel sentences are held out" in str(fault)


def renamed(file: Path, old: str, new: str) -> None:
    file.write_text(file.read_text().replace(f"\n{old}\t", f"\n{new}\t"))


PAIRS, HYBRID = "evaluate.pairs=all", "target.hybrid.ratio=0.5"


@pytest.mark.parametrize(("asked", "split"), [(PAIRS, "test"), (HYBRID, "train")])
def test_joined_rows_must_have_common_ids(tmp_path, sweep_on, check, asked, split):
    folder = tmp_path / "data/pairs/xnli"
    sweep = sweep_on("xnli", asked)
    (folder / "de.train.tsv").write_text(pairs(6, "de"))
    assert check(sweep) == []
    file = folder / f"de.{split}.tsv"
    for number in range(4):
        renamed(file, str(number), f"d{number}")
    num_rows = len(file.read_text().splitlines()) - 1
    (warning,) = check(sweep)
    assert f"xnli/{split}: {num_rows - 4} of {num_rows} ids" in warning
    for number in range(4, num_rows):
        renamed(file, str(number), f"d{number}")
    (fault,) = faults(check, sweep)
    assert "the languages have no row in common" in str(fault) or "no id of the" in str(fault)
    assert check(sweep_on("xnli")) == []


def test_an_id_must_have_one_label_in_all_languages(tmp_path, sweep_on, check):
    sweep = sweep_on("xnli", PAIRS)
    file = tmp_path / "data/pairs/xnli/de.test.tsv"
    file.write_text(file.read_text().replace("neutral", "entailment"))
    (fault,) = faults(check, sweep)
    assert "2 ids have another label in en than in de, the first is '1'" in str(fault)


def pointer(folder: Path) -> None:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    (folder / "model.safetensors").write_text(text)


def index(folder: Path) -> None:
    names = json.dumps({"weight_map": {TABLE: "model-2.safetensors"}})
    (folder / "model.safetensors.index.json").write_text(names)


MODELS: list[tuple[Callable[[Path], object], str]] = [
    (lambda folder: (folder / "model.safetensors").write_bytes(weights(cut=3)), "is cut off"),
    (lambda folder: (folder / "model.safetensors").write_bytes(weights()[:40]), "cut off"),
    (lambda folder: (folder / "model.safetensors").write_bytes(b""), "not a safetensors file"),
    (lambda folder: (folder / "model.safetensors").write_bytes(b"<html>no</html>"), "not a safe"),
    (lambda folder: (folder / "model.safetensors").write_bytes(weights(7)), "has 7 rows"),
    (lambda folder: (folder / "tokenizer.json").write_text(tokenizer(9)), "has 9 pieces"),
    (lambda folder: (folder / "tokenizer.json").write_text("{"), "not the JSON of a tokenizer"),
    (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer"),
    (pointer, "pointer of git-lfs"),
    (index, "model-2.safetensors: is not there"),
]


@pytest.mark.parametrize(("spoil", "complaint"), MODELS)
def test_files_of_a_model_that_do_not_fit_are_refused(sweep_on, check, model, spoil, complaint):
    sweep = sweep_on("pos")
    spoil(model)
    assert complaint in " ".join(map(str, faults(check, sweep)))


def test_a_large_file_is_read_within_seconds(tmp_path, sweep_on, check):
    sweep = sweep_on("pos")
    (tmp_path / "data/pos/en.train.conllu").write_text(conllu(12_500, "en"))
    begin = time.process_time()
    check(sweep)
    assert time.process_time() - begin < 10


def test_sizes_of_what_is_read_are_returned(tmp_path, sweep_on):
    sweep = sweep_on("pos")
    sizes = refuse_faulty(sweep, checked_facts(sweep), tmp_path / "cache").sizes
    assert list(map(str, sizes)) == ["pos train: en 6", "pos dev: en 4", "pos test: de 5, en 5"]
    for code in ("fr", "it", "es", "pt", "ro", "ca", "gl"):
        (tmp_path / f"data/pos/{code}.test.conllu").write_text(conllu(7, code))
    sweep = sweep_on("pos")
    *_, last = refuse_faulty(sweep, checked_facts(sweep), tmp_path / "cache").sizes
    assert str(last) == "pos test: 9 languages, 5 to 7 examples each"


def word_tokenizer(file: Path, *words: str) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    vocabulary = {word: number for number, word in enumerate(("[UNK]", *words))}
    made = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = WhitespaceSplit()
    made.save(str(file))


def test_shares_of_cut_and_unknown_pieces_are_returned(tmp_path, sweep_on, model, monkeypatch):
    word_tokenizer(model / "tokenizer.json", "en", "one", "two", *map(str, range(6)))
    sweep = sweep_on("xnli", "target.max_length={choice: [16, 8]}")
    file = tmp_path / "data/pairs/xnli/de.test.tsv"
    file.write_text(file.read_text().replace("de one 0", "one one one one one one"))
    facts, cache = checked_facts(sweep), tmp_path / "cache"
    trained, tested = text_shares(sweep, facts, cache)
    assert (trained.split, trained.cut, trained.unknown) == ("train", {"en": 0}, {"en": 0})
    assert (tested.split, tested.max_length) == ("test", 8)
    # Of five pairs one has six words and two, the others three and two; "de" begins nine sentences.
    assert tested.cut == {"de": 0, "en": 0}
    assert tested.unknown == {"de": 9 / 28, "en": 0}
    file.write_text(file.read_text().replace("one one", "one one one", 1))
    facts = checked_facts(sweep)
    trained, tested = text_shares(sweep, facts, cache)
    assert tested.cut == {"de": 1 / 5, "en": 0}
    assert str(tested) == (
        "model reads xnli test: de 20.0 %, 1 other 0 % cut off at 8 pieces; unknown pieces "
        "de 31.0 %, 1 other 0 %"
    )
    # A second check tokenises nothing.
    monkeypatch.setattr("xlt_ray.data.piece_check.encode_words", None)
    assert text_shares(sweep, facts, cache) == [trained, tested]


@pytest.mark.parametrize("task", ["xnli", "xcopa", "xquad", "ner-panx", "stsb-score"])
def test_texts_of_every_kind_are_split_into_pieces(tmp_path, sweep_on, model, task):
    word_tokenizer(model / "tokenizer.json", "one", "barks")
    sweep = sweep_on(task)
    trained, tested = text_shares(sweep, checked_facts(sweep), tmp_path / "cache")
    assert set(tested.unknown) == {"de", "en"}
    assert 0 < trained.unknown["en"] <= 1


def test_a_tokenizer_that_cannot_be_read_has_no_shares(tmp_path, sweep_on, model):
    sweep = sweep_on("pos")
    (model / "tokenizer.json").write_text("{}")
    assert text_shares(sweep, checked_facts(sweep), tmp_path / "cache") == []


def test_a_repeated_column_is_refused(tmp_path, sweep_on, check):
    sweep = sweep_on("xnli")
    file = tmp_path / "data/pairs/xnli/de.test.tsv"
    header, *rows = file.read_text().splitlines()
    lines = [f"{header}\tlabel", *(f"{row}\tneutral" for row in rows)]
    file.write_text("\n".join(lines))
    (fault,) = faults(check, sweep)
    assert fault.fields["line"] == 1
    assert "the header has label 2 times" in str(fault)
