"""One process and two train alike; the rank-aware layers equal torch's where they can be compared."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from shallow import PYRAMID
from torch import nn

from edgefel.cli.main import main
from edgefel.data.labels import EXPRESSIONS_7
from edgefel.data.loading.batches import ImageSource
from edgefel.data.open import open_dataset
from edgefel.data.preprocessing import Preprocessing
from edgefel.models.encoder import DropPath
from edgefel.training.distributed import (
    CrossRankBatchNorm,
    RankMask,
    Shard,
    convert_for_ranks,
    is_first_process,
    join_skipped,
)

# Two processes normalise and train halves of a batch, and compare with the whole; then they tell each other which
# images they could not read. Each writes its lines to a file.
_PAIR = """
import os
import sys
import torch
import torch.distributed as dist
from torch import nn
from edgefel.data.loading.batches import ImageSource
from edgefel.data.open import open_dataset
from edgefel.data.preprocessing import Preprocessing
from edgefel.training.distributed import CrossRankBatchNorm, join_skipped
torch.set_num_threads(1)
rank = int(os.fork() == 0)  # what is imported once serves both
sys.stdout = open(f"{sys.argv[1]}.{rank}", "w")
dist.init_process_group("gloo", init_method="file://" + sys.argv[1], rank=rank, world_size=2)
torch.manual_seed(0)
x = torch.randn(8, 5, 3, 3, dtype=torch.float64) * 3 + 7
weight = torch.randn(8, 5, 3, 3, dtype=torch.float64)
whole, split = nn.BatchNorm2d(5).double(), CrossRankBatchNorm(5).double()
for norm in (whole, split):
    nn.init.uniform_(norm.weight), nn.init.uniform_(norm.bias)
split.load_state_dict(whole.state_dict())
mine = slice(rank * 4, rank * 4 + 4)
a = x.clone().requires_grad_()
b = x[mine].clone().requires_grad_()
for _ in range(2):
    out_a, out_b = whole(a), split(b)
(out_a * weight).sum().backward()
(out_b * weight[mine]).sum().backward()
torch.testing.assert_close(out_b, out_a[mine])
torch.testing.assert_close(b.grad, a.grad[mine])
for name, buffer in whole.named_buffers():
    torch.testing.assert_close(dict(split.named_buffers())[name], buffer)
for name, parameter in whole.named_parameters():
    gradient = dict(split.named_parameters())[name].grad
    dist.all_reduce(gradient)
    torch.testing.assert_close(gradient, parameter.grad)
split.eval(), whole.eval()
torch.testing.assert_close(split(b), whole(a)[mine])
print("equal norms")

source = ImageSource(open_dataset(sys.argv[2]), Preprocessing(resize=16, crop=14), cache_mb=0)
join_skipped(source, torch.device("cpu"))  # nobody has anything to tell
assert source.skipped == {}
source.skipped.update({0: {7: "mine", 50: "mine", 51: "mine"}, 1: {99: "mine", 7: "mine"}}[rank])
join_skipped(source, torch.device("cpu"))
join_skipped(source, torch.device("cpu"))
print(*(f"{index}={reason}" for index, reason in sorted(source.skipped.items())), sep=chr(10))
dist.destroy_process_group()
sys.stdout.close()
if rank == 0:
    os.wait()
