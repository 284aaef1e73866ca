"""Tasks on a real Ray cluster of two machines, both this one; they listen on the loopback interface alone."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest
from rayclusters import stay_on_loopback
from tiny_bundle import write_bundle

from edgefel.data.image_headers import MOST_PIXELS
from edgefel.data.inspection.inspect import inspect_dataset
from edgefel.data.open import open_dataset
from edgefel.data.preparing.plan import PrepareOptions
from edgefel.data.preparing.run import prepare
from edgefel.data.readers.shard_writer import write_shards
from edgefel.errors import EdgefelError
from edgefel.evaluation.evaluate import evaluate_with_evidence
from edgefel.runtime.bulk.plan import plan_labelling
from edgefel.runtime.bulk.run import label
from edgefel.runtime.bulk.work import Network
from edgefel.runtime.faces import runtime_faces
from edgefel.tasks.choose import open_runner
from edgefel.tasks.on_ray import RayCluster
from edgefel.tasks.runner import Need
from edgefel.tasks.threads import Threads

stay_on_loopback()
pytest.importorskip("ray", reason="no Ray here; pip install 'edgefel[cluster]'")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]


def test_a_cluster_that_cannot_be_reached():
    """The first test: once connected, the process stays so."""
    with (
        pytest.raises(EdgefelError, match="no Ray cluster can be reached at 127.0.0.1:1 "),
        open_runner("127.0.0.1:1"),
    ):
        pass


@pytest.fixture(scope="module")
def cluster(cluster):
    """With one connection for all tests, since its worker processes begin and end with it."""
    with open_runner(cluster.address):
        yield cluster


def elsewhere():
    """A function of this file, which workers cannot import."""
    return lambda item, stop: item


def test_results_are_those_of_threads(cluster):
    def double():
        return lambda item, stop: 2 * item

    kept = []
    with open_runner(cluster.address) as runner:
        found = list(runner.run(double, range(200), lambda item, result: kept.append((item, result))))
    assert sorted(found) == [2 * item for item in range(200)]
    assert sorted(kept) == [(item, 2 * item) for item in range(200)]
    assert runner.lost == 0


def test_errors_come_as_one_line(cluster):
    def make():
        def work(item, stop):
            raise EdgefelError(f"{item}: cannot be read")

        return work

    with open_runner(cluster.address) as runner:
        with pytest.raises(EdgefelError, match="^7: cannot be read$"):
            list(runner.run(make, [7]))
        with pytest.raises(EdgefelError, match="no machine with 1 core and 3 GPUs"):
            list(runner.run(make, [7], need=Need(gpus=3)))
        with pytest.raises(EdgefelError, match="No module named .*; install edgefel, in the same version"):
            list(runner.run(elsewhere, [7]))


def test_max_pixels_holds_on_other_machines(cluster, monkeypatch):
    def make():
        from edgefel.data.images import max_pixels

        return lambda item, stop: max_pixels()

    monkeypatch.setenv("EDGEFEL_MAX_PIXELS", "12345")
    with open_runner(cluster.address) as runner:
        assert set(runner.run(make, range(20))) == {12345}
        monkeypatch.delenv("EDGEFEL_MAX_PIXELS")
        assert set(runner.run(make, range(20))) == {MOST_PIXELS}


def test_a_killed_worker_costs_nothing(cluster, tmp_path):
    """Two tasks kill their process at the first try; results are complete, and the two are counted."""

    def make():
        def work(item, stop):
            mark = tmp_path / str(item)
            if item in (3, 11) and not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return item

        return work

    with open_runner(cluster.address) as runner:
        assert sorted(runner.run(make, range(20))) == list(range(20))
        # a task under way in the same process can be lost with it only where processes run several: Ray's do not
        assert runner.lost == 2


def test_a_task_that_kills_every_worker_ends_the_run(cluster, capsys):
    def make():
        return lambda item, stop: os.kill(os.getpid(), signal.SIGKILL)

    with (
        open_runner(cluster.address) as runner,
        pytest.raises(EdgefelError, match="video.mp4: its worker was lost 4 times"),
    ):
        list(runner.run(make, [SimpleNamespace(place="video.mp4")]))
    # Ray's own words do not come between the results of a command
    assert capsys.readouterr().out == ""


def test_closing_ends_tasks_under_way(cluster, tmp_path):
    def make():
        def work(item, stop):
            if item:
                (tmp_path / str(item)).touch()
                time.sleep(60)
            return item

        return work

    start = time.monotonic()
    with open_runner(cluster.address) as runner:
        results = runner.run(make, range(100), need=Need(patience=1))
        assert next(results) == 0
        results.close()
    assert time.monotonic() - start < 20
    assert len(list(tmp_path.iterdir())) < 10


@pytest.fixture(scope="module")
def faces(faces_folder, tmp_path_factory):
    """36 rendered faces as a data set of photographs, large enough that searching them takes a while."""
    root = tmp_path_factory.mktemp("data") / "faces"
    root.mkdir()
    lines = (faces_folder / "labels.csv").read_text().splitlines()[:37]
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    for line in lines[1:]:
        name = line.partition(",")[0]
        (root / name).parent.mkdir(exist_ok=True)
        image = cv2.resize(cv2.imread(str(faces_folder / name)), (480, 480))
        cv2.imwrite(str(root / name), image)
    return root


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_data_inspect_finds_the_same(cluster, faces):
    found = [inspect_dataset(open_dataset(faces)).to_dict()]
    with open_runner(cluster.address) as runner:
        found.append(inspect_dataset(open_dataset(faces), runner=runner).to_dict())
    assert found[0] == found[1]


def test_data_prepare_writes_the_same_bytes(cluster, faces, tmp_path):
    tools = partial(runtime_faces, "haar", None, 0.3, 64)
    options = PrepareOptions(size=64, tools={"detector": "haar", "detector_model": None, "min_face": 0.3})
    prepare(open_dataset(faces), tmp_path / "here", tools, options)
    with open_runner(cluster.address) as runner:
        prepare(open_dataset(faces), tmp_path / "there", tools, options, runner=runner)
    assert files(tmp_path / "here") == files(tmp_path / "there")
    assert len(files(tmp_path / "here")) > 30


def test_machines_fetch_data_from_an_address(cluster, bucket, faces, tmp_path):
    variables = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}

    class Allowed(RayCluster):
        """Whose machines have the server and the credentials."""

        def run(self, make, *args, **options):
            def make_there():
                os.environ.update(variables)
                return make()

            return super().run(make_there, *args, **options)

    tools = partial(runtime_faces, None, None, None, 64)
    options = PrepareOptions(size=64)
    write_shards(open_dataset(faces), tmp_path / "shards")
    there = open_dataset(bucket.upload(tmp_path / "shards", "shards"))
    prepare(open_dataset(tmp_path / "shards"), tmp_path / "here", tools, options)
    with contextlib.closing(Allowed(cluster.address)) as runner:
        report = prepare(there, tmp_path / "there", tools, options, runner=runner)
    assert report["faces"] == 36
    both = files(tmp_path / "here"), files(tmp_path / "there")
    for one in both:
        del one["prepare.json"]  # the place of the data is in it
    assert both[0] == both[1]


def test_evaluate_gives_the_same_numbers(cluster, faces, nano_checkpoint):
    found = []
    for runner in (None, cluster.address):
        with contextlib.ExitStack() as stack:
            there = stack.enter_context(open_runner(runner)) if runner else None
            evaluation, _ = evaluate_with_evidence(nano_checkpoint, faces, None, runner=there)
        found.append(evaluation)
    # threads of PyTorch are one there and several here
    assert found[0].final.accuracy == found[1].final.accuracy
    assert found[0].images == found[1].images == 36


def test_a_lost_machine_costs_nothing(cluster, faces, tmp_path):
    """The last test, since a machine of the cluster is gone afterwards: it is taken away while it works."""
    if not hasattr(cluster, "remove_node"):
        pytest.skip("the machines of EDGEFEL_TEST_CLUSTER stay")
    network = Network(write_bundle(tmp_path / "bundle"), backend="onnxruntime", detector="haar")
    with network.open() as model:
        network = network.chosen(model)
    plan = plan_labelling(str(faces), per_part=4)
    label(plan, network, tmp_path / "here", Threads(1))
    doomed = cluster.list_all_nodes()[-1]
    node, held, gone = doomed.node_id, tmp_path / "held", tmp_path / "gone"

    def take_away():
        end = time.monotonic() + 120
        while not held.exists() and time.monotonic() < end:
            time.sleep(0.1)
        gone.touch()
        cluster.remove_node(doomed, allow_graceful=False)

    class Held(RayCluster):
        """Whose tasks wait on the doomed machine until it is gone."""

        def run(self, make, *args, **options):
            def make_held():
                import ray

                work = make()

                def wait_here(item, stop):
                    if ray.get_runtime_context().get_node_id() == node and not gone.exists():
                        held.touch()
                        time.sleep(300)
                    return work(item, stop)

                return wait_here

            return super().run(make_held, *args, **options)

    done = []
    with contextlib.closing(Held(cluster.address)) as runner, ThreadPoolExecutor(1) as beside:
        taken = beside.submit(take_away)
        label(plan, network, tmp_path / "there", runner, progress=lambda: done.append(1))
        taken.result()
    assert files(tmp_path / "here") == files(tmp_path / "there")
    assert len(done) == len(plan.parts) == 9
    assert runner.lost >= 1
