"""Mistakes of researchers: what they did, and what the message has to say.

Each is a change of :mod:`tests.mistakes.workplace`. They were chosen for how often they are made,
not for being caught; one that is not caught is ``missed`` and says why.
"""

# A mistake reads best on one line.
# ruff: noqa: E501

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from typing import NamedTuple

from tests.mistakes.workplace import METRICS, PLAIN, Change, Workplace, write_model


class Mistake(NamedTuple):
    """What the user did, and the texts that the message contains, whatever their case."""

    name: str
    change: Change
    wants: tuple[str, ...]
    missed: str = ""
    """Why it is not caught, where it is not."""
    warned: bool = False
    """Whether it can be run, and is reported as a warning."""


def _all(*changes: Change) -> Change:
    def change(place: Workplace) -> None:
        for change in changes:
            change(place)

    return change


def _typed(*arguments: str) -> Change:
    """The command line, without ``xlt``."""

    def change(place: Workplace) -> None:
        place.command = list(arguments)

    return change


def _with(*overrides: str) -> Change:
    """Overrides behind what is typed anyway."""

    def change(place: Workplace) -> None:
        place.command = [*place.command, *overrides]

    return change


def _wrote(right: str, wrong: str, name: str = "sweep.yaml", times: int = 1) -> Change:
    """Something else in a file than what is right."""
    return lambda place: place.replace(name, right, wrong, times)


def _has(line: str) -> Change:
    """A line more at the end of the sweep file."""

    def change(place: Workplace) -> None:
        file = place.file("sweep.yaml")
        file.write_bytes(file.read_bytes() + f"{line}\n".encode())

    return change


def _sweep(content: str | bytes) -> Change:
    return lambda place: place.write("sweep.yaml", content)


def _on(task: str, *changes: Change) -> Change:
    """A plain sweep on another task, and mistakes in it or in its data."""
    text = PLAIN.format(task=task, metric=METRICS.get(task, "accuracy"))
    return _all(_sweep(text), *changes)


def _put(name: str, content: str | bytes) -> Change:
    return lambda place: place.write(name, content)


def _copied(source: str, target: str) -> Change:
    def change(place: Workplace) -> None:
        place.write(target, place.file(source).read_bytes())

    return change


def _moved(source: str, target: str) -> Change:
    def change(place: Workplace) -> None:
        place.file(target).parent.mkdir(parents=True, exist_ok=True)
        place.file(source).rename(place.file(target))

    return change


def _removed(name: str) -> Change:
    def change(place: Workplace) -> None:
        file = place.file(name)
        if file.is_dir():
            shutil.rmtree(file)
        else:
            file.unlink()

    return change


def _edited(name: str, edit: Callable[[bytes], bytes]) -> Change:
    def change(place: Workplace) -> None:
        place.write(name, edit(place.file(name).read_bytes()))

    return change


def _set(name: str, value: str) -> Change:
    return lambda place: place.environment.setenv(name, value)


def _model(folder: str = "models/own", **config: object) -> Change:
    """Another model folder, and a sweep on it."""

    def change(place: Workplace) -> None:
        write_model(place.file(folder), **{"layers": 2, "width": 16, **config})  # type: ignore[arg-type]
        _on("xnli", _with(f"model={folder}"))(place)

    return change


