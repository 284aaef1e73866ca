"""A Ray cluster of several machines, all of them this one, which listen on the loopback interface alone."""

from __future__ import annotations

import os
from dataclasses import dataclass

import pytest


def stay_on_loopback() -> None:
    """Before Ray is imported: it takes 127.0.0.1 for the machine's other address unless it is on a laptop."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


def start_cluster(nodes: int = 2, cores: int = 1):
    """`ray.cluster_utils.Cluster` with that many machines of so many cores. Shut it down."""
    stay_on_loopback()
    # of processes that Ray starts, which on a loaded machine takes longer than the half minute that Ray allows
    patient = ("RAY_agent_register_timeout_ms", "300000"), ("RAY_worker_register_timeout_seconds", "300")
    # a machine that is gone is missed after three seconds instead of half a minute
    quick = ("RAY_health_check_period_ms", "1000"), ("RAY_health_check_failure_threshold", "3")
    # Ray's workers would give way to everything else, such as the tests of another process
    equal = ("RAY_raylet_start_wait_time_s", "300"), ("RAY_worker_niceness", "0")
    for name, value in (*patient, *quick, *equal):
        os.environ.setdefault(name, value)
    from ray.cluster_utils import Cluster

    # without what a test needs not, since each process of Ray's takes a second to start
    where = {
        "num_cpus": cores,
        "node_ip_address": "127.0.0.1",
        "object_store_memory": 100 << 20,
        "include_log_monitor": False,
    }
    head = {**where, "include_dashboard": False, "no_monitor": True}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(nodes - 1):
        cluster.add_node(**where)
    return cluster


@dataclass(frozen=True)
class Address:
    """Of a cluster that runs already."""

    address: str


@pytest.fixture(scope="session")
def cluster():
    """Two machines of one core; with EDGEFEL_TEST_CLUSTER the cluster of that address, which saves its start."""
    stay_on_loopback()
    pytest.importorskip("ray", reason="no Ray here; pip install 'edgefel[cluster]'")
    if running := os.environ.get("EDGEFEL_TEST_CLUSTER"):
        yield Address(running)
        return
    started = start_cluster()
    yield started
    started.shutdown()
