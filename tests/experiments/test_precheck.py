"""What a cluster, its nodes and the disk must give, said all at once; the cluster is described, not started."""

import pytest

from experiments.engine import launch, precheck, spec
from experiments.engine.plan import prepare
from trainables.parsing import ParseError
from trainables.store import Store

STAGE = {"name": "search", "space": ["encoder", "optimization"], "options": {"patch": 2}, "trials": 2, "epochs": 1}
VALUES = {"name": "tiny", "task": {"name": "image_classification", "data": "digits"}, "stages": [STAGE]}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def plan(cache):
    return lambda **changes: prepare(spec.checked({**VALUES, **changes}), cache)


@pytest.fixture
def nodes(monkeypatch):
    """Sets what the nodes have; a node called "blind" sees no file."""

    def there(**resources):
        found = [launch.Node(name, name, has) for name, has in resources.items()]
        monkeypatch.setattr(launch, "nodes", lambda: found)
        monkeypatch.setattr(
            launch,
            "on_every_node",
            lambda work, path: [(node.host, node.host != "blind" and work(path)) for node in found],
        )
        monkeypatch.setattr(launch, "unusable_gpu", lambda gpu: [])

    return there


def refused(plan, storage, **options):
    with pytest.raises(ParseError) as raised:
        precheck.check(plan, storage, print, **options)
    return raised.value.faults


def test_what_can_work_gets_its_resources(plan, nodes, tmp_path):
    nodes(a={"CPU": 2.0}, b={"CPU": 1.0, "GPU": 1.0})
    assert precheck.check(plan(), Store(tmp_path / "results"), print) == launch.Resources(1, 1)
    assert list(tmp_path.iterdir()) == []


def test_all_faults_at_once(plan, nodes, tmp_path):
    nodes(head={"CPU": 2.0}, blind={"CPU": 2.0})
    made = plan(resources={"cpu": 16, "gpu": 8}, disk=1e15)
    cpu, gpu, disk, storage = refused(made, Store(tmp_path))
    assert cpu == (
        "resources.cpu must be at most what one node has, got 16 with 2 there; ask for less, or give --wait 10m to "
        "wait for nodes to come"
    )
    assert gpu.startswith("resources.gpu must be at most what one node has, got 8 with 0 there; ")
    assert disk.startswith(f"disk is 1000000.0 GB, and {tmp_path} has ")
    assert storage == f"storage {tmp_path} is not seen on node blind; choose a shared folder or s3:// with --storage"
    assert list(tmp_path.iterdir()) == []


def test_both_on_one_node(plan, nodes, tmp_path):
    nodes(a={"CPU": 8.0}, b={"CPU": 1.0, "GPU": 1.0})
    (fault,) = refused(plan(resources={"cpu": 2, "gpu": 1}), Store(tmp_path))
    assert fault.startswith("resources must be on one node, got cpu 2 with gpu 1, and no node has both; ask for less")


@pytest.mark.parametrize(
    ("needed", "budget", "used", "said"),
    [
        (1e6, None, 0, []),
        (1e6, 2e6, 0, []),
        (2e18, None, 0, ["take some 2000000000.0 GB, and {} has "]),
        (2e18, None, 2e18, []),
        (3e6, 2e6, 0, ["disk is 2.0 MB, and the checkpoints of trials and finalists take some 3.0 MB; raise it"]),
        (1e6, 1e18, 0, ["disk is 1000000000.0 GB, and {} has "]),
        (1e6, 1e18, 1e18, []),
    ],
)
def test_disk(tmp_path, needed, budget, used, said):
    folder = tmp_path / "not" / "there"
    found = precheck.of_disk(folder, needed, budget, used)
    assert len(found) == len(said)
    assert all(text.format(folder) in line for text, line in zip(said, found, strict=True))


def test_checkpoints_are_estimated_from_the_default_configuration(plan, tmp_path):
    from models.architecture import parse_signature
    from models.encoder import build
    from trainables.train import Train, TrainConfig

    made = plan()
    config = TrainConfig(**made.common(made.spec.stages[0]), **made.spaces["search"].default())
    model = build(Train.architecture(config), parse_signature(made.data.signature))
    assert made.checkpoint_bytes() == 12 * sum(parameter.numel() for parameter in model.parameters())


def test_files_that_a_node_does_not_see(plan, nodes, tmp_path, monkeypatch):
    import numpy as np
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    path = tmp_path / "d.npz"
    np.savez(path, images=images.reshape(-1, 8, 8), labels=labels)
    nodes(head={"CPU": 2.0}, blind={"CPU": 2.0})
    made = plan(task={"name": "image_classification", "data": str(path)})
    data, storage = refused(made, Store(tmp_path / "results"))
    assert data == (
        f"task.data {str(path)!r} is not on node blind; every node must see it: give a path on a disk that they share"
    )
    assert storage.startswith("storage ")
    nodes(head={"CPU": 2.0}, blind={"CPU": 2.0})
    assert refused(made, Store("s3://bucket/x?region=r")) == [data]


def test_files_are_those_that_a_spec_names(tmp_path):
    (tmp_path / "own.py").touch()
    stages = [{**STAGE, "routine": f"{tmp_path}/own.py:R", "space": [f"{tmp_path}/own.py:SPACE", "encoder"]}]
    assert list(precheck.files({"task": {"name": "x", "data": "digits", "share": 0.5}, "stages": stages})) == [
        ("stages.search.routine", f"{tmp_path}/own.py"),
        ("stages.search.space", f"{tmp_path}/own.py"),
    ]


def test_waits_for_nodes_to_come(plan, nodes, tmp_path, monkeypatch):
    nodes(head={"CPU": 2.0})
    asked, said = [], []
    monkeypatch.setattr(launch, "ask_for", asked.append)
    monkeypatch.setattr(precheck.time, "sleep", lambda _: nodes(head={"CPU": 2.0}, new={"CPU": 4.0}))
    made = plan(resources={"cpu": 4, "gpu": 0})
    wanted = precheck.check(made, Store(tmp_path), said.append, wait=60)
    assert wanted == launch.Resources(4, 0)
    assert asked == [wanted, None]
    assert said == ["waits for a node with cpu 4 and gpu 0; gives up in 60 s"]


def test_waits_no_longer_than_it_was_told(plan, nodes, tmp_path, monkeypatch):
    nodes(head={"CPU": 2.0})
    monkeypatch.setattr(launch, "ask_for", lambda _: None)
    (fault,) = refused(plan(resources={"cpu": 4, "gpu": 0}), Store(tmp_path), wait=0.1)
    assert fault.startswith("resources.cpu must be at most what one node has, got 4 with 2 there")
