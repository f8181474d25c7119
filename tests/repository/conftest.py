import secrets

import pytest


@pytest.fixture
def alice() -> str:
    """Another issuer's user, who needs no account."""
    return f"alice-{secrets.token_hex(8)}"


@pytest.fixture
def bob() -> str:
    return f"bob-{secrets.token_hex(8)}"
