"""What a Ray cluster costs and brings: its start beside that of our own processes, rates, overheads, a lost machine.

    python -m edgefel.bench.experiments.cluster all -o docs/results/cluster.json

All machines of the cluster are this one. Steps, each of which adds to the file:
start    until a first task is over: a cluster, a process of `ablate`, threads; and the memory of a cluster
rates    images per second of `label` with 1 and 2 workers, on threads and on a cluster; milliseconds of an empty task
loss     faces are prepared and labelled on three machines of which one is killed half-way, and on threads; and compared
ablate   a small grid of trainings, one of which is killed twice, and the same without a cluster; and compared
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from edgefel.bench import environment
from edgefel.data.open import open_dataset
from edgefel.data.preparing.plan import PrepareOptions
from edgefel.data.preparing.run import prepare
from edgefel.data.synthetic import FaceOptions
from edgefel.data.synthetic.write import write_faces
from edgefel.errors import EdgefelError
from edgefel.files.documents import read_json
from edgefel.files.write import write_json
from edgefel.runtime.bulk.plan import plan_labelling
from edgefel.runtime.bulk.run import label
from edgefel.runtime.bulk.work import Network
from edgefel.runtime.faces import runtime_faces
from edgefel.runtime.shipped import shipped_bundle
from edgefel.tasks.choose import open_runner
from edgefel.tasks.runner import Runner
from edgefel.tasks.threads import Threads

STEPS = ("start", "rates", "loss", "ablate")
_MODULE = "python -m edgefel.bench.experiments.cluster"
_COUNT = 20_000  # faces
_SIZE = 96  # pixels of a rendered face
_PREPARED = 64
_EMPTY = 500  # tasks
_VARIANTS = ("none", "anchors")
_OLD_ENOUGH = 6.0  # seconds: it has imported PyTorch
# before Ray is imported: the loopback interface alone, and patience with a loaded machine
_VARIABLES = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_raylet_start_wait_time_s": "300",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}


@contextmanager
def cluster_of(machines: int) -> Iterator[Any]:
    """Machines of one core each, as of `ray.cluster_utils`."""
    from ray.cluster_utils import Cluster

    where: dict[str, Any] = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "object_store_memory": 200 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={**where, "include_dashboard": False})
    try:
        for _ in range(machines - 1):
            cluster.add_node(**where)
        yield cluster
    finally:
        cluster.shutdown()


def measure_start() -> dict[str, Any]:
    """Seconds until a first task that does nothing is over, in a fresh process each; MB of the processes it starts."""
    nothing = "lambda: (lambda item, stop: item)"
    codes = {
        "cluster": "import ray; ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False);"
        f"from edgefel.tasks.on_ray import RayCluster; r = RayCluster('auto'); list(r.run({nothing}, [0])); r.close();"
        "import psutil; me = psutil.Process();"
        "print(sum(p.memory_info().rss for p in me.children(recursive=True)) // 2**20)",
        "threads": f"from edgefel.tasks.threads import Threads; list(Threads(2).run({nothing}, [0])); print(0)",
        # what `pool` starts for a run, without the training
        "process": "import edgefel.bench.experiments.ablation.pool; print(0)",
    }
    found = {}
    for name, code in codes.items():
        begin = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        seconds = round(time.perf_counter() - begin, 2)
        found[name] = {"seconds": seconds, "children_mb": int(done.stdout.split()[-1])}
    return found


def measure_rates(faces: Path, work: Path, count: int) -> dict[str, Any]:
    """Of the first `count` faces, without the time until a process has made its model ready."""
    network = _network()
    listed = work / "list.csv"
    files = sorted(faces.glob("images/*.jpg"))[:count]
    listed.write_text("path\n" + "".join(f"{file}\n" for file in files))
    found: dict[str, Any] = {"images": len(files)}
    for workers in (1, 2):
        found[f"threads_{workers}"] = _rate(Threads(workers), listed, network, work / f"threads-{workers}")
    with cluster_of(2) as cluster, open_runner(cluster.address) as runner:
        begin = time.perf_counter()
        list(runner.run(lambda: lambda item, stop: item, range(_EMPTY)))
        found["task_ms"] = round((time.perf_counter() - begin) / _EMPTY * 1000, 2)
    for workers in (1, 2):
        with cluster_of(2) as cluster, open_runner(cluster.address, workers) as runner:
            found[f"cluster_{workers}"] = _rate(runner, listed, network, work / f"cluster-{workers}")
    return found


def _rate(runner: Runner, listed: Path, network: Network, output: Path) -> float:
    """Images per second between the first result and the last."""
    plan = plan_labelling(str(listed), 50)
    times: list[float] = []
    label(plan, network, output, runner, progress=lambda: times.append(time.perf_counter()))
    # a first part for each of two workers makes its model ready
    return round((len(times) - 3) * 50 / (times[-1] - times[2]), 1)


def measure_loss(faces: Path, work: Path) -> dict[str, Any]:
    """Prepares and labels all faces both ways. The machine of three is killed when half of the tasks are done."""
    found: dict[str, Any] = {}
    dataset, network = open_dataset(faces), _network()
    options = PrepareOptions(
        size=_PREPARED, tools={"detector": "none", "detector_model": None, "min_face": None}
    )
    tools = partial(runtime_faces, None, None, None, _PREPARED)

    def prepared(output: Path, runner: Runner, progress: Callable[[int], None]) -> int:
        return int(prepare(dataset, output, tools, options, runner=runner, progress=progress)["faces"])

    def labelled(output: Path, runner: Runner, progress: Callable[[int], None]) -> int:
        plan = plan_labelling(str(faces / "images"), 200)
        return int(label(plan, network, output, runner, progress=lambda: progress(200))["faces"])

    for name, do in (("prepare", prepared), ("label", labelled)):
        begin = time.perf_counter()
        count = do(work / f"{name}-here", Threads(2), lambda done: None)
        here = time.perf_counter() - begin
        with cluster_of(3) as cluster, open_runner(cluster.address) as runner:
            killer = _Killer(cluster, len(dataset) // 2)
            begin = time.perf_counter()
            do(work / f"{name}-there", runner, killer.progress)
            there = time.perf_counter() - begin
            lost = runner.lost
        files = _files(work / f"{name}-here")
        found[name] = {
            "faces": count,
            "killed_after": killer.at,
            "tasks_repeated": lost,
            "files": len(files),
            "bytes_per_face": round(sum(map(len, files.values())) / count),
            "equal": files == _files(work / f"{name}-there"),
            "seconds_threads": round(here, 1),
            "seconds_cluster": round(there, 1),
        }
    return found


def measure_ablation(work: Path) -> dict[str, Any]:
    """`edgefel ablate head --recipe quick` both ways. Of the cluster's, a training process is killed twice."""
    variants = [word for name in _VARIANTS for word in ("--only", name)]
    grid = ["ablate", "head", "--recipe", "quick", "--seeds", "1", "--jobs", "2", *variants]
    command = [sys.executable, "-m", "edgefel.cli.main", *grid, "--json"]
    subprocess.run([*command, "-o", str(work / "here")], check=True, capture_output=True)
    killed: list[str] = []
    with cluster_of(2) as cluster:
        there = [*command, "-o", str(work / "there"), "--cluster", cluster.address]
        process = subprocess.Popen(there, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while process.poll() is None:
            time.sleep(0.5)
            if len(killed) < 2 and (found := _training(work / "there", process.pid)) is not None:
                killed.append(found[1])
                os.kill(found[0], signal.SIGKILL)
        _, errors = process.communicate()
        if process.returncode:
            raise EdgefelError(f"{' '.join(there)}: {errors[-2000:]}")
    rows = [_rows(work / name) for name in ("here", "there")]
    return {
        "runs": len(rows[0]),
        "killed": len(killed),
        "of_one_run": len(set(killed)) == 1,
        "said": [line for line in errors.splitlines() if "repeated" in line],
        "equal": rows[0] == rows[1],
    }


def _training(folder: Path, local: int) -> tuple[int, str] | None:
    """Number and folder of a training process that has run for some seconds, of the first run by name.

    local: the process of the command itself, which trains what all runs start from.
    """
    import psutil

    found = []
    for process in psutil.process_iter(["cmdline", "create_time", "ppid"]):
        words = process.info["cmdline"] or []
        trains = "edgefel.bench.experiments.ablation.pool" in words and words[-1].startswith(str(folder))
        if trains and process.info["ppid"] != local:
            found.append((words[-1], process.pid, time.time() - process.info["create_time"]))
    name, pid, age = min(found, default=("", 0, 0.0))
    return (pid, name) if age > _OLD_ENOUGH else None


def _rows(folder: Path) -> list[Any]:
    """The rows of a grid, without what depends on the machine's load."""
    rows = [json.loads(line) for line in (folder / "head" / "rows.jsonl").read_text().splitlines()]
    for row in rows:
        row["metrics"].pop("seconds", None)
    return [{name: row[name] for name in ("subject", "metrics", "notes") if name in row} for row in rows]


class _Killer:
    """Kills all processes of the cluster's last machine once half is done. at: how much was done then."""

    def __init__(self, cluster: Any, after: int) -> None:
        self._cluster, self._after = cluster, after
        self._done = self.at = 0

    def progress(self, done: int) -> None:
        """Called by `prepare` and `label` as work ends."""
        self._done += done
        if not self.at and self._done >= self._after:
            self.at = self._done
            node = self._cluster.list_all_nodes()[-1]
            # the raylet and its workers, which would otherwise finish what they are at
            for info in node.all_processes["raylet"]:
                for process in reversed(_with_children(info.process.pid)):
                    os.kill(process, signal.SIGKILL)


def _with_children(pid: int) -> list[int]:
    """The process, and then all that it has started."""
    import psutil

    return [pid, *(process.pid for process in psutil.Process(pid).children(recursive=True))]


def _network() -> Network:
    network = Network(shipped_bundle(), backend="onnxruntime", detector="none")
    with network.open() as model:
        return network.chosen(model)


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def main() -> None:
    """Runs the steps that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("steps", nargs="+", choices=(*STEPS, "all"))
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--count", type=int, default=_COUNT, help="Faces.")
    parser.add_argument(
        "--faces", type=Path, help="A set of `edgefel data synth --format jpg`; else it is rendered."
    )
    chosen = parser.parse_args()
    os.environ |= _VARIABLES
    steps = STEPS if "all" in chosen.steps else chosen.steps
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        faces = chosen.faces
        if faces is None and set(steps) & {"rates", "loss"}:
            faces = work / "faces"
            write_faces(faces, FaceOptions(count=chosen.count, size=_SIZE, subjects=400), image_format="jpg")
        run = {
            "start": measure_start,
            "rates": lambda: measure_rates(faces, work, min(chosen.count, 2000)),
            "loss": lambda: measure_loss(faces, work),
            "ablate": lambda: measure_ablation(work),
        }
        for step in steps:
            found = read_json(chosen.output) if chosen.output.is_file() else {}
            found[step] = run[step]() | {"load_before": round(os.getloadavg()[0], 1)}
            counted = "" if chosen.count == _COUNT else f" --count {chosen.count}"
            found["command"] = f"{_MODULE} {' '.join(chosen.steps)}{counted} -o docs/results/cluster.json"
            found["environment"] = environment.describe()
            write_json(chosen.output, found)


if __name__ == "__main__":
    main()
