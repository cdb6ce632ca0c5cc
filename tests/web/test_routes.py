"""Every address of ours, with every verb, asked by everybody: nothing is served that nobody allowed."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from flowers import NO_ANSWER, Answer, RunningFlower, running_flower
from recorded_runs import Story
from watched import Watched

from plet_celery.web.access import RIGHTS
from plet_celery.web.alert import Act
from plet_celery.web.handler import PletHandler
from plet_celery.web.routes import Asset, routes
from plet_celery.web.run import FOLLOW

RULES = """
some = {"none": set(), "runs": {"runs"}, "logs": {"logs"}}
app.conf.plet_rights_for = lambda user: some.get(user, {"runs", "logs"})
app.conf.plet_tenants_for = lambda user: ["mine"]
"""
VERBS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
USERS = ("none", "runs", "logs", "ada")
CANARY = "canary"
REGIONS = {
    "plet": ("glance", "runs", "tasks", "footer"),
    "plet-workers": ("workers", "lost", "footer"),
    "plet-health": ("health", "footer"),
    "plet-alerts": ("tiles", "alerts", "rules", "footer"),
    "plet-alert": ("head", "acts", "timeline", "runs", "deliveries", "footer"),
    "plet-run": (
        *("head", "error", "stages", "canvas", "log", "metadata", "measures"),
        *("arguments", "attempts", "events", "raw", "footer", FOLLOW),
    ),
}
LEADING = ("plet", "plet/runs", "plet/runs/")
"""These lead to the list."""
# The probes have tests of their own, in test_health_page.py.
PROBES = {"plet-healthz", "plet-livez", "plet-readyz"}
ACTS = [one for one in routes() if issubclass(one.handler_class, Act)]
"""What forms are sent to: `test_alert_acts.py` asks who may."""
NAMED = [
    one
    for one in routes()
    if one.handler_class is not Asset and one.name not in PROBES and not issubclass(one.handler_class, Act)
]


def told(story: Story, tenant: str, at: float) -> str:
    run = story.run(f"shop.{CANARY}", started=at, tenant=tenant, args=[CANARY])
    run.log(CANARY, level=40)
    run.stage(CANARY)
    run.fail(CANARY, CANARY, traceback="TRACE")
    return run.id


@pytest.fixture(scope="module")
def ids(shop: Any) -> dict[str, str]:
    """One run of `mine`, its twin of `other`."""
    shop.write(RULES)
    found = {tenant: told(shop.story, tenant, shop.now - 60) for tenant in ("mine", "other")}
    shop.story.ship()
    watched = Watched(shop.story.store)
    for tenant, run in tuple(found.items()):
        said: Any = {"title": CANARY, "value": CANARY, "advice": CANARY, "affected": CANARY}
        watched.judge("failure_rate", f"{tenant}.{CANARY}", tenant=tenant, runs=(run,), count=1, **said)
        watched.go(shop.now)
        found[f"{tenant} alert"] = watched.alert("failure_rate", f"{tenant}.{CANARY}").id
    return found


@pytest.fixture(scope="module")
def guarded(shop: Any, ids: dict[str, str]) -> Iterator[RunningFlower]:
    users = ",".join(f"{name}:pw" for name in USERS)
    with running_flower(shop.folder, f"--basic-auth={users}") as found:
        yield found


def address_of(one: Any, run: str, alert: str) -> str:
    """The address of a route for a run, or for an alert."""
    pattern = one.regex.pattern.removesuffix("$")
    return str(pattern.replace("([^/]+)", alert if "/alerts/" in pattern else run))


def paths(run: str, alert: str) -> list[str]:
    """Every route's address for a run and an alert."""
    found = []
    for one in NAMED:
        path = address_of(one, run, alert).replace(".*", "no/such/page")
        assert re.fullmatch(one.regex, path), path
        found.append(path.removeprefix("/"))
    return found


def every_address(ids: dict[str, str], tenant: str = "mine") -> list[str]:
    """All pages, regions and downloads about the run and the alert of a tenant."""
    run, alert = ids[tenant], ids[f"{tenant} alert"]
    found = paths(run, alert)
    for one in NAMED:
        path = address_of(one, run, alert).removeprefix("/")
        found += [f"{path}?region={region}" for region in REGIONS.get(one.name or "", ())]
    return [*found, f"plet/runs/{run}/log?log_tab=1", f"plet/runs/{run}/log?log_raw=1&log_q=x"]


