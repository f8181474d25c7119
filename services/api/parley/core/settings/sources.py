"""Where settings come from, besides the environment and `.env`."""

from pathlib import Path
from typing import Any, get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
)


class InvalidSettings(Exception):
    """Values that Parley cannot start with: one line a fault, each naming its variable."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


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
