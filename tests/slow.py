"""Cases of a parametrization that only `make test-slow` runs."""

import pytest


def slow(*values: object) -> object:
    """Mark the case with these values as slow."""
    return pytest.param(*values, marks=pytest.mark.slow)
