"""Every method's grid names settings that it has, with values that it takes, and is as large as every other's."""

from __future__ import annotations

import pytest

from harness.core import grid, plugins

TRAINED = [name for name in plugins.names("methods") if not getattr(plugins.load("methods", name), "seedless", False)]


@pytest.mark.parametrize("name", TRAINED)
def test_a_declared_grid_is_valid_and_holds_the_default(name: str) -> None:
    method = plugins.load("methods", name)
    tried = grid.candidates(method.grid)
    assert len(tried) == 4, "equal accounts buy every method equally many tries"
    assert set(method.grid) <= set(grid.dotted_keys(method.Config))
    configs = [method.Config(**grid.with_values({}, values)) for values in tried]
    assert len({config.model_dump_json() for config in configs}) == 4
    assert method.Config() in configs
