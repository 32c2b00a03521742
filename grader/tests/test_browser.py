"""The browser that tests get is a real one, with origins of the test's own."""

from collections.abc import Callable

import pytest

from grader import browser as browsers
from grader.browser import Site

pytest.importorskip("playwright.sync_api")
from playwright.sync_api import Page


def test_a_page_is_opened_and_its_script_runs(page: Page, site: Callable[..., Site]) -> None:
    here = site({"/": "<script>document.title = location.host</script>"})

    page.goto(here.origin)

    assert f"http://{page.title()}" == here.origin


def test_another_origin_cannot_be_read(page: Page, site: Callable[..., Site]) -> None:
    shop = site({"/": "secret"})
    evil = site({"/": "<p>evil"}, host="127.0.0.1")
    page.goto(evil.origin)

    outcome = page.evaluate("url => fetch(url).then(r => r.text(), error => error.name)", shop.origin)

    assert outcome == "TypeError"
    assert shop.requests == ["GET /"]


def test_headers_reach_the_browser(page: Page, site: Callable[..., Site]) -> None:
    strict = site({"/": "<script>document.title = 'ran'</script>"}, Content_Security_Policy="script-src 'none'")

    page.goto(strict.origin)

    assert page.title() == ""


def test_the_world_outside_is_not_reached(page: Page, site: Callable[..., Site]) -> None:
    page.goto(site({"/": "here"}).origin)

    assert page.evaluate("fetch('http://example.com').then(() => 'reached', () => 'not reached')") == "not reached"


def test_chromium_may_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMIUM", "sh")
    assert browsers.find_chromium() == "sh"

    monkeypatch.setenv("CHROMIUM", "no-such-program")
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        browsers.find_chromium()


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_without_a_browser_tests_are_skipped_but_fail_in_ci(
    ci: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)

    with pytest.raises(outcome, match="Chromium"):
        browsers.no_browser()
