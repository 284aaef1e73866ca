"""The summary that a run prints at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgefel.runtime.telemetry.snapshot import Snapshot

if TYPE_CHECKING:
    from rich.table import Table

_COLUMNS = ("p50", "p90", "p99", "max", "mean")


def summary_table(snapshot: Snapshot) -> Table:
    """Latency per stage as a rich table, with frames, drops, memory, power and temperature below it."""
    from rich.table import Table

    table = Table(
        title="latency, ms",
        caption="\n".join(summary_lines(snapshot)),
        caption_justify="left",
        caption_style="",
    )
    table.add_column("stage")
    table.add_column("count", justify="right")
    for name in _COLUMNS:
        table.add_column(name, justify="right")
    for name, times in snapshot.stages.items():
        table.add_row(name, f"{times.count:,}", *(f"{getattr(times, column):.2f}" for column in _COLUMNS))
    return table


def summary_lines(snapshot: Snapshot) -> list[str]:
    """The lines below the table, without unknown values."""
    lines = [f"{snapshot.elapsed:.1f} s, {snapshot.fps_mean:.1f} frames per second"]
    if counters := [f"{name} {count:,}" for name, count in snapshot.counters.items() if count]:
        lines.append(", ".join(counters))
    if snapshot.ram_mb is not None:
        lines.append(f"memory {snapshot.ram_mb:,.0f} MB")
    return [*lines, *_power_lines(snapshot), *_heat_lines(snapshot)]


def _power_lines(snapshot: Snapshot) -> list[str]:
    board = snapshot.board
    mean = snapshot.power_mean_w
    if board is None or snapshot.energy_j is None or mean is None:
        return []
    each = snapshot.mj_per_inference
    per_inference = "" if each is None else f", {each:.1f} mJ per inference"
    return [f"power {mean:.2f} W, energy {snapshot.energy_j:.1f} J{per_inference} ({board.power_source})"]


def _heat_lines(snapshot: Snapshot) -> list[str]:
    parts = []
    if snapshot.hottest_c is not None:
        parts.append(f"hottest {snapshot.hottest_c:.0f} °C")
    if snapshot.board is not None and snapshot.board.power_mode is not None:
        parts.append(f"power mode {snapshot.board.power_mode}")
    if snapshot.throttled_s > 0:
        by = (
            f" ({', '.join(snapshot.board.throttled)})" if snapshot.board and snapshot.board.throttled else ""
        )
        parts.append(f"throttled for {snapshot.throttled_s:.0f} s{by}")
    return [", ".join(parts)] if parts else []
