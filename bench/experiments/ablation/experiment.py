"""What an experiment is: variants of one recipe, the papers' figures for them, and the ordering that they claim."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgefel.errors import EdgefelError

# what a claim may be about; all of the corrected distribution, which the model predicts with
METRICS = ("accuracy", "macro_f1", "ece")


@dataclass(frozen=True)
class Variant:
    """One row of a table.

    changes: settings of `TrainConfig` by dotted path, such as "model_settings.head.delta"; a value may be a function
    of the registered `ModelConfig`. paper: the papers' figures by metric, as shares (0.7248, not 72.48). series, x:
    line and place on the axis, where a number varies. addition: to the model's name, such as "resizer". faces: changes
    to the options of the synthetic faces.
    """

    name: str
    changes: Mapping[str, Any]
    paper: Mapping[str, float] = field(default_factory=dict)
    series: str = ""
    x: float | None = None
    addition: str = ""
    faces: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """That variant `better` has more of `metric` than variant `worse`."""

    better: str
    worse: str
    metric: str = "accuracy"

    def __str__(self) -> str:
        return f"{self.metric.replace('_', ' ')}: {self.better} > {self.worse}"


@dataclass(frozen=True)
class Experiment:
    """A table of the papers.

    source: paper and table. note: what a reader must know. axis: name of the number that varies, "" for a table of
    kinds. faces, settings: changes to the recipe's. family: the model, as registered at full size, where it is not the
    recipe's. ordering: what the claims are called together. on_data, on_votes: what takes its place where a data set is
    given, and where that has votes. Raises ValueError for repeated names and for unknown variants or metrics in claims.
    """

    name: str
    title: str
    source: str
    variants: tuple[Variant, ...]
    claims: tuple[Claim, ...]
    note: str = ""
    axis: str = ""
    faces: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    family: str = ""
    ordering: str = "The paper's ordering"
    on_data: Experiment | None = None
    on_votes: Experiment | None = None

    def __post_init__(self) -> None:
        names = [variant.name for variant in self.variants]
        if len(set(names)) != len(names):
            raise ValueError(f"{self.name}: variants {names} must have different names")
        for claim in self.claims:
            if not {claim.better, claim.worse} <= set(names) or claim.metric not in METRICS:
                raise ValueError(f"{self.name}: {claim} is about something that it does not have")

    def variant(self, name: str) -> Variant:
        """By name; raises EdgefelError listing the names that there are."""
        found = {variant.name: variant for variant in self.variants}
        if name not in found:
            known = ", ".join(map(repr, found))
            raise EdgefelError(f"{self.name} has no variant {name!r}; choose from: {known}")
        return found[name]


def merged(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A deep copy of nested `settings` in which `changes`, by dotted path, are made."""
    result = {
        key: merged(value, {}) if isinstance(value, Mapping) else value for key, value in settings.items()
    }
    for path, value in changes.items():
        *sections, name = path.split(".")
        target = result
        for section in sections:
            target = target.setdefault(section, {})
        target[name] = value
    return result
