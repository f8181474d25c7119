from datetime import UTC, datetime

from parley.core.ids import new_id


class TestNewId:
    def test_it_is_a_uuid_of_version_7(self):
        identifier = new_id()

        assert (7, "specified in RFC 4122") == (identifier.version, identifier.variant)

    def test_it_begins_with_the_time(self):
        before = int(datetime.now(UTC).timestamp() * 1000)
        milliseconds = new_id().int >> 80

        assert before <= milliseconds <= int(datetime.now(UTC).timestamp() * 1000)

    def test_later_ones_are_greater(self):
        made = [new_id() for _ in range(10_000)]

        assert sorted(set(made)) == made
