from tests import browser
from tests.reporting import demo


def test_pages_are_silent_accessible_and_fit_a_phone(tmp_path):
    problems = browser.check_pages(demo.write_site(tmp_path))
    assert problems == []


def test_the_check_finds_what_is_wrong(tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<html><body><img src='http://127.0.0.1:9/x.png'><div style='width:2000px'>wide</div>"
        "<script>alert('boo'); console.error('bad')</script></body></html>"
    )
    with browser.browser() as opened:
        seen = browser.visit(opened, bad, browser.PHONE)
    assert seen.requests == ["http://127.0.0.1:9/x.png"]
    assert seen.dialogs == ["boo"]
    assert any("bad" in line for line in seen.console)
    assert any(line.startswith("image-alt") for line in seen.violations)
    assert any(line.startswith("html-has-lang") for line in seen.violations)
    assert seen.overflow > 1000


def test_code_opens_with_one_button_and_prints_without(tmp_path):
    _, path = demo.write_site(tmp_path)
    with browser.browser() as opened:
        page = opened.new_page(viewport={"width": browser.PHONE, "height": 844})
        page.goto(path.as_uri())
        code = page.locator("details.code pre").first
        assert not code.is_visible()
        page.click("#toggle-code")
        assert code.is_visible() and page.locator("#toggle-code").inner_text() == "Hide all code"
        page.emulate_media(media="print")
        assert not code.is_visible() and page.locator("#provenance").is_visible()
        assert not page.locator("#contents").is_visible()


def test_without_scripts_each_block_of_code_still_opens(tmp_path):
    _, path = demo.write_site(tmp_path)
    with browser.browser() as opened:
        page = opened.new_context(
            java_script_enabled=False, viewport={"width": browser.PHONE, "height": 844}
        ).new_page()
        page.goto(path.as_uri())
        page.locator("details.code summary").first.click()
        assert page.locator("details.code pre").first.is_visible()
        assert not page.locator("#toggle-code").is_visible()
