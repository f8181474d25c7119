import pytest

from parley.cli.graces import Graces
from parley.core.settings import Settings


@pytest.mark.parametrize(
    "variables",
    [{}, {"shutdown_announce_seconds": 0, "shutdown_grace_seconds": 0},
     {"shutdown_announce_seconds": 300, "shutdown_grace_seconds": 3600}],
)  # fmt: skip
def test_each_grace_is_longer_than_the_one_inside_it(variables: dict[str, float]):
    settings = Settings(**variables)
    graces = Graces.of(settings)

    announced = settings.shutdown_announce_seconds
    assert announced + settings.shutdown_grace_seconds < graces.drain_seconds
    assert settings.shutdown_grace_seconds < graces.uvicorn_seconds
    assert announced + graces.uvicorn_seconds < graces.gunicorn_seconds
    assert graces.drain_seconds < graces.gunicorn_seconds
