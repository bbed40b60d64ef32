"""The page in a real browser: Chromium without a window, opened from the disk."""

import json
import shutil
import time

import numpy as np
import pytest

pytest.importorskip("selenium", reason="selenium, which drives the browser, is not installed: pip install -e .[dev]")
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from igoas_plugin.inference.search.answers import Match
from igoas_plugin.reports.html.page import render
from igoas_plugin.reports.html.thumbnails import thumbnail

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver on the PATH")
ARGUMENTS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
SIZES = {"desktop": (1280, 900), "phone": (390, 844), "small phone": (360, 740)}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = Options()
    for argument in (*ARGUMENTS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(argument)
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def address(page, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page, encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def opened(browser, address):
    """Loads the page at the size of a desktop."""
    resize(browser, "desktop")
    browser.get("about:blank")
    for kind in ("browser", "performance"):
        browser.get_log(kind)  # reading a log empties it
    browser.get(address)
    return browser


def resize(browser, size) -> None:
    width, height = SIZES[size]
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size != "desktop"}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def rows(browser) -> list[list[str]]:
    """Returns the cells of the visible rows of the table of queries."""
    script = """return [...document.getElementById("set-1-queries").tBodies[0].rows]
        .filter(row => !row.hidden).map(row => [...row.cells].map(cell => cell.textContent.trim()))"""
    return browser.execute_script(script)


def field(browser, label):
    """Returns a field of the filter of the queries, by its label."""
    return browser.find_element(
        By.XPATH, f"//*[@data-table='set-1-queries']//label[contains(., '{label}')]/*[self::input or self::select]"
    )


def status(browser) -> str:
    return browser.find_element(By.ID, "set-1-queries-count").text


def wait_for(browser, condition) -> None:
    WebDriverWait(browser, 10, poll_frequency=0.05).until(condition)


def test_it_opens_from_the_disk_without_a_word_in_the_console_and_without_a_request(opened, address):
    assert opened.title.startswith("Evaluation of run <b> & co")
    assert opened.execute_script("return window.hurt === undefined")
    assert opened.get_log("browser") == []
    assert opened.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)") == []
    events = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    asked = [each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"]
    assert asked[0] == address and all(url.startswith("data:image/") for url in asked[1:])
    loaded = "return [...document.images].filter(image => image.complete && !image.naturalWidth).length"
    assert opened.execute_script(loaded) == 0


def test_the_policy_keeps_out_what_does_not_stand_in_the_page_itself(opened):
    opened.execute_script("""const script = document.createElement("script"); script.textContent = "window.hurt = 1";
        document.body.append(script); new Image().src = "http://127.0.0.1:9/x.png";""")
    wait_for(opened, lambda _: opened.execute_script("return window.hurt === undefined"))
    refused = []

    def two_refused(_) -> bool:
        refused.extend(entry["message"] for entry in opened.get_log("browser"))
        return len(refused) > 1

    wait_for(opened, two_refused)
    assert all("Content Security Policy" in message for message in refused)


def test_a_filter_leaves_rows_and_pictures_of_its_queries_alone_and_says_how_many(opened):
    assert len(rows(opened)) == 8 and status(opened) == "8 queries"
    assert opened.find_element(By.ID, "set-1-queries-count").get_attribute("role") == "status"
    field(opened, "Identity").send_keys("3")
    wait_for(opened, lambda _: len(rows(opened)) == 2)
    assert {row[3] for row in rows(opened)} == {"3"} and status(opened).startswith("2 of 8 queries")
    first_set, other_set = (
        opened.execute_script(
            "return [...document.getElementById(arguments[0]).closest('section').querySelectorAll('article')]"
            ".map(article => [article.hidden, article.querySelector('summary').textContent])",
            name,
        )
        for name in ("set-1", "set-2")
    )
    assert all(hidden != ("identity 3," in text) for hidden, text in first_set) and len(first_set) == 6
    assert not any(hidden for hidden, _ in other_set)
    opened.find_element(By.XPATH, "//*[@data-table='set-1-queries']//button").click()
    assert len(rows(opened)) == 8 and status(opened).startswith("8 queries")


def test_filters_act_together_and_say_where_no_picture_is_left(opened):
    name = rows(opened)[0][0]
    field(opened, "File").send_keys(name.upper())
    Select(field(opened, "Camera")).select_by_visible_text("0")
    wait_for(opened, lambda _: [row[0] for row in rows(opened)] == [name])
    none = [each.is_displayed() for each in opened.find_elements(By.CSS_SELECTOR, "section .none")[:3]]
    assert none == [False, True, True]  # the worst query is among the worst alone
    field(opened, "AP from").send_keys("100.1")
    wait_for(opened, lambda _: rows(opened) == [])
    assert status(opened).startswith("0 of 8 queries")


def test_a_range_of_ap_keeps_what_lies_in_it(opened):
    precisions = sorted(float(row[1]) for row in rows(opened))
    field(opened, "AP from").send_keys(str(precisions[2]))
    field(opened, "AP to").send_keys(str(precisions[5]))
    expected = [each for each in precisions if precisions[2] <= each <= precisions[5]]
    wait_for(opened, lambda _: sorted(float(row[1]) for row in rows(opened)) == expected)
    assert 0 < len(expected) < 8


def test_a_button_in_the_head_sorts_by_number_and_tells_the_order(opened):
    heads = opened.find_elements(By.CSS_SELECTOR, "#set-1-queries thead th")
    precisions = [float(row[1]) for row in rows(opened)]
    assert heads[1].get_attribute("aria-sort") == "ascending" and precisions == sorted(precisions)
    heads[1].find_element(By.TAG_NAME, "button").click()
    assert heads[1].get_attribute("aria-sort") == "descending"
    assert [float(row[1]) for row in rows(opened)] == sorted(precisions, reverse=True)
    assert status(opened) == "8 queries, by AP (%), descending"
    heads[0].find_element(By.TAG_NAME, "button").click()
    assert [head.get_attribute("aria-sort") for head in heads] == ["ascending", *5 * [None]]
    assert rows(opened)[0][0].startswith("0_0_")


def test_rows_without_a_number_come_last_in_both_directions(opened):
    opened.execute_script("document.getElementById('set-1-queries').tBodies[0].rows[3].cells[1].textContent = '-'")
    button = opened.find_element(By.CSS_SELECTOR, "#set-1-queries thead th:nth-child(2) button")
    for _ in range(2):
        button.click()
        assert [row[1] for row in rows(opened)].index("-") == 7


def test_the_keyboard_reaches_the_skip_link_the_content_and_a_sort_button(opened):
    def press(*keys):
        ActionChains(opened).send_keys(*keys).perform()
        return opened.switch_to.active_element

    first = press(Keys.TAB)
    assert first.text == "Skip to the content" and first.location["x"] >= 0
    outline = "return getComputedStyle(arguments[0]).outlineStyle + getComputedStyle(arguments[0]).outlineWidth"
    assert opened.execute_script(outline, first) == "solid3px"
    press(Keys.ENTER)
    assert opened.execute_script("return location.hash") == "#main"
    for _ in range(4):  # the first region that can be scrolled, then the buttons in the head of its table
        button = press(Keys.TAB)
        if button.tag_name == "button":
            break
    assert button.find_element(By.XPATH, "..").tag_name == "th"
    assert opened.execute_script(outline, button) == "solid3px"
    press(Keys.ENTER)
    assert button.find_element(By.XPATH, "..").get_attribute("aria-sort") == "ascending"


def test_a_link_of_the_table_leads_to_the_pictures_of_its_query(opened):
    link = opened.find_element(By.CSS_SELECTOR, "#set-1-queries tbody a")
    target = link.get_attribute("href").split("#")[1]
    link.click()
    top = opened.execute_script("return document.getElementById(arguments[0]).getBoundingClientRect().top", target)
    assert 0 <= top < SIZES["desktop"][1]


@pytest.mark.parametrize("size", SIZES)
def test_the_page_itself_never_scrolls_sideways(opened, size):
    resize(opened, size)
    opened.execute_script("for (const each of document.querySelectorAll('details')) each.open = true")
    time.sleep(0.1)
    width, shown = opened.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert width <= shown == SIZES[size][0]
    sides = """return [...document.querySelectorAll("main p, main img, main h5, .filter, .scroll, nav")]
        .filter(each => each.getBoundingClientRect().width)
        .filter(each => !each.parentElement.closest(".scroll"))
        .filter(each => each.getBoundingClientRect().right > innerWidth + 1).map(each => each.outerHTML.slice(0, 80))"""
    assert opened.execute_script(sides) == []


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_no_column_of_a_table_is_cut_off(opened, size):
    resize(opened, size)
    opened.execute_script("for (const each of document.querySelectorAll('details')) each.open = true")
    cut = """return [...document.querySelectorAll(".scroll:not(.maps)")]
        .filter(each => each.scrollWidth > each.clientWidth + 1)
        .map(each => [each.getAttribute("aria-label"), each.scrollWidth, each.clientWidth])"""
    assert opened.execute_script(cut) == []


@pytest.mark.parametrize("size", SIZES)
def test_labels_are_no_wider_than_their_picture_and_pictures_do_not_overlap(opened, size):
    resize(opened, size)
    boxes = opened.execute_script("""return [...document.querySelectorAll("details[open] > .ranked figure")]
        .map(figure => {
            const label = document.createRange();
            label.selectNodeContents(figure.querySelector("figcaption"));
            return [figure.querySelector("img").getBoundingClientRect(), label.getBoundingClientRect()].map(
                box => [box.left, box.right, box.top, box.bottom]);
        })""")
    assert len(boxes) > 50
    for picture, label in boxes:
        assert label[1] <= picture[1] + 0.5 and label[0] >= picture[0] - 0.5 and label[2] >= picture[3] - 0.5
    for (one, _), (other, _) in zip(boxes, boxes[1:], strict=False):
        assert one[1] <= other[0] or one[3] <= other[2]


def test_the_first_match_stands_in_the_row_of_the_others(opened):
    tops = """const list = document.querySelector("article .ranked");
        while (list.children.length < 12) list.append(list.lastElementChild.cloneNode(true));
        return [...list.children].map(item => item.getBoundingClientRect().top)"""
    opened.execute_script("document.body.style.overflowY = 'scroll'")
    assert len(set(opened.execute_script(tops))) == 1  # the query, ten images and the first match behind them


def test_a_link_to_a_query_opens_its_folded_pictures(opened):
    folded = opened.find_element(By.CSS_SELECTOR, "article > details:not([open])")
    card = folded.find_element(By.XPATH, "..").get_attribute("id")
    opened.find_element(By.CSS_SELECTOR, f"tbody a[href='#{card}']").click()
    wait_for(opened, lambda _: folded.get_attribute("open") is not None)
    assert folded.find_element(By.CSS_SELECTOR, ".ranked img").is_displayed()


def test_it_can_be_read_without_scripts(opened, address):
    opened.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        opened.get(address)
        assert opened.find_element(By.ID, "set-1-queries").is_displayed()
        assert not opened.find_element(By.CSS_SELECTOR, ".filter").is_displayed()
        assert opened.find_elements(By.TAG_NAME, "article")[0].is_displayed()
    finally:
        opened.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_a_query_and_ten_answers_of_a_search_share_a_row_and_wrap_on_a_phone(browser, tmp_path):
    picture = thumbnail(np.zeros((96, 48, 3), np.uint8), alt="black")
    path = "a_folder/with_a_name/" + 40 * "x" + ".png"
    matches = [(Match(rank, 0.5, path), picture) for rank in range(1, 11)]
    values = {"index": path, "folder": path, "kind": "flat", "images": 10, "answers": [(path, picture, matches)]}
    (tmp_path / "search.html").write_bytes(render("search.html", **values))
    rows = []
    for size in SIZES:
        resize(browser, size)
        browser.get((tmp_path / "search.html").as_uri())
        width, boxes = browser.execute_script("""return [document.documentElement.scrollWidth,
            [...document.querySelectorAll(".matches li")].map(item => item.getBoundingClientRect())
                .map(box => [box.left, box.right, box.top])]""")
        assert width <= SIZES[size][0] and all(0 <= left < right <= width for left, right, _ in boxes)
        rows.append(len({top for _, _, top in boxes}))
    assert rows == [1, 4, 4]