KEYS = [
    Mistake("section misspelt", _wrote("target:", "traget:"), ("traget", "did you mean target?")),
    Mistake("key misspelt", _wrote("learning_rate", "learning_rte"),
            ("target.learning_rte", "did you mean learning_rate?")),
    Mistake("key in camel case", _wrote("batch_size: 4\n  max_length: 32\n  epochs", "batchSize: 4\n  max_length: 32\n  epochs"),
            ("target.batchSize", "batch_size")),
    Mistake("lr for learning_rate", _with("target.lr=2e-5"), ("target.lr", "learning_rate")),
    Mistake("resource key misspelt", _wrote("gpus_per_worker", "gpu_per_worker"),
            ("resources.gpu_per_worker", "did you mean gpus_per_worker?")),
    Mistake("path for data.root", _wrote("root: data", "path: data"), ("data.path", "root")),
    Mistake("hyphen for underscore", _has("few-shot: {language: de, shots: 4}"),
            ("few-shot", "did you mean few_shot?")),
    Mistake("mlflow for tracking", _has("places: {mlflow: http://localhost:5000}"),
            ("places.mlflow", "tracking")),
    Mistake("a stage's key at the top", _has("epochs: 3"), ("epochs", "target.epochs")),
    Mistake("a search key at the top", _has("seeds: 3"), ("seeds", "search.seeds")),
    Mistake("a resource key in a stage", _with("target.gpus_per_worker=1"),
            ("target.gpus_per_worker", "resources.gpus_per_worker")),
    Mistake("seed in target", _with("target.seed=3"), ("target.seed", "search.seed")),
    Mistake("model_name_or_path", _wrote("model: {choice", "model_name_or_path: {choice"),
            ("model_name_or_path", "model")),
    Mistake("no target at all", _sweep("name: a\ndata: {source: toy}\nmodel: toy:2x64\nsearch: {trials: 1}\n"),
            ("target", "is missing")),
    Mistake("no name", _wrote("name: mine\n", ""), ("name", "is missing")),
]  # fmt: skip

TYPES = [
    Mistake("a list for a choice", _wrote("epochs: 3", "epochs: [1, 3, 5]"),
            ("target.epochs", "{choice: [1, 3, 5]}")),
    Mistake("a list of models for a choice",
            _wrote("{choice: [models/small, models/large]}", "[models/small, models/large]"),
            ("model", "to search over these values write {choice: ["), ),
    Mistake("a list of seeds for their number", _wrote("seeds: 3", "seeds: [1, 2, 3]"),
            ("search.seeds", "integer")),
    Mistake("a decimal comma", _wrote("ratio: 0.5", "ratio: '0,5'"),
            ("target.hybrid.ratio", "number")),
    Mistake("a number with its unit", _with("target.max_length=128 tokens"),
            ("target.max_length", "integer")),
    Mistake("languages by commas", _has("evaluate: {languages: 'en,de'}"),
            ("evaluate.languages", "[en, de]")),
    Mistake("a section without content", _sweep("name: a\ndata: {source: toy}\nmodel: toy:2x64\ntarget:\nsearch: {trials: 1}\n"),
            ("target",)),
    Mistake("Python's None", _with("intermediate=None"), ("intermediate", "null")),
    Mistake("true in quotes", _has("align: {objective: tlm, reset_positions: 'ja'}"),
            ("align.reset_positions", "boolean")),
    Mistake("source data alone", _wrote("data: {source: files, root: data}", "data: data"),
            ("data", "source")),
]  # fmt: skip

VALUES = [
    Mistake("the sign of the exponent forgotten", _with("target.learning_rate=2e5"),
            ("target.learning_rate", "moves every weight by about 200000"), warned=True),
    Mistake("warm-up as per cent", _with("target.warmup=10"), ("target.warmup", "less than 1")),
]  # fmt: skip

