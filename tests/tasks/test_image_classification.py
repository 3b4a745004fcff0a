import numpy as np
import pytest
from sklearn.datasets import load_digits

import tasks
from tasks.task import DataError

TASK = tasks.load("image_classification")


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {"images": rng.integers(0, 256, (60, 5, 4, 3)).astype(np.uint8), "labels": np.array(["x", "y", "z"] * 20)}


@pytest.fixture
def prepare(tmp_path):
    def prepare(arrays, **options):
        np.savez(tmp_path / "x.npz", **arrays)
        return TASK.prepare(TASK.Config(data=str(tmp_path / "x.npz"), **options), tmp_path / "cache")

    return prepare


def test_digits_are_scikit_learns(tmp_path):
    data = TASK.prepare(TASK.Config(data="digits"), tmp_path)
    given = {image.tobytes(): target for image, target in zip(*load_digits(return_X_y=True), strict=True)}
    for split in data.splits.values():
        every = np.arange(len(split))
        pixels = split.batch(every).inputs["pixels"] * 16
        assert [given[image.astype(float).tobytes()] for image in pixels] == split.targets.tolist()
    assert sum(map(len, data.splits.values())) == len(given) == 1797
    assert data.signature == {
        "input": "pixels",
        "height": 8,
        "width": 8,
        "channels": 1,
        "scale": 0.0625,
        "n_classes": 10,
    }


def test_arrays_of_the_user(arrays, prepare):
    data = prepare(arrays)
    assert data.labels == ["x", "y", "z"]
    assert {key: data.signature[key] for key in ("height", "width", "channels", "n_classes")} == {
        "height": 5,
        "width": 4,
        "channels": 3,
        "n_classes": 3,
    }
    split = data.splits["validation"]
    batch = split.batch(np.array([1, 0]))
    assert batch.inputs["pixels"].dtype == np.float32
    assert np.allclose(batch.inputs["pixels"] * 255, np.stack(split.raw(np.array([1, 0]))), atol=1e-4)
    assert split.lengths.tolist() == [20] * len(split)


def test_gray_images_get_a_channel_and_any_range_a_scale(prepare):
    images = np.linspace(-4, 2, 30 * 9).reshape(30, 3, 3)
    data = prepare({"images": images, "labels": np.arange(30) % 2})
    assert data.signature["channels"] == 1
    assert data.signature["scale"] == 0.25


def test_given_splits(arrays, prepare):
    split = np.array(["train"] * 40 + ["val"] * 10 + ["test"] * 10)
    assert prepare(arrays | {"split": split}).record["n"] == {"train": 40, "validation": 10, "test": 10}


def test_a_sample_and_a_seed(arrays, prepare):
    data = prepare(arrays, sample=12)
    assert data.record["sample"] == {"rows": 12, "of": 48}
    assert np.bincount(data.splits["train"].targets).tolist() == [4, 4, 4]
    assert prepare(arrays, seed=1).record["hash"] != prepare(arrays).record["hash"]


def test_the_second_time_it_is_mapped(arrays, prepare):
    first, second = prepare(arrays), prepare(arrays)
    assert first.folder == second.folder
    assert isinstance(second.splits["train"].images, np.memmap)


def test_equal_images_stay_in_one_split(prepare):
    images = np.repeat(np.random.default_rng(0).random((20, 3, 3)), 3, axis=0)
    data = prepare({"images": images, "labels": np.repeat(np.arange(20) % 2, 3)})
    assert not any("flatter" in warning for warning in data.record["warnings"])
    groups = [{image.tobytes() for image in split.raw(np.arange(len(split)))} for split in data.splits.values()]
    assert sum(map(len, groups)) == 20


FAULTS = {
    "no labels": ({"labels": None}, "data: .*x.npz has no array 'labels'; there are images; give an .npz file"),
    "shape": (
        {"images": np.zeros((60, 5))},
        r"images of .*x.npz are float64 of shape \(60, 5\), must be numbers",
    ),
    "kind": ({"images": np.full((60, 2, 2), "a")}, "data: images of .*x.npz are <U1 of shape"),
    "NaN": ({"images": np.full((60, 2, 2), np.nan)}, "data: images of .*x.npz hold NaN or infinity, must be finite"),
    "count": (
        {"labels": np.arange(3)},
        r"label: labels of .*x.npz have the shape \(3,\), must be \(60,\): one",
    ),
    "null": ({"labels": np.r_[np.arange(58.0), np.nan, np.nan]}, "label: 2 of 60 labels of .*x.npz are NaN"),
    "bytes": ({"labels": np.full(60, b"a")}, r"label: labels of .*x.npz are [|]S1, must be strings, integers"),
    "fractions": ({"labels": np.linspace(0, 1, 60)}, "label: column 'labels' holds fractions such as 0.01"),
    "one class": ({"labels": np.zeros(60, int)}, "label: every training row has the label 0, classification needs two"),
    "split": ({"split": np.full(60, "left")}, "data: split of .*x.npz holds 'left', must be train, validation or test"),
    "splits": ({"split": np.full(6, "test")}, r"data: split of .*x.npz has the shape \(6,\), must be \(60,\): one for"),
}


@pytest.mark.parametrize(("change", "message"), FAULTS.values(), ids=FAULTS)
def test_faults(arrays, prepare, change, message, tmp_path):
    found = {name: array for name, array in (arrays | change).items() if array is not None}
    with pytest.raises(DataError, match=message):
        prepare(found)
    assert not (tmp_path / "cache").exists()


def test_faults_come_together(arrays, prepare):
    with pytest.raises(DataError) as caught:
        prepare({"images": np.zeros((60, 5)), "labels": np.zeros(3), "split": np.zeros(4)})
    assert [fault.split(" of ")[0] for fault in caught.value.faults] == ["data: images", "label: labels", "data: split"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.npz", None, "data: .*none.npz is no file .*; give `digits` or an .npz file with `images`"),
        ("x.png", b"x", "data: .*x.png has the unknown format '.png'"),
        ("x.npz", b"PK no zip", "data: .*x.npz cannot be read: "),
        ("x.npz", b"", "data: .*x.npz cannot be read: "),
    ],
)
def test_files_that_are_none(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        TASK.prepare(TASK.Config(data=str(tmp_path / name)), tmp_path / "cache")


def test_objects_are_not_unpickled(tmp_path):
    np.savez(tmp_path / "x.npz", images=np.zeros((2, 2, 2)), labels=np.array([{}, {}], dtype=object))
    with pytest.raises(DataError, match="cannot be read: Object arrays cannot be loaded"):
        TASK.prepare(TASK.Config(data=str(tmp_path / "x.npz")), tmp_path / "cache")
