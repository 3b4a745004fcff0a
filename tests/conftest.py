"""For all tests."""

import pytest

import experiments.engine  # noqa: F401  it sets Ray's environment, which Ray reads when a test first imports it
from tests.s3 import Server


@pytest.fixture
def s3(monkeypatch):
    """An S3 server of this test; `s3.uri(bucket)` is where pyarrow finds it."""
    for name, value in {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def bucket(s3):
    """An empty folder of an object store."""
    return s3.uri("runs", "results")
