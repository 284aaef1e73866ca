"""Tables of calibration, trained INT8 files and mixed precision: docs/calibration.md and docs/quantization.md."""

from __future__ import annotations

from functools import partial

from markdown_tables import Cell, Values, grid, paragraphs, table, text

from edgefel.text import counted

EARLIER = "Made by an earlier version, with symmetric ranges in {}. "
# of a comparison: title, and the factor for its unit
MEASURES = {
    "macro_f1": ("macro F1, %", 100),
    "accuracy": ("accuracy, %", 100),
    "tail_accuracy": ("accuracy of the rarest third, %", 100),
    "agreement": ("agrees with FP32, %", 100),
    "sqnr_db": ("SQNR, dB", 1),
}


@table("calibration", "calibration.json")
def calibration(row: Values) -> str:
    form = (
        "Calibrating `{model}` on {images} images takes {seconds:.0f} s and {peak_mb:.0f} MB at most, with {tensors} "
        "activations of {activation_bytes_per_image!M:.0f} MB per image ({workers} threads, {machine[cores]} cores of "
        "an {machine[cpu]}; {made_by})."
    )
    return text(form, row)


@table("trained-int8", "int8-nano.json")
def trained_int8(document: Values) -> str:
    """Both exports of the trained network, and the broken one."""
    mixed, broken = document["mixed"], document["broken"]
    rows = [{**row, "export": "every layer INT8"} for row in document["all_int8"]["files"]]
    rows = [{**row, "export": ""} if row["precision"] in ("fp32", "fp16") else row for row in rows]
    rows += [{**row, "export": "`--auto`"} for row in mixed["files"] if "int8" in row["precision"]]
    columns = {
        "export": "{export}",
        "file": "{file}",
        "MB": "{bytes!M:.2f}",
        "agreement": "{agreement:.2%}",
        "SQNR dB": "{logits_sqnr_db:.1f}",
        "KL, nats": "{kl_mean:.1e}",
        "accuracy": "{accuracy:.1%}",
        "worst class, points": "{worst_class} {worst_recall_change:+.1f} "
        "[{worst_recall_interval[0]:+.1f}, {worst_recall_interval[1]:+.1f}]",
        "verdict": "{verdict}",
    }
    kept, (first, second, *_) = mixed["kept_float"], broken["costliest_layers"]
    listed = f" ({', '.join(f'`{name}`' for name in kept)})" if kept else ""
    return paragraphs(
        f"A trained `arbex-nano` on {mixed['files'][0]['images']} faces of people that neither training, calibration "
        "nor the search saw:",
        grid(rows, columns, (0, 1, 8), gap=""),
        f"PyTorch's own accuracy is {mixed['files'][0]['accuracy_reference']:.1%}. Ranges from "
        f"{document['calibration']['per_class']} images of each class, `{document['calibration']['method']}`. "
        f"`--auto --max-drop {document['search']['max_drop']}`, on {document['search']['images']} other faces, kept "
        f"{len(kept)} of {mixed['layers']} layers in float{listed} after "
        f"{counted(mixed['mixes_tried'], 'mix', 'mixes')}; {mixed['int8_share_of_macs']:.1%} of the MACs are INT8.",
        f"A scale that is wrong by {broken['scale_times']}, of the input of `{broken['layer']}` alone: verdict "
        f"`{broken['verdict']}`, {broken['agreement']:.1%} of the labels agree, and the ranking puts "
        f"`{first['node']}` first with {first['kl']:.1e} nats, before `{second['node']}` with {second['kl']:.1e}.",
        "![What the costliest layers cost alone, and the mixes that were tried](images/layers.png)",
        ("" if "activations" in broken else EARLIER.format("the INT8 files and in the ranking"))
        + f"{document['made_by']}.",
    )


@table("mixed-fer-plus", "mixed-fer-plus.json")
def mixed_fer_plus(document: Values) -> str:
    """The mix found for the shipped network, in one paragraph."""
    trials = document["trials"]
    kept, first = trials[-1]["kept"], trials[0]["verdict"]["reasons"]

    def told(files: list[Values]) -> str:
        rows = [file for file in files if "int8" in file["precision"]]
        form = "{precision} {agreement:.1%} of the labels, accuracy {accuracy:.1%}, macro F1 {macro_f1:.3f}"
        return "; ".join(text(form, row) for row in rows)

    reference = document["mixed"][0]
    return (
        f"The shipped network on FER+: `--auto --max-drop {document['max_drop']}`, on {document['images']} images of "
        f"val, kept {len(kept)} of {document['layers']} layers in float (`{'`, `'.join(kept)}`; "
        f"{document['int8_share_of_macs']:.1%} of the MACs are INT8) after {counted(len(trials), 'mix', 'mixes')}; "
        f"every layer in INT8 was refused there: {first[0]}. On {reference['images']} images of test, where FP32 has "
        f"accuracy {reference['accuracy_reference']:.1%} and macro F1 {reference['macro_f1_reference']:.3f}, the files "
        f"agree with it in: {told(document['mixed'])}. With every layer in INT8: {told(document['all_int8'])}. "
        f"{'' if 'ranked_in' in document else EARLIER.format('the ranking')}{document['made_by']}."
    )


@table("comparison", "calibration-comparison.json")
def comparison(document: Values) -> str:
    figure = "![Macro F1 by calibration set, paired differences, recall per class](images/calibration_comparison.png)"
    return paragraphs(*_compared(document, "held-out synthetic faces"), figure, _made_by(document))


@table("comparison-fer-plus", "calibration-comparison-fer-plus.json")
def comparison_fer_plus(document: Values) -> str:
    columns: dict[str, Cell] = {"images per class": "{per_class}", "calibrated on": "{strategy}"}
    for name, (title, unit) in MEASURES.items():
        columns[title] = partial(_with_interval, name, unit)
    means = grid(document["summaries"], columns, (1,))
    return paragraphs(*_compared(document, "images of FER+ test"), means, _made_by(document))


def _compared(document: Values, judged_on: str) -> tuple[str, list[str]]:
    """On what, and the verdicts."""
    form = "On a trained `{source[model]}`, ranges by `{options[method]}`, {options[seeds]} seeds, imbalance "
    images = sum(document["held_out"]["counts"].values())
    said = f"{text(form, document)}{document['options']['imbalance']:g}, {images} {judged_on}:"
    return said, [f"- {told}" for told in document["verdicts"]]


def _with_interval(name: str, unit: float, row: Values) -> str:
    """Nothing for FP32's agreement and SQNR with itself."""
    if row["per_class"] is None and name in ("agreement", "sqnr_db"):
        return ""
    return "{value:.1f} [{low:.1f}, {high:.1f}]".format(
        **{end: unit * row["measures"][name][end] for end in ("value", "low", "high")}
    )


def _made_by(document: Values) -> str:
    earlier = "" if "file" in document["design"] else EARLIER.format("the files judged")
    return f"{earlier}{document['made_by']}."
