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


@pytest.mark.parametrize(("asked", "gpu", "slots"), [("auto", 1.0, 2), (0.5, 0.5, 2), (2, 2.0, 1), (0, 0.0, 2)])
def test_trial_gets_one_gpu_by_default_where_there_is_one(asked, gpu, slots):
    wanted = launch.resources(1, asked)
    assert wanted == launch.Resources(1, gpu)
    assert launch.slots(wanted) == slots


def test_a_gpu_that_torch_cannot_use_is_said():
    (fault,) = launch.unusable_gpu(1)
    assert "torch cannot use the machine's GPU" in fault
    assert "set resources.gpu to 0" in fault


def test_a_trial_lives_on_one_node(monkeypatch):
    apart = [launch.Node("a", "a", {"CPU": 8.0}), launch.Node("b", "b", {"CPU": 1.0, "GPU": 1.0})]
    monkeypatch.setattr(launch, "nodes", lambda: apart)
    assert not launch.fits(launch.Resources(2, 1))
    assert launch.fits(launch.Resources(8, 0))
    assert launch.slots(launch.Resources(1, 0)) == 9
    assert launch.slots(launch.Resources(1, 0.5)) == 1


def test_work_is_done_on_every_node():
    (node,) = launch.nodes()
    assert launch.on_every_node(os.path.exists, "/") == [(node.host, True)]
    assert launch.on_every_node(os.path.exists, "/there/is/none") == [(node.host, False)]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://127.0.0.1:8265", "address 'http://127.0.0.1:8265' is a dashboard's; give it to `submit`"),
        ("127.0.0.1:1", r"the cluster at 127.0.0.1:1 cannot be joined \(.*refused\); give --address HOST:PORT"),
        ("nonsense", r"the cluster at nonsense cannot be joined \(.*nonsense\); give --address HOST:PORT"),
    ],
)
def test_an_address_that_is_no_clusters_is_refused_in_one_line(address, message):
    with pytest.raises(ValueError, match=message) as refused:
        launch._join(address, {})
    assert "\n" not in str(refused.value)