NAMES = [
    Mistake("a task misspelt", _wrote("task: xnli", "task: xlni"), ("target.task", "did you mean xnli?")),
    Mistake("a task in capitals", _wrote("task: xnli", "task: XNLI"), ("target.task", "did you mean xnli?")),
    Mistake("an intermediate task misspelt", _wrote("task: nli", "task: nil"),
            ("intermediate.task", "did you mean nli?")),
    Mistake("a language's English name", _wrote("source_language: en", "source_language: english"),
            ("target.source_language", "english", "en")),
    Mistake("a language with three letters", _has("evaluate: {languages: [en, deu]}"),
            ("evaluate.languages", "deu", "did you mean de?")),
    Mistake("a language that has no test set", _has("evaluate: {languages: [en, fr]}"),
            ("evaluate.languages", "fr", "de, en, sw")),
    Mistake("a metric of another task", _wrote("metric: accuracy", "metric: f1"),
            ("objective.metric", "macro_f1")),
    Mistake("robust training misspelt", _with("target.robust={method: adverserial, step_size: 0.1, epsilon: 1.0}"),
            ("target.robust.method", "did you mean adversarial?")),
    Mistake("an alignment misspelt", _has("align: {objective: tml}"),
            ("align.objective", "did you mean tlm?")),
    Mistake("a schedule of another library", _with("intermediate.schedule=cosine"),
            ("intermediate.schedule.method", "linear, wsd")),
    Mistake("half precision", _with("resources.precision=fp16"), ("resources.precision", "bf16")),
    Mistake("a diagnostic misspelt", _has("evaluate: {diagnostics: [ckaa]}"),
            ("evaluate.diagnostics", "cka")),
    Mistake("a model of the hub misspelt", _with("model=xlm-roberta-bse"),
            ("xlm-roberta-bse", "did you mean FacebookAI/xlm-roberta-base?")),
    Mistake("a model folder misspelt", _with("model=./models/smal"),
            ("models/smal", "did you mean small?")),
    Mistake("a model folder misspelt without ./", _with("model=models/smal"),
            ("models/smal", "did you mean small?")),
    Mistake("a toy model spelt wrong", _all(_typed("check", "sizes.yaml"), _with("model=toy:2-64")),
            ("model", "toy:LAYERSxWIDTH")),
    Mistake("a further task misspelt", _has("evaluate: {also: [tatoba]}"),
            ("evaluate.also", "did you mean tatoeba?")),
]  # fmt: skip

TOGETHER = [
    Mistake("a fusion without its layer", _with("target.fusion={method: dlfa}"),
            ("target.fusion.layer", "is missing", "at most num_layers - 1")),
    Mistake("the target's own test languages trained before",
            _all(_copied("data/pairs/xnli/en.train.tsv", "data/pairs/xnli/de.train.tsv"),
                 _edited("data/pairs/xnli/de.train.tsv", lambda text: text.replace(b"sees", b"sieht")),
                 _with("intermediate.task=xnli", "intermediate.languages=[en, de]", "intermediate.size=all",
                       "target.hybrid.ratio=0", "target.hybrid.languages=all")),
            ("intermediate.languages", "labels in 'de'")),
    Mistake("adversarial training without its size", _with("target.robust={method: adversarial}"),
            ("target.robust", "epsilon", "is missing")),
    Mistake("bf16 without masters", _with("resources.precision=bf16"),
            ("resources.precision", "zero_stage 1, 2 or 3")),
    Mistake("a toy model on real text", _with("model=toy:2x64"), ("toy", "words of toy data")),
    Mistake("a toy task on real text", _with("target.task=toy-nli"), ("target.task", "toy-nli", "no data of this task")),
    Mistake("a real task in the toy world", _all(_typed("check", "sizes.yaml"), _with("target.task=xnli")),
            ("target.task", "xnli", "no data of this task")),
    Mistake("English in the toy world", _all(_typed("check", "sizes.yaml"), _with("target.source_language=en")),
            ("target.source_language", "qaa")),
    Mistake("a root for toy data", _all(_typed("check", "sizes.yaml"), _with("data.root=data")),
            ("data.root", "unknown key")),
    Mistake("a revision of a folder", _with("model={name: models/small, revision: main}"),
            ("models/small", "have revisions")),
    Mistake("a source language without dev set", _removed("data/pairs/xnli/en.dev.tsv"),
            ("target.source_language", "no dev set in 'en'", "en.dev.tsv")),
    Mistake("a source language without training data", _wrote("source_language: en", "source_language: sw"),
            ("target.source_language", "no training data in 'sw'", "en")),
]  # fmt: skip

