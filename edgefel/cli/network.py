"""The network and the face detector of `edgefel predict`, `label`, `run` and `serve`: options, and opening them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefel.cli import params
from edgefel.cli.console import working

if TYPE_CHECKING:
    from edgefel.runtime.model import Model

_OPTIONS = {
    "precision": params.precision,
    "backend": params.backend,
    "threads": params.threads,
    "mirror": params.mirror,
    "detector": params.detector,
    "detector_model": params.detector_model,
    "min_face": params.min_face,
    "min_quality": params.min_quality,
    "force": params.force(),
}


def network_options(function: Callable[..., None], without: str = "") -> Callable[..., None]:
    """The options of `edgefel.load`, which reach the command as the dict `network`. without: leaves one of them out."""
    options = {name: option for name, option in _OPTIONS.items() if name != without}

    @functools.wraps(function)
    def command(**values: Any) -> None:
        function(network={name: values.pop(name) for name in options}, **values)

    for option in reversed(options.values()):
        command = option(command)
    return command


def load_network(
    bundle: Path, network: dict[str, Any], faces: tuple[int, ...] = (1,), *, verbose: bool, as_json: bool
) -> tuple[Model, tuple[str, ...]]:
    """The model, and lines that say what it is. faces: numbers per image for which it is made ready.

    Raises what `edgefel.load` raises.
    """
    from edgefel.runtime.model import load

    with working(f"loading {bundle}"):
        model = load(bundle, **network)
        model.warm_up(faces)
    choice = model.session.choice
    basis = (choice.basis,) if verbose or as_json else ()
    reasons = (*choice.reasons, model.detector) if verbose else ()
    return model, (model.session.headline, *basis, *reasons, *model.session.notes)
