"""Tables of docs on faces seen live: quality, streams, video-report, serve and web."""

from __future__ import annotations

from markdown_tables import Cell, Values, grid, paragraphs, table, text

from edgefel.text import counted


@table("cuts", "cuts.json")
def cuts(result: Values) -> str:
    """What is found by kind of clip, and the time of a frame."""
    rows = [{"kind": kind, **counts} for kind, counts in result["kinds"].items()]
    columns: dict[str, Cell] = {
        "synthetic clips": "{kind}",
        "clips": "{clips}",
        "cuts": lambda row: str(row["cuts"]) if row["cuts"] else "–",
        "found": lambda row: str(row["found"]) if row["cuts"] else "–",
        "found where none is": "{false}",
    }
    times = ", ".join(
        f"{1e-3 * time['us_p50']:.2f} ms at {size} (a thumbnail of 64x36 by area alone: "
        f"{1e-3 * time['thumbnail_us_p50']:.2f})"
        for size, time in result["frame"].items()
    )
    return paragraphs(grid(rows, columns), f"A frame takes {times}. Made by {result['made_by']}.")


@table("share-intervals", "share-intervals.json")
def share_intervals(result: Values) -> str:
    """How often each kind of interval holds the true share, by law and time."""
    names = {10: "10 s", 60: "1 min", 600: "10 min", 3600: "1 h"}
    columns: dict[str, Cell] = {
        "labels change": lambda row: row["kind"],
        "watched for": lambda row: names[row["seconds"]],
        "by frames, %": lambda row: f"{100 * row['coverage']['frames']:.0f}",
        "block bootstrap, %": lambda row: f"{100 * row['coverage']['block bootstrap']:.0f}",
        "the report's, %": lambda row: f"{100 * row['coverage']['effective sample size']:.0f}",
        "their width, points": lambda row: f"{100 * row['width']['effective sample size']:.0f}",
    }
    return paragraphs(
        grid(result["rows"], columns, (0, 1)),
        f"Each line: {result['repeats']} simulated people. Made by {result['made_by']}.",
    )


@table("web", "web.json")
def web(result: Values) -> str:
    """Deviations of the page of `export --web` from the runtime, and sizes."""
    rows = [
        {"precision": precision.upper(), "kind": kind, **values[kind]}
        for precision, values in result["precisions"].items()
        for kind in ("upright", "turned")
    ]
    columns: dict[str, Cell] = {
        "file": "{precision}",
        "faces": lambda row: f"{row['faces']} {row['kind']}",
        "in the same place: largest deviation": lambda row: f"{row['same_place']['largest']:.1e}",
        "mean": lambda row: f"{row['same_place']['mean']:.1e}",
        "each finds the face: largest": lambda row: f"{row['whole_way']['largest']:.1e}",
        "same label, %": lambda row: f"{100 * row['whole_way']['same_label']:.0f}",
    }
    missed = sum(row["missed_by_one"] for row in rows)
    sizes = {precision: values["megabytes"] for precision, values in result["precisions"].items()}
    shown = ", ".join(
        f"{precision.upper()} {size['folder']} MB, of which a browser without a GPU loads {size['loaded_by_wasm']}"
        for precision, size in sizes.items()
    )
    return paragraphs(
        grid(rows, columns),
        f"{counted(missed, 'face')} found by one alone. Where each finds the face, its landmarks differ in their last "
        f"bits, of which the repeated looks at a turned face make more, in the runtime too. Folder: {shown}. Made by "
        f"`{result['command']}` with Chromium {result['chromium']} and ONNX Runtime "
        f"{result['versions']['onnxruntime']}; [web.json](results/web.json).",
    )


@table("quality", "quality.json")
def quality(result: Values) -> str:
    """Accuracy and quality by way of degrading, and by yaw."""
    test = result["test"]
    columns: dict[str, Cell] = {
        "faces": "{way}",
        "accuracy, %": "{accuracy!c:.1f}",
        "kept, %": "{kept!c:.0f}",
        "network's confidence": "{confidence:.2f}",
        "quality": "{quality:.2f}",
        "reach the threshold, %": "{sure!c:.0f}",
    }
    together = text(
        "All together: {accuracy!c:.1f} % accurate; {sure!c:.0f} % reach the threshold, with {accuracy_sure!c:.1f} %, "
        "the others {accuracy_unsure!c:.1f} %.",
        test["together"],
    )
    turned = [row for row in result["yaw"] if row["yaw"] is not None]
    by_yaw = grid(
        turned,
        {
            "yaw from": "{yaw}°",
            "faces": "{faces}",
            "accuracy, %": "{accuracy!c:.1f}",
            "by guessing, %": "{guess!c:.1f}",
        },
    )
    return paragraphs(
        grid(test["ways"], columns),
        f"{test['faces']} faces of the split test; always naming the most frequent class is right for "
        f"{100 * test['guess']:.1f} %. {together} Threshold {result['chosen']:g}, chosen on the split val. "
        f"**Preliminary**: the network, {result['checkpoint']} of a run that went on, is far from trained.",
        *([by_yaw] if turned else []),
        f"Made by {result['made_by']}.",
    )


@table("serve-load", "serve-load.json")
def serve_load(result: Values) -> str:
    """Latency of a client's frames, and memory of the server over time."""
    memory = result["memory"]
    half = memory[len(memory) // 2]
    columns: dict[str, Cell] = {
        "clients": "{clients}",
        "answers": "{answers:,}",
        "answers/s": "{answers_per_second:.1f}",
        "ms p50": "{latency_ms[p50]:.0f}",
        "p90": "{latency_ms[p90]:.0f}",
        "p99": "{latency_ms[p99]:.0f}",
        "longest": "{latency_ms[max]:.0f}",
        "resident MB, start": lambda row: f"{row['memory'][0]['mb']:.0f}",
        "half-way": f"{half['mb']:.0f}",
        "end": lambda row: f"{row['memory'][-1]['mb']:.0f}",
    }
    width, height = result["size"]
    rate = result["fps"]
    return paragraphs(
        grid([result], columns),
        f"Each client sends {rate:g} JPEGs of {width}x{height} pixels a second for {result['seconds']:g} seconds and "
        "waits for each answer; one more sends and never reads. All "
        f"{result['compared']:,} answers that could be checked show the one person. {result['machine']}, "
        f"{counted(result['cores'], 'core')}, which the clients share. `{result['command']}`; "
        "[serve-load.json](results/serve-load.json).",
    )
