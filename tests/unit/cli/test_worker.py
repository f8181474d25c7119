"""The line that a person sees who has just started Parley."""

from typing import Any

import pytest

from parley.cli.worker import _welcome
from parley.core.settings import Settings

URL = "http://127.0.0.1:8000"


@pytest.mark.parametrize(
    ("settings", "has_curl"),
    [
        ({}, True),
        ({"auth_mode": "local,jwks"}, True),
        ({"auth_mode": "jwks"}, False),
        ({"auth_registration": "closed"}, False),
    ],
)
def test_a_line_to_paste_is_there_where_it_would_work(settings: dict[str, Any], *, has_curl: bool):
    welcome = _welcome(URL, Settings(**settings))

    assert f"{URL}/docs" in welcome
    assert has_curl == ("/auth/register" in welcome)
