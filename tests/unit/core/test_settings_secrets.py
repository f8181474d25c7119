"""Row 84 of the list of attacks: what prints the settings prints no secret."""

from parley.core.settings import Settings

CANARY = "canary-of-a-secret-that-nobody-is-to-read"
# With a password in each: a URL is a secret too.
SECRETS = {
    "auth_secret": CANARY,
    "auth_secret_previous": CANARY,
    "better_auth_secret": CANARY,
    "openai_api_key": CANARY,
    "s3_secret_access_key": CANARY,
    "database_url": f"postgresql://parley:{CANARY}@db/parley",
    "database_migration_url": f"postgresql://parley:{CANARY}@db/parley",
    "better_auth_database_url": f"postgresql://parley:{CANARY}@db/parley",
    "redis_url": f"redis://:{CANARY}@redis/0",
}


class TestSecrets:
    def test_none_is_in_what_is_printed(self):
        settings = Settings(_env_file=None, **SECRETS)

        for printed in (repr(settings), str(settings), f"{settings.model_dump()}"):
            assert CANARY not in printed
        assert CANARY not in settings.model_dump_json()

    def test_each_field_that_is_named_like_one_is_tried(self):
        named = {
            name
            for name in Settings.model_fields
            if name.endswith(("secret", "secret_previous", "password", "api_key", "access_key"))
            or (("database" in name or "redis" in name) and name.endswith("url"))
        }

        assert named == SECRETS.keys()
