"""Why a database does not do what it is asked, and what to do, in an operator's words."""

import socket
import ssl

from parley.core.resilience import only_reads, sqlstate

_BY_SQLSTATE = {
    # https://www.postgresql.org/docs/current/errcodes-appendix.html
    "28P01": "refuses the role or its password: are they those that roles.sql has made?",
    "28000": "lets this role not in from here: pg_hba.conf says who may, and whether without TLS",
    "3D000": "has no such database: is the name at the end of its URL right?",
    "42501": "does not allow that: run roles.sql and `parley migrate` as the owner",
    "53100": "has no room left on its disk: make room",
    "53300": (
        "has no connection left for this role: DATABASE_POOL_SIZE and DATABASE_POOL_OVERFLOW of all"
        " processes together must be less than max_connections"
    ),
    "57P03": "is starting, stopping or recovering: wait, and read its log if that lasts",
    "08P01": "is a pooler that does not take a session's settings: set DATABASE_POOLER=transaction",
}
_ONLY_READS = "only reads: is it a standby, or its file not ours to write? DATABASE_URL must lead to the primary"
_NO_SUCH_HOST = (
    "is not found: no host has that name here, and a container that is stopped has none"
)
_BY_TYPE: tuple[tuple[type[BaseException], str], ...] = (
    (ssl.SSLError, "does not speak TLS as it should: is sslmode right?"),
    (
        ConnectionRefusedError,
        "is not there: nothing listens at that address; is it running, and the port right?",
    ),
    (socket.gaierror, _NO_SUCH_HOST),
    (UnicodeError, _NO_SUCH_HOST),  # no name at all
    (
        TimeoutError,
        "does not answer in DATABASE_TIMEOUT_SECONDS: is it frozen, asleep, or behind a firewall?",
    ),
)


def why_not(error: BaseException) -> str:
    """The rest of a sentence about the database. Never quotes a statement or what it carried."""
    cause = error.__cause__ or error
    original = getattr(cause, "orig", None) or cause
    if only_reads(cause):
        return _ONLY_READS
    if reason := _BY_SQLSTATE.get(sqlstate(cause) or ""):
        return reason
    if isinstance(original, ssl.SSLCertVerificationError):
        return (
            f"has a certificate that is not believed ({original.verify_message}): is it of a CA of"
            " this system's, or SSL_CERT_FILE's?"
        )
    reasons = (reason for kind, reason in _BY_TYPE if isinstance(original, kind))
    said = str(original).partition("\n")[0] or type(original).__name__
    return next(reasons, f"cannot be used: {said}")
