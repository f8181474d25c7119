"""What is not needed is not imported."""

import subprocess
import sys

ECHO = """
import sys

import parley.cli.commands
from parley.core.settings import Settings
from parley.crud.memory.store import MemoryStore
from parley.main import create_app

create_app(Settings(auth_secret="x"), store=MemoryStore())
sys.exit("openai" in sys.modules)
"""


def test_who_asks_no_model_does_not_wait_for_its_library():
    """It takes a second or two."""
    assert 0 == subprocess.run([sys.executable, "-c", ECHO], check=False).returncode