SEARCHED = [
    Mistake("searching over the number of trials", _wrote("trials: 8", "trials: {choice: [8, 16]}"),
            ("search.trials", "cannot be searched over")),
    Mistake("a fact of the model misspelt", _wrote("num_layers - 1", "num_layer - 1"),
            ("target.fusion.layer", "num_layer", "num_layers")),
    Mistake("up to the last layer itself", _wrote("num_layers - 1", "num_layers"),
            ("target.fusion.layer", "num_layers - 1")),
    Mistake("from the fourth layer of a model with two", _wrote("[1, num_layers - 1]", "[3, num_layers - 1]"),
            ("target.fusion.layer", "from 3 to 1 is empty")),
    Mistake("a wrong block among options",
            _with("target.fusion={choice: [{method: none}, {method: mix, layer: 1}]}"),
            ("target.fusion.layer", "unknown key")),
    Mistake("choices for choice", _with("target.epochs={choices: [1, 3]}"), ("target.epochs", "choice")),
    Mistake("Ray's loguniform", _with("target.learning_rate={loguniform: [1e-6, 1e-4]}"),
            ("target.learning_rate", "{float: [low, high], log: true}")),
    Mistake("min and max", _with("target.learning_rate={min: 1e-6, max: 1e-4}"),
            ("target.learning_rate", "{float: [low, high]")),
    Mistake("values of a sweep of W&B", _with("target.epochs={values: [1, 3]}"),
            ("target.epochs", "{choice: [")),
]  # fmt: skip

YAML = [
    Mistake("tabs", _wrote("  task: xnli", "\ttask: xnli"), ("sweep.yaml:12", "YAML", "not with tabs")),
    Mistake("a key twice", _wrote("epochs: 3", "epochs: 3\n  max_length: 16"),
            ("target.max_length", "is here and on line")),
    Mistake("a blank forgotten", _wrote("epochs: 3", "epochs:3"), ("sweep.yaml:17", "YAML", "space after the colon")),
    Mistake("a colon in a value", _wrote("name: mine", "name: sizes: second try"), ("sweep.yaml:1", "YAML")),
    Mistake("a bracket open", _wrote("languages: [de]", "languages: [de"), ("sweep.yaml", "YAML")),
    Mistake("indented by one too much", _wrote("  epochs: 3", "   epochs: 3"), ("sweep.yaml:17", "YAML")),
    Mistake("not indented", _wrote("  epochs: 3", "epochs: 3"), ("sweep.yaml:18", "YAML", "indent")),
    Mistake("the comma at the end of a line", _wrote("  task: xnli", "  task: xnli,"),
            ("target.task", "did you mean xnli?")),
    Mistake("an expression", _with("target.batch_size=2*4"), ("target.batch_size", "integer")),
    Mistake("an environment variable", _wrote("root: data", "root: $DATA"), ("data.root", "$DATA")),
]  # fmt: skip

COMMANDS = [
    Mistake("an override misspelt", _with("serach.trials=3"), ("command line", "serach", "search")),
    Mistake("an override without its section", _with("learning_rate=1e-5"),
            ("command line", "target.learning_rate")),
    Mistake("an override as an option", _with("--trials", "3"), ("--trials",)),
    Mistake("an override of nothing", _with("search.trials="), ("search.trials", "integer")),
    Mistake("a sweep file that is not there", _typed("check", "sweeps.yaml"), ("sweeps.yaml", "did you mean sweep.yaml?")),
    Mistake("a name for a sweep file", _typed("run", "size"), ("size", "sizes")),
    Mistake("a data file for a sweep file", _typed("check", "data/pairs/xnli/en.train.tsv"),
            ("en.train.tsv", "YAML")),
    Mistake("export of an unknown name", _typed("export", "size", "out"), ("size", "sizes")),
    Mistake("compare with an unknown name", _typed("compare", "sizes", "size"), ("size", "sizes")),
    Mistake("logs of an unknown name", _typed("logs", "size"), ("size", "sizes")),
    Mistake("ui of an unknown name", _typed("ui", "size"), ("size", "sizes")),
    Mistake("confirm of an unknown name", _typed("confirm", "size", "--seeds", "6"), ("size", "sizes")),
    Mistake("resume of a file that was never run", _typed("resume", "sweep.yaml"), ("mine", "sizes")),
    Mistake("trials of a file that was never run", _typed("trials", "sweep.yaml"), ("mine", "sizes")),
    Mistake("a ledger for a name", _typed("trials", "home/ledger/sizes.journal"), ("sizes.journal", "sizes")),
    Mistake("resume of a trial that is not there", _typed("resume", "sizes", "--trial", "99"), ("99",)),
    Mistake("stage of a trial that is not there", _typed("stage", "sizes.yaml", "--trial", "7"), ("7",)),
    Mistake("a stage misspelt", _typed("stage", "sizes.yaml", "--until", "few-shot"), ("few_shot",)),
    Mistake("export of weights that are no longer there", _typed("export", "sizes", "out"), ("sizes", "no")),
    Mistake("export without a folder", _typed("export", "sizes"), ("missing argument",)),
    Mistake("predict from a folder that is not there", _typed("predict", "out", "data/pos/de.test.conllu"),
            ("out",)),
    Mistake("predict with a model that was never trained", _typed("predict", "models/small", "data/pos/de.test.conllu"),
            ("models/small", "export")),
    Mistake("a command misspelt", _typed("chek", "sweep.yaml"), ("chek", "check")),
    Mistake("the same name and another sweep", _typed("run", "sizes.yaml", "target.epochs=1"),
            ("sizes", "space.target.epochs", "rename this one")),
]  # fmt: skip

