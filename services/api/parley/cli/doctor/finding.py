from typing import NamedTuple


class Finding(NamedTuple):
    name: str
    ok: bool
    detail: str
