"""What an operator has set, checked as a whole."""

from urllib.parse import urlsplit

from pydantic import SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from parley.core.database import engine_url, is_of_neon_pooler
from parley.core.security.tokens import ISSUER
from parley.core.settings.groups import (
    AccountSettings,
    DataSettings,
    FileSettings,
    GeneralSettings,
    LimitSettings,
    ModelSettings,
)
from parley.core.settings.sources import InvalidSettings, SecretFiles

SECRET_BYTES_MIN = 32
SECRET_VARIETY_MIN = 9
"""Different characters: one more than `change-me`, over and over, has."""
_NEEDED = {
    "jwks": ("auth_jwks_url", "auth_issuer", "auth_audience"),
    "better-auth": ("better_auth_url", "better_auth_secret", "better_auth_database_url"),
}


# The last base's fields come first.
class Settings(
    FileSettings, LimitSettings, ModelSettings, AccountSettings, DataSettings, GeneralSettings
):
    """Validated once, in `main`; frozen ever after. Units live in the names."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, frozen=True, extra="ignore"
    )

    @property
    def is_production(self) -> bool:
        return self.environment == "production"

    @property
    def migration_url(self) -> str:
        """
        Raises:
            InvalidSettings: there is no owner's URL, and the API's does not do: its role may not
                migrate in production, and no lock of a session holds behind a transaction pooler.
                Or the owner's leads through one.
        """
        if self.database_migration_url is not None:
            url = self.database_migration_url.get_secret_value()
            if is_of_neon_pooler(engine_url(url)):
                fault = (
                    "DATABASE_MIGRATION_URL: leads through Neon's pooler, where no lock of a session"
                    " holds: take `-pooler` out of its host"
                )
                raise InvalidSettings([fault])
            return url
        if self.is_production or self.database_pooler == "transaction":
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
        faults += self._faults_of_files()
        faults += self._faults_of_issuers()
        faults += self._faults_of_model()
        if self.is_production:
            faults += self._faults_in_production()
        if faults:
            raise InvalidSettings(faults)

    def _faults_of_issuers(self) -> list[str]:
        missing = [
            f"{name.upper()}: set it, for AUTH_MODE has `{mode}`"
            for mode, names in _NEEDED.items()
            if mode in self.auth_mode
            for name in names
            if getattr(self, name) is None
        ]
        issuers = [ISSUER, self.auth_issuer, self.better_auth_origin]
        if self.auth_issuer is not None and issuers.count(self.auth_issuer) > 1:
            missing.append("AUTH_ISSUER: is another issuer's name here; each needs its own")
        return missing

    def _faults_of_files(self) -> list[str]:
        faults = []
        if (self.s3_access_key_id is None) != (self.s3_secret_access_key is None):
            faults.append("S3_ACCESS_KEY_ID: set it and S3_SECRET_ACCESS_KEY, or neither")
        if self.files_url == "memory://" and (self.is_production or self.web_concurrency > 1):
            faults.append(
                "FILES_URL: set it to a folder that all processes share, or to s3://; `memory://` is"
                " each process's own, and gone with it"
            )
        return faults

    def _faults_of_model(self) -> list[str]:
        if self.responder != "openai":
            return []
        faults = []
        if not self.model and not self.models:
            faults.append("MODEL: set it, or MODELS, for RESPONDER is `openai`")
        if self.openai_base_url is None and self.openai_api_key is None:
            faults.append("OPENAI_API_KEY: set it, for OpenAI wants one; or OPENAI_BASE_URL")
        return faults

    @property
    def offered_models(self) -> tuple[str, ...]:
        """Those that may be asked for, the default first."""
        named = (self.model, *self.models)
        return tuple(dict.fromkeys(name for name in named if name)) or ("echo",)

    @property
    def better_auth_origin(self) -> str | None:
        """What Better Auth's tokens name as their issuer and audience: its URL without a path."""
        if self.better_auth_url is None:
            return None
        parts = urlsplit(self.better_auth_url)
        return f"{parts.scheme}://{parts.netloc}"

    def _faults_in_production(self) -> list[str]:
        faults = [
            f"{name.upper()}: {fault}"
            for name in ("auth_secret", "auth_secret_previous", "better_auth_secret")
            if (secret := getattr(self, name)) and (fault := _weakness(secret.get_secret_value()))
        ]
        if self.database_url.get_secret_value().startswith("sqlite"):
            faults.append(
                "DATABASE_URL: set it to a PostgreSQL database; production is not on SQLite"
            )
        if self.database_migration_url is not None:
            faults.append(
                "DATABASE_MIGRATION_URL: unset it; it is the owner's, for `parley migrate`"
            )
        if self._looks_sessions_up_as_the_api:
            faults.append(
                "BETTER_AUTH_DATABASE_URL: must not be of DATABASE_URL's role: who owns Better Auth's"
                " table may have what they like run as whoever reads it; give it a role that may do"
                " nothing else, deploy/better-auth/roles.sql makes one"
            )
        if self.redis_url is None:
            faults.append("REDIS_URL: set it, for example to redis://host:6379/0")
        return faults

    @property
    def _looks_sessions_up_as_the_api(self) -> bool:
        url = self.better_auth_database_url
        if url is None or "better-auth" not in self.auth_mode:
            return False
        return _login_of(url) == _login_of(self.database_url)

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


def _weakness(secret: str) -> str | None:
    if len(secret.encode()) < SECRET_BYTES_MIN:
        return f"must have at least {SECRET_BYTES_MIN} bytes in production"
    if len(set(secret)) < SECRET_VARIETY_MIN:
        return "has too few different characters; set it to what `openssl rand -hex 32` prints"
    return None


def _login_of(url: SecretStr) -> tuple[str | None, str]:
    parsed = engine_url(url.get_secret_value())
    # A socket is behind the question mark.
    return parsed.username, str(parsed.host or parsed.query.get("host")).lower()


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
