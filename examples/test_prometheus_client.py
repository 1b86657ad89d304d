"""prometheus_client: in multi-process mode each process counts in a file of its own, and a collector adds them up.

https://prometheus.github.io/client_python/multiprocess/
"""

import importlib

import pytest


@pytest.fixture
def prometheus(tmp_path, monkeypatch):
    """The library as it is when the variable is set before its first import, which is when it decides."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    return importlib.import_module("prometheus_client")


def collected(prometheus, name):
    """The value of a metric over all processes."""
    multiprocess = importlib.import_module("prometheus_client.multiprocess")
    registry = prometheus.CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    return registry.get_sample_value(name)


def test_counts_of_all_processes_are_added_up(prometheus, spawn_fork):
    jobs = prometheus.Counter("jobs", "of all processes", registry=None)
    jobs.inc()
    for child in [spawn_fork(jobs.inc) for _ in range(3)]:
        child.result()
    assert collected(prometheus, "jobs_total") == 4


def test_a_live_gauge_counts_a_dead_process_until_it_is_marked(prometheus, spawn_fork):
    busy = prometheus.Gauge("busy", "now", registry=None, multiprocess_mode="livesum")
    child = spawn_fork(busy.inc)
    child.result()
    assert collected(prometheus, "busy") == 1
    importlib.import_module("prometheus_client.multiprocess").mark_process_dead(child.pid)
    assert collected(prometheus, "busy") == 0
