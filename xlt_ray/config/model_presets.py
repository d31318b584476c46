"""Models that are often swept over: their shapes, and what a training of them takes.

``xlt list models`` shows the table, and ``xlt check`` uses it if the hub cannot be reached. Shapes
are those of the models' ``config.json``. Memory is an estimate:

- state: 16 bytes a parameter for weights, gradients and Adam's moments (bf16 with fp32 masters: 2 +
  2 + 12). ZeRO 1 divides the last part by the number of GPUs, ZeRO 2 the gradients too, ZeRO 3 all.
- activations of a sequence in 16 bits: layers x length x (34 x width + 5 x heads x length) bytes
  (Korthikanti et al. 2022, arXiv 2205.05198, equation 1; nothing is recomputed).
"""

from __future__ import annotations

from dataclasses import dataclass

_WEIGHTS, _GRADIENTS, _OPTIMIZER = 2, 2, 12
"""Bytes a parameter in bf16."""
_SHARE = 0.9
"""Usable share of a GPU's memory; libraries and fragmentation take the rest."""
_FOR_STATE = 0.6
"""Largest share of a GPU's memory for weights and optimizer, so that batches have room."""
_LARGEST_BATCH = 64


@dataclass(frozen=True)
class Preset:
    """One model as it was published."""

    name: str
    """Hugging Face id."""
    architecture: str
    num_layers: int
    hidden_size: int
    num_heads: int
    num_parameters: int
    vocabulary_size: int
    max_positions: int
    """Pieces of an input."""
    languages: str
    """Number or name of the languages of its pre-training."""

    @property
    def is_causal(self) -> bool:
        """Whether it is decoder-only."""
        return self.architecture in _CAUSAL

    @property
    def names(self) -> tuple[str, ...]:
        """Its id, and the short one of the oldest models."""
        owner, _, short = self.name.partition("/")
        return (self.name, short) if owner in _OLDEST else (self.name,)

    @property
    def citation(self) -> str:
        """The paper that presents it; empty if none is known here.

        >>> find_preset("xlm-roberta-base").citation
        'arXiv 1911.02116'
        """
        short = self.name.partition("/")[2]
        papers = (number for start, number in _PAPERS.items() if short.startswith(start))
        return f"arXiv {number}" if (number := next(papers, "")) else ""


@dataclass(frozen=True)
class Estimate:
    """What a training in bf16 needs."""

    num_gpus: int
    zero_stage: int
    micro_batch: int


def state_bytes(num_parameters: int, num_gpus: int, zero_stage: int) -> float:
    """Weights, gradients and optimizer on each GPU, in bf16 with fp32 masters.

    >>> state_bytes(1, 1, 0), state_bytes(1, 4, 1), state_bytes(1, 4, 2), state_bytes(1, 4, 3)
    (16.0, 7.0, 5.5, 4.0)
    """
    parts = ((_WEIGHTS, 3), (_GRADIENTS, 2), (_OPTIMIZER, 1))
    each = sum(part / (num_gpus if zero_stage >= stage else 1) for part, stage in parts)
    return num_parameters * each


def activation_bytes(preset: Preset, length: int) -> int:
    """Activations of one sequence of ``length`` pieces, in 16 bits."""
    per_piece = 34 * preset.hidden_size + 5 * preset.num_heads * length
    return preset.num_layers * length * per_piece


