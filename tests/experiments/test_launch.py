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
    with pytest.raises(launch.LaunchError, match="torch cannot use the machine's GPU .*set resources.gpu to 0"):
        launch.resources(1, "auto")


def test_more_than_the_cluster_has_is_refused_all_at_once():
    with pytest.raises(launch.LaunchError) as refused:
        launch.resources(16, 8)
    assert str(refused.value).splitlines() == [
        "resources.cpu must be at most what one cluster has, got 16 with 2 there; ask for less",
        "resources.gpu must be at most what one cluster has, got 8 with 2 there; ask for less",
    ]