PLACES = [
    Mistake("a root that is not there", _wrote("root: data", "root: dat"), ("data.root", "dat", "did you mean data?")),
    Mistake("the root one level too deep", _wrote("root: data", "root: data/pairs"), ("target.task", "data/pairs/pairs/xnli")),
    Mistake("the root one level too high", _wrote("root: data", "root: ."), ("target.task", "pairs/xnli")),
    Mistake("a file for the root", _wrote("root: data", "root: sweep.yaml"), ("data.root", "folder")),
    Mistake("the sweep started in another folder", _all(_moved("sweep.yaml", "sweeps/mine.yaml"),
            _moved("data", "corpora"), _typed("check", "sweeps/mine.yaml")), ("data.root", "folder")),
    Mistake("an MLflow server without http", _has("places: {tracking: 'localhost:5000'}"),
            ("places.tracking", "http://localhost:5000")),
    Mistake("one slash of http", _has("places: {tracking: 'http:/localhost:5000'}"),
            ("places.tracking", "http://")),
    Mistake("MLFLOW_TRACKING_URI without http", _set("MLFLOW_TRACKING_URI", "localhost:5000"),
            ("MLFLOW_TRACKING_URI", "http://localhost:5000")),
    Mistake("a ledger in postgres", _has("places: {ledger: 'postgres://me@db/optuna'}"),
            ("places.ledger", "did you mean postgresql?")),
    Mistake("a ledger as a folder", _has("places: {ledger: ledger}"), ("places.ledger", "sqlite:///")),
    Mistake("SQLite with two slashes", _has("places: {ledger: 'sqlite://ledger.db'}"), ("places.ledger", "sqlite:///ledger.db")),
    Mistake("a store with one slash", _has("places: {store: 's3:/bucket/stages'}"), ("places.store", "s3://bucket/stages")),
    Mistake("a store on an unknown system", _has("places: {store: 's4://bucket/stages'}"), ("s4", "s3://")),
    Mistake("a file for the store", _has("places: {store: sweep.yaml}"), ("places.store", "folder")),
    Mistake("RAY_ADDRESS that is no address", _all(_set("RAY_ADDRESS", "http://head:8265"),),
            ("RAY_ADDRESS", "xlt submit")),
]  # fmt: skip

XNLI = "data/pairs/xnli/"
TEST = f"{XNLI}de.test.tsv"

