import httpx2
import pytest

from parley.cli.refusals import refusal_of

PROBLEM = {"title": "The title", "detail": "The detail.", "code": "draining"}


class TestPause:
    @pytest.mark.parametrize(
        ("retry_after", "seconds"),
        [
            ("3", 3.0),
            ("0", 0.0),
            ("120", 5.0),
            ("Fri, 31 Dec 1999 23:59:59 GMT", 0.5),
            (None, 0.5),
        ],
    )
    def test_it_is_what_the_answer_asks_for_if_that_is_little(
        self, retry_after: str | None, seconds: float
    ):
        headers = {} if retry_after is None else {"Retry-After": retry_after}
        assert seconds == refusal_of(httpx2.Response(503, headers=headers)).pause_seconds

    @pytest.mark.parametrize("status", [400, 401, 404, 409, 429, 500])
    def test_there_is_none_where_asking_again_changes_nothing(self, status: int):
        assert None is refusal_of(httpx2.Response(status, json=PROBLEM)).pause_seconds

    @pytest.mark.parametrize(("turn", "seconds"), [({}, 0.5), ({"turn_id": "t1"}, None)])
    def test_there_is_none_behind_a_turns_own_end(self, turn: dict[str, str], seconds: float):
        assert seconds == refusal_of(httpx2.Response(504, json=PROBLEM | turn)).pause_seconds


class TestWords:
    def test_a_problem_is_said_by_its_title_and_its_detail(self):
        assert "The title. The detail." == str(refusal_of(httpx2.Response(503, json=PROBLEM)))

    def test_faults_are_said_in_the_place_of_the_detail(self):
        faults = {"errors": [{"location": ["body", "message"], "message": "Field required"}]}
        refused = refusal_of(httpx2.Response(422, json=PROBLEM | faults))

        assert "The title. message: Field required." == str(refused)

    @pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"title": 1}', b"\xff"])
    def test_what_is_no_problem_is_somebody_elses(self, body: bytes):
        refused = refusal_of(httpx2.Response(502, content=body))

        assert "HTTP 502: is this Parley?" == str(refused)
