"""What each migration says to PostgreSQL, and what squawk says of it: `make check` runs this."""

import re
import subprocess
import sys
import tempfile
from io import StringIO
from pathlib import Path
from typing import Literal

from alembic import command
from alembic.config import Config
from alembic.script import Script, ScriptDirectory

from parley.cli.migrate import ALEMBIC_INI

Direction = Literal["upgrade", "downgrade"]
RULES = Path(__file__).parents[1] / ".squawk.toml"
SQUAWK = Path(sys.executable).with_name("squawk")
ALLOWS = re.compile(r"^Allows: ([a-z-]+), since \S", re.MULTILINE)


def scripts(ini: Path = ALEMBIC_INI) -> list[Script]:
    return list(ScriptDirectory.from_config(Config(ini)).walk_revisions())


def sql_of(script: Script, ini: Path = ALEMBIC_INI, *, direction: Direction = "upgrade") -> str:
    """As `alembic upgrade --sql`, or `downgrade --sql`, has it: nothing is connected to."""
    config = Config(ini, output_buffer=StringIO())
    config.attributes["url"] = "postgresql://nobody@nowhere/parley"
    before = str(script.down_revision or "base")
    if direction == "downgrade":
        command.downgrade(config, f"{script.revision}:{before}", sql=True)
    else:
        command.upgrade(config, f"{before}:{script.revision}", sql=True)
    return str(config.output_buffer.getvalue())  # type: ignore[attr-defined]  # the StringIO above


def lint(ini: Path = ALEMBIC_INI, *, reporter: str = "tty") -> "subprocess.CompletedProcess[str]":
    """A finding names the migration; a line is one of what it says, not of the migration."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for script in scripts(ini):
            allowed = ALLOWS.findall(script.module.__doc__ or "")
            file = Path(folder, Path(script.path).with_suffix(".sql").name)
            ignores = "".join(f"-- squawk-ignore-file {rule}\n" for rule in allowed)
            file.write_text(ignores + sql_of(script, ini))
            files.append(file.name)
        return subprocess.run(
            [SQUAWK, "--config", RULES, "--reporter", reporter, *sorted(files)],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip


if __name__ == "__main__":
    linted = lint()
    sys.stdout.write(linted.stdout)
    sys.stderr.write(linted.stderr)
    sys.exit(linted.returncode)