"""


LR = 1e-3


def launch(arguments: list[str], **options) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, timeout=300, **options
    )


@pytest.fixture(scope="module")
def pair(faces_folder: Path, tmp_path_factory) -> list[tuple[list[str], str]]:
    """The lines that each of the two processes writes, and their errors."""
    meeting = tmp_path_factory.mktemp("pair") / "meeting"
    done = launch(["-c", _PAIR, str(meeting), str(faces_folder)])
    return [(meeting.with_suffix(f".{rank}").read_text().splitlines(), done.stderr) for rank in range(2)]


def test_cross_rank_batch_norm_equals_batch_norm_of_the_whole_batch(pair):
    for lines, errors in pair:
        assert lines[:1] == ["equal norms"], errors


def test_processes_tell_each_other_what_they_could_not_read(pair):
    first, second = (dict(line.split("=", 1) for line in lines[1:]) for lines, _ in pair)
    assert list(first) == list(second) == ["7", "50", "51", "99"], pair
    assert first["7"] == second["7"] == first["51"] == "mine"
    assert first["99"].endswith(".png: another process could not read it")
    assert second["50"].endswith(".png: another process could not read it")


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5))
        self.path = DropPath(0.25)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.path(self.body(x)).sum(1, keepdim=True)


def test_conversion_shares_parameters_and_keeps_keys():
    model = Small()
    before = model.state_dict(keep_vars=True)
    convert_for_ranks(model, Shard(1, 2))
    after = model.state_dict(keep_vars=True)
    assert list(before) == list(after)
    assert all(after[key] is value for key, value in before.items())
    assert isinstance(model.body[1], CrossRankBatchNorm)
    assert isinstance(model.body[2], RankMask)
    assert not model.body[2].per_image
    assert isinstance(model.path, RankMask)
    assert model.path.per_image


def test_on_one_process_batch_norm_stays():
    model = convert_for_ranks(Small(), Shard())
    assert type(model.body[1]) is nn.BatchNorm1d
    assert isinstance(model.body[2], RankMask)


def test_layers_without_a_rank_aware_version_are_refused():
    with pytest.raises(TypeError, match="Dropout2d"):
        convert_for_ranks(nn.Sequential(nn.Dropout2d(0.5)), Shard())


@pytest.mark.parametrize("make", [lambda s: RankMask(0.25, s), lambda s: RankMask(0.25, s, per_image=True)])
def test_masks_are_slices_of_the_global_mask(make):
    x = torch.ones(400, 6)
    torch.manual_seed(1)
    whole = make(Shard())(x)
    for rank in range(4):
        torch.manual_seed(1)
        part = make(Shard(rank, 4))(x[:100])
        assert torch.equal(part, whole[rank * 100 : rank * 100 + 100])
    assert whole.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert (whole == 0).float().mean().item() == pytest.approx(0.25, abs=0.06)
    assert torch.equal(make(Shard()).eval()(x), x)


def test_a_dropped_path_drops_whole_images():
    torch.manual_seed(0)
    out = RankMask(0.5, Shard(), per_image=True)(torch.ones(64, 3, 5))
    assert set(out.flatten(1).std(1).tolist()) == {0.0}


def write_faces(root: Path) -> None:
    root.mkdir()
    rng = np.random.default_rng(0)
    with (root / "labels.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("path", "label", "split", "subject"))
        for i in range(35):
            split = "train" if i < 28 else "val"
            cv2.imwrite(str(root / f"{i}.png"), rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
            if i in (3, 9):
                (root / f"{i}.png").write_bytes(b"unreadable")
            writer.writerow((f"{i}.png", EXPRESSIONS_7[i % 7], split, f"s{i % 5}"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory, nano_checkpoint: Path) -> dict[str, Path]:
    """The same three steps on one process, on two started by Fabric, and on two started by torchrun.

    What is validated and saved is the average of each process; images are mixed in pairs, and a teacher labels them.
    """
    root = tmp_path_factory.mktemp("ranks")
    write_faces(root / "faces")
    # float64, so that rounding stays below what Adam makes of it: it normalises every gradient, also that
    # of parameters whose gradient is 0 in theory, such as the bias of keys
    flags = ["--model", "arbex-nano", "--data", str(root / "faces"), "--epochs", "2", "--per-class", "4"]
    flags += ["--batch-size", "8", "--lr", str(LR), "--precision", "64-true", "--accelerator", "cpu"]
    flags += ["--workers", "0", "--log-every", "1", "--correction-ramp", "none", "--max-steps", "3"]
    flags += ["--checkpoint-every", "2", "--keep", "2", "--cache-mb", "0"]
    flags += ["--model-set", "encoder.drop_path=[0.1,0.3,0.5]", "--model-set", "encoder.layer_scale=0.3"]
    flags += ["--ema", "0.9", "--cutmix", "1", "--mixup", "0.3", "--teacher", str(nano_checkpoint)]
    flags += PYRAMID
    done = CliRunner().invoke(main, ["train", *flags, "-o", str(root / "one")])
    assert done.exit_code == 0, done.output
    module = ["-m", "edgefel.cli.main", "train", *flags]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    commands = {"fabric": [*module, "--devices", "2"], "torchrun": torchrun + module}
    for name, command in commands.items():
        done = launch([*command, "-o", str(root / name)])
        assert done.returncode == 0, done.stderr
    return {name: root / name for name in ("one", *commands)}


@pytest.mark.parametrize("name", ["fabric", "torchrun"])
def test_two_processes_train_like_one(runs, name):
    one, two = (load_file(runs[n] / "checkpoints/step-000003/model.safetensors") for n in ("one", name))
    start = load_file(runs["one"] / "checkpoints/step-000002/model.safetensors")
    assert one.keys() == two.keys()
    for key, value in one.items():
        difference = (two[key].double() - value.double()).abs()
        # a few gradients are so small that the float32 rounding of the augmentation shows
        assert difference.max() < 0.05 * LR, key
        assert (difference > 1e-6).double().mean() < 0.01, key
    moved = [key for key, value in one.items() if not torch.equal(value, start[key])]
    assert len(moved) > 0.9 * len(one)


@pytest.mark.parametrize("name", ["fabric", "torchrun"])
def test_two_processes_share_the_teachers_work(runs, name):
    one, two = (load_file(runs[n] / "teacher.safetensors")["probabilities"] for n in ("one", name))
    assert one.shape == (28, 7)
    assert sorted((one.sum(1) == 0).nonzero().flatten().tolist()) == [3, 9]  # unreadable
    torch.testing.assert_close(two, one)


@pytest.mark.parametrize("name", ["fabric", "torchrun"])
def test_two_processes_log_like_one(runs, name):
    def rows(run: Path) -> list[dict[str, str]]:
        with (run / "metrics.csv").open() as stream:
            return list(csv.DictReader(stream))

    one, two = rows(runs["one"]), rows(runs[name])
    assert [row["step"] for row in one] == [row["step"] for row in two] == ["1", "2", "3"]
    assert one[-1]["skipped_images"] == two[-1]["skipped_images"] != "0"
    for a, b in zip(one, two, strict=True):
        for column in ("loss", "loss_anchor", "loss_center", "accuracy", "val_loss", "val_macro_f1"):
            if a[column] or b[column]:
                assert float(a[column]) == pytest.approx(float(b[column]), rel=1e-5), column


def test_a_single_process_has_nobody_to_tell(faces_folder: Path) -> None:
    source = ImageSource(open_dataset(faces_folder), Preprocessing(resize=16, crop=14), cache_mb=0)
    source.skipped[3] = "mine"
    join_skipped(source, torch.device("cpu"))
    assert source.skipped == {3: "mine"}


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "NODE_RANK"])
def test_of_the_processes_of_a_run_the_first_holds_the_folder(monkeypatch, name):
    assert is_first_process()
    monkeypatch.setenv(name, "0")
    assert is_first_process()
    monkeypatch.setenv(name, "1")
    assert not is_first_process()
