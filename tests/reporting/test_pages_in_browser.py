from analysis.reporting.page import render_page
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


def test_a_phone_shows_headings_with_their_findings_until_one_is_opened(tmp_path):
    _, path = demo.write_site(tmp_path)
    with browser.browser() as opened:
        page = opened.new_page(viewport={"width": browser.PHONE, "height": 844})
        page.goto(path.as_uri())
        sections, figures = page.locator("details.section"), page.locator("article figure")
        findings = page.locator("details.section:has(.finding)")
        assert sections.count() > 1 and figures.count() and findings.count()
        assert not any(figure.is_visible() for figure in figures.all())
        leads = [section.locator(".lead").inner_text() for section in sections.all()]
        found = [section.locator(".finding p").first.text_content() for section in findings.all()]
        # the answer stands above already: its section begins with other words
        assert found[0] == page.locator("#answer .sentence").inner_text() and found[0] not in leads
        assert leads[0] == "code, emphasis and a link."
        assert not page.locator("#contents").is_visible()
        other = tmp_path / "other.html"
        other.write_text(render_page(demo.notebook(), demo.context(findings=[demo.COUNTED | {"answer": True}])))
        page.goto(other.as_uri())
        assert findings.first.locator(".lead").inner_text() == demo.ANSWER["sentence"].replace("**", "")
        page.goto(path.as_uri())
        section = page.locator("details.section:has(figure)").first
        section.locator("summary h2").click()
        assert section.locator("figure").first.is_visible() and not section.locator(".lead").is_visible()

        anchor = sections.last.locator("h2").get_attribute("id")
        page.goto(f"{path.as_uri()}#{anchor}")
        page.reload()
        assert sections.last.evaluate("section => section.open") and not sections.first.evaluate(
            "section => section.open"
        )
        page.pdf()  # as printing does, it asks the page to get ready
        assert all(figure.is_visible() for figure in figures.all())


def test_a_wide_window_shows_the_whole_page(tmp_path):
    _, path = demo.write_site(tmp_path)
    with browser.browser() as opened:
        page = opened.new_page(viewport={"width": browser.WIDE, "height": 844})
        page.goto(path.as_uri())
        assert page.locator("details.section").count() == 0 and page.locator("#contents a").first.is_visible()
        assert all(figure.is_visible() for figure in page.locator("article figure").all())


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
