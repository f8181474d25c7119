"""
`make bench`: a table of ratios, for a person to read and, in var/bench.json, for a program.

Nothing is asserted. A topic is a module with `rows`; to add one, name it in TOPICS.
"""

import json
import os
import platform
import sys
import time
from pathlib import Path

from tests.bench import files
from tests.bench.table import lines_of

TOPICS = [files]
JSON = Path(__file__).parents[2] / "var/bench.json"


def main() -> None:
    began_at = time.monotonic()

    def tell(what: str) -> None:
        sys.stderr.write(f"{time.monotonic() - began_at:6.1f} s  {what}\n")

    rows = [row for topic in TOPICS for row in topic.rows(tell)]
    machine = {"cores": os.cpu_count(), "python": platform.python_version()}
    JSON.parent.mkdir(exist_ok=True)
    said = {"machine": machine, "rows": [row.said() for row in rows]}
    JSON.write_text(json.dumps(said, indent=2, ensure_ascii=False) + "\n")
    what = f"{machine['cores']} cores, shared with the clients; Python {machine['python']}"
    sys.stdout.write("\n".join([*lines_of(rows), "", f"On {what}. Also in {JSON}.", ""]))


if __name__ == "__main__":
    main()
