"""deploy/postgres/archive.yml, and what docs/point-in-time-recovery.md makes of it."""

import json

import pytest

from tests.containers.stack import Stack

FILES = ("docker-compose.yml", "deploy/postgres/archive.yml")


class TestVolume:
    @pytest.mark.parametrize("recovered", [{}, {"POSTGRES_VOLUME": "recovered"}])
    def test_each_project_has_its_own_whatever_is_in_dotenv(self, recovered: dict[str, str]):
        """A drill beside a stack that was recovered would start a second server on its data."""
        stack = Stack(files=FILES, **recovered)
        volumes = json.loads(stack.compose("config", "--format", "json"))["volumes"]
        named = recovered.get("POSTGRES_VOLUME", "postgres")

        assert f"{stack.project}_{named}" == volumes["postgres"]["name"]
        assert [] == [v for v in volumes.values() if not v["name"].startswith(stack.project)]
