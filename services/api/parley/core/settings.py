"""Everything an operator may set. One field is one environment variable."""

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from parley.core.database import Pooler, engine_url

EMBEDDED_DATABASE_URL = "sqlite:///var/parley.db"
SECRET_BYTES_MIN = 32


class InvalidSettings(Exception):
    """Values that Parley cannot start with: one line a fault, each naming its variable."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def _database(url: SecretStr) -> SecretStr:
    engine_url(url.get_secret_value())
    return url


def _redis(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().startswith(("redis://", "rediss://")):
        msg = "must start with redis:// or rediss://"
        raise ValueError(msg)
    return url


DatabaseUrl = Annotated[SecretStr, AfterValidator(_database)]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis)]


class Settings(BaseSettings):
    """Validated once, in `main`; frozen ever after. Units live in the names."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, frozen=True, extra="ignore"
    )

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
        None, description="`redis://…`; required in production. `parley doctor` checks it."
    )

    auth_secret: SecretStr | None = Field(
        None,
        description="Signs access tokens and cursors; 32 bytes or more in production. In development"
        " it is made once, in `var/auth-secret`; elsewhere it is required.",
    )
    auth_access_token_seconds: int = Field(
        900, ge=1, le=86_400, description="How long an access token is good for."
    )

    system_prompt: str | None = Field(
        None, description="What the model is told first, in every conversation."
    )
    history_max_messages: int = Field(
        100, ge=2, le=1000, description="Newest messages that the model is shown."
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

    @property
    def migration_url(self) -> str:
        """
        Raises:
            InvalidSettings: there is no owner's URL, and the API's does not do: its role may not
                migrate in production, and no lock of a session holds behind a transaction pooler.
        """
        if self.database_migration_url is not None:
            return self.database_migration_url.get_secret_value()
        if self.environment == "production" or self.database_pooler == "transaction":
            raise InvalidSettings(["DATABASE_MIGRATION_URL: set it to the database owner's URL"])
        return self.database_url.get_secret_value()

    def check_serving(self) -> None:
        """
        What a command may do without, and the API may not.

        Raises:
            InvalidSettings: with a line for each.
        """
        faults = []
        if self.environment != "development" and not self.auth_secret:
            faults.append("AUTH_SECRET: set it, for example to what `openssl rand -hex 32` prints")
        if self.web_concurrency > 1 and self.redis_url is None:
            faults.append(
                f"WEB_CONCURRENCY: is {self.web_concurrency}, and without REDIS_URL it must be 1: the"
                " processes share what is live through Redis"
            )
        if self.environment == "production":
            faults += self._faults_in_production()
        if faults:
            raise InvalidSettings(faults)

    def _faults_in_production(self) -> list[str]:
        faults = []
        secret = self.auth_secret.get_secret_value().encode() if self.auth_secret else None
        if secret and len(secret) < SECRET_BYTES_MIN:
            faults.append(
                f"AUTH_SECRET: must have at least {SECRET_BYTES_MIN} bytes in production"
            )
        if self.database_url.get_secret_value().startswith("sqlite"):
            faults.append(
                "DATABASE_URL: set it to a PostgreSQL database; production is not on SQLite"
            )
        if self.database_migration_url is not None:
            faults.append(
                "DATABASE_MIGRATION_URL: unset it; it is the owner's, for `parley migrate`"
            )
        if self.redis_url is None:
            faults.append("REDIS_URL: set it, for example to redis://host:6379/0")
        return faults

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - a folder; ours are named
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        files = SecretFiles(settings_cls, dotenv_settings, env_settings)
        return init_settings, files, env_settings, dotenv_settings


class SecretFiles(PydanticBaseSettingsSource):
    """`AUTH_SECRET_FILE=/run/secrets/auth` in place of `AUTH_SECRET`, for every secret."""

    def __init__(
        self, settings_cls: type[BaseSettings], *sources: PydanticBaseSettingsSource
    ) -> None:
        super().__init__(settings_cls)
        self._variables: dict[str, str | None] = {}
        for source in sources:
            if isinstance(source, EnvSettingsSource | DotEnvSettingsSource):
                self._variables |= source.env_vars

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        path = self._variables.get(f"{field_name}_file")
        if path is None or not _is_secret(field.annotation):
            return None, field_name, False
        name = field_name.upper()
        if self._variables.get(field_name) is not None:
            raise InvalidSettings([f"{name}: is set, and {name}_FILE too; keep one of them"])
        try:
            secret = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise InvalidSettings([f"{name}_FILE: cannot be read: {reason}"]) from error
        if not secret:
            raise InvalidSettings([f"{name}_FILE: the file is empty"])
        return secret, field_name, False

    def __call__(self) -> dict[str, Any]:
        values, faults = {}, []
        for name, field in self.settings_cls.model_fields.items():
            try:
                value, key, _ = self.get_field_value(field, name)
            except InvalidSettings as invalid:
                faults += invalid.faults
            else:
                if value is not None:
                    values[key] = value
        if faults:
            raise InvalidSettings(faults)
        return values


def _is_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(map(_is_secret, get_args(annotation)))


def load_settings() -> Settings:
    """
    From the environment, `.env` and files of secrets.

    Raises:
        InvalidSettings: with every fault that was found, and none of the values.
    """
    try:
        return Settings()
    except UnicodeDecodeError:
        raise InvalidSettings([".env: is not UTF-8 text; save it as such"]) from None
    except ValidationError as error:
        # Every check here is a field's: each fault has the name of one.
        raise InvalidSettings(
            [
                f"{str(fault['loc'][0]).upper()}: {fault['msg'].removeprefix('Value error, ')}"
                for fault in error.errors(include_input=False, include_url=False)
            ]
        ) from None
