"""What a Ray cluster costs and brings: its start beside that of our own processes, rates, overheads, a lost machine.

    python -m edgefel.bench.experiments.cluster all -o docs/results/cluster.json

All machines of the cluster are this one. Steps, each of which adds to the file:
start    until a first task is over: a cluster, a process of `ablate`, threads; and the memory of a cluster
rates    images per second of `label` with 1 and 2 workers, on threads, on a cluster and in processes of their own, in
         turn for --seconds; milliseconds of an empty task
loss     faces are prepared and labelled on three machines of which one is killed half-way, and on threads; and compared
ablate   a small grid of trainings, one of which is killed twice, and the same without a cluster; and compared
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
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
from edgefel.runtime.bulk.plan import LabelPlan, Part, plan_labelling
from edgefel.runtime.bulk.run import label
from edgefel.runtime.bulk.work import Labeller, Network
from edgefel.runtime.faces import runtime_faces
from edgefel.runtime.shipped import shipped_bundle
from edgefel.tasks.choose import open_runner
from edgefel.tasks.runner import Runner
from edgefel.tasks.threads import Threads
from edgefel.workers import worker_pool

STEPS = ("start", "rates", "loss", "ablate")
_MODULE = "python -m edgefel.bench.experiments.cluster"
_COUNT = 20_000  # faces
_SIZE = 96  # pixels of a rendered face
_PREPARED = 64
_EMPTY = 500  # tasks
_PART = 50  # images of a task of `rates`
_LEAST_PARTS, _LEAST_REPEATS = 12, 3
_VARIANTS = ("none", "anchors")
_OLD_ENOUGH = 6.0  # seconds: it has imported PyTorch
# before Ray is imported: the loopback interface alone, patience with a loaded machine, and workers that do not give way
# to everything else (Ray's have a niceness of 15)
_VARIABLES = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_raylet_start_wait_time_s": "300",
    "RAY_worker_niceness": "0",
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


def measure_rates(faces: Path, work: Path, count: int, seconds: float) -> dict[str, Any]:
    """Medians over repeats, in which all ways of working take turns at labelling the same `count` faces.

    Workers and models are warm: a rate leaves out the parts in which processes make their models ready, and the end,
    when workers wait for the last one. ratio: the median over repeats of the rate of two workers by that of one in the
    same repeat. "apart" are processes that nothing connects, by which two cores do what this machine lets them do: the
    ideal, which is less than 2 where cores share a memory or a physical core. seconds: no repeat begins after them, but
    there are at least three.
    """
    network = _network()
    listed = work / "list.csv"
    # an even number of parts, see `_rate`
    files = sorted(faces.glob("images/*.jpg"))[: count // (2 * _PART) * 2 * _PART]
    if len(files) < _LEAST_PARTS * _PART:
        raise EdgefelError(f"{len(files)} faces: give at least {_LEAST_PARTS * _PART} for the rates")
    listed.write_text("path\n" + "".join(f"{file}\n" for file in files))
    plan = plan_labelling(str(listed), _PART)
    with ExitStack() as stack:
        address = stack.enter_context(cluster_of(2)).address
        runner, pool = stack.enter_context(open_runner(address)), stack.enter_context(worker_pool(2))
        # the first tasks begin the processes
        list(runner.run(_nothing, range(_EMPTY // 10)))
        begin = time.perf_counter()
        list(runner.run(_nothing, range(_EMPTY)))
        task_ms = (time.perf_counter() - begin) / _EMPTY * 1000
        ways: dict[str, Callable[[], float]] = {}
        for workers in (1, 2):
            ways[f"apart_{workers}"] = partial(_rate_apart, pool, network, plan.parts, workers)
            # over the connection that is there already, for which Ray keeps the processes
            tasks = stack.enter_context(open_runner(address, workers))
            for name, one in (("threads", Threads(workers)), ("cluster", tasks)):
                ways[f"{name}_{workers}"] = partial(
                    _rate, one, plan, network, work / f"{name}-{workers}", workers
                )
        rates = _in_turn(ways, seconds)
    found: dict[str, Any] = {"images": len(files), "repeats": len(rates["apart_1"])}
    found |= {name: round(statistics.median(each), 1) for name, each in rates.items()}
    for name in ("apart", "threads", "cluster"):
        pairs = zip(rates[f"{name}_2"], rates[f"{name}_1"], strict=True)
        found[f"{name}_ratio"] = round(statistics.median(two / one for two, one in pairs), 3)
    return found | {"task_ms": round(task_ms, 2), "rates": rates}


def _in_turn(ways: Mapping[str, Callable[[], float]], seconds: float) -> dict[str, list[float]]:
    """What each way gives, repeat by repeat, and in the opposite order in every second one."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    end = time.monotonic() + seconds
    for repeat in itertools.count():
        if repeat >= _LEAST_REPEATS and time.monotonic() >= end:
            return rates
        for name in list(ways)[:: -1 if repeat % 2 else 1]:
            rates[name].append(round(ways[name](), 1))
    raise AssertionError


def _nothing() -> Callable[[int, Callable[[], bool]], int]:
    return lambda item, stop: item


def _rate(runner: Runner, plan: LabelPlan, network: Network, output: Path, workers: int) -> float:
    """Images per second from the third result, when each of two processes has its model ready, to when one of the
    workers has nothing left to do.

    Two workers that began together end together, in pairs. Of an even number of parts both ends are the first of a
    pair, so that whole pairs are counted.
    """
    times: list[float] = []
    label(plan, network, output, runner, progress=lambda: times.append(time.perf_counter()))
    shutil.rmtree(output)
    last = len(times) - workers
    return (last - 2) * _PART / (times[last] - times[2])


def _rate_apart(pool: ProcessPoolExecutor, network: Network, parts: Sequence[Part], workers: int) -> float:
    """The sum of the rates of processes, each of which labels half of the parts; one of them alone for one worker."""
    halves = [parts[start::2] for start in range(workers)]
    return sum(pool.map(partial(_label_apart, network), halves))


def _label_apart(network: Network, parts: Sequence[Part]) -> float:
    labeller = _labeller(network)
    labeller(parts[0], _never)
    begin = time.perf_counter()
    for part in parts[1:]:
        labeller(part, _never)
    return (len(parts) - 1) * _PART / (time.perf_counter() - begin)


@functools.lru_cache(maxsize=1)
def _labeller(network: Network) -> Labeller:
    return Labeller(network)


def _never() -> bool:
    return False


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
    parser.add_argument("--seconds", type=float, default=300, help="Of the repeats of rates.")
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
            "rates": lambda: measure_rates(faces, work, min(chosen.count, 2000), chosen.seconds),
            "loss": lambda: measure_loss(faces, work),
            "ablate": lambda: measure_ablation(work),
        }
        for step in steps:
            found = read_json(chosen.output) if chosen.output.is_file() else {}
            found[step] = run[step]() | {"load_before": round(os.getloadavg()[0], 1)}
            counted = "" if chosen.count == _COUNT else f" --count {chosen.count}"
            command = f"{_MODULE} {' '.join(chosen.steps)}{counted} -o docs/results/cluster.json"
            found[step]["command"] = command
            found.setdefault("command", command)
            found["environment"] = environment.describe()
            write_json(chosen.output, found)


if __name__ == "__main__":
    main()
