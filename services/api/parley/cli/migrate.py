from pathlib import Path

from alembic import command
from alembic.config import Config

import parley

# Beside the package: the checkout and the image lay them out the same way.
ALEMBIC_INI = Path(parley.__file__).parent.parent / "alembic.ini"


def upgrade(url: str) -> None:
    """Blocks until the schema is the newest, or another process that migrates has finished."""
    config = Config(ALEMBIC_INI)
    config.attributes["url"] = url
    command.upgrade(config, "head")