def test_every_route_declares_a_right_but_the_one_of_static_files() -> None:
    free = [one for one in routes() if not issubclass(one.handler_class, PletHandler)]

    assert [one.handler_class for one in free] == [Asset]
    assert {one.handler_class.right for one in NAMED} <= RIGHTS
    talkative = {one.name for one in routes() if getattr(one.handler_class, "says_a_word", False)}
    assert talkative == PROBES
    assert not any(one.regex.groups for one in routes() if one.name in PROBES)
    assert {one.handler_class.right for one in ACTS} == {"act"}


def test_a_handler_without_a_right_or_with_a_door_of_its_own_cannot_be_written() -> None:
    with pytest.raises(TypeError, match="needs a right"):
        type("Page", (PletHandler,), {})
    with pytest.raises(TypeError, match="prepare"):
        type("Page", (PletHandler,), {"right": "runs", "prepare": lambda self: None})


def test_no_handler_hides_a_method_that_tornado_calls() -> None:
    """`_log` of a page about logs did: every request to it ended in an error after its answer."""
    from flower.views import BaseHandler

    mine = {name for one in NAMED for name in vars(one.handler_class) if not name.startswith("__")}
    meant = {"get", "head"}

    assert {name for name in mine if hasattr(BaseHandler, name)} == meant


def test_regions_of_this_test_are_those_of_the_pages(guarded: RunningFlower, ids: dict[str, str]) -> None:
    for name, regions in REGIONS.items():
        (one,) = (route for route in NAMED if route.name == name)
        path = address_of(one, ids["mine"], ids["mine alert"]).removeprefix("/")
        found = set(re.findall(r'id="region-(\w+)"', guarded.get(path, user="ada:pw").text))
        assert found == set(regions) - {FOLLOW}, path


# Verbs


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("user", [None, "ada:wrong", "ghost:pw", "none:pw", "logs:pw"])
def test_who_may_not_see_runs_gets_nothing_by_any_verb(
    guarded: RunningFlower, ids: dict[str, str], user: str | None, verb: str
) -> None:
    wanted = {403} if user in ("none:pw", "logs:pw") else {401}
    for path in every_address(ids):
        answer = guarded.get(path, user=user, method=verb)
        assert answer.status in wanted, (path, answer.status)
        assert CANARY not in answer.text, path


