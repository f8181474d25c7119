from parley.core.errors import TokenRefused
from parley.core.security.better_auth import SignedSessions
from parley.core.security.issuers import better_auth_user_id
from parley.core.security.tokens import Principal
from parley.crud.ports import BetterAuthSessions


class BetterAuth:
    """Its sessions, looked up each time: signing out there works at once here."""

    def __init__(self, sessions: BetterAuthSessions, signed: SignedSessions) -> None:
        self._sessions = sessions
        self._signed = signed

    async def of_session(self, signed: str) -> Principal:
        """
        Raises:
            TokenRefused: not signed with Better Auth's secret, or its session has ended.
            DatabaseUnavailable: the sessions cannot be read now.
            Overloaded: likewise.
        """
        token = self._signed.open(signed)
        user_id = None if token is None else await self._sessions.user_of(token)
        try:
            return Principal(better_auth_user_id(user_id or ""))
        except ValueError as error:
            raise TokenRefused from error
