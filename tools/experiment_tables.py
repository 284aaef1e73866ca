"""Tables of README.md and of experiments, models, kernels, quantization, framing and graph in docs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from markdown_tables import RESULTS, TABLES, Cell, Values, grid, paragraphs, table, text

from edgefel.bench.experiments import keep_rates
from edgefel.bench.experiments.ablation.papers import EXPERIMENTS
from edgefel.bench.experiments.ablation.plan import Study
from edgefel.bench.experiments.ablation.report import markdown
from edgefel.bench.experiments.ablation.study import about
from edgefel.bench.experiments.ablation.verdict import Outcome
from edgefel.bench.results import read_results

RENDERED, FER_PLUS = "", "FER+"
ROWS = {RENDERED: "ablations.jsonl", FER_PLUS: "ablations-fer-plus.jsonl"}  # in RESULTS, by the faces


@table("demo", "demo.json")
def demo(results: Values) -> str:
    compared = results["comparison"]
    columns = {
        "file": "{file}",
        "precision": "{precision}",
        "MB": "{megabytes:.2f}",
        "ms/image p50": lambda row: text("{ms_p50:.1f}", row) or row["note"],
        "accuracy": "{accuracy:.1%}",
        "agrees with PyTorch": lambda row: (
            text("{agreement:.1%}", row) + (f" ({row['note']})" if row["note"] and row["ms_p50"] else "")
        ),
        "largest deviation": "{deviation:.1e}",
    }
    return paragraphs(
        grid(compared["files"], columns, (0, 1), gap=""),
        f"{results['model']}, batch 1, {compared['threads']} thread, {compared['images']} test faces of "
        f"people that training did not see; chance is {results['chance']:.1%}. The whole demo took "
        f"{sum(results['seconds'].values()):.0f} s on {results['machine']}. Numbers: "
        "[docs/results/demo.json](docs/results/demo.json).",
    )


@table("compiled", "kernels-compiled.json")
def compiled(document: Values) -> str:
    rows = document["compiled"]
    kernels: dict[str, dict[str, Any]] = {}
    for row in rows:
        kernels.setdefault(row["name"], {"name": row["name"]})[row["arch"]] = row
    columns = {"registers / occupancy": "{name}"}
    for arch in dict.fromkeys(row["arch"] for row in rows):
        columns[arch] = f"{{{arch}[resources][registers]}} / {{{arch}[occupancy]:.0%}}"
    memory = ("stack_bytes", "local_bytes", "spill_store_bytes", "spill_load_bytes")
    spilled = sum(row["resources"][name] for row in rows for name in memory)
    shared = max(row["resources"]["shared_bytes"] for row in rows if row["arch"] == "sm_87")
    return paragraphs(
        grid(kernels.values(), columns, gap=""),
        f"Bytes of stack, local memory and spills, all kernels and targets together: {spilled}. "
        f"Most shared memory on sm_87: {shared / 1024:.1f} KiB. Triton {document['versions']['triton']}.",
    )


@table("asymmetric", "int8-asymmetric.json")
def asymmetric(document: Values) -> str:
    """SQNR of symmetric and asymmetric activations by network and method, and how fast the files are."""
    lines, speeds = [], []
    for run in document["runs"]:
        by_method: dict[str, dict[str, Any]] = {}
        for row in run["rows"]:
            line = by_method.setdefault(row["method"], {"run": run["name"], "method": row["method"]})
            line |= {f"{row['activations']}_{key}": row[key] for key in ("sqnr_db", "agreement")}
        lines += by_method.values()
        speed = {row["file"]: row for row in run["speed"]}
        own, old = speed["asymmetric"], speed.get("in the bundle")
        low, high = own["interval"]
        said = f"{run['name']}: {own['times_as_fast']:.2f} [{low:.2f}, {high:.2f}] times as fast as symmetric uint8"
        if old is not None:
            ratio = old["cpu_ms_p50"] / own["cpu_ms_p50"]
            said += (
                f", and {ratio:.2f} times as fast as the bundle's symmetric int8 file of {old['nodes']} nodes"
            )
        speeds.append(f"{said} ({own['nodes']} nodes)")
    columns = {
        "": "{run}",
        "ranges": "{method}",
        "symmetric, dB": "{symmetric_sqnr_db:.1f}",
        "asymmetric, dB": "{asymmetric_sqnr_db:.1f}",
        "gain, dB": lambda line: f"{line['asymmetric_sqnr_db'] - line['symmetric_sqnr_db']:+.1f}",
        "agrees, symmetric": "{symmetric_agreement:.1%}",
        "asymmetric": "{asymmetric_agreement:.1%}",
    }
    first = document["runs"][0]
    told = (
        f"{'; '.join(speeds)}. Medians of CPU time on one thread in turn, on a machine that did other work; "
        f"{first['machine']['cpu']}, ONNX Runtime {first['versions']['onnxruntime']}. {document['made_by']}."
    )
    return paragraphs(grid(lines, columns, (0, 1)), told)


@table("int8-overflow", "int8-overflow.json")
def int8_overflow(document: Values) -> str:
    """INT8 with and without sums that hold, by runtime."""
    columns = {
        "": "{network}",
        "SQNR, dB": lambda row: "" if row["agreement"] == 1 else f"{row['sqnr_db']:.1f}",
        "agrees with FP32": "{agreement:.1%}",
        "times as fast as FP32, 95 %": "{times_as_fast:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]",
    }
    told = (
        "`{model}`, {images} images of FER+'s test, an {machine[cpu]} without VNNI, ONNX Runtime "
        "{versions[onnxruntime]}; medians of CPU time on one thread in turn, on a machine that did other work. "
        "{made_by}."
    )
    return paragraphs(grid(document["rows"], columns, (0,)), text(told, document))


@table("qat", "qat.json")
def qat(document: Values) -> str:
    """INT8 files before and after training, and what changed, with intervals."""
    forms = {
        "agreement": ("agrees with FP32 before", 100, "{0:{s}.2f}%"),
        "sqnr_db": ("SQNR, dB", 1, "{0:{s}.2f}"),
        "kl": ("KL, nats", 1, "{0:{s}.1e}"),
        "accuracy": ("accuracy", 100, "{0:{s}.2f}%"),
        "macro_f1": ("macro F1", 100, "{0:{s}.2f}"),
    }
    lines, told = [], []
    for name, found in document["data"].items():
        for file, row in {**found["files"], "gained": found["gained"]}.items():
            line = {"data": name, "file": file}
            for key, (_, unit, form) in forms.items():
                low, high = row[key]["interval"]
                sign = "+" if file == "gained" else ""
                value, low, high = (form.format(x * unit, s=sign) for x in (row[key]["value"], low, high))
                line[key] = f"{value} [{low}, {high}]"
            lines.append(line)
        told.append(
            f"`{found['model']}`, {found['images']} images of {name}, {found['seeds']} seeds, {found['steps']} steps "
            f"of {found['batch']}, learning rate {found['lr']:g}; accuracy in FP32 before {found['fp32_accuracy']:.2%}."
        )
    columns = {"": "{data}", "file": "{file}"} | {title: f"{{{key}}}" for key, (title, _, _) in forms.items()}
    return paragraphs(grid(lines, columns, (0, 1)), f"{' '.join(told)} {document['made_by']}.")


@table("speed", "precisions.json")
def speed(document: Values) -> str:
    columns = {
        "": "{name}",
        "MB": "{megabytes:.1f}",
        "ms per image, p50": "{ms_p50:.1f}",
        "times as fast as eager PyTorch, 95 %": "{times_as_fast_as_eager:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]",
    }
    caption = (
        "`{model}` with random weights, batch {batch}, {threads} thread, {runs} runs in turn, outputs compared first; "
        "{machine[cpu]}, ONNX Runtime {versions[onnxruntime]}, PyTorch {versions[torch]}. {made_by}."
    )
    return paragraphs(grid(document["rows"], columns, gap=""), text(caption, document))


@table("surgery", "surgery.json")
def surgery(document: Values) -> str:
    def pair(name: str, unit: float, row: Values) -> str:
        return " to ".join(f"{value:,.0f}" for value in dict.fromkeys(v / unit for v in row[name].values()))

    columns: dict[str, Cell] = {
        "step": "{step}",
        "nodes": partial(pair, "nodes", 1),
        "MMAC": partial(pair, "macs", 1e6),
        "bytes of an image": partial(pair, "input_bytes", 1),
        "latency, with / without": "{latency_ratio:.2f}",
        "largest deviation": lambda row: f"{max(row['max_deviation'].values()):.0e}",
    }
    form = (
        "`{model}` with random weights, {rows[0][runs]} runs in turn on one thread of ONNX Runtime "
        "{versions[onnxruntime]}, outputs compared first. {made_by}."
    )
    return paragraphs(grid(document["rows"], columns, gap=""), text(form, document))


def outcomes(faces: str = RENDERED) -> dict[str, Outcome]:
    """By experiment, of those that there are rows of. faces: RENDERED, or FER_PLUS."""
    file = RESULTS / ROWS[faces]
    rows = read_results(file).rows if file.is_file() else ()
    found = {}
    for name, usual in EXPERIMENTS.items():
        used = usual if faces == RENDERED else usual.on_votes or usual.on_data or usual
        found[name] = Outcome.of_rows(used, rows)
    return {name: outcome for name, outcome in found.items() if outcome.variants}


def trained_on(outcome: Outcome, faces: str = RENDERED) -> str:
    """What was trained on what, in a few words."""
    return about(Study(outcome.experiment, Path(), data=None if faces == RENDERED else Path(faces)))


def experiment(outcome: Outcome, faces: str = RENDERED) -> str:
    """Source, note, variants, claims and verdict; the page has the heading."""
    return markdown(outcome, f"Here: {trained_on(outcome, faces)}.").partition("\n\n")[2].strip()


def diagnosis(outcome: Outcome) -> str:
    """What the parts of the head know by themselves: means over seeds."""

    def cell(form: str, *path: str) -> Callable[[list[Values]], str]:
        def of(seeds: list[Values]) -> str:
            known = [(one[path[0]] or {}).get(path[1]) if path[1:] else one[path[0]] for one in seeds]
            known = [value for value in known if value is not None]
            return text(form, {"mean": mean(known) if known else None})

        return of

    columns = {"variant": lambda seeds: seeds[0]["variant"]}
    for part in ("primary", "geometric", "attentive", "corrected"):
        columns[part] = cell("{mean!c:.1f} %", "accuracy", part)
    columns |= {
        "weight of the correction": cell("{mean:.2f}", "weight"),
        "fixed": cell("{mean!c:.1f} %", "fixed"),
        "spoiled": cell("{mean!c:.1f} %", "spoiled"),
        "anchors in use": cell("{mean!c:.0f} %", "anchors", "used"),
        "between anchors": cell("{mean:.2f}", "anchors", "spread"),
        "between embeddings": cell("{mean:.2f}", "anchors", "embedding_spread"),
    }
    found = (
        [{**one["diagnosis"], "variant": name} for one in results.values() if not one["diverged"]]
        for name, results in outcome.results.items()
    )
    return paragraphs(grid(filter(None, found), columns))


for _faces in ROWS:
    _on = "" if _faces == RENDERED else f" on {_faces}"
    for _name, _outcome in outcomes(_faces).items():
        TABLES[f"experiment {_name}{_on}"] = partial(experiment, _outcome, _faces)
        # these are not about the head
        if _name not in ("resolution", "keep-rates", "noise-losses"):
            TABLES[f"diagnosis {_name}{_on}"] = partial(diagnosis, _outcome)


@table("keep-rates", "keep-rates.json")
def kept_tokens(document: Values) -> str:
    """Accuracy beside cost."""
    outcome = outcomes()[keep_rates.EXPERIMENT.name]
    accuracy = {one.name: outcome.mean(one.name, "accuracy") for one in outcome.variants}
    rows = [document["costs"][name] | {"name": name, "accuracy": mean} for name, mean in accuracy.items()]
    columns = {
        "keeps": "{name}",
        "accuracy": "{accuracy.mean!c:.1f} % ± {accuracy.half!c:.1f}",
        "MACs in millions": "{macs!M:.1f}",
        "ms": "{ms_p50:.2f}",
        "times as fast": "{speedup[value]:.2f} ({speedup[low]:.2f} to {speedup[high]:.2f})",
    }
    return paragraphs(grid(rows, columns))


@table("token-pooling", "token-pooling.json")
def token_pooling(document: Values) -> str:
    """What dropping tokens saves."""
    costs, ms = document["costs"], document["costs"]["ms_p50"]
    form = "{nothing dropped!G:.2f} G|{published!G:.2f} G|{ratio:.2f}"
    rows = [["multiply-accumulates", *text(form, costs["macs"]).split("|")]]
    for program, name in (("pytorch", "PyTorch"), ("onnxruntime", "ONNX Runtime")):
        both = [f"{ms[f'{program}, {which}']:.0f} ms" for which in ("nothing dropped", "published")]
        ratio = text("{value:.2f} ({low:.2f} to {high:.2f})", costs[f"{program}_ratio"])
        rows.append([f"{name}, one thread", *both, ratio])
    heads = ("one image", "nothing dropped", "published", "ratio")
    return paragraphs(grid(rows, {head: f"{{{number}}}" for number, head in enumerate(heads)}))


@table("turned-faces", "framing.json")
def turned_faces(document: Values) -> str:
    columns: dict[str, Cell] = {"side, pixels": "{side}", "turned by": "{degrees}°"}
    for when, name in (("before", "one look"), ("after", "levelled")):
        columns |= {
            f"{name}: median (90 %)": lambda row, when=when: (
                text(f"{{{when}[rest_median]:.0f}} ({{{when}[rest_p90]:.0f}})", row)
                if row[when]["found"]
                else "-"
            ),
            f"{name}: ms": f"{{{when}[ms]:.0f}}",
        }
    columns |= {
        "found": "{before[found]} of {shown}",
        "levelled: found": "{after[found]}",
        "Haar: found": "{haar}",
    }
    return paragraphs(
        grid(document["turned"], columns),
        "Milliseconds are medians of a search of the whole canvas, 2.5 sides of the face wide, on one thread, both in "
        f"turn: {document['made_by']}.",
    )


@table("framing", "framing.json")
def framing(document: Values) -> str:
    values = document["agreement"]
    pairs = [pair for pair in values["before"] if pair != "all three"]
    ways = {"before": "own framing", "after": "framed as in training", "mirrored": "and `--mirror`"}
    rows = [{"pair": pair, **{way: values[way][pair] for way in ways}} for pair in pairs]
    columns: dict[str, Cell] = {"labels of": "{pair}"}
    for way, name in ways.items():
        columns[f"same label, {name}"] = f"{{{way}[same_label]:.1%}}"
        columns[f"distance, {name}"] = f"{{{way}[distance_mean]:.3f}}"
    right = {
        found: ", ".join(f"{values['accuracy'][f'{found}, {way}']:.1%}" for way in ways)
        for found in ("crop", "haar", "yunet")
    }
    alike = ", ".join(f"{values[way]['all three']:.1%}" for way in ways)
    every, plain, mirrored = (document["test"][name] for name in ("images", "plain", "mirrored"))
    return paragraphs(
        grid(rows, columns),
        f"{values['faces']} of {values['images']} FER+ test images, those that both detectors find; distance is the "
        f"mean total variation. All three labels agree for {alike}. The network is right on {right['crop']} of the "
        f"crops, on {right['haar']} as Haar finds them, and on {right['yunet']} as YuNet does. Of all {every:,} crops "
        f"of the split, {plain['accuracy']:.2%} are right (macro F1 {plain['macro_f1']:.3f}), with `--mirror` "
        f"{mirrored['accuracy']:.2%} ({mirrored['macro_f1']:.3f}). "
        f"{document['made_by']}.",
    )
