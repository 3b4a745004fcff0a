"""cluster.yaml passes what `ray up` checks before it asks a cloud, and is safe in what Ray leaves open."""

import copy
import re
from importlib.metadata import version
from pathlib import Path

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "cluster.yaml").read_text("utf-8")


@pytest.fixture
def cluster():
    return yaml.safe_load(TEXT)


def accepted(cluster):
    prepared = prepare_config(copy.deepcopy(cluster))
    validate_config(prepared)
    return prepared


def test_ray_accepts_it_and_keeps_its_limits(cluster):
    prepared = accepted(cluster)
    assert prepared["max_workers"] == 4
    assert prepared["available_node_types"]["head"]["resources"] == {"CPU": 0}
    assert prepared["available_node_types"]["gpu"]["min_workers"] == 1


def test_ray_refuses_an_unknown_key(cluster):
    with pytest.raises(jsonschema.ValidationError, match="max_wokers"):
        accepted({**cluster, "max_wokers": 4})


def test_ray_refuses_a_head_type_that_is_not_there(cluster):
    del cluster["available_node_types"]["head"]
    with pytest.raises(ValueError, match="`head_node_type` must be one of"):
        accepted(cluster)


def test_ray_refuses_fewer_workers_than_the_least(cluster):
    cluster["available_node_types"]["gpu"]["min_workers"] = 5
    with pytest.raises(ValueError, match="smaller than the sum of `min_workers`"):
        accepted(cluster)


def test_images_are_pinned_to_the_ray_and_python_of_the_constraints(cluster):
    docker = cluster["docker"]
    for image in (docker["head_image"], docker["worker_image"]):
        assert re.fullmatch(rf"rayproject/ray:{re.escape(version('ray'))}-py311-(cpu|gpu)", image)


def test_every_ray_starts_with_token_authentication_and_nothing_listens_to_the_world(cluster):
    starts = [
        line
        for commands in ("head_start_ray_commands", "worker_start_ray_commands")
        for line in cluster[commands]
        if "ray start" in line
    ]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in line for line in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert "0.0.0.0" not in TEXT


@pytest.mark.parametrize("kind", ["head", "gpu"])
def test_nodes_need_session_tokens_own_groups_and_encrypted_disks(cluster, kind):
    node = cluster["available_node_types"][kind]["node_config"]
    assert node["MetadataOptions"]["HttpTokens"] == "required"
    assert node["SecurityGroupIds"]
    assert node["IamInstanceProfile"]
    assert all(disk["Ebs"]["Encrypted"] for disk in node["BlockDeviceMappings"])


def test_idle_workers_and_stopped_nodes_cost_nothing(cluster):
    assert cluster["provider"]["cache_stopped_nodes"] is False
    assert cluster["idle_timeout_minutes"] <= 10
    assert cluster["available_node_types"]["gpu"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}


def test_no_secret_lies_in_it():
    assert not re.search(r"AKIA[0-9A-Z]{16}|aws_secret|BEGIN [A-Z ]*PRIVATE KEY|RAY_AUTH_TOKEN=", TEXT)


def test_mounted_lists_exist(cluster):
    local = [path for path in cluster["file_mounts"].values() if not path.startswith("~")]
    assert len(local) == 3
    assert all((ROOT / path).is_file() for path in local)
