"""Flower's own templates with our entry, and what happens when Flower has changed."""

from __future__ import annotations

import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flower.urls
import pytest
from flower.views import BaseHandler
from tornado.template import DictLoader
from tornado.web import url

from plet_celery import flowerhooks
from plet_celery.web import activation, frame
from plet_celery.web.routes import routes

TEMPLATES = Path(flower.urls.settings["template_path"])


def test_the_installed_flower_takes_our_entry() -> None:
    navbar = (TEMPLATES / "navbar.html").read_text()

    changed = flowerhooks.with_entry(navbar)

    assert changed.count("reverse_url('plet')") == 1
    assert (
        changed.index("reverse_url('broker')")
        < changed.index("reverse_url('plet')")
        < changed.index("app-nav-secondary")
    )
    assert flowerhooks.missing_hooks() == []


@pytest.mark.parametrize(
    "navbar", ["", "<nav></nav>", "{{ reverse_url('broker') }}", "{{ reverse_url('broker') }}<li></li>"]
)
def test_another_navigation_bar_is_left_as_it_is(navbar: str) -> None:
    assert flowerhooks.with_entry(navbar) == navbar


def test_without_the_entry_the_pages_are_added_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "navbar.html").write_text("<nav>another one</nav>")
    urls = fake_urls(tmp_path)

    activation._add_routes(urls)

    assert "plet" in [one.name for one in urls.handlers]
    assert urls.handlers[-1].regex.pattern == ".*$"
    assert "template_loader" not in urls.settings
    assert "no entry" in caplog.text


def test_pages_are_added_once_before_the_route_that_takes_everything() -> None:
    urls = fake_urls(TEMPLATES)

    activation._add_routes(urls)
    activation._add_routes(urls)

    names = [one.name for one in urls.handlers]
    assert names[0] == "main"
    assert names.count("plet") == 1
    assert isinstance(urls.settings["template_loader"], DictLoader)


def test_a_flower_without_the_names_we_use_starts_without_our_pages(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delattr(flower.urls, "handlers")

    activation.activate()

    assert "cannot be added" in caplog.text
    assert "handlers" in " ".join(flowerhooks.missing_hooks())


def test_a_navigation_bar_that_has_changed_is_told_by_the_doctor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "navbar.html").write_text("<nav>another one</nav>")
    monkeypatch.setitem(flower.urls.settings, "template_path", str(tmp_path))

    assert flowerhooks.missing_hooks() == ["the navigation bar has no entry for the pages; open /plet/"]


def test_every_template_of_ours_compiles() -> None:
    loader = frame.loader(TEMPLATES)

    for name in loader.dict:
        assert loader.load(name) is not None


def fake_urls(templates: Path) -> Any:
    handlers = [url("/", object, name="main"), url(".*", object)]
    return types.SimpleNamespace(handlers=handlers, settings={"template_path": str(templates)})


def test_no_name_of_a_page_hides_one_of_tornado_or_flower() -> None:
    theirs = set(dir(BaseHandler))
    for route in routes():
        ours = {
            name for cls in route.target.__mro__ if cls.__module__.startswith("plet_") for name in vars(cls)
        }
        hidden = {name for name in ours & theirs if name.startswith("_") and not name.startswith("__")}
        assert hidden == set(), route.target


def test_a_kept_page_has_the_regions_of_now() -> None:
    frames, made = frame.Frames(), list[str]()

    def make(holes: Mapping[str, str]) -> str:
        made.append(holes["list"])
        return f"<html><p>{holes['list']}</p>{holes['foot']}</html>"

    pages = [frames.page("key", {"list": text, "foot": "<hr>"}, make) for text in ("one", "<plet- foot>")]

    assert pages == ["<html><p>one</p><hr></html>", "<html><p><plet- foot></p><hr></html>"]
    assert len(made) == 1
    assert frames.page("other", {"list": "two", "foot": ""}, make) == "<html><p>two</p></html>"


def test_a_row_is_made_once_for_what_it_depends_on() -> None:
    rows, made = frame.Rows(most=3), list[Any]()

    def make(keys: list[Any]) -> list[str]:
        made.extend(keys)
        return [f"row {key}" for key in keys]

    assert rows.all([1, 2], make) == ["row 1", "row 2"]
    assert rows.all([2, 3, 1], make) == ["row 2", "row 3", "row 1"]
    assert made == [1, 2, 3]
    assert rows.all([4, 5, 6, 7], make) == ["row 4", "row 5", "row 6", "row 7"]
    assert rows.all([1], make) == ["row 1"]
    assert made == [1, 2, 3, 4, 5, 6, 7, 1]
