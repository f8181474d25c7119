"""The settings: `load_settings()` reads them, once; everybody else is handed values."""

from parley.core.settings.groups import EMBEDDED_DATABASE_URL
from parley.core.settings.settings import SECRET_BYTES_MIN, Settings, load_settings
from parley.core.settings.sources import InvalidSettings

__all__ = [
    "EMBEDDED_DATABASE_URL",
    "SECRET_BYTES_MIN",
    "InvalidSettings",
    "Settings",
    "load_settings",
]
