"""Tables of trained networks: seeds together, classes with their intervals, starts beside each other."""

from __future__ import annotations

from network_tables import by_class, networks, starts


def run(model="arbex-nano", seed=0, accuracy=0.8, teacher=None, **more):
    judged = {"accuracy": accuracy, "macro_f1": accuracy - 0.2, "confusion": [[90, 10], [20, 30]]}
    known = {"parameters": 450_000, "macs": 70_000_000, "labels": ["calm", "glad"], "counts": [100, 50]}
    known |= {"images": 150, "images without copies": 140, "votes": "fer2013new.csv"}
    found = {"as published": judged, "without copies": judged, "without head": judged}
    return {"model": model, "seed": seed, "teacher": teacher, "init_from": [], **known, **found, **more}


def document(*runs):
    return {"made_by": "`a command`", "runs": list(runs)}


def cells(table, first):
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {first} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_seeds_of_a_network_are_one_row():
    runs = [run(seed=seed, accuracy=0.8 + 0.01 * seed) for seed in range(3)]
    table = networks(document(*runs, run("arbex-small"), run(teacher="small")))
    assert cells(table, "`arbex-nano`")[:6] == [
        "`arbex-nano`",
        "0.45 M",
        "0.070",
        "3",
        "81.0 (80.0 to 82.0)",
        "0.610 (0.600 to 0.620)",
    ]
    assert cells(table, "`arbex-small`")[3:5] == ["1", "80.0"]
    assert cells(table, "`arbex-nano, taught by small`")[3] == "1"
    assert "150 images of FER+ test, 2 classes by fer2013new.csv; 140 of them have no copy" in table


def test_recall_is_that_of_the_first_seed_with_its_interval():
    other = run(seed=1)
    other["as published"] = {**other["as published"], "confusion": [[0, 100], [50, 0]]}
    table = by_class(document(run(), other))
    assert cells(table, "calm") == ["calm", "100", "90.0 (82.6 to 94.5)"]
    assert cells(table, "glad")[1:] == ["50", "60.0 (46.2 to 72.4)"]


def test_starts_are_compared_at_epochs_that_both_have():
    point = {"val_accuracy": 0.5, "val_primary_accuracy": 0.6}
    curve = [{"epoch": epoch, **point} for epoch in (1.0, 2.0, 3.0)]
    table = starts(document(run(curve=curve), run(curve=curve[:2], init_from=["synthetic"])))
    assert cells(table, "2") == ["2", "50.0", "60.0", "50.0", "60.0"]
    assert not any(line.startswith("| 3 |") for line in table.splitlines())
