from uuid import UUID

from fastapi import APIRouter

from parley.core.errors import TurnNotFound
from parley.dependencies.auth import UserId
from parley.dependencies.services import Turns
from parley.routers._responses import STORE, TOKEN, JsonRoute, problems
from parley.schemas.turns import Turn

router = APIRouter(prefix="/turns", tags=["chat"], route_class=JsonRoute)


@router.get("/{turn_id}", responses=problems(*TOKEN, TurnNotFound, *STORE))
async def get_turn(user_id: UserId, turn_id: UUID, turns: Turns) -> Turn:
    """What became of a message: a failed turn keeps it, and says why it failed."""
    return await turns.get(user_id, turn_id)
