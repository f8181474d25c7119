"""Row 85 of the list of attacks: no release of a library with a known hole is locked."""

import re
from pathlib import Path

import pytest
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LOCKS = [ROOT / "services/api/requirements.txt", ROOT / "requirements-dev.txt"]
# The first release without it; python-multipart is not locked before files can be uploaded.
FLOORS = {
    "starlette": "1.3.1",
    "python-multipart": "0.0.27",
    "pyjwt": "2.13",
    "redis": "4.5.4",
}


def locked(lock: Path) -> dict[str, Version]:
    pinned = re.findall(
        r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;]+)", lock.read_text(), re.MULTILINE
    )
    return {name.lower().replace("_", "-"): Version(version) for name, version in pinned}


class TestFloors:
    @pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
    def test_what_is_locked_is_above_them(self, lock: Path):
        versions = locked(lock)

        assert {"starlette", "pyjwt", "redis"} <= versions.keys()
        assert {} == {
            name: str(version)
            for name, version in versions.items()
            if name in FLOORS and version < Version(FLOORS[name])
        }
