"""docs/settings.md says what the model says."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

from plet_celery.settings import PREFIX, Settings

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_what_the_model_gives() -> None:
    """After a change of the model: python docs/settings_page.py."""
    page = runpy.run_path(str(DOCS / "settings_page.py"))["page"]()

    assert (DOCS / "settings.md").read_text() == page


def test_every_option_has_one_row_in_the_order_of_the_model() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", (DOCS / "settings.md").read_text(), re.MULTILINE)

    assert rows == [PREFIX + name for name in Settings.model_fields]


def test_the_redaction_page_lists_every_word() -> None:
    from plet_celery.redaction.names import ANYWHERE, PARTS

    words = set(re.findall(r"\w+", (DOCS / "redaction.md").read_text()))

    assert {word.replace("_", "") for word in ANYWHERE} | PARTS <= words