def estimate(preset: Preset, *, gpu_bytes: float = 80e9, length: int = 256) -> Estimate:
    """The fewest GPUs, then the lowest ZeRO stage, then the largest power of two that fit.

    bf16 needs ZeRO 1 at least.
    """
    num_gpus = 1
    while True:
        for stage in (1, 2, 3):
            held = state_bytes(preset.num_parameters, num_gpus, stage)
            room = _SHARE * gpu_bytes - held
            fitting = int(room // activation_bytes(preset, length))
            if held <= _FOR_STATE * gpu_bytes and fitting >= 1:
                batch = 1 << (min(fitting, _LARGEST_BATCH).bit_length() - 1)
                return Estimate(num_gpus, stage, batch)
        num_gpus *= 2


_CAUSAL = frozenset({"gemma3_text", "llama", "qwen3"})
_OLDEST = frozenset({"google-bert", "FacebookAI", "distilbert"})
_MILLION = 10**6
_PAPERS = {
    "bert-": "1810.04805", "distilbert-": "1910.01108", "xlm-roberta-x": "2105.00572",
    "xlm-roberta-": "1911.02116", "xlm-v-": "2301.10472",
    "mdeberta-v3-": "2111.09543", "rembert": "2010.12821", "LaBSE": "2007.01852",
    "glot500-": "2305.12182", "mmBERT-": "2509.06888", "roberta-": "1907.11692",
    "afro-xlmr-": "2204.06487", "serengeti": "2212.10785", "EuroBERT-": "2503.05500",
    "electra-": "2003.10555", "ModernBERT-": "2412.13663",
    "Qwen3-": "2505.09388", "Llama-3": "2407.21783", "gemma-3-": "2503.19786",
}  # fmt: skip
"""arXiv numbers by how names begin."""

PRESETS: tuple[Preset, ...] = tuple(
    Preset(name, kind, layers, width, heads, round(millions * _MILLION), words, length, languages)
    for name, kind, layers, width, heads, millions, words, length, languages in (
        (
            "google-bert/bert-base-multilingual-cased", "bert", 12, 768, 12, 177.9, 119547, 512,
            "104",
        ),
        (
            "distilbert/distilbert-base-multilingual-cased", "distilbert", 6, 768, 12, 134.7,
            119547, 512, "104",
        ),
        ("FacebookAI/xlm-roberta-base", "xlm-roberta", 12, 768, 12, 278.0, 250002, 512, "100"),
        ("FacebookAI/xlm-roberta-large", "xlm-roberta", 24, 1024, 16, 559.9, 250002, 512, "100"),
        ("facebook/xlm-roberta-xl", "xlm-roberta-xl", 36, 2560, 32, 3482.0, 250880, 512, "100"),
        ("facebook/xlm-roberta-xxl", "xlm-roberta-xl", 48, 4096, 32, 10711.0, 250880, 512, "100"),
        ("facebook/xlm-v-base", "xlm-roberta", 12, 768, 12, 778.5, 901629, 512, "100"),
        ("microsoft/mdeberta-v3-base", "deberta-v2", 12, 768, 12, 278.2, 251000, 512, "100"),
        ("google/rembert", "rembert", 32, 1152, 18, 575.9, 250300, 512, "110"),
        ("sentence-transformers/LaBSE", "bert", 12, 768, 12, 470.9, 501153, 512, "109"),
        ("cis-lmu/glot500-base", "xlm-roberta", 12, 768, 12, 394.1, 401145, 512, "511"),
        ("Davlan/afro-xlmr-base", "xlm-roberta", 12, 768, 12, 278.0, 250002, 512, "20"),
        ("Davlan/afro-xlmr-large", "xlm-roberta", 24, 1024, 16, 559.9, 250002, 512, "20"),
        ("UBC-NLP/serengeti", "electra", 12, 768, 12, 277.5, 250000, 512, "517"),
        ("EuroBERT/EuroBERT-210m", "eurobert", 12, 768, 12, 212.0, 128256, 8192, "15"),
        ("jhu-clsp/mmBERT-small", "modernbert", 22, 384, 6, 140.0, 256000, 8192, "1,800"),
        ("jhu-clsp/mmBERT-base", "modernbert", 22, 768, 12, 307.0, 256000, 8192, "1,800"),
        ("google-bert/bert-base-cased", "bert", 12, 768, 12, 108.3, 28996, 512, "English"),
        ("google-bert/bert-large-cased", "bert", 24, 1024, 16, 333.6, 28996, 512, "English"),
        ("FacebookAI/roberta-base", "roberta", 12, 768, 12, 124.6, 50265, 512, "English"),
        ("FacebookAI/roberta-large", "roberta", 24, 1024, 16, 355.4, 50265, 512, "English"),
        ("google/electra-base-discriminator", "electra", 12, 768, 12, 108.9, 30522, 512, "English"),
        (
            "google/electra-large-discriminator", "electra", 24, 1024, 16, 334.1, 30522, 512,
            "English",
        ),
        ("answerdotai/ModernBERT-base", "modernbert", 22, 768, 12, 149.0, 50368, 8192, "English"),
        ("answerdotai/ModernBERT-large", "modernbert", 28, 1024, 16, 394.8, 50368, 8192, "English"),
        ("Qwen/Qwen3-0.6B-Base", "qwen3", 28, 1024, 16, 596.0, 151936, 32768, "119"),
        ("Qwen/Qwen3-1.7B-Base", "qwen3", 28, 2048, 16, 1720.6, 151936, 32768, "119"),
        ("meta-llama/Llama-3.2-1B", "llama", 16, 2048, 32, 1235.8, 128256, 131072, "8"),
        ("google/gemma-3-270m", "gemma3_text", 18, 640, 4, 268.1, 262144, 32768, "140"),
        ("google/gemma-3-1b-pt", "gemma3_text", 26, 1152, 4, 999.9, 262144, 32768, "140"),
    )
)  # fmt: skip


def find_preset(name: str) -> Preset | None:
    """The preset of a Hugging Face id, or None.

    >>> find_preset("xlm-roberta-base").name
    'FacebookAI/xlm-roberta-base'
    """
    return next((preset for preset in PRESETS if name in preset.names), None)