@pytest.mark.parametrize("verb", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
def test_who_may_read_may_not_write(guarded: RunningFlower, ids: dict[str, str], verb: str) -> None:
    for path in every_address(ids):
        answer = guarded.get(path, user="ada:pw", method=verb)
        assert answer.status == 405, path
        assert "GET" in answer.headers["allow"] and verb not in answer.headers["allow"], path
        assert CANARY not in answer.text
        assert answer.headers["x-frame-options"] == "DENY", path


def test_reading_finds_everything_of_ones_own(guarded: RunningFlower, ids: dict[str, str]) -> None:
    for path in every_address(ids):
        answer = guarded.get(path, user="ada:pw")
        missing = "no/such/page" in path
        assert answer.status == (404 if missing else 302 if path in LEADING else 200), path
        assert NO_ANSWER not in answer.text, path


def test_a_head_request_is_answered_as_a_get_without_its_body(
    guarded: RunningFlower, ids: dict[str, str]
) -> None:
    for user in (None, "none:pw", "runs:pw", "ada:pw"):
        for path in every_address(ids):
            whole, head = (guarded.get(path, user=user, method=verb) for verb in ("GET", "HEAD"))
            assert (head.status, head.text) == (whole.status, ""), path
            assert head.headers.get("content-type") == whole.headers.get("content-type") or whole.status > 400


def test_logs_need_their_own_right(guarded: RunningFlower, ids: dict[str, str]) -> None:
    run = f"plet/runs/{ids['mine']}"

    assert guarded.get(run, user="runs:pw").status == 200
    for path in (f"{run}/log", f"{run}/log?log_tab=1", f"{run}?region={FOLLOW}"):
        assert guarded.get(path, user="runs:pw").status == 403, path
    assert guarded.get(f"{run}?region=log", user="runs:pw").status == 404


def test_a_foreign_run_is_one_that_is_not_there_whatever_is_asked(
    guarded: RunningFlower, ids: dict[str, str]
) -> None:
    absent = "00000000-0000-4000-8000-000000000000"
    for verb in ("GET", "HEAD"):
        nobodys = {"other": absent, "other alert": "0" * 32}
        pairs = zip(every_address(ids, "other"), every_address(nobodys, "other"), strict=True)
        for foreign_path, absent_path in pairs:
            if not re.search("/(runs|alerts)/", foreign_path) or foreign_path in LEADING:
                continue
            foreign = guarded.get(foreign_path, user="ada:pw", method=verb)
            missing = guarded.get(absent_path, user="ada:pw", method=verb)
            assert foreign.status == missing.status == 404, foreign_path
            for name, id_ in nobodys.items():
                foreign = foreign._replace(text=foreign.text.replace(ids[name], id_))
            assert alike(foreign, absent) == alike(missing, absent), foreign_path


def alike(answer: Answer, run: str) -> tuple[Any, ...]:
    headers = {name: value for name, value in answer.headers.items() if name not in ("date", "etag")}
    text = re.sub(r'name="_xsrf"[^>]*|datetime="[^"]*"[^<]*', "", answer.text.replace(run, "RUN"))
    return answer.status, text, headers


# Static files


@pytest.mark.parametrize(
    "path",
    [
        *("", ".", "..", "../routes.py", "..%2froutes.py", "%2e%2e/routes.py", "....//routes.py"),
        *(
            "%2fetc%2fpasswd",
            "/etc/passwd",
            "//etc/passwd",
            "plet.css%00",
            "%00",
            "%ff",
            "plet.css/",
            "x/plet.css",
        ),
        *("..%5croutes.py", "plet.css%2f..%2f..%2froutes.py", "__pycache__", "../templates/plet/run.html"),
    ],
)
def test_only_the_files_that_are_ours_are_static(guarded: RunningFlower, path: str) -> None:
    answer = raw(guarded, f"GET /plet/static/{path} HTTP/1.1")

    assert re.match(r"HTTP/1.1 (40[034]|401) ", answer), answer[:60]
    for word in ("import ", "root:", "Traceback", "<li", ".css\n"):
        assert word not in answer


def test_static_files_tell_of_nobody_and_are_safe(guarded: RunningFlower) -> None:
    answer = guarded.get("plet/static/plet.js")

    assert answer.status == 200
    assert answer.headers["content-type"].startswith(("text/javascript", "application/javascript"))
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert guarded.get("plet/static/plet.js", method="HEAD").text == ""
    for verb in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert guarded.get("plet/static/plet.js", method=verb).status in (403, 405)


def test_a_file_without_its_mark_is_asked_for_again(guarded: RunningFlower) -> None:
    marked, bare = guarded.get("plet/static/log.js?v=1"), guarded.get("plet/static/log-text.js")
    again = guarded.get("plet/static/log-text.js", If_None_Match=bare.headers["etag"])

    assert marked.headers["cache-control"].startswith("max-age=")
    assert bare.headers["cache-control"] == "no-cache"
    assert again.status == 304


# Odd requests


def raw(flower: RunningFlower, line: str, *headers: str, user: str = "") -> str:
    """Send a request as it is, return the whole answer."""
    place = urlsplit(flower.base)
    given = (
        list(headers)
        if any(one.lower().startswith("host:") for one in headers)
        else ["Host: localhost", *headers]
    )
    if user:
        given.append(f"Authorization: Basic {user}")
    text = "\r\n".join([line, *given, "Connection: close", "", ""])
    with socket.create_connection((place.hostname, place.port), timeout=120) as line_:
        line_.sendall(text.encode("latin-1"))
        found = b""
        while piece := line_.recv(1 << 16):
            found += piece
    return found.decode("utf-8", "replace")


ADA = "YWRhOnB3"
ODD = [
    *("?tz=%ff", "?q=%ff", "?region=%ff", "?region=runs&q=%ff", "?%ff=1", "?%ff=%fe&q=1", "?q=%ed%a0%80"),
    *(
        "?q=%00",
        "?after=%00",
        "?after=e30",
        "?after=W10",
        "?after=bnVsbA",
        "?after=WzEsMl0",
        "?after=WzFlNDAwLCJ4Il0",
    ),
    *("?from=9999-12-31T23:59:59Z", "?from=0001-01-01", "?to=99999999999", "?from=-1&to=nan", "?from=1e999"),
    *(
        "?state=" + "failed," * 500,
        "?state=failed&state=lost&state=%00",
        "?q=state:",
        "?q=%22",
        "?q=meta.:&q=meta.a:",
    ),
    *(
        "?q=" + "x" * 5000,
        "?refresh=99999999",
        "?refresh=-1",
        "?before=x&after=y",
        "?task=*",
        "?task=**",
        "?tenant=%25",
    ),
    *(
        "?show=%00",
        "?show=nothing&q=%ff&silence=%00",
        "?late=1",
        "?late=1&state=failed&task=*&q=x",
        "?late=%00&after=e30",
        "?silence=" + "x" * 500,
        "?" + "a=1&" * 90,
        "?worker=%F0%9F%92%A5",
        "?tz=utc&tz=../../x",
        "?q=a&q=b&q=c",
        "?=",
        "?&&&",
        "?region=&q=1",
    ),
]
ODD_OF_RUN = [
    *(
        "?tl=%ff",
        "?tl=nonsense",
        "?tl_only=x" * 20,
        "?log_from=0",
        "?log_from=99999999999",
        "?log_at=a0L0",
        "?log_at=%00",
    ),
    *(
        "?log_attempt=0",
        "?log_attempt=999999999",
        "?log_n=1000000",
        "?log_level=%00",
        "?log_q=%ff",
        "?log_q=%00",
    ),
    *(
        "?log_to=end&log_from=3&log_at=a1L1&log_error=first",
        "?log_stage=-1",
        "?log_stage=x",
        "?log_stream=x,,y",
    ),
    *(
        "?region=log-after",
        "?region=log-after&position=%00",
        "?region=log-after&position=e30",
        "?log_hit=a9L9",
    ),
    *("?region=log-after&position=" + "x" * 900, "?region=log-after&position=1:1:99999999999999999999"),
    *("?region=log-after&position=null", "?region=log-after&position=-1", "?region=log-after&position=a1L1"),
]


@pytest.mark.parametrize(
    "path",
    [
        *("plet/", "plet/workers", "plet/runs/{run}", "plet/runs/{run}/log"),
        *("plet/alerts", "plet/alerts?show=resolved&x=", "plet/alerts/{alert}"),
    ],
)
def test_no_argument_makes_an_error_of_ours(guarded: RunningFlower, ids: dict[str, str], path: str) -> None:
    path = path.format(run=ids["mine"], alert=ids["mine alert"])
    for query in (*ODD, *(ODD_OF_RUN if "runs" in path else ())):
        answer = guarded.get(path + (f"&{query[1:]}" if "?" in path else query), user="ada:pw")
        assert answer.status in (200, 400, 404), (query[:80], answer.status)
        for word in ("Traceback", "an error of ours", "Uncaught"):
            assert word not in answer.text, query[:80]
        if answer.status == 400 and "region=" not in query:
            assert 'id="plet"' in answer.text, query
    assert "Traceback" not in guarded.log.read_text()


def test_a_stage_leads_to_its_own_lines_whatever_line_the_address_names(
    guarded: RunningFlower, ids: dict[str, str]
) -> None:
    for place in ("log_at=a1L5", "log_hit=a1L5", "log_from=9000", "log_to=3", "log_error=first"):
        html = guarded.get(f"plet/runs/{ids['mine']}?{place}", user="ada:pw").text
        links = re.findall(r'href="(\?[^"]*log_stage=[^"]*#log)"', html)
        assert links, place
        assert not any(f"{place.partition('=')[0]}=" in one for one in links), links


def test_a_long_position_is_read_to_its_end(guarded: RunningFlower, ids: dict[str, str]) -> None:
    """That of a run with many attempts that have no folder where Flower runs."""
    page = f"plet/runs/{ids['mine']}?region="
    begun = json.loads(guarded.get(f"{page}log-after&position=~", user="ada:pw").text)
    assert begun["lines"]
    behind = "~".join([*(f"s{number}_1:1790000000000000" for number in range(8000, 8060)), begun["position"]])

    found = json.loads(guarded.get(f"{page}log-after&position={quote(behind)}", user="ada:pw").text)

    assert found["lines"] == 0


@pytest.mark.parametrize(
    "run", ["%ff", "%00", "%c3%28", "%ed%a0%80", "a%0d%0aSet-Cookie:x=1", "%e2%80%ae", "..", "~"]
)
def test_no_id_makes_an_error_of_ours(guarded: RunningFlower, run: str) -> None:
    pages = (f"/plet/runs/{run}", f"/plet/runs/{run}/log", f"/plet/runs/{run}?region=log")
    for path in (*pages, f"/plet/alerts/{run}", f"/plet/alerts/{run}?region=acts"):
        answer = raw(guarded, f"GET {path} HTTP/1.1", user=ADA)
        assert re.match(r"HTTP/1.1 (400|404) ", answer), answer[:60]
        assert "\nset-cookie: x" not in answer.lower()
        assert "error of ours" not in answer
    assert "Traceback" not in guarded.log.read_text()


def test_requests_in_other_forms_are_not_a_way_in(guarded: RunningFlower) -> None:
    for line in (
        *("GET http://evil.example/plet/ HTTP/1.1", "GET //plet/ HTTP/1.1", "GET /plet//runs HTTP/1.1"),
        *(
            "GET /PLET/ HTTP/1.1",
            "GET /plet/./ HTTP/1.1",
            "GET /x/../plet/ HTTP/1.1",
            "GET /plet/;x HTTP/1.1",
        ),
        *("GET /plet/health HTTP/1.1", "GET /plet/login HTTP/1.1", "GET /plet/runs/metrics/log HTTP/1.1"),
        *(
            "GET /plet/static/../runs HTTP/1.1",
            "GET /plet/?/static/plet.css HTTP/1.1",
            "GET /plet/runs/static HTTP/1.1",
        ),
    ):
        answer = raw(guarded, line)
        assert re.match(r"HTTP/1.1 (400|401|404) ", answer), (line, answer[:60])
        assert CANARY not in answer
    with contextlib.suppress(ConnectionResetError):
        assert "200 OK" not in raw(guarded, "GET /plet/ HTTP/1.1", "X-Long: " + "x" * 200_000, user=ADA)
    assert guarded.get("healthcheck").status == 200


def test_a_method_or_a_path_that_is_none_is_refused_with_a_page(guarded: RunningFlower) -> None:
    for line in ("FOO /plet/ HTTP/1.1", "GET /plet/runs/%ff HTTP/1.1"):
        answer = raw(guarded, line)
        assert re.match(r"HTTP/1.1 (400|405) ", answer), answer[:60]
        assert 'id="plet"' in answer
    assert "Uncaught exception" not in guarded.log.read_text()


def test_hosts_that_are_not_this_machine_are_refused_without_authentication(
    shop: Any, tmp_path: Path
) -> None:
    with running_flower(shop.folder) as flower:
        for host in (
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "evil.example:80@localhost",
            "0",
            "[::]",
        ):
            answer = raw(flower, "GET /plet/ HTTP/1.1", f"Host: {host}")
            assert re.match(r"HTTP/1.1 4", answer), (host, answer[:60])
            assert CANARY not in answer
        for header in ("X-Forwarded-For: 192.0.2.1", "X-Real-IP: 192.0.2.1", "Forwarded: for=192.0.2.1"):
            assert raw(flower, "GET /plet/ HTTP/1.1", header).startswith("HTTP/1.1 403"), header
        assert raw(flower, "GET /plet/ HTTP/1.1", "X-Forwarded-For: 127.0.0.1").startswith("HTTP/1.1 200")
