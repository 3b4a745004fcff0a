"""For all tests."""

import pytest

import experiments.engine  # noqa: F401  it sets Ray's environment, which Ray reads when a test first imports it


@pytest.fixture
def s3(monkeypatch):
    """An S3 server, empty, with what its clients need in the environment."""
    from tests.s3 import Server

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def bucket(s3):
    """An empty folder of an object store."""
    return s3.bucket("runs").replace("//runs", "//runs/results")
