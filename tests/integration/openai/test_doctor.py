"""What `parley doctor` says of the model."""

import json

import pytest

from parley.cli.doctor import Finding, examine, surroundings
from tests.integration.openai.listening import CANARY, TOLD
from tests.model_server import Endless, ModelServer, Then, answer, head

KEY = "sk-canary-0815"
LISTED = json.dumps({"object": "list", "data": [{"id": "one"}, {"id": "two:latest"}, {}, 7]})


@pytest.fixture(autouse=True)
def told(server: ModelServer, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {
        "DATABASE_URL": sqlite_url,
        "RESPONDER": "openai",
        "OPENAI_BASE_URL": server.url,
        "OPENAI_API_KEY": KEY,
        "MODELS": "one, two",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


async def model() -> Finding:
    *_, found = await examine()
    assert "model" == found.name
    assert KEY not in str(found)
    assert CANARY not in str(found)
    assert "\n" not in found.detail
    return found


async def test_all_is_well(server: ModelServer):
    server.script = answer("200 OK", LISTED.encode())

    assert Finding("model", ok=True, detail=f"{server.url} has one, two") == await model()
    assert f"Bearer {KEY}" == server.asked[0].headers["authorization"]
    assert "/v1/models" == server.asked[0].path


async def test_which_it_does_not_list_is_said(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MODEL", "three")
    server.script = answer("200 OK", LISTED.encode())

    detail = f"{server.url} does not list three: are MODEL and MODELS right?"
    assert Finding("model", ok=False, detail=detail) == await model()


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (answer("401 Unauthorized", TOLD), "status 401: is OPENAI_API_KEY right?"),
        (answer("404 Not Found", TOLD), "status 404: does OPENAI_BASE_URL lead to its /v1"),
        (answer("200 OK", TOLD), "what it answered lists no models"),
        (answer("200 OK", b"<html>canary-4711", "text/html"), "it says cannot be read"),
        (answer("200 OK", b"[" * 100_000), "it says cannot be read"),
        ([head(content_type="application/json"), Endless(b"x" * 9999)], "be read: TooLong"),
        ([head(content_type="application/json"), Endless(b" \n\n" * 9999)], "be read: TooLong"),
        ([b"SSH-2.0-OpenSSH\r\n\r\n"], "it answered is no HTTP"),
        ([Then.CUT], "cannot be reached"),
    ],
)
async def test_why_it_cannot_be_used_is_said_in_a_line(
    server: ModelServer, script: list, why: str
):
    server.script = script

    found = await model()

    assert not found.ok
    assert why in found.detail


@pytest.mark.parametrize("before", [[], [head(content_type="application/json"), b"{"]])
async def test_who_does_not_answer_is_not_waited_for(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch, before: list
):
    monkeypatch.setattr(surroundings, "MODEL_SECONDS", 0.1)
    server.script = [*before, Then.STALL]

    detail = f"{server.url} does not answer in 0.1 s"
    assert Finding("model", ok=False, detail=detail) == await model()


async def test_who_is_not_there_is_said(server: ModelServer):
    await server.stop()

    found = await model()

    assert (False, True) == (found.ok, "cannot be reached: ConnectError" in found.detail)
    assert found.detail.endswith("; does it run, and is OPENAI_BASE_URL right?")
