"""Names of files and folders: safe whatever the ids are, and private where plet must own them."""

from __future__ import annotations

import math
import os
import pwd
import stat
import sys
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plet_celery import paths
from plet_celery.errors import HomeError, PletError
from plet_celery.paths import (
    default_home,
    private_directory,
    run_digest,
    run_folder,
    short_id,
    slug,
    tenant_folder,
)

UUID = "5f1c2e9a-8a52-4c9e-9d0e-0d5f3b1c2a77"
any_text = st.text(alphabet=st.characters(exclude_categories=[]), max_size=120)


# Names


@pytest.mark.parametrize("text", ["a", "beat", "import_catalogue-2.v1", "0" * 40, "_"])
def test_a_plain_name_stays_as_it_is(text: str) -> None:
    assert slug(text) == text


@pytest.mark.parametrize(
    "text", ["", ".", "..", "/", "../..", "-rf", "A", "a b", "ä", "a/b", "\0", "a\n", "x" * 41, "\udc80"]
)
def test_a_changed_name_has_a_hash(text: str) -> None:
    found = slug(text)

    assert found != text
    assert len(found.rpartition("-")[2]) == 8


@given(any_text)
def test_a_slug_is_one_harmless_file_name(text: str) -> None:
    found = slug(text)

    assert 1 <= len(found) <= 40
    assert set(found) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-")
    assert found[0] not in ".-"
    assert slug(text) == found


@given(st.lists(any_text, min_size=2, max_size=6, unique=True))
def test_different_names_have_different_slugs(texts: list[str]) -> None:
    assert len({slug(text) for text in texts}) == len(texts)


@pytest.mark.parametrize(
    ("tenant", "folder"),
    [("", "_"), ("/", "_"), ("acme", "acme"), ("acme/north", "acme/north"), ("//a//b/", "a/b")],
)
def test_a_tenant_is_a_path(tenant: str, folder: str) -> None:
    assert tenant_folder(tenant) == Path(folder)


@given(st.one_of(any_text, st.lists(any_text, max_size=40).map("/".join)), any_text, any_text)
def test_a_run_folder_never_leaves_its_root(tenant: str, trigger: str, run_id: str) -> None:
    folder = run_folder(tenant, 1.0, trigger, run_id)

    assert not folder.is_absolute()
    assert ".." not in folder.parts
    assert all(len(os.fsencode(part)) <= 255 for part in folder.parts)
    assert len(os.fsencode(folder)) < 1000


def test_a_tenant_of_ten_thousand_parts_has_a_bounded_path() -> None:
    deep = tenant_folder("a/" * 10_000)

    assert len(deep.parts) <= 8
    assert deep != tenant_folder("a/" * 10_001)


def test_a_run_folder_tells_when_and_why() -> None:
    folder = run_folder("acme/north", 1_764_000_000.9, "beat", UUID)

    assert str(folder) == f"acme/north/20251124_160000_beat_{run_digest(UUID)}"
    assert "_manual_" in str(run_folder("", 0.0, "", UUID))


@pytest.mark.parametrize("started", [-1.0, math.nan, math.inf, -math.inf, 1e300])
def test_a_run_folder_for_absurd_times(started: float) -> None:
    assert run_folder("", started, "", "x").name.endswith(f"_manual_{run_digest('x')}")


def test_ids_in_file_names_and_on_screens() -> None:
    assert short_id(UUID) == "5f1c2e9a"
    assert short_id("nightly/../x") == run_digest("nightly/../x")[:8]
    assert len(run_digest("\udc80" * 10_000)) == 10
    assert run_digest("a") != run_digest("b")


# Home


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    made = ModuleType("shop_of_test")
    monkeypatch.setitem(sys.modules, "shop_of_test", made)
    return made


def test_home_is_beside_the_apps_top_level_module(module: ModuleType, tmp_path: Path) -> None:
    module.__file__ = str(tmp_path / "shop_of_test.py")

    assert default_home("shop_of_test") == tmp_path / ".plet"
    assert default_home("shop_of_test.celery.app") == tmp_path / ".plet"


def test_home_of_a_namespace_package_is_in_its_folder(module: ModuleType, tmp_path: Path) -> None:
    module.__path__ = [str(tmp_path)]

    assert default_home("shop_of_test.app") == tmp_path / ".plet"


@pytest.mark.parametrize("name", [None, "", "no_such_module_of_test"])
def test_home_without_a_file_is_the_users_and_never_the_working_directory(
    name: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    assert default_home(name) == tmp_path / ".plet"


def test_home_of_a_user_without_a_home_is_an_error_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uid: int) -> NoReturn:
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)

    with pytest.raises(HomeError, match="set plet_home"):
        default_home(None)


def test_the_places_in_a_home() -> None:
    home = Path("/srv/home")

    assert paths.journal_directory(home) == home / "journal" / str(os.getuid())
    assert paths.runs_directory(home) == home / "runs"
    assert paths.default_database_url(home) == "sqlite:////srv/home/plet.db"


# Private directories


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o022, 0o000, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> object:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_a_made_directory_is_private_and_so_are_its_made_parents(tmp_path: Path) -> None:
    made = private_directory(tmp_path / "a" / "b" / "c")

    assert made == tmp_path / "a" / "b" / "c"
    assert [_mode(path) for path in (made, made.parent, made.parent.parent)] == [0o700] * 3
    assert private_directory(made) == made


def test_an_existing_directory_is_taken_as_it_is(tmp_path: Path) -> None:
    for mode in (0o700, 0o750, 0o755):
        tmp_path.chmod(mode)
        assert private_directory(tmp_path) == tmp_path
        assert _mode(tmp_path) == mode


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o1777])
def test_a_directory_that_others_may_write_is_refused(mode: int, tmp_path: Path) -> None:
    tmp_path.chmod(mode)

    with pytest.raises(HomeError, match=r"writable by others .*chmod go-w"):
        private_directory(tmp_path)


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")

    with pytest.raises(HomeError, match="is a file"):
        private_directory(file)
    with pytest.raises(HomeError, match="set plet_home"):
        private_directory(file / "below")
    assert file.read_text() == "x"


@pytest.mark.parametrize("name", ["a\0b", "x" * 300])
def test_an_impossible_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="set plet_home"):
        private_directory(tmp_path / name)


def test_a_directory_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)

    with pytest.raises(HomeError, match="belongs to uid"):
        private_directory(tmp_path)


def test_a_directory_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o500)
    if os.getuid() == 0:  # root may write everywhere
        monkeypatch.setattr(os, "access", lambda path, mode: False)

    with pytest.raises(HomeError, match="not writable"):
        private_directory(tmp_path)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs /proc")
def test_a_file_system_that_takes_no_directory_is_refused() -> None:
    with pytest.raises(HomeError, match="/proc/plet"):
        private_directory(Path("/proc/plet"))


def test_a_symbolic_link_to_a_private_directory_is_fine_and_a_dangling_one_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")

    assert private_directory(tmp_path / "link") == tmp_path / "link"
    with pytest.raises(PletError):
        private_directory(tmp_path / "dangling")
