"""The cluster that `make cluster-up` makes: two workers, on loopback alone, and nothing stays of it."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from stand import ROOT, Cluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    found = Cluster(tmp_path / "a cluster")
    yield found
    found.call("down")


def test_it_comes_up_once_listens_on_loopback_and_leaves_no_process(cluster: Cluster) -> None:
    said = cluster.call("up")
    assert f"--master {cluster.master}" in said
    services = cluster.services()
    assert len(services) == 3
    again = cluster.call("up")
    assert said.endswith(again), "it says that it is up, and starts nothing"
    assert cluster.services() == services
    heard = {conn.laddr.ip for one in services for conn in one.net_connections("tcp") if conn.status == "LISTEN"}
    assert {ip.removeprefix("::ffff:") for ip in heard} == {"127.0.0.1"}
    assert cluster.call("down") == "the Spark cluster is down\n"
    assert cluster.processes() == []
    assert cluster.call("down") == ""


def test_one_of_which_half_has_died_is_made_anew(cluster: Cluster) -> None:
    cluster.call("up")
    worker = cluster.services()[2]
    worker.kill()
    psutil.wait_procs([worker])
    cluster.call("up")
    assert len(cluster.services()) == 3
    assert len(cluster.processes()) == 3


def test_a_port_that_is_taken_is_told_and_nothing_is_left_running(cluster: Cluster) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", cluster.port))
        done = subprocess.run([ROOT / "cluster" / "up"], env=cluster.environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "did not come up; its logs are" in done.stderr
    assert cluster.processes() == []
