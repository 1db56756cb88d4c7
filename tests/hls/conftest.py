"""The driver as a module."""

import importlib.util
import sys
from types import ModuleType

import pytest

from tests.helpers.drivers import SOURCE


@pytest.fixture(scope="module")
def driver() -> ModuleType:
    """driver.py, imported as it is."""
    spec = importlib.util.spec_from_file_location("tsn_driver", SOURCE)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tsn_driver"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module
