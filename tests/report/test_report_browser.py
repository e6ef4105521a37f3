"""The report in headless Chromium: what a script, a screen reader, a keyboard and a phone make of it. Skipped where there is no browser."""

import csv
import dataclasses
import io
import json
from pathlib import Path

import pytest
from report_helpers import hostile_everywhere, unpacked
from synthetic_run import METHODS, synthetic_run

from harness.report import tables
from harness.report.page import page as rendered

ATTACKS = "".join((
    "<script>window.attacked=1</script>", "</script><script>window.attacked=2</script>", "<img src=x onerror=window.attacked=3>",
    "\"'><svg onload=window.attacked=4>", "javascript:window.attacked=5", "<iframe srcdoc='<script>parent.attacked=6</script>'>",
    "{{7*7}}${7*7}<%= 7*7 %>{% raw %}", "<!--", "]]>", "</style></textarea></title></select></option></table>",
    "<a href=https://attack.invalid>x</a><link rel=stylesheet href=https://attack.invalid/x.css>", "\u202egnp.exe\u202c\u2066\u200f",
    "\x00\x1b[31m\x07", "\u2028", "&lt;b&gt;&#60;", "W" * 600, "=HYPERLINK(1)",
))  # fmt: skip

CUT_OFF = """[...document.querySelectorAll("main table:not(article *) th, main table:not(article *) td")].filter((cell) => {
  const range = document.createRange(), box = cell.getBoundingClientRect();
  range.selectNodeContents(cell);
  return cell.checkVisibility() && [...range.getClientRects()].some((part) => part.right > box.right + 1 || part.left < box.left - 1);
}).map((cell) => cell.textContent)"""
"""Texts of the table cells whose contents reach beyond them."""

