from datetime import UTC, datetime

import pytest

from parley.core.ids import new_id
from parley.schemas.conversations import Message, MessageStatus, Role
from parley.services.history import whole_turns

USER, ASSISTANT = Role.USER, Role.ASSISTANT


def said(*roles: Role) -> list[Message]:
    return [
        Message(
            id=new_id(),
            conversation_id=new_id(),
            position=position,
            role=role,
            content=str(position),
            status=MessageStatus.COMPLETE,
            created_at=datetime.now(UTC),
        )
        for position, role in enumerate(roles, start=1)
    ]


@pytest.mark.parametrize(
    ("roles", "kept"),
    [
        ([], []),
        ([ASSISTANT], []),
        ([USER, ASSISTANT], [1, 2]),
        ([ASSISTANT, USER, ASSISTANT], [2, 3]),
        ([USER, ASSISTANT, USER, ASSISTANT], [1, 2, 3, 4]),
    ],
)
def test_no_turn_is_split(roles: list[Role], kept: list[int]):
    assert kept == [message.position for message in whole_turns(said(*roles))]
