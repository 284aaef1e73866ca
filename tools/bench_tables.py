"""Tables of docs/bench.md, data.md, roofline.md, jetson.md and runtime.md: rows of the benches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from statistics import median, quantiles
from typing import Any

from markdown_tables import Cell, Values, device, grid, numbers, paragraphs, table, text

from edgefel.bench.roofline.devices import DEVICES
from edgefel.text import counted

BASELINE, DATA_PATH, ROOFLINE = "baseline-2core.jsonl", "data-path.jsonl", "roofline.jsonl"
FILE = "{model} {precision}, {backend}"


@table("compare", "compare-2core.jsonl", "compare")
@table("trained", BASELINE, "compare")
def compare(rows: Sequence[Values]) -> str:
    """A table for each number of threads."""

    def worst(row: Values) -> str:
        share, name = min((share, name) for name, share in row["recall"].items() if share is not None)
        return f"{name} {100 * share:.0f}"

    columns: dict[str, Cell] = {
        "ms p50": "{latency_ms[p50]:.1f}",
        "p99": "{latency_ms[p99]:.1f}",
        "times as fast": lambda row: (
            text("{ratio[value]:.2f}", row) + ("" if row["ratio"]["stable"] else " ~")
        ),
        "95 %": "{ratio[interval][0]:.2f} to {ratio[interval][1]:.2f}",
        "MB": "{file_bytes!M:.1f}",
        "peak memory, MB": "{peak_memory_mb:.0f}",
    }
    judged = any("accuracy" in row for row in rows)
    if judged:
        columns |= {
            "accuracy, %": "{accuracy!c:.1f}",
            "macro F1, %": "{macro_f1!c:.1f}",
            "worst recall, %": worst,
        }
    tables = [
        grid(
            [row for row in rows if row["threads"] == threads], {counted(threads, "thread"): FILE, **columns}
        )
        for threads in dict.fromkeys(row["threads"] for row in rows)
    ]
    return paragraphs(
        *tables,
        f"Times as fast as {rows[0]['ratio']['to']} of the same number of threads, in the same run; "
        f"batch 1{'' if judged else ', random weights'}; ~ marks a ratio that is not stable. {device(rows)}",
    )


@table("latency", BASELINE, "latency")
def latency(rows: Sequence[Values]) -> str:
    columns = {
        counted(rows[0]["threads"], "thread"): f"{FILE}, batch {{batch}}",
        "model, ms p50": "{latency_ms[p50]:.2f}{mark}",
        "p99": "{latency_ms[p99]:.2f}",
        "image to labels": "{end_to_end_ms[p50]:.1f}",
        **{name: f"{{stages_ms[{name}][p50]:.2f}}" for name in rows[0]["stages_ms"]},
    }
    return paragraphs(grid(rows, columns), f"Medians; ~ is not stable. {device(rows)}")


@table("throughput", BASELINE, "throughput")
def throughput(rows: Sequence[Values]) -> str:
    files: dict[str, dict[str, str]] = {}
    for row in rows:
        name, cell = text(FILE, row), text("{images_per_s:.0f}{mark} ({latency_ms[p99]:.0f} ms)", row)
        cells = files.setdefault(name, {"callers": name})
        cells[str(row["concurrency"])] = f"**{cell}**" if row["knee"] else cell
    columns = {name: lambda file, name=name: file[name] for name in next(iter(files.values()))}
    return paragraphs(
        grid(files.values(), columns),
        "Images per second, in brackets the 99th percentile of what a caller waits; bold is the knee, ~ is not "
        f"stable. One thread a call. {device(rows)}",
    )


@table("training", BASELINE, "train")
def training(rows: Sequence[Values]) -> str:
    columns = {
        counted(rows[0]["threads"], "thread"): "{model} {precision}, batch {batch}",
        "images/s": "{images_per_s:.1f}{mark}",
        "ms of a step, p50": "{latency_ms[p50]:.0f}",
        "peak memory, MB": "{peak_memory_mb:.0f}",
    }
    return paragraphs(grid(rows, columns), f"~ is not stable. {device(rows)}")


def medians(rows: Sequence[Values], *keys: str) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Repeated rows by the values of `keys`: one of them with the median of every number."""
    groups: dict[tuple[Any, ...], list[Values]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append({**row, "ms": row["latency_ms"]["p50"]})
    names = [name for name, value in next(iter(groups.values()))[0].items() if isinstance(value, float)]
    return {
        key: {**same[0], **{name: median(row[name] for row in same) for name in names}}
        | {"mark": max(row["mark"] for row in same), "key": key}
        for key, same in groups.items()
    }


def repeated(rows: Sequence[Values]) -> str:
    runs = max(Counter(row["row"].key for row in rows).values())
    return f"Medians of {runs} runs; ~: at least one of them is not stable."


@table("sampling", DATA_PATH)
def sampling(rows: Sequence[Values]) -> str:
    rows = [row for row in rows if "rows" in row]
    columns = {
        text("{rows:,} images, {groups} videos", rows[0]): "{stage}",
        "ms": "{ms:.0f}{mark}",
        "additional MB": "{additional_memory_mb:.0f}",
    }
    return paragraphs(grid(medians(rows, "stage").values(), columns), f"{repeated(rows)} {device(rows)}")


@table("data-path", DATA_PATH)
def data_path(rows: Sequence[Values]) -> str:
    """Every stage for every model and size of images."""
    rows = [row for row in rows if "model" in row]
    found = medians(rows, "model", "image_px", "stage", "workers")

    def stage(row: Values) -> str:
        return text("{stage}", row) + (", " + counted(row["workers"], "worker") if row["workers"] else "")

    def rate(model: str, size: str, row: Values) -> str:
        same = found[model, size, row["stage"], row["workers"]]
        return text("{images_per_s:,.0f}{mark} ({times_training:,.0f} x)", same)

    columns: dict[str, Cell] = {"images/s": stage}
    for model, size in dict.fromkeys(key[:2] for key in found):
        columns[f"{model}, {size.replace('x', ' x ')} px"] = partial(rate, model, size)
    notes = (note.partition("training: ") for row in rows for note in row["row"].notes)
    trained = dict.fromkeys(rate for _, found, rate in notes if found)
    return paragraphs(
        grid({key[2:]: row for key, row in found.items()}.values(), columns),
        f"{repeated(rows)} In brackets how many times what training takes ({'; '.join(trained)}). {device(rows)}",
    )


MODEL, TITLES = "arbex", {"fp32": "FP32", "fp16": "FP16", "int8": "INT8", "int8+fp16": "INT8 + FP16"}


@table("devices", ROOFLINE)
def devices(rows: Sequence[Values]) -> str:
    """The ceilings that the rows were made with."""
    found = []
    for name, one in DEVICES.items():
        ceilings = next(row["ceilings"] for row in rows if row["target"] == name)
        sources = dict.fromkeys(part for each in ceilings.values() for part in each["source"].split(" and "))
        links = ", ".join(f"[{number}]({source})" for number, source in enumerate(sources, start=1))
        rates = {kind: each["per_second"] for kind, each in ceilings.items()}
        found.append({"name": name, "title": one.title, "mode": one.mode, **rates, "links": links})
    columns = {
        "`--device`": "`{name}`",
        "": "{title}",
        "power mode": "{mode}",
        "FP32 (TF32), T/s": "{fp32!T:.4g}",
        "FP16, T/s": "{fp16!T:.4g}",
        "INT8, T/s": "{int8!T:.4g}",
        "elementwise FP32, FP16, T/s": "{elementwise fp32!T:.4g}, {elementwise fp16!T:.4g}",
        "GB/s": "{bytes!G:.4g}",
        "sources": "{links}",
    }
    return paragraphs(grid(found, columns, (0, 1, 2, 8)))


@table("floors", ROOFLINE)
def floors(rows: Sequence[Values]) -> str:
    """Floors of the full model at batch 1, and of eight images together."""
    found = {(row["target"], row["precision"], row["batch"]): row for row in rows if row["model"] == MODEL}

    def floor(precision: str, target: str) -> str:
        return text("{floor_ms:.3f} ({ideal_ms:.3f})", found[target, precision, 1])

    def rate(target: str) -> str:
        return f"{8e3 / min(found[target, precision, 8]['floor_ms'] for precision in TITLES):,.0f}"

    columns: dict[str, Cell] = {"": lambda target: f"`{target}`"}
    columns |= {f"{title}, ms": partial(floor, precision) for precision, title in TITLES.items()}
    one = found[next(iter(DEVICES)), "fp32", 1]
    form = (
        "Bounds, not measurements. `{model}`, batch 1: {parameters!M:.2f} M parameters, {macs!G:.3f} GMAC. "
    )
    return paragraphs(
        grid(DEVICES, columns | {"images/s at most, batch 8": rate}),
        f"{text(form, one)}In brackets the ideal of perfect caches. {numbers(one)}",
    )


@table("models", ROOFLINE)
def models(rows: Sequence[Values]) -> str:
    """What each model moves and computes, in each precision."""
    target = next(iter(DEVICES))
    columns: dict[str, Cell] = {
        "": "`{model}`",
        "^": lambda row: TITLES[row["precision"]],
        "M parameters": "{parameters!M:.2f}",
        "GMAC": "{macs!G:.3f}",
        "of it INT8": lambda row: f"{row['macs_by_type'].get('int8', 0) / row['macs']:.0%}",
        "weights, MB": "{bytes[weights]!M:.1f}",
        "activations, MB": lambda row: f"{(row['bytes']['read'] + row['bytes']['written']) / 1e6:.1f}",
        "floor, ms": "{floor_ms:.3f}",
        "bound by memory": "{bound_share[memory]:.0%}",
        "unfused, ms": "{unfused_floor_ms:.3f}",
    }
    shown = [row for row in rows if row["target"] == target and row["batch"] == 1]
    return paragraphs(grid(shown, columns, (0, 1)), f"At batch 1 on `{target}`.")


@table("stream", "stream.json")
def stream(row: Values) -> str:
    """What the stream made of the video, and memory."""
    truth, memory = row["truth"], row["memory"]
    delays = [change["delay"] for change in truth["changes"]]
    found = {
        "frames lost, dropped": text("{lost}, {dropped} of {frames}", truth),
        "faces found and followed": text("{found:.1%}", truth),
        "tracks of each person": ", ".join(str(len(tracks)) for tracks in truth["tracks"]),
        "changes seen, and how late": f"{len(delays) - delays.count(None)} of {len(delays)}, "
        + (text("{slowest_change_s:.2f} s at most", truth) or "one never came"),
        "label right, smoothed and frame by frame": text("{agreement:.1%}, {raw_agreement:.1%}", truth),
        "needless changes of label, smoothed and frame by frame": text("{flickers}, {raw_flickers}", truth),
    }
    title = text("{seconds:g} s of {size[0]}x{size[1]} at {fps:g} fps, {faces} people", row["clip"])
    form = (
        "Memory over {minutes:g} minutes of the looped clip: {megabytes[0]:.0f} MB after the first "
        "{seconds_between:g} seconds, {growth_from_first_mb:+.1f} MB from there to the end."
    )
    return paragraphs(
        grid(found.items(), {title: "{0}", "": "{1}"}),
        text(form, memory),
        text("{model} {precision} by {backend}, {threads} thread; {detector}; {machine}. ", row)
        + numbers(row),
    )


@table("stream-overhead", "stream-overhead.json")
def stream_overhead(row: Values) -> str:
    """What a frame costs on one core."""

    def spread(ms: float, values: list[float]) -> str:
        low, *_, high = quantiles(values, n=10)
        return f"{ms:.2f} ({low:.2f} to {high:.2f})"

    overhead, alone = row["overhead"], row["overhead"]["alone"]
    ms = overhead["ms_per_frame"]
    costs = {
        "detection": f"{ms['detection']:.2f}",
        f"inference of {overhead['faces_per_frame']:.0f} faces": f"{ms['inference']:.2f}",
        "all the rest, beside these two: decoding, alignment, preprocessing, tracking, JSON": spread(
            ms["overhead"], overhead["by_second"]
        ),
        "all the rest by itself, with boxes and outputs replayed": spread(
            alone["ms_per_frame"], alone["by_second"]
        ),
    }
    return paragraphs(
        grid(costs.items(), {"ms of one core for a frame": "{0}", "": "{1}"}),
        "Medians over the seconds of the clip, in brackets the tenth and ninetieth percentile: other jobs share this "
        "core. Detection leaves the caches full of its own data, which is what the rest costs more beside it. The "
        "bundle is exported with `--uint8-input`: normalising is part of the network. "
        f"{numbers(row).removesuffix('.')}; {row['machine']}.",
    )


@table("stream-latency", "stream-latency.json")
def stream_latency(document: Values) -> str:
    """Ages of frames: a line for each decoder."""
    lines: dict[str, dict[str, Any]] = {}
    for row in document["rows"]:
        lines.setdefault(row["decoder"], {"decoder": row["decoder"]})[row["codec"]] = row
    names = {"h264": "H.264", "h265": "H.265"}
    columns: dict[str, Cell] = {"decoder": "{decoder}"}
    for codec, name in names.items():
        columns |= {
            f"{name}, ms": f"{{{codec}[age_ms][p50]:.0f}} ({{{codec}[age_ms][p95]:.0f}})",
            f"times sooner{'^' * len(columns)}": lambda line, codec=codec: (
                text("{value:.2f}", line[codec]["ratio"]) + ("" if line[codec]["ratio"]["stable"] else " ~")
            ),
            f"{name}, s to the first": f"{{{codec}[join_s]:.1f}}",
        }
    return paragraphs(
        grid(lines.values(), columns),
        "Median age of a frame when it is decoded (95 %) and seconds from opening to the first frame, in turns; "
        + text(
            "{size[0]}x{size[1]}, {fps} fps, {frames_between_keys} frames from key to key", document["stream"]
        )
        + f"; {document['machine']}, {document['cores']} cores. {numbers(document)}",
    )


@table("backends", "latency-2core.jsonl")
def backends(rows: Sequence[Values]) -> str:
    """Milliseconds per face of each file in ONNX Runtime and OpenVINO."""
    files: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        file = files.setdefault((row["model"], row["precision"]), dict(row))
        file[row["backend"]] = row["latency_ms"]["p50"]
    columns: dict[str, Cell] = {
        "": "{model}",
        "precision": "{precision}",
        "ONNX Runtime, ms": "{onnxruntime:.1f}",
        "OpenVINO, ms": "{openvino:.1f}",
        "times as fast": lambda file: f"{file['onnxruntime'] / file['openvino']:.2f}",
    }
    form = "Batch {batch}, {threads} thread, medians of interleaved runs; "
    return paragraphs(grid(files.values(), columns, (0, 1)), text(form, rows[0]) + device(rows))
