import pytest
from pydantic import TypeAdapter, ValidationError

from parley.schemas.accounts import Account, Email, Login, Registration
from tests.unit.schemas.bodies import refusal

EMAIL: TypeAdapter[str] = TypeAdapter(Email)
GOOD = "correct horse battery staple"

NORMALISED = [
    ("ann@example.com", "ann@example.com"),
    ("Ann@Example.COM", "ann@example.com"),
    ("  ann@example.com\t\r\n", "ann@example.com"),
    ("\u00a0ann@example.com\u3000", "ann@example.com"),
    ("ann+tag@example.com", "ann+tag@example.com"),
    ("a.n.n@example.com", "a.n.n@example.com"),
    ("ann@intranet", "ann@intranet"),
    ("ann@[127.0.0.1]", "ann@[127.0.0.1]"),
    ("a@b", "a@b"),
    ("e\u0301va@example.com", "\u00e9va@example.com"),
    ("E\u0301VA@example.com", "\u00e9va@example.com"),
    ("\u00c9va@m\u00dcnchen.de", "\u00e9va@m\u00fcnchen.de"),
    ("\u212bngstr\u00f6m@x", "\u00e5ngstr\u00f6m@x"),
    ("\u540d\u524d@\u4f8b\u3048.jp", "\u540d\u524d@\u4f8b\u3048.jp"),
    ("stra\u00dfe@x", "stra\u00dfe@x"),
    ("a" * 64 + "@" + "b" * 189, "a" * 64 + "@" + "b" * 189),
]
MALFORMED = [
    "",
    " ",
    "@",
    "ann",
    "ann@",
    "@example.com",
    "ann@b@example.com",
    "ann @example.com",
    "ann@exam ple.com",
    "ann\n@example.com",
    "ann@example.com\nbob@example.com",
    "an\u200bn@example.com",
    "an\u202en@example.com",
    "an\u00a0n@example.com",
    "an\x1bn@example.com",
    "an\x7fn@example.com",
    "a" * 65 + "@example.com",
]


class TestEmail:
    @pytest.mark.parametrize(("given", "expected"), NORMALISED)
    def test_one_address_has_one_spelling(self, given: str, expected: str):
        assert expected == EMAIL.validate_python(given)

    @pytest.mark.parametrize("given", [given for given, _ in NORMALISED])
    def test_a_spelling_that_is_normal_stays_so(self, given: str):
        once = EMAIL.validate_python(given)

        assert once == EMAIL.validate_python(once)

    @pytest.mark.parametrize("given", MALFORMED)
    def test_what_is_no_address_is_refused(self, given: str):
        assert {("email_invalid", ())} == refusal(EMAIL, given)

    @pytest.mark.parametrize("given", ["an\0n@example.com", "an\ud800n@example.com", 7, None])
    def test_what_is_no_text_is_refused(self, given: object):
        ((code, _),) = refusal(EMAIL, given)

        assert code in {"nul_character", "lone_surrogate", "string_unicode", "string_type"}

    def test_it_is_at_most_254_characters_long(self):
        ((code, _),) = refusal(EMAIL, "a" * 64 + "@" + "b" * 190)

        assert code.endswith("too_long")

    def test_it_is_so_as_it_is_kept_too(self):
        """A dotted capital I is two characters as a small letter; these 160 are 317."""
        ((code, _),) = refusal(EMAIL, "\u0130" * 32 + "@" + "\u0130" * 126)

        assert code.endswith("too_long")


class TestRegistration:
    @pytest.mark.parametrize(
        "password", ["x" * 12, "x" * 128, "\U0001f511" * 12, "\U0001f511" * 128, " " * 12, GOOD]
    )
    def test_a_password_has_12_to_128_characters(self, password: str):
        body = Registration.model_validate({"email": "ann@x", "password": password})

        assert password == body.password.get_secret_value()

    @pytest.mark.parametrize(
        ("password", "code"),
        [
            ("", "too_short"),
            ("x" * 11, "too_short"),
            ("\U0001f511" * 11, "too_short"),
            ("x" * 129, "too_long"),
            ("x" * 1_048_576, "too_long"),
        ],
    )
    def test_no_fewer_and_no_more(self, password: str, code: str):
        ((found, location),) = refusal(Registration, {"email": "ann@x", "password": password})

        assert found.endswith(code)
        assert ("password",) == location

    def test_the_bounds_are_told_in_characters(self):
        for password, told in (("x", "at least 12 characters"), ("x" * 129, "at most 128 char")):
            with pytest.raises(ValidationError, match=told):
                Registration.model_validate({"email": "ann@x", "password": password})

    @pytest.mark.parametrize("password", ["x" * 12 + "\0", "x" * 12 + "\ud800", "\udfff" * 12])
    def test_a_password_is_text_as_all_other_text(self, password: str):
        """Argon2 takes UTF-8: a lone surrogate would be a 500."""
        ((_, location),) = refusal(Registration, {"email": "ann@x", "password": password})

        assert ("password",) == location

    @pytest.mark.parametrize("password", [7, None, ["x" * 12], {}])
    def test_what_is_no_text_is_no_password(self, password: object):
        assert {("string_type", ("password",))} == refusal(
            Registration, {"email": "ann@x", "password": password}
        )

    def test_a_password_is_not_shown(self):
        body = Registration.model_validate({"email": "ann@x", "password": GOOD})

        assert GOOD not in repr(body) + str(body) + body.model_dump_json()

    def test_a_refusal_does_not_say_the_password(self):
        with pytest.raises(ValidationError) as caught:
            Registration.model_validate({"email": "ann@x", "password": "canary-4711"})

        assert "canary-4711" not in caught.value.json(include_input=False)


class TestLogin:
    @pytest.mark.parametrize("password", ["", "x", "x" * 128])
    def test_a_short_password_is_wrong_and_not_malformed(self, password: str):
        body = Login.model_validate({"email": "Ann@X", "password": password})

        assert ("ann@x", password) == (body.email, body.password.get_secret_value())

    def test_a_long_one_is_refused_before_it_is_hashed(self):
        ((code, location),) = refusal(Login, {"email": "ann@x", "password": "x" * 129})

        assert code.endswith("too_long")
        assert ("password",) == location

    @pytest.mark.parametrize("password", ["\0", "\ud800", "x\udfff"])
    def test_a_password_is_text_as_all_other_text(self, password: str):
        ((_, location),) = refusal(Login, {"email": "ann@x", "password": password})

        assert ("password",) == location


class TestAccount:
    def test_it_does_not_show_its_hash(self):
        assert "password_hash" not in [
            name for name, field in Account.model_fields.items() if field.repr
        ]