CONTRAST = Path(__file__).with_name("contrast.js").read_text(encoding="utf-8")
RULES = Path(__file__).with_name("accessibility.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def run():
    return synthetic_run(seeds=2, items=4)


@pytest.fixture(scope="module")
def peaceful(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("peaceful") / "report.html"
    path.write_text(rendered(run), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def hostile(run, tmp_path_factory):
    spoilt = hostile_everywhere(synthetic_run(seeds=1, items=2, hostile=ATTACKS), ATTACKS)
    ids = spoilt.samples["sample_id"] + ATTACKS
    # Frames cannot hold half a surrogate pair; JSON can.
    study = {**spoilt.study, "question": f"{ATTACKS}\ud800", "notes": [f"{ATTACKS}\udfff"]}
    verdicts = [{**verdict, "sentence": f"{verdict['sentence']}\ud800"} for verdict in spoilt.verdicts]
    samples = spoilt.samples.assign(sample_id=ids)
    path = tmp_path_factory.mktemp("hostile") / "report.html"
    path.write_text(rendered(dataclasses.replace(spoilt, study=study, verdicts=verdicts, samples=samples)), encoding="utf-8")
    return path


def column(page, place):
    return page.eval_on_selector_all(
        "#table-leaderboard tbody tr", f"rows => rows.map((row) => [Number(row.cells[{place}].dataset.v), row.cells[{place}].textContent])"
    )


def test_tables_sort_by_value_and_by_keyboard(show, peaceful):
    page = show(peaceful)
    head = page.locator("#table-leaderboard thead th", has_text="Cost")
    place = head.evaluate("head => head.cellIndex")
    before = column(page, place)
    orders = {"descending": True, "ascending": False}
    for order, backwards in orders.items():
        head.locator("button").focus()
        page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == order
        values = [value for value, _ in column(page, place)]
        assert values == sorted(values, reverse=backwards)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") is None
    assert column(page, place) == before
    page.locator("#table-leaderboard thead th", has_text="Method").locator("button").click()
    names = [text.split(" ")[0] for _, text in column(page, 0)]
    assert names == sorted(METHODS)
    assert page.locator("#table-leaderboard [aria-sort]").count() == 1


def test_what_is_missing_comes_last_whatever_its_note_says(show, peaceful):
    page = show(peaceful)
    head = page.locator("#table-leaderboard thead th", has_text="Cost")
    place = head.evaluate("head => head.cellIndex")
    page.locator(f"#table-leaderboard tbody tr:first-child > :nth-child({place + 1})").evaluate(
        "cell => { cell.removeAttribute('data-v'); cell.textContent = '\u2013 (3 without a score)'; }"
    )
    for _ in ("descending", "ascending"):
        head.locator("button").click()
        assert [text[0] == "\u2013" for _, text in column(page, place)] == [False] * (len(METHODS) - 1) + [True]


def test_rows_are_filtered_and_counted(show, peaceful):
    page = show(peaceful)
    tools = page.locator("#table-robustness .tools")
    tools.get_by_role("searchbox").fill("SFT typos")
    shown = page.locator("#table-robustness tbody tr:not([hidden])")
    assert shown.count() == 1
    assert "sft" in shown.inner_text()
    assert tools.get_by_role("status").first.inner_text() == f"1 of {2 * len(METHODS)} rows"
    tools.get_by_role("searchbox").fill("")
    assert shown.count() == 2 * len(METHODS)


def test_downloads_are_the_files_that_report_writes(show, peaceful, run):
    page = show(peaceful, accept_downloads=True)
    expected = unpacked(json.loads(page.locator("#table-data").text_content()))
    assert expected["leaderboard"]["csv"] == tables.safe_csv(tables.leaderboard_frame(run.leaderboard))
    tools = page.locator("#table-leaderboard .tools")
    tools.locator("summary").click()
    for label, ending in (("CSV", "csv"), ("Markdown", "md"), ("LaTeX", "tex")):
        with page.expect_download() as started:
            tools.get_by_role("button", name=f"Download {label}").click()
        assert started.value.suggested_filename == f"quickstart-leaderboard.{ending}"
        with open(started.value.path(), encoding="utf-8", newline="") as file:
            assert file.read() == expected["leaderboard"][ending]
    rows = list(csv.DictReader(io.StringIO(expected["leaderboard"]["csv"])))
    assert [row["method"] for row in rows] == [row["method"] for row in run.leaderboard["rows"]]
    names = page.eval_on_selector_all("table[data-name]", "tables => tables.map((table) => table.dataset.name)")
    assert set(names) == set(expected)


def test_copy_puts_the_table_on_the_clipboard(show, peaceful):
    page = show(peaceful, permissions=["clipboard-read", "clipboard-write"])
    tools = page.locator("#table-audit .tools")
    tools.locator("summary").click()
    tools.get_by_role("button", name="Copy Markdown").click()
    tools.get_by_text("Markdown copied.").wait_for()
    assert page.evaluate("navigator.clipboard.readText()").startswith("| Method | Trainings |")


def test_samples_filter_page_and_compare_two_methods(show, peaceful, run):
    page = show(peaceful)
    count = page.locator("#sample-count")
    assert page.locator("#sample-list article").count() == 5
    assert page.locator("#sample-list mark").count() > 0, "words that the perturbation changed are marked"
    first = page.locator("#sample-list h3").first.inner_text()
    page.locator("#sample-on").click()
    assert page.locator("#sample-place").inner_text() == "Page 2 of 4"
    assert page.locator("#sample-list h3").first.inner_text() != first
    page.locator("#sample-size").select_option("25")
    assert page.locator("#sample-list article").count() == 20
    page.locator("#filter-text").fill("siqa-3")
    assert count.inner_text().startswith("1 of 24 items")
    page.locator("#filter-text").fill("")
    page.locator("#filter-perturbation").select_option(label="nothing (clean only)")
    page.locator("#filter-first").select_option(label="selfteach")
    page.locator("#filter-second").select_option(label="base")
    page.locator("#filter-answers").select_option(label="first better than second")
    primary = run.samples[(run.samples["perturbation"] == "clean") & (run.samples["seed"] == 0)]
    wide = primary.pivot(index="sample_id", columns="method", values="value").astype(float)
    ahead = wide.index[wide["selfteach"] > wide["base"]]
    assert count.inner_text().startswith(f"{len(ahead)} of 24 items match. Seed 0, clean: selfteach better on {len(ahead)}, base on 0")
    shown = page.locator("#sample-list h3").all_inner_texts()
    assert {title.split(" · ")[1] for title in shown} == set(ahead)
    assert all("selfteach − base: +1 with this seed" in text for text in page.locator("#sample-list .difference").all_inner_texts())
    assert page.locator("#sample-list article").first.locator("tbody tr").count() == 2


def test_instructions_filter(show, peaceful, run):
    page = show(peaceful)
    rows = [row for corpus in run.corpora.values() for row in corpus]
    page.locator("#made-state").select_option(label="rejected: near duplicate")
    wanted = sum(not row["kept"] and row["reject_reason"].startswith("near duplicate") for row in rows)
    assert page.locator("#instruction-count").inner_text() == f"{wanted} of {len(rows)} instructions match."


def test_hostile_text_stays_text(show, hostile):
    page = show(hostile)
    assert page.evaluate("window.attacked") is None
    for selector in ("img", "iframe", "object", "a[href^=http]", "a[href^=javascript]", "link[rel=stylesheet]", "svg[onload]"):
        assert page.locator(selector).count() == 0, selector
    assert page.evaluate("[...document.querySelectorAll('*')].some((e) => [...e.attributes].some((a) => a.name.startsWith('on')))") is False
    text = page.locator("#sample-list").inner_text()
    assert "<script>window.attacked=1</script></script><script>" in text
    assert "⟨U+202E⟩gnp.exe" in text
    assert "{{7*7}}${7*7}" in text
    assert page.evaluate("/[\\u0000\\u001b\\u202e\\u2066\\ud800-\\udfff]/.test(document.body.textContent)") is False
    page.locator("#filter-first").select_option(index=2)
    page.locator("#filter-second").select_option(index=1)
    page.locator("#table-leaderboard thead th", has_text="Method").locator("button").click()
    page.locator("#filter-text").fill("onerror")
    assert page.evaluate("window.attacked") is None
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "very long words break"


@pytest.mark.parametrize(("width", "scheme"), [(320, "light"), (400, "dark")])
def test_a_phone_scrolls_one_way(show, peaceful, width, scheme):
    page = show(peaceful, width=width, height=700, scheme=scheme)
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    page.wait_for_timeout(100)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = page.evaluate(
        "[...document.querySelectorAll('.scroll')].filter((b) => b.scrollWidth > b.clientWidth + 1).map((b) => b.className)"
    )
    assert boxes
    assert all("over" in name for name in boxes), "each box that scrolls says so"
    small = page.evaluate(
        "[...document.querySelectorAll('button, select, input, nav a, summary')].filter((e) => e.checkVisibility())"
        ".filter((e) => e.getBoundingClientRect().height < 36).map((e) => e.tagName + e.textContent.slice(0, 20))"
    )
    assert small == []


@pytest.mark.parametrize("width", [390, 1280])
def test_long_names_and_what_stands_beside_them_are_whole(show, tmp_path, width):
    long = ("selfteach:without_consistency_and_review", "selfteach:operations=breadth+deepen+concretise,reviewer=model")
    run = synthetic_run(seeds=2, items=4, methods=(*METHODS, *long))
    board = {**run.leaderboard, "rows": [{**row, "tied_with_best": True} for row in run.leaderboard["rows"]]}
    path = tmp_path / "report.html"
    path.write_text(rendered(dataclasses.replace(run, leaderboard=board)), encoding="utf-8")
    page = show(path, width=width)
    assert page.locator("#table-leaderboard .flag.good").count() == len(METHODS) + len(long)
    assert page.evaluate(CUT_OFF) == []
    page.add_style_tag(content="tbody th { overflow: hidden; white-space: nowrap !important }")
    cut = page.evaluate(CUT_OFF)
    assert all(any(name in text for text in cut) for name in long), "what is cut off is found"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_both_schemes(show, peaceful, scheme):
    page = show(peaceful, scheme=scheme)
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    checked, faint = page.evaluate(CONTRAST)
    assert checked > 500
    assert faint == []
    assert (
        page.evaluate("getComputedStyle(document.body).backgroundColor")
        == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 23, 26)"}[scheme]
    )


def test_contrast_is_measured(show, peaceful):
    page = show(peaceful)
    page.add_style_tag(content=".lead { color: #aaa }")
    assert any("lead" in line for line in page.evaluate(CONTRAST)[1])


def test_accessibility_rules_hold(show, peaceful):
    page = show(peaceful)
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    page.wait_for_timeout(100)
    assert page.evaluate(RULES) == []
    page.evaluate("document.querySelector('main caption').remove(), document.querySelector('svg').removeAttribute('aria-label')")
    assert {line.split(":")[0] for line in page.evaluate(RULES)} == {"no caption", "drawing without name"}, "the rules can fail"


def test_everything_is_reached_by_keyboard(show, peaceful):
    page = show(peaceful)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#verdicts"
    page.evaluate("document.querySelector('#table-leaderboard .tools summary').focus()")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Copy CSV"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "focus is seen"
    page.evaluate("document.querySelector('#filter-task').focus()")
    walked = []
    for _ in range(60):
        walked.append(page.evaluate("document.activeElement.id"))
        page.keyboard.press("Tab")
    wanted = [
        "filter-task",
        "filter-perturbation",
        "filter-seed",
        "filter-first",
        "filter-answers",
        "filter-text",
        "sample-on",
        "sample-size",
    ]
    assert [name for name in walked if name in wanted] == wanted, "in the order of reading; disabled ones left out"


def test_print_opens_what_is_closed(show, peaceful):
    page = show(peaceful)
    closed = "document.querySelectorAll('main details:not([open])').length"
    before = page.evaluate(closed)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert before > 0 == page.evaluate(closed)
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(closed) == before


def test_the_report_can_be_read_without_javascript(browser, peaceful):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(peaceful.as_uri())
    assert page.locator("#table-leaderboard tbody tr").count() == len(METHODS)
    assert page.locator("noscript").count() == 2
    context.close()
