"""The README of an exported model (``card.md``), from what ``xlt.json`` says of it."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jinja2

from xlt_ray.config.export_metadata import Exported, ExportedScore
from xlt_ray.config.labels import value_label
from xlt_ray.config.supervision import FEW_SHOT, INTERMEDIATE, TRANSLATE_TRAIN, ZERO_SHOT
from xlt_ray.config.task_types import KINDS
from xlt_ray.store.stage import short

_LONG_TEXT = {
    "tag": "longer sentences were split between words",
    "span": "longer passages were seen through overlapping windows",
}
"""What was done with text that does not fit in a row, by kind of task; all other text was cut."""
_Scores = Mapping[tuple[str, str, str], ExportedScore]
"""By split, metric and language."""


def model_card(model: Exported) -> str:
    """The README of an export, as Markdown."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("xlt_ray.report", "."),
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    makers = (
        ", ".join(
            [f"{name} {number}" for name, number in stage.versions.items()]
            + [f"commit `{stage.commit}`"] * bool(stage.commit)
        )
        for stage in model.stages
    )
    text = environment.get_template("card.md").render(
        model=model,
        kind=KINDS[model.kind],
        setting=_setting(model),
        use=_use(model),
        fusion=_fusion(model.fusion),
        scores=_scores(model),
        stages=_stages(model),
        parameters=", ".join(
            f"`{path}` {value_label(value)}" for path, value in model.params.items()
        ),
        makers=[maker for maker in dict.fromkeys(makers) if maker],
        versions=", ".join(f"{name} {number}" for name, number in model.versions.items()),
        long_text=_LONG_TEXT.get(model.kind, "longer ones were cut"),
    )
    return text.rstrip() + "\n"


def _setting(model: Exported) -> str:
    """Few-shot, translate-train or zero-shot: the one that knows most of target languages."""
    if any(stage.kind == "few_shot" for stage in model.stages):
        return FEW_SHOT
    return TRANSLATE_TRAIN if TRANSLATE_TRAIN in model.supervision else ZERO_SHOT


def _use(model: Exported) -> str:
    shots = next((stage.settings for stage in model.stages if stage.kind == "few_shot"), None)
    is_translated = TRANSLATE_TRAIN in model.supervision
    if shots is not None:
        return (
            f"then on {shots.get('shots', 'a few')} labelled examples of "
            f"{shots.get('language', 'a target language')} (few-shot, not zero-shot)"
            + (f"; {model.supervision}" if is_translated else "")
        )
    if is_translated:
        return (
            f"its labels learned on text in other languages, too ({model.supervision}, not "
            "zero-shot)"
        )
    use = "to be used in languages without labelled data (zero-shot cross-lingual transfer)"
    if INTERMEDIATE in model.supervision:
        use += f", after an intermediate task in languages that are scored ({model.supervision})"
    return use


def _fusion(fusion: Mapping[str, Any]) -> str:
    if fusion["method"] == "none":
        return "no fusion"
    settings = _settings({name: value for name, value in fusion.items() if name != "method"})
    return f"fusion {fusion['method']}" + (f" ({settings})" if settings else "")


def _scores(model: Exported) -> Iterator[tuple[str, str, str]]:
    """Task, table and means of all tasks; the target task comes first, scored or not."""
    is_few_shot = any(score.role == "few_shot" for score in model.scores)
    first = () if is_few_shot else (model.task,)
    for task in dict.fromkeys([*first, *(score.task for score in model.scores)]):
        of_task = [score for score in model.scores if score.task == task]
        scores = {(score.split, score.metric, score.language): score for score in of_task}
        metrics = list(model.tasks.get(task, {}).get("metrics", ()))
        known = {(score.split, score.metric) for score in of_task}
        known |= {("test", metric) for metric in metrics}
        metrics += sorted({metric for _, metric in known} - set(metrics))
        columns = sorted(known, key=lambda c: (c[0] != "test", metrics.index(c[1]), c[0]))
        wanted = model.languages if task == model.task else ()
        languages = [*wanted, *sorted({score.language for score in of_task} - set(wanted))]
        rows = []
        for code in languages:
            cells = [scores.get((split, metric, code)) for split, metric in columns]
            printed = ["–" if cell is None else f"{100 * cell.value:.1f}" for cell in cells]
            rows.append([code, *printed, _num_tested(of_task, code)])
        head = ["language", *(f"{split} {metric}" for split, metric in columns), "test examples"]
        means = _means(model, scores, languages, metrics[0]) if task == model.task else ""
        yield task, _table(head, rows), means


def _means(model: Exported, scores: _Scores, languages: Sequence[str], metric: str) -> str:
    """Means over all languages and without the source, where no language is missing."""
    values = {
        language: scores["test", metric, language].value
        for language in languages
        if ("test", metric, language) in scores
    }
    missing = [language for language in languages if language not in values]
    if missing:
        return f"No mean is given: test {metric} is missing in {', '.join(missing)}."
    text = f"Mean test {metric} over {len(values)} languages: "
    text += f"{100 * statistics.fmean(values.values()):.1f}"
    targets = [value for code, value in values.items() if code != model.source_language]
    if targets:
        text += f"; without {model.source_language}: {100 * statistics.fmean(targets):.1f}"
    return text + "."


def _num_tested(scores: Sequence[ExportedScore], language: str) -> str:
    tested = [score for score in scores if (score.language, score.split) == (language, "test")]
    return ", ".join(map(str, sorted({score.num_examples for score in tested}))) or "–"


def _stages(model: Exported) -> str:
    rows = []
    for stage in model.stages:
        settings = {
            name: value
            for name, value in stage.settings.items()
            if name not in ("task", "languages") and value is not None
        }
        if stage.selected_step is not None:
            settings["selected_step"] = stage.selected_step
        seed = "freed" if stage.is_freed else str(stage.seed)
        key, data = f"`{short(stage.key)}`", _fingerprints(stage.data)
        rows.append([stage.label, key, seed, _settings(settings), data])
    return _table(["stage", "key", "seed", "settings", "data"], rows)


def _fingerprints(data: Mapping[str, Any]) -> str:
    """What a stage read: the fingerprint of one set, or the number of several."""
    parts = []
    for name, value in data.items():
        if isinstance(value, Mapping) and len(value) != 1:
            parts.append(f"{name} of {len(value)}")
            continue
        language, digest = next(iter(value.items())) if isinstance(value, Mapping) else ("", value)
        parts.append(f"{name} {language} `{short(str(digest))}`".replace("  ", " "))
    return ", ".join(parts)


def _settings(values: Mapping[str, Any]) -> str:
    def text(value: Any) -> str:
        if isinstance(value, Mapping):
            return f"({_settings(value)})"
        if isinstance(value, list | tuple):
            return " ".join(map(str, value))
        return f"{value:g}" if isinstance(value, float) else str(value)

    return ", ".join(f"{name} {text(value)}" for name, value in values.items())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)
