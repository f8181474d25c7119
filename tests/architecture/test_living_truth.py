"""What is written down is what is there."""

import json
import re
from pathlib import Path

import pytest
from prometheus_client import Counter
from pydantic import SecretStr

from parley.core import metrics
from parley.core.settings import Settings
from parley.crud.ports import SCHEMA_REVISION
from tests.openapi_snapshot import SNAPSHOT, current

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def default_of(name: str) -> str:
    default = Settings.model_fields[name].default
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    if isinstance(default, tuple):
        default = ",".join(default)
    if isinstance(default, bool):
        default = str(default).lower()
    return "" if default is None else str(default)


class TestSettings:
    def test_the_example_has_every_setting_with_its_meaning_and_default(self):
        example = (ROOT / ".env.example").read_text()
        blocks = re.findall(r"^# (.+)\n([A-Z0-9_]+)=(.*)$", example, re.MULTILINE)

        assert [
            (field.description, name.upper(), default_of(name))
            for name, field in Settings.model_fields.items()
        ] == blocks

    def test_the_readmes_table_has_every_setting_with_its_meaning_and_default(self):
        rows = re.findall(
            r"^\| `([A-Z0-9_]+)` \| (.*?) \| (.+) \|$",
            (ROOT / "README.md").read_text(),
            re.MULTILINE,
        )

        assert [
            (name.upper(), default_of(name), field.description)
            for name, field in Settings.model_fields.items()
        ] == [(name, default.strip("` "), meaning) for name, default, meaning in rows]


class TestOpenApi:
    def test_the_snapshot_is_the_api(self):
        """`make openapi` writes it."""
        assert json.loads(SNAPSHOT.read_text()) == current()


class TestSchemaRevision:
    def test_the_code_names_the_newest_migration(self):
        versions = ROOT / "services/api/migrations/versions"

        assert SCHEMA_REVISION == max(path.name[:4] for path in versions.glob("*.py"))


class TestLinks:
    @pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
    def test_every_relative_link_leads_somewhere(self, document: Path):
        links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", document.read_text())

        assert [] == [link for link in links if not (document.parent / link).exists()]


class TestSecurityReview:
    def test_every_test_that_it_names_is_there(self):
        review = (ROOT / "docs/security-review.md").read_text()
        named = {
            re.sub("^security/", "integration/security/", path)
            for path in re.findall(r"`([\w/]+\.py)`", review)
        }

        assert len(named) > 30
        assert set() == {path for path in named if not (ROOT / "tests" / path).exists()}

    def test_it_names_every_security_test(self):
        review = (ROOT / "docs/security-review.md").read_text()
        folder = ROOT / "tests/integration/security"
        there = {f"security/{path.relative_to(folder)}" for path in folder.rglob("test_*.py")}

        assert set() == {path for path in there if f"`{path}`" not in review}


class TestMetrics:
    def test_each_of_ours_is_described(self):
        described = re.findall(
            r"^\| `(parley_\w+)` \|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE
        )

        # A counter is shown with the end of its name.
        ours = {
            metric._name + ("_total" if isinstance(metric, Counter) else "")  # noqa: SLF001
            for metric in metrics.ALL
        }
        assert ours == set(described)


class TestMakefile:
    def test_every_target_that_a_document_names_is_there(self):
        targets = set(
            re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        )
        named = {
            target
            for document in DOCUMENTS
            for target in re.findall(r"`make ([a-z][a-z-]*)", document.read_text())
        }

        assert set() == named - targets
