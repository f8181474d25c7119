"""Everything an operator may set, group by group. One field is one environment variable."""

from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings

from parley.core.database import Pooler
from parley.core.settings.values import (
    DEFAULT_UPLOAD_TYPES,
    ApiKey,
    AuthModes,
    DatabaseUrl,
    Endpoint,
    FilesUrl,
    Hosts,
    HttpUrl,
    MediaTypes,
    ModelName,
    ModelNames,
    Networks,
    Origins,
    PostgresUrl,
    Rate,
    RedisUrl,
    TableName,
)

EMBEDDED_DATABASE_URL = "sqlite:///var/parley.db"
EMBEDDED_FILES_URL = "file://var/files"


class GeneralSettings(BaseSettings):
    environment: Literal["development", "staging", "production"] = Field(
        "development", description="`production` refuses what is only good for trying Parley out."
    )
    backend_port: int = Field(8000, ge=1, le=65535, description="Port that `parley serve` opens.")
    web_concurrency: int = Field(
        1, ge=1, le=64, description="Processes that `parley serve` runs; more need REDIS_URL."
    )
    shutdown_announce_seconds: float = Field(
        2,
        ge=0,
        le=300,
        description="How long it serves on, no longer ready, when told to stop by SIGTERM: as long as"
        " a balancer takes to look elsewhere.",
    )
    shutdown_grace_seconds: float = Field(
        30, ge=0, le=3600, description="How long running turns may then go on."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least severity that is logged."
    )
    log_format: Literal["console", "json"] | None = Field(
        None, description="`console` on a terminal, else `json`."
    )
    request_max_bytes: int = Field(
        1024**2, ge=1024, description="Largest request body; more is answered 413."
    )
    body_timeout_seconds: float = Field(
        30,
        gt=0,
        le=600,
        description="Longest that a client may take to send a request's body; a file that comes with 32 KiB"
        " a second may take longer.",
    )
    cors_origins: Origins = Field(
        (),
        description="Origins whose pages may call the API, such as `https://chat.example.com`;"
        " comma-separated. `*` is refused.",
    )
    trusted_hosts: Hosts = Field(
        (),
        description="Names that the API is reached by, such as `chat.example.com` or"
        " `*.example.com`; comma-separated. Empty: any, and in production only this machine's own.",
    )
    trusted_proxies: Networks = Field(
        (),
        description="Addresses or networks of the proxies whose `X-Forwarded-For` counts, such as"
        " `10.0.0.0/8`; comma-separated.",
    )


class DataSettings(BaseSettings):
    database_url: DatabaseUrl = Field(
        SecretStr(EMBEDDED_DATABASE_URL),
        description="`postgresql://user:password@host/name` or `sqlite:///path`, as pasted.",
    )
    database_migration_url: DatabaseUrl | None = Field(
        None,
        description="The owner's, for `parley migrate`; the API refuses it in production."
        " Without it, outside production, DATABASE_URL serves.",
    )
    database_pool_size: int = Field(
        10, ge=1, le=200, description="Connections that a process keeps."
    )
    database_pool_overflow: int = Field(
        0, ge=0, le=200, description="Further connections that it may open for a while."
    )
    database_pooler: Pooler = Field(
        "none",
        description="`transaction` where DATABASE_URL leads through PgBouncer in that mode, or Neon's"
        " pooler; `parley migrate` then needs DATABASE_MIGRATION_URL, past it.",
    )
    database_timeout_seconds: float = Field(
        3, gt=0, le=60, description="Longest that a request waits for the database."
    )
    redis_url: RedisUrl | None = Field(
        None,
        description="`redis://…`, or `rediss://…` over TLS; required in production. `parley doctor` checks it.",
    )


class AccountSettings(BaseSettings):
    auth_mode: AuthModes = Field(
        ("local",),
        description="Whose users are believed: `local` (accounts of Parley's own), `jwks` (an OpenID"
        " Connect issuer's), `better-auth`; comma-separated.",
    )
    auth_secret: SecretStr | None = Field(
        None,
        description="Signs access tokens and cursors; 32 bytes or more in production. In development"
        " it is made once, in `var/auth-secret`; elsewhere it is required.",
    )
    auth_secret_previous: SecretStr | None = Field(
        None,
        description="AUTH_SECRET of before: what it signed is good until it expires. Unset it then.",
    )
    auth_registration: Literal["open", "closed"] = Field(
        "open", description="`closed`: accounts are made by `parley user create` alone."
    )
    auth_access_token_seconds: int = Field(
        900, ge=1, le=86_400, description="How long an access token is good for."
    )
    auth_refresh_token_seconds: int = Field(
        30 * 86_400,
        ge=60,
        le=366 * 86_400,
        description="How long a refresh token is; each one that is used is followed by another.",
    )
    auth_refresh_grace_seconds: int = Field(
        10,
        ge=0,
        le=60,
        description="How long a refresh token that was used may be used again, as by a second tab;"
        " after that it ends the session.",
    )
    auth_jwks_url: HttpUrl | None = Field(
        None, description="`jwks`: where the issuer's keys are (its `jwks_uri`)."
    )
    auth_issuer: str | None = Field(
        None, min_length=1, description="`jwks`: the tokens' `iss`, to the letter."
    )
    auth_audience: str | None = Field(
        None, min_length=1, description="`jwks`: what the tokens' `aud` must be, or contain."
    )
    better_auth_url: HttpUrl | None = Field(
        None,
        description="`better-auth`: its baseURL, which Parley asks for keys, and whose origin is the"
        " tokens' `iss` and `aud`.",
    )
    better_auth_secret: SecretStr | None = Field(
        None, description="`better-auth`: its secret, which signs session tokens and cookies."
    )
    better_auth_database_url: PostgresUrl | None = Field(
        None,
        description="`better-auth`: the PostgreSQL that its sessions are in, by a role that may read"
        " them and nothing else, as `deploy/better-auth/roles.sql` makes one.",
    )
    better_auth_session_table: TableName = Field(
        "session", description="`better-auth`: its table of sessions, as `name` or `schema.name`."
    )


