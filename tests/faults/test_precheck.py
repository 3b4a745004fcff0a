"""The precheck on a cluster of several nodes: within ten seconds, and no resource that is spread over nodes counts."""

import os
import secrets
import time

import pytest

from experiments.engine import launch, precheck, spec
from experiments.engine.plan import prepare
from trainables.parsing import ParseError
from trainables.store import Store

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(200)]

STAGE = {"name": "search", "space": ["encoder", "optimization"], "options": {"patch": 2}, "trials": 2, "epochs": 1}
TASK = {"name": "image_classification", "data": "digits"}


@pytest.fixture(scope="module")
def cluster():
    """A head without CPUs and two nodes of one each."""
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        made.add_node(num_cpus=1)
    launch.connect(made.address)
    yield made
    launch.disconnect()
    made.shutdown()


def plan(cache, cpu):
    made = spec.checked({"name": "tiny", "task": TASK, "stages": [STAGE], "resources": {"cpu": cpu, "gpu": 0}})
    return prepare(made, cache)


def test_within_ten_seconds(cluster, cache, tmp_path):
    made = plan(cache, 1)
    began = time.monotonic()
    wanted = precheck.check(made, Store(tmp_path / "results"), print)
    assert time.monotonic() - began < 10
    assert launch.slots(wanted) == 2
    assert list(tmp_path.iterdir()) == []


def test_resources_of_two_nodes_are_not_one(cluster, cache, tmp_path):
    began = time.monotonic()
    with pytest.raises(ParseError, match="resources.cpu must be at most what one node has, got 2 with 1 there"):
        precheck.check(plan(cache, 2), Store(tmp_path), print)
    assert time.monotonic() - began < 10


def test_waits_for_a_node_that_comes(cluster, cache, tmp_path):
    said = []

    def say(line):
        said.append(line)
        cluster.add_node(num_cpus=2)

    assert precheck.check(plan(cache, 2), Store(tmp_path), say, wait=60) == launch.Resources(2, 0)
    assert said == ["waits for a node with cpu 2 and gpu 0; gives up in 60 s"]
    assert launch.slots(launch.Resources(2, 0)) == 1
