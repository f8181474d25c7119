"""How types of content are called (RFC 6838, 4.2, of at most 63 letters each)."""

import re

_NAME = r"[a-z0-9][a-z0-9!#$&^_.+-]{0,62}"
MEDIA_TYPE = re.compile(f"{_NAME}/{_NAME}")
MEDIA_RANGE = re.compile(rf"{_NAME}/(\*|{_NAME})")
"""One, or all of a kind (RFC 9110, 12.5.1)."""
