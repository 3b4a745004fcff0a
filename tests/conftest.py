"""For all tests."""

import experiments.engine  # noqa: F401  it sets Ray's environment, which Ray reads when a test first imports it