FILES = [
    Mistake("commas for tabs", _edited(TEST, lambda text: text.replace(b"\t", b",")), (f"{TEST}:1", "header")),
    Mistake("a label misspelt", _wrote("neutral", "netural", TEST), (f"{TEST}:3", "did you mean neutral?")),
    Mistake("an empty file", _put(TEST, ""), (TEST, "holds no example")),
    Mistake("a header alone", _put(TEST, "id\tsentence1\tsentence2\tlabel\n"), (TEST, "holds no example")),
    Mistake("UTF-16 of a spreadsheet", _edited(TEST, lambda text: text.decode().encode("utf-16")), (TEST, "UTF-8")),
    Mistake("a tag misspelt", _on("pos", _wrote("NOUN", "NOON", "data/pos/de.test.conllu")),
            ("de.test.conllu:5", "did you mean NOUN?")),
    Mistake("tags of the Penn treebank", _on("pos", _edited("data/pos/en.train.conllu", lambda text: text.replace(b"NOUN", b"NN"))),
            ("en.train.conllu:5", "unknown label 'NN'")),
    Mistake("ids of a ranking twice", _on("lareqa", _wrote('"id": "q1"', '"id": "q0"', "data/retrieval/lareqa/de.test.jsonl")),
            ("de.test.jsonl:2", "is repeated")),
    Mistake("validation for dev", _moved(f"{XNLI}en.dev.tsv", f"{XNLI}en.validation.tsv"), ("no dev set in 'en'", "it would be", "en.dev.tsv")),
    Mistake("valid for dev in a target language", _moved(f"{XNLI}de.dev.tsv", f"{XNLI}de.valid.tsv"), ("de.valid.tsv", "no task reads this file"), warned=True),
    Mistake("a packed file", _all(_edited(TEST, gzip.compress), _moved(TEST, f"{TEST}.gz")), ("de.test.tsv.gz", "no task reads this file"), warned=True),
    Mistake("a packed file under the old name", _edited(TEST, gzip.compress), (TEST, "UTF-8")),
    Mistake("another format of the split", _copied(TEST, f"{XNLI}fr.test.csv"), ("fr.test.csv", "no task reads this file"), warned=True),
    Mistake("split before language", _copied(TEST, f"{XNLI}test.fr.tsv"), ("test.fr.tsv", "no task reads this file"), warned=True),
    Mistake("a hyphen for the dot", _copied(TEST, f"{XNLI}fr-test.tsv"), ("fr-test.tsv", "no task reads this file"), warned=True),
    Mistake("a folder for a file", _all(_removed(TEST), lambda place: place.file(TEST).mkdir()), (TEST, "directory")),
    Mistake("a link to nowhere", _all(_removed(TEST), lambda place: place.file(TEST).symlink_to("gone.tsv")), (TEST, "no such file")),
    Mistake("no training file", _removed(f"{XNLI}en.train.tsv"), ("target", "xnli has no training data", "en.train.tsv")),
    Mistake("no test set in any other language", _all(_removed(f"{XNLI}de.test.tsv"), _removed(f"{XNLI}sw.test.tsv")),
            ("evaluate.languages", "test set in 'en' alone"), warned=True),
    Mistake("translations under other ids", _all(_has("align: {objective: tlm}"), _edited("data/parallel/news/de.tsv", lambda text: text.replace(b"p", b"d"))),
            ("parallel", "no id of de"), warned=True),
    Mistake("a lexicon the wrong way round", _edited("data/lexicon/en-de.tsv", lambda text: b"\n".join(b"\t".join(reversed(line.split(b"\t"))) for line in text.split(b"\n"))),
            ("target.hybrid", "lexicon", "no word")),
    Mistake("word alignments counted from 1", _all(_has("align: {objective: weam}"), _edited("data/alignments/news/de-en.tsv", lambda text: text.replace(b"4-4", b"5-5"))),
            ("de-en.tsv:1", "words")),
    Mistake("word alignments as text", _all(_has("align: {objective: weam}"), _edited("data/alignments/news/de-en.tsv", lambda text: text.replace(b"0-0", b"0:0"))),
            ("de-en.tsv:1", "id TAB 0-0 1-2")),
    Mistake("neighbours with one column", _all(_with("target.robust={method: augment}"), _edited("data/neighbours/en.tsv", lambda text: text.replace(b"\t", b","))),
            ("neighbours/en.tsv:1",)),
    Mistake("a test set of a language that was cut to an empty one", _edited(f"{XNLI}sw.test.tsv", lambda text: text[:20]),
            ("sw.test.tsv",)),
    Mistake("a Git LFS pointer for a file", _put(TEST, "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 3\n"),
            (TEST, "git-lfs")),
    Mistake("a page of the web for a file", _put(TEST, "<!DOCTYPE html>\n<html><body>404</body></html>\n"), (f"{TEST}:1", "header")),
    Mistake("the folder of a task misspelt", _moved("data/pairs/xnli", "data/pairs/xlni"), ("target.task", "data/pairs/xnli")),
    Mistake("all test sets in one file", _all(*(_removed(f"{XNLI}{language}.test.tsv") for language in ("en", "de", "sw")), _put(f"{XNLI}test.tsv", "id\tsentence1\tsentence2\tlabel\tlanguage\n")),
            ("xnli", "no test set", "LANGUAGE.test.tsv")),
]  # fmt: skip

