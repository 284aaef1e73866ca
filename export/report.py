"""Result of an export: the manifest, warnings, and rows for tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgefel.export.precision.search import SearchResult
from edgefel.runtime.manifest import BundleFile, Manifest


@dataclass(frozen=True)
class ExportReport:
    """A finished export: the folder's manifest, everything the user should be told, and how the precision mix
    was found (`auto`)."""

    manifest: Manifest
    warnings: tuple[str, ...]
    search: SearchResult | None = None

    @property
    def failed(self) -> tuple[BundleFile, ...]:
        """The files that failed their comparison with PyTorch; the runtime refuses these."""
        return tuple(file for file in self.manifest.files if file.verdict == "fail")

    @property
    def refused(self) -> bool:
        """Whether a file failed."""
        return bool(self.failed)


def summarize(report: ExportReport) -> list[dict[str, Any]]:
    """One row per file for tables and JSON; numbers are None where nothing was compared."""
    return [_row(file) for file in report.manifest.files]


def _row(file: BundleFile) -> dict[str, Any]:
    parity = file.parity or {}
    return {
        "file": file.name,
        "precision": file.precision,
        "megabytes": file.bytes / 1e6,
        "max_deviation": max(parity.get("max_abs", {}).values(), default=None),
        "logits_sqnr_db": parity.get("logits_sqnr_db"),
        "top1_agreement": parity.get("top1_agreement"),
        "verdict": file.verdict,
        "reasons": list(parity.get("reasons", ())),
    }