class ModelSettings(BaseSettings):
    responder: Literal["echo", "openai"] = Field(
        "echo",
        description="What answers: `echo` needs no model; `openai` asks any server that speaks as"
        " OpenAI does (vLLM, Ollama, llama.cpp, OpenAI).",
    )
    openai_base_url: Endpoint | None = Field(
        None,
        description="`openai`: where it is, up to its `/v1`, such as `http://localhost:11434/v1`."
        " Empty: OpenAI itself.",
    )
    openai_api_key: ApiKey | None = Field(
        None, description="`openai`: its key. A server of your own may need none."
    )
    model: ModelName | None = Field(
        None, description="Model that is asked where a request names none. Empty: first of MODELS."
    )
    models: ModelNames = Field(
        (), description="Models that a request may name; comma-separated. Empty: MODEL alone."
    )
    system_prompt: str | None = Field(
        None, description="What the model is told first, in every conversation."
    )
    history_max_messages: int = Field(
        100,
        ge=2,
        le=1000,
        description="Newest messages that the model is shown, besides the new one.",
    )
    history_max_characters: int = Field(
        100_000,
        ge=0,
        le=10_000_000,
        description="How long those may be together; a turn that does not fit is left out whole.",
    )
    model_accepts_images: bool = Field(
        default=False, description="Whether attached images are sent to the model."
    )
    model_timeout_seconds: float = Field(
        60, gt=0, le=3600, description="Longest silence of the model, before and between pieces."
    )
    model_reply_seconds: float = Field(
        900, gt=0, le=86_400, description="Longest that a whole reply may take."
    )
    reply_max_characters: int = Field(
        200_000, ge=1, le=10_000_000, description="Longest reply; the rest is cut, and marked so."
    )
    turn_wait_seconds: float = Field(
        30,
        ge=0,
        le=600,
        description="Longest that a message with `if_busy` `wait` waits for a turn that is running.",
    )
    stream_retention_seconds: int = Field(
        600,
        ge=0,
        le=86_400,
        description="How long a turn's events can be read again after its end.",
    )
    streams_max_per_user: int = Field(
        20,
        ge=1,
        le=10_000,
        description="Turns that one user may have on their way at once, as many streams that read them"
        " again or export, and as many files; a process takes five times as many requests with an Idempotency-Key,"
        " which may be retries.",
    )


class LimitSettings(BaseSettings):
    rate_limit_chat: Rate = Field(
        "60/minute",
        description="Messages and files that one user may send, and conversations begun without one.",
    )
    rate_limit_auth: Rate = Field(
        "30/minute",
        description="Times that one address may try to log in or register; a third of it for one"
        " e-mail address from one address.",
    )


class FileSettings(BaseSettings):
    files_url: FilesUrl = Field(
        EMBEDDED_FILES_URL,
        description="Where the bytes of files are: `file:///folder`, which all processes share;"
        " `s3://bucket` or `s3://bucket/prefix`; `memory://`, gone with the process.",
    )
    s3_endpoint: Endpoint | None = Field(
        None, description="`s3://`: where it is, such as `http://minio:9000`. Empty: AWS."
    )
    s3_region: str = Field("us-east-1", min_length=1, description="`s3://`: its region.")
    s3_path_style: bool = Field(
        default=True,
        description="`s3://`: whether the bucket is in the path; `false` where it is in the host's name.",
    )
    s3_access_key_id: str | None = Field(
        None,
        min_length=1,
        description="`s3://`: who asks. Empty: whom the machine's role says (AWS).",
    )
    s3_secret_access_key: SecretStr | None = Field(
        None, description="`s3://`: the secret of that access key."
    )
    upload_max_bytes: int = Field(
        50 * 1024**2, ge=1, le=5 * 1024**3, description="Largest file; more is answered 413."
    )
    upload_quota_bytes: int = Field(
        1024**3,
        ge=0,
        description="What one user's files may have together; more is answered 413.",
    )
    upload_types: MediaTypes = Field(
        DEFAULT_UPLOAD_TYPES,
        description="Types that a file may say it is of; comma-separated, `text/*` for all of a kind."
        " One that says nothing (`application/octet-stream`) is always taken.",
    )
