"""
Every error a client may see. `parley/problems.py` is the only place that turns one into HTTP.

AppError
├── InvalidCursor                400  invalid-cursor
├── MalformedRequest             400  malformed-request
├── MalformedUpload              400  malformed-upload
├── UntrustedHost                400  untrusted-host
├── Unauthenticated              401  unauthenticated
│   ├── TokenRefused
│   ├── RefreshRefused
│   ├── InvalidCredentials            invalid-credentials
│   └── AccountGone                   account-gone
├── Forbidden                    403  forbidden
│   ├── NotYourResource               not-your-resource
│   ├── RegistrationClosed            registration-closed
│   ├── SessionRequired               session-required
│   ├── WrongPassword                 wrong-password
│   └── OriginRefused                 origin-refused
├── NotFound                     404  not-found
│   ├── RouteNotFound
│   ├── ConversationNotFound          conversation-not-found
│   ├── FileLost                      file-lost
│   ├── FileNotFound                  file-not-found
│   ├── KeyNotFound                   key-not-found
│   └── TurnNotFound                  turn-not-found
├── MethodNotAllowed             405  method-not-allowed
├── BodyTimeout                  408  body-timeout
├── Conflict                     409
│   ├── EmailTaken                    email-taken
│   ├── FileInUse                     file-in-use
│   ├── TooManyKeys                   too-many-keys
│   ├── TurnInProgress                turn-in-progress
│   ├── TurnCancelled                 turn-cancelled
│   ├── NothingToRegenerate           nothing-to-regenerate
│   └── ConversationMoved             conversation-moved
├── EventsGone                   410  events-gone
├── PreconditionFailed           412  precondition-failed
├── BodyTooLarge                 413  body-too-large
├── FileTooLarge                 413  file-too-large
├── QuotaExceeded                413  quota-exceeded
├── UnsupportedEncoding          415  unsupported-encoding
├── NotMultipart                 415  not-multipart
├── FileTypeRefused              415  file-type-refused
├── RangeNotSatisfiable          416  range-not-satisfiable
├── InvalidRequest               422  invalid-request
│   ├── IdempotencyKeyReused          idempotency-key-reused
│   ├── ModelNotOffered               model-not-offered
│   └── TooManyMembers
├── RateLimited                  429, with Retry-After  rate-limited
│   └── TooManyStreams                too-many-streams
├── HeadersTooLarge              431  headers-too-large
├── InternalError                500  internal-error
├── ModelError                   502  model-error
│   └── ReplyTooLong
├── Unavailable                  503, with Retry-After
│   ├── DatabaseUnavailable           database-unavailable
│   ├── FileStoreUnavailable          file-store-unavailable
│   ├── Full
│   ├── IssuerUnavailable             issuer-unavailable
│   ├── ModelUnavailable              model-unavailable
│   ├── Overloaded                    overloaded
│   ├── WorkerLost                    worker-lost
│   └── Draining                      draining
├── ModelTimeout                 504  model-timeout
└── StorageFull                  507  storage-full

Which exceptions of a driver become which of these is `core.resilience`'s business.
"""

from parley.core.errors.access import (
    AccountGone,
    EmailTaken,
    Forbidden,
    InvalidCredentials,
    KeyNotFound,
    NotYourResource,
    OriginRefused,
    RefreshRefused,
    RegistrationClosed,
    SessionRequired,
    TokenRefused,
    TooManyKeys,
    Unauthenticated,
    WrongPassword,
)
from parley.core.errors.base import (
    AppError,
    Conflict,
    InternalError,
    NotFound,
)
from parley.core.errors.files import (
    FileInUse,
    FileLost,
    FileNotFound,
    FileStoreUnavailable,
    FileTooLarge,
    FileTypeRefused,
    MalformedUpload,
    NotMultipart,
    PreconditionFailed,
    QuotaExceeded,
    RangeNotSatisfiable,
    StorageFull,
)
from parley.core.errors.outages import (
    DatabaseUnavailable,
    Draining,
    Full,
    IssuerUnavailable,
    ModelUnavailable,
    Overloaded,
    Unavailable,
    WorkerLost,
)
from parley.core.errors.recall import recalled
from parley.core.errors.requests import (
    BodyTimeout,
    BodyTooLarge,
    HeadersTooLarge,
    IdempotencyKeyReused,
    InvalidCursor,
    InvalidRequest,
    MalformedRequest,
    MethodNotAllowed,
    ModelNotOffered,
    RateLimited,
    RouteNotFound,
    TooManyMembers,
    TooManyStreams,
    UnsupportedEncoding,
    UntrustedHost,
)
from parley.core.errors.turns import (
    ConversationMoved,
    ConversationNotFound,
    EventsGone,
    ModelError,
    ModelTimeout,
    NothingToRegenerate,
    ReplyTooLong,
    TurnCancelled,
    TurnInProgress,
    TurnNotFound,
)

__all__ = [
    "AccountGone",
    "AppError",
    "BodyTimeout",
    "BodyTooLarge",
    "Conflict",
    "ConversationMoved",
    "ConversationNotFound",
    "DatabaseUnavailable",
    "Draining",
    "EmailTaken",
    "EventsGone",
    "FileInUse",
    "FileLost",
    "FileNotFound",
    "FileStoreUnavailable",
    "FileTooLarge",
    "FileTypeRefused",
    "Forbidden",
    "Full",
    "HeadersTooLarge",
    "IdempotencyKeyReused",
    "InternalError",
    "InvalidCredentials",
    "InvalidCursor",
    "InvalidRequest",
    "IssuerUnavailable",
    "KeyNotFound",
    "MalformedRequest",
    "MalformedUpload",
    "MethodNotAllowed",
    "ModelError",
    "ModelNotOffered",
    "ModelTimeout",
    "ModelUnavailable",
    "NotFound",
    "NotMultipart",
    "NotYourResource",
    "NothingToRegenerate",
    "OriginRefused",
    "Overloaded",
    "PreconditionFailed",
    "QuotaExceeded",
    "RangeNotSatisfiable",
    "RateLimited",
    "RefreshRefused",
    "RegistrationClosed",
    "ReplyTooLong",
    "RouteNotFound",
    "SessionRequired",
    "StorageFull",
    "TokenRefused",
    "TooManyKeys",
    "TooManyMembers",
    "TooManyStreams",
    "TurnCancelled",
    "TurnInProgress",
    "TurnNotFound",
    "Unauthenticated",
    "Unavailable",
    "UnsupportedEncoding",
    "UntrustedHost",
    "WorkerLost",
    "WrongPassword",
    "recalled",
]
