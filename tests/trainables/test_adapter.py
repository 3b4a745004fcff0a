"""The routine `train` as an ordinary Ray trainable, under Ray's own schedulers, without anything of our engine."""

import os
import secrets

import pytest

os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

import ray  # reads the environment above
from ray import tune
from ray.tune.schedulers import ASHAScheduler, PopulationBasedTraining

from trainables.adapter import trainable

SHAPE = {"n_layers": 1, "d_model": 16, "n_heads": 2, "d_head": 8, "d_ff": 32, "patch": 4}
TASK = {"name": "image_classification", "data": "digits"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("FITFORMER_CACHE")
    os.environ["FITFORMER_CACHE"] = str(folder)
    yield folder
    os.environ.pop("FITFORMER_CACHE")
    if before is not None:
        os.environ["FITFORMER_CACHE"] = before


@pytest.fixture(scope="module")
def cluster(cache):
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def values(**changed):
    return {**SHAPE, "task": TASK, "epochs": 4, "batch_size": 128, "seed": 1, **changed}


def started(folder, **changed):
    class Driven(trainable("train")):
        logdir = str(folder)

    made = Driven.__new__(Driven)
    made.config, made._iteration = values(**changed), 0
    made.setup(made.config)
    return made


def fit(folder, scheduler, space, *, samples):
    config = tune.TuneConfig(metric="val_loss", mode="min", scheduler=scheduler, num_samples=samples, reuse_actors=True)
    run = tune.RunConfig(storage_path=str(folder), name="search", verbose=0)
    results = tune.Tuner(trainable("train"), param_space=space, tune_config=config, run_config=run).fit()
    assert not results.errors
    return list(results)


def test_a_trial_is_done_with_its_epochs(cache, tmp_path):
    driven = started(tmp_path, epochs=2)
    assert [driven.step()["done"] for _ in range(2)] == [False, True]


def test_a_trial_is_done_with_the_epochs_that_the_routine_has_by_default(cache, tmp_path):
    driven = started(tmp_path)
    del driven.config["epochs"]
    driven.reset_config(driven.config)
    assert [driven.step()["done"] for _ in range(3)] == [False, False, True]


def test_reset_config_begins_another_trial(cache, tmp_path):
    driven = started(tmp_path)
    first = driven.step()
    assert driven.reset_config(values(d_ff=48)) is True
    other = driven.step()
    assert other["params"] > first["params"]
    assert driven.reset_config(values()) is True
    again = driven.step()
    assert {**again, "samples_per_second": 0} == {**first, "samples_per_second": 0}


def test_a_checkpoint_goes_on_with_an_explored_value(cache, tmp_path):
    driven = started(tmp_path)
    driven.step()
    (tmp_path / "checkpoint").mkdir()
    driven.save_checkpoint(str(tmp_path / "checkpoint"))
    assert driven.reset_config(values(learning_rate=0.5, schedule="constant", warmup=0.0)) is True
    driven.load_checkpoint(str(tmp_path / "checkpoint"))
    assert driven.step()["epochs"] == 2
    assert driven._routine.loop.optimizer.dense.param_groups[0]["lr"] == 0.5


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_under_ray_asha(cluster, tmp_path):
    scheduler = ASHAScheduler(time_attr="epochs", max_t=4, grace_period=1, reduction_factor=2)
    space = values(learning_rate=tune.grid_search([3e-3, 1e-2, 1e-6, 1e-7]))
    results = fit(tmp_path, scheduler, space, samples=1)
    by_rate = {result.config["learning_rate"]: result.metrics for result in results}
    assert len(by_rate) == 4
    assert max(metrics["epochs"] for metrics in by_rate.values()) == 4
    assert min(by_rate, key=lambda rate: by_rate[rate]["val_loss"]) in {3e-3, 1e-2}
    assert any(metrics["epochs"] < 4 for metrics in by_rate.values())


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_under_ray_pbt(cluster, tmp_path):
    scheduler = PopulationBasedTraining(
        time_attr="epochs",
        perturbation_interval=1,
        quantile_fraction=0.5,
        resample_probability=0.0,
        hyperparam_mutations={"learning_rate": tune.uniform(1e-7, 1e-2)},
        synch=True,
    )
    space = values(epochs=4, schedule="constant", warmup=0.0, learning_rate=tune.grid_search([1e-2, 1e-7]))
    results = fit(tmp_path, scheduler, space, samples=1)
    rates = {result.config["learning_rate"] for result in results}
    assert {result.metrics["epochs"] for result in results} == {4}
    # The trial that learned nothing went on from the other's weights with a rate explored from the other's.
    assert 1e-7 not in rates
    assert all(result.metrics["val_loss"] < 2.0 for result in results)
