"""What a trial asks for, on a machine with (fake) GPUs and without."""

import os
import secrets

import pytest

from experiments.engine import launch

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120)]


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """Two CPUs and two GPUs that are not there."""
    import ray

    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    ray.init(address="local", num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)
    yield
    launch.disconnect()


@pytest.fixture
def usable(monkeypatch):
    monkeypatch.setattr(launch, "_unusable_gpu", lambda gpu: [])


@pytest.mark.parametrize(("asked", "gpu", "slots"), [("auto", 1.0, 2), (0.5, 0.5, 2), (2, 2.0, 1), (0, 0.0, 2)])
def test_trial_gets_one_gpu_by_default_where_there_is_one(usable, asked, gpu, slots):
    wanted = launch.resources(1, asked)
    assert wanted == launch.Resources(1, gpu)
    assert launch.slots(wanted) == slots


def test_gpu_that_torch_cannot_use_is_refused():
    (fault,) = launch.lacking(launch.resources(1, "auto"))
    assert "torch cannot use the machine's GPU" in fault
    assert "set resources.gpu to 0" in fault


def test_more_than_a_node_has_is_refused_all_at_once():
    assert launch.lacking(launch.Resources(16, 8)) == [
        "resources.cpu must be at most what one node has, got 16 with 2 there; ask for less, or give --wait 10m to "
        "wait for nodes to come",
        "resources.gpu must be at most what one node has, got 8 with 2 there; ask for less, or give --wait 10m to "
        "wait for nodes to come",
    ]


def test_a_trial_lives_on_one_node(monkeypatch):
    apart = [launch.Node("a", "a", {"CPU": 8.0}), launch.Node("b", "b", {"CPU": 1.0, "GPU": 1.0})]
    monkeypatch.setattr(launch, "nodes", lambda: apart)
    (fault,) = launch.lacking(launch.Resources(2, 1))
    assert fault.startswith("resources must be on one node, got cpu 2 with gpu 1, and no node has both")
    assert launch.lacking(launch.Resources(8, 0)) == []
    assert launch.slots(launch.Resources(1, 0)) == 9
    assert launch.slots(launch.Resources(1, 0.5)) == 1


def test_work_is_done_on_every_node():
    assert list(launch.on_every_node(os.path.exists, "/")) == [node.host for node in launch.nodes()]
    assert set(launch.on_every_node(os.path.exists, "/there/is/none").values()) == {False}
