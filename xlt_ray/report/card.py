"""The README of an exported model, from what ``xlt.json`` says of it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from xlt_ray.config.export_metadata import Exported, ExportedScore
from xlt_ray.config.supervision import FEW_SHOT, INTERMEDIATE, TRANSLATE_TRAIN, ZERO_SHOT
from xlt_ray.config.task_types import KINDS
from xlt_ray.report.labels import shown_value
from xlt_ray.store.stage import short

_LONG = {
    "tag": "longer sentences were split between words",
    "span": "longer passages were seen through overlapping windows",
}
"""What was done with text that has no room in a row, by kind of task; all else was cut."""


def model_card(told: Exported) -> str:
    """The README of an export, as Markdown."""
    how = _setting(told)
    return "\n\n".join(
        part
        for part in (
            f"---\nlibrary_name: transformers\ntags: [xlt-ray, {how}, cross-lingual]\n---",
            f"# {told.sweep}, trial {told.trial}",
            _what(told),
            "## Scores\n\n" + _scores(told),
            "## How it was chosen\n\n" + told.selection,
            "## How it was made\n\n" + _made(told),
            "## How to load it\n\n" + _loading(told),
            "## Licences\n\n" + _licences(told),
        )
    ) + "\n"  # fmt: skip


def _setting(told: Exported) -> str:
    """Few-shot, translate-train or zero-shot: what knows most of target languages."""
    if any(stage.kind == "few_shot" for stage in told.stages):
        return FEW_SHOT
    return TRANSLATE_TRAIN if TRANSLATE_TRAIN in told.supervision else ZERO_SHOT


def _what(told: Exported) -> str:
    task = told.tasks[told.task]
    method = str(told.fusion["method"])
    settings = _settings({name: one for name, one in told.fusion.items() if name != "method"})
    how = "no fusion" if method == "none" else f"fusion {method}" + (settings and f" ({settings})")
    shots = next((stage.settings for stage in told.stages if stage.kind == "few_shot"), None)
    use = "to be used in languages without labelled data (zero-shot cross-lingual transfer)"
    if TRANSLATE_TRAIN in told.supervision:
        use = f"its labels learned on text in other languages, too ({told.supervision}, not "
        use += "zero-shot)"
    elif INTERMEDIATE in told.supervision:
        use += f", after an intermediate task in languages that are scored ({told.supervision})"
    if shots is not None:
        use = f"then on {shots.get('shots', 'a few')} labelled examples of "
        use += f"{shots.get('language', 'a target language')} (few-shot, not zero-shot)"
        use += f"; {told.supervision}" if TRANSLATE_TRAIN in told.supervision else ""
    lines = [
        f"`{told.model}` trained on *{task['title']}* (`{told.task}`: "
        f"{KINDS[told.kind].summary}) in {told.source_language}, {use}; {how}.",
    ]
    if told.labels:
        lines.append("Labels, by their number: " + ", ".join(f"`{label}`" for label in told.labels))
    return "\n\n".join(lines)


def _scores(told: Exported) -> str:
    parts = []
    is_few_shot = any(score.role == "few_shot" for score in told.scores)
    first = () if is_few_shot else (told.task,)
    tasks = dict.fromkeys([*first, *(score.task for score in told.scores)])
    for task in tasks:
        scores = [score for score in told.scores if score.task == task]
        found = {(score.split, score.metric, score.language): score for score in scores}
        metrics = tuple(told.tasks.get(task, {}).get("metrics", ()))
        there = sorted(
            {(score.split, score.metric) for score in scores}
            | {("test", metric) for metric in metrics},
            key=lambda one: (one[0] != "test", _place(metrics, one[1]), one),
        )
        asked = told.languages if task == told.task else ()
        extra = sorted({score.language for score in scores} - set(asked))
        languages = [*asked, *extra]
        head = ["language", *(f"{split} {metric}" for split, metric in there), "test examples"]
        rows = [
            [
                language,
                *(
                    f"{100 * found[split, metric, language].value:.1f}"
                    if (split, metric, language) in found
                    else "–"
                    for split, metric in there
                ),
                _num_tested(scores, language),
            ]
            for language in languages
        ]
        title = f"`{task}`, in percent; – was not scored.\n\n"
        text = title + _table(head, rows)
        if task == told.task:
            text += _means(told, found, languages, metrics)
        parts.append(text)
    return "\n\n".join(parts)


def _means(
    told: Exported, found: Mapping[Any, Any], languages: Sequence[str], metrics: Sequence[str]
) -> str:
    """Means of the headline over all languages and without the source, where none is missing."""
    metric = metrics[0]
    values = {
        language: found["test", metric, language].value
        for language in languages
        if ("test", metric, language) in found
    }
    if set(values) != set(languages):
        missing = ", ".join(language for language in languages if language not in values)
        return f"\n\nNo mean is given: test {metric} is missing in {missing}."
    text = f"\n\nMean test {metric} over {len(values)} languages: "
    text += f"{100 * statistics.fmean(values.values()):.1f}"
    others = [value for code, value in values.items() if code != told.source_language]
    if others:
        text += f"; without {told.source_language}: {100 * statistics.fmean(others):.1f}"
    return text + "."


def _num_tested(scores: Sequence[ExportedScore], language: str) -> str:
    numbers = {
        score.num_examples
        for score in scores
        if (score.language, score.split) == (language, "test")
    }
    return ", ".join(map(str, sorted(numbers))) or "–"


def _made(told: Exported) -> str:
    rows = []
    for stage in told.stages:
        training = {
            name: value
            for name, value in stage.settings.items()
            if name not in ("task", "languages") and value is not None
        }
        if stage.selected_step is not None:
            training["selected_step"] = stage.selected_step
        rows.append(
            [
                stage.label,
                f"`{short(stage.key)}`",
                "freed" if stage.is_freed else str(stage.seed),
                _settings(training),
                _fingerprints(stage.data),
            ]
        )
    settings = ", ".join(f"`{path}` {shown_value(one)}" for path, one in told.params.items())
    text = _table(["stage", "key", "seed", "settings", "data"], rows)
    text += "\n\nWhole keys and the fingerprints of all data are in `xlt.json`."
    if settings:
        text += f" Searched over: {settings}."
    versions = ", ".join(f"{name} {number}" for name, number in told.versions.items())
    return f"{text}{_makers(told)} Written by {versions}."


def _makers(told: Exported) -> str:
    """With what the stages were made; empty of stages that do not say so."""
    found = dict.fromkeys(
        ", ".join([*(f"{name} {number}" for name, number in stage.versions.items()),
                   *([f"commit `{stage.commit}`"] if stage.commit else [])])
        for stage in told.stages
    )  # fmt: skip
    return "".join(f" Made by {one}." for one in found if one)


def _loading(told: Exported) -> str:
    lines = [
        "The encoder, with transformers alone:",
        "```python\nfrom transformers import AutoModel, AutoTokenizer\n\n"
        'encoder = AutoModel.from_pretrained("DIR")\n'
        'tokenizer = AutoTokenizer.from_pretrained("DIR")\n```',
    ]
    if told.transformers_class:
        lines += [
            f"The whole network is a `{told.transformers_class}`:",
            f"```python\nfrom transformers import {told.transformers_class}\n\n"
            f'network = {told.transformers_class}.from_pretrained("DIR")\n```',
        ]
    lines += [
        "The whole network with xlt-ray, and its predictions for a file:",
        "```python\nfrom xlt_ray.modeling.exported_network import load_exported\n\n"
        'loaded = load_exported("DIR")\n'
        "logits = loaded.network.predict(batch)  # input_ids, attention_mask\n```",
        "```\nxlt predict DIR FILE\n```",
        "Text is split at whitespace before it is tokenised (`is_split_into_words=True`); rows "
        f"have at most {told.max_length} pieces: {_LONG.get(told.kind, 'longer ones were cut')}.",
    ]
    return "\n\n".join(lines)


def _licences(told: Exported) -> str:
    lines = [
        f"- `{name}`: {task.get('licence') or 'no licence is noted in its task file'}"
        + (f" ({task['citation']})" if task.get("citation") else "")
        for name, task in told.tasks.items()
    ]
    return "\n".join(
        [
            "Of the data it was trained and scored on, as the task files note them; "
            f"`{told.model}` and text for alignment have licences of their own.",
            "",
            *lines,
        ]
    )


def _fingerprints(data: Mapping[str, Any]) -> str:
    """What a stage read: the fingerprint of one set, of several their number."""
    parts = []
    for name, value in data.items():
        if isinstance(value, Mapping) and len(value) != 1:
            parts.append(f"{name} of {len(value)}")
            continue
        language, digest = next(iter(value.items())) if isinstance(value, Mapping) else ("", value)
        parts.append(f"{name} {language} `{short(str(digest))}`".replace("  ", " "))
    return ", ".join(parts)


def _settings(values: Mapping[str, Any]) -> str:
    parts = []
    for name, value in values.items():
        shown = value
        if isinstance(value, Mapping):
            shown = f"({_settings(value)})"
        elif isinstance(value, float):
            shown = f"{value:g}"
        elif isinstance(value, list | tuple):
            shown = " ".join(map(str, value))
        parts.append(f"{name} {shown}")
    return ", ".join(parts)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(one.replace("|", "\\|") for one in row) + " |"
                     for row in lines)  # fmt: skip


def _place(metrics: Sequence[str], metric: str) -> int:
    return metrics.index(metric) if metric in metrics else len(metrics)
