import json
import logging
from io import StringIO

import pytest

from parley.core import audit
from parley.core.audit import Event
from parley.core.ids import new_id
from parley.core.logging import configure_logging


@pytest.fixture
def recorded(request: pytest.FixtureRequest):
    """What was logged at the level that a test is given."""
    configure_logging(request.param, "json")
    (handler,) = [h for h in logging.getLogger().handlers if type(h) is logging.StreamHandler]
    output = StringIO()
    handler.setStream(output)
    yield lambda: [json.loads(line) for line in output.getvalue().splitlines()]
    configure_logging("WARNING", "json")


@pytest.mark.parametrize("recorded", ["DEBUG", "ERROR"], indirect=True)
class TestRecord:
    def test_it_is_one_line_at_every_level(self, recorded):
        key_id = new_id()
        audit.record(Event.KEY_CREATED, "ann", key_id=key_id)

        (line,) = recorded()
        assert ("key-created", "parley.audit") == (line["event"], line["logger"])
        assert ("ann", str(key_id)) == (line["user_id"], line["key_id"])
        assert "timestamp" in line

    def test_it_says_where_the_request_came_from(self, recorded):
        token = audit.client_address.set("192.0.2.7")
        audit.record(Event.SIGNED_IN, "ann")
        audit.client_address.reset(token)
        audit.record(Event.SIGNED_IN, "ann")

        assert ["192.0.2.7", None] == [line["client_address"] for line in recorded()]
