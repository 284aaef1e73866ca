"""Tables of docs/quantizers.md and docs/formats.md."""

from __future__ import annotations

from collections.abc import Sequence

from markdown_tables import Cell, Values, device, grid, paragraphs, table, text


@table("quantizers", "quantizers.jsonl", "quantizers")
def quantizers(rows: Sequence[Values]) -> str:
    """A table for each model."""
    models = dict.fromkeys(row["model"] for row in rows)
    tables = [_of_model([row for row in rows if row["model"] == model]) for model in models]
    return paragraphs(*tables, device(rows))


def _of_model(rows: Sequence[Values]) -> str:
    """A line for each setting, best SQNR first; not FP32, which the others refer to."""
    judged = sorted((row for row in rows if row.get("sqnr_db") is not None), key=lambda row: -row["sqnr_db"])
    others = [row for row in rows if row.get("sqnr_db") is None and row["quantizer"] != "FP32"]

    def built(row: Values) -> str:
        builds = (row.get("tensorrt") or {}).get("builds")
        return "" if builds is None else "builds" if builds else "refused"

    def worst(row: Values) -> str:
        found = row.get("worst_class")
        return "" if found is None else "{label} {change:+.1f}".format(**found)

    columns: dict[str, Cell] = {
        "tool": lambda row: f"{row['quantizer']} {row.get('version') or ''}".rstrip(),
        "settings": "{settings}",
        "agreement": lambda row: text("{agreement:.2%}", row) if "agreement" in row else row["reason"],
        "SQNR dB": lambda row: text("{sqnr_db:.1f}", row) if "sqnr_db" in row else "",
        "KL, nats": lambda row: text("{kl_mean:.1e}", row) if "kl_mean" in row else "",
        "worst class, points": worst,
        "MB": lambda row: text("{file_bytes!M:.2f}", row) if "file_bytes" in row else "",
        "TensorRT": built,
    }
    for runtime in ("onnxruntime", "openvino"):

        def ratio(row: Values, runtime: str = runtime) -> str:
            found = row.get("speed", {}).get(runtime)
            if found is None or "value" not in found:
                return "" if found is None else "fails"
            return f"{found['value']:.2f}" + ("" if found["stable"] else " ~")

        columns[f"x FP32, {runtime}"] = ratio
    first = judged[0]
    trt = first.get("tensorrt") or {}
    built_by = f"; TensorRT is {trt['package']} {trt['version']}" if trt.get("version") else ""
    return paragraphs(
        f"`{first['model']}`: {first['calibration_images']} calibration images, judged on {first['images']} others.",
        grid([*judged, *others], columns, (0, 1, 7)),
        f"Times as fast as FP32 in the same runtime, {first['threads']} thread, batch 1, the files of one command in "
        f"turn; ~ is not stable{built_by}.",
    )


@table("formats", "formats.json")
def formats(document: Values) -> str:
    """Comparison and engines of every file."""

    def engine(row: Values, target: str) -> str:
        size = row["engines"][target]["bytes"]
        return "refused" if size is None else f"{size / 1e6:.1f} MB"

    rows = document["files"]
    columns: dict[str, Cell] = {
        "file": "{file}",
        "layers": lambda row: "" if row["layers"] is None else f"{row['layers']}",
        "MB": "{bytes!M:.2f}",
        "agreement": "{agreement:.2%}",
        "SQNR dB": "{logits_sqnr_db:.1f}",
        "KL, nats": "{kl_mean:.1e}",
        "worst class, points": "{worst_class} {worst_recall_change:+.1f}",
        "verdict": "{verdict}",
    }
    for target in rows[0]["engines"]:
        columns[f"`{target}`"] = lambda row, target=target: engine(row, target)
    return paragraphs(
        grid(rows, columns, (0, 7)),
        f"`{document['model']}` on {document['images']} images that did not calibrate; engines by "
        f"{document['tensorrt']}, not run. {document['made_by']}.",
    )