MODELS = [
    Mistake("weights in a pickle", _all(_model(), _moved("models/own/model.safetensors", "models/own/pytorch_model.bin")),
            ("models/own", "pickled weights")),
    Mistake("no config", _all(_model(), _removed("models/own/config.json")), ("models/own", "config.json")),
    Mistake("a config that is cut off", _all(_model(), _edited("models/own/config.json", lambda content: content[:40])),
            ("models/own", "config.json is not JSON")),
    Mistake("no weights", _all(_model(), _removed("models/own/model.safetensors")), ("models/own", "model.safetensors")),
    Mistake("a config of another model", _all(_model(), _wrote('"vocab_size": 40', '"vocab_size": 90', "models/own/config.json")),
            ("config.json", "vocab_size is 90")),
    Mistake("a language model that reads one way",
            _model(model_type="llama", num_attention_heads=2, intermediate_size=16, num_key_value_heads=2),
            ("model.pooling", "causal")),
    Mistake("an encoder with a decoder", _model(model_type="t5", is_encoder_decoder=True),
            ("models/own", "an encoder such as BERT or XLM-R")),
    Mistake("the folder above the model", _with("model=./models"), ("models", "small")),
    Mistake("the weights for their folder", _with("model=./models/small/model.safetensors"), ("model.safetensors", "folder")),
    Mistake("a model of an unknown family", _model(model_type="brt"), ("models/own", "brt")),
    Mistake("an adapter without its model", _all(_model(), _moved("models/own/model.safetensors", "models/own/adapter_model.safetensors"), _moved("models/own/config.json", "models/own/adapter_config.json")),
            ("models/own", "config.json")),
    Mistake("the depth of another model", _all(_model(), _wrote('"hidden_size": 16', '"hidden_size": 32', "models/own/config.json")),
            ("config.json", "hidden_size")),
]  # fmt: skip

RESOURCES = [
    Mistake("more GPUs than there are", _with("resources.gpus_per_worker=1", "resources.workers=2"),
            ("2 GPUs", "resources.workers")),
    Mistake("more processors than there are", _with("resources.cpus_per_worker=4096"), ("4096 CPUs", "resources")),
    Mistake("more workers than processors", _with("resources.workers=4096", "early_stop=null", "target.batch_size=4096", "intermediate.batch_size=4096"),
            ("4096 CPUs", "resources.workers")),
]  # fmt: skip

IDLE = [
    Mistake("cross-lingual settings without a ratio", _wrote("{ratio: 0.5, languages", "{languages"),
            ("target.hybrid", "ratio")),
    Mistake("a lexicon asked for and no batch", _with("target.hybrid={text: switched}"), ("target.hybrid", "ratio")),
    Mistake("an alignment's seed for a stage without one", _with("align.seed=per_trial"), ("align", "objective")),
]  # fmt: skip

MISTAKES: tuple[Mistake, ...] = (
    *KEYS, *TYPES, *VALUES, *NAMES, *TOGETHER, *SEARCHED, *YAML, *COMMANDS, *PLACES, *FILES,
    *MODELS, *RESOURCES, *IDLE,
)  # fmt: skip
