"""The methods that a sweep may choose from, one family a file.

A method is a settings class and an entry below it in the file of its family, and the file that the
entry names as its implementation. The docstrings of the settings are their help.
"""

from xlt_ray.config.methods.alignment import (
    ALIGNMENTS,
    Alignment,
    CodeSwitchMlm,
    Contrastive,
    MaskedAlignment,
    MonolingualLm,
    TranslationLm,
    Weam,
)
from xlt_ray.config.methods.base import (
    ConfigModel,
    Method,
    SeedScope,
    Training,
    method_named,
)
from xlt_ray.config.methods.fusion import (
    FUSIONS,
    AifFusion,
    DlfaFusion,
    MixFusion,
    NoFusion,
)
from xlt_ray.config.methods.rate_schedules import (
    SCHEDULES,
    LinearSchedule,
    WsdSchedule,
)
from xlt_ray.config.methods.robust import (
    ROBUST,
    AdversarialRobust,
    AugmentRobust,
    NoRobust,
    RandomRobust,
    Robust,
)
from xlt_ray.config.methods.task_sampling import (
    SAMPLINGS,
    ProportionalSampling,
    Sampling,
    TemperatureSampling,
)

__all__ = [
    "ALIGNMENTS",
    "FUSIONS",
    "ROBUST",
    "SAMPLINGS",
    "SCHEDULES",
    "AdversarialRobust",
    "AifFusion",
    "Alignment",
    "AugmentRobust",
    "CodeSwitchMlm",
    "ConfigModel",
    "Contrastive",
    "DlfaFusion",
    "LinearSchedule",
    "MaskedAlignment",
    "Method",
    "MixFusion",
    "MonolingualLm",
    "NoFusion",
    "NoRobust",
    "ProportionalSampling",
    "RandomRobust",
    "Robust",
    "Sampling",
    "SeedScope",
    "TemperatureSampling",
    "Training",
    "TranslationLm",
    "Weam",
    "WsdSchedule",
    "method_named",
]
