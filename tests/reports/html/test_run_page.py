"""The page as a parser sees it."""

import base64
import hashlib
import re
from dataclasses import replace

import pytest
from bs4 import BeautifulSoup
from saved_run import COMMAND

from igoas_plugin.reports.html import run_evaluation
from igoas_plugin.reports.html.page import ENVIRONMENT

STYLE = ENVIRONMENT.loader.get_source(ENVIRONMENT, "style.css")[0]
STATES = {"right": "✓ right", "wrong": "✗ wrong", "junk": "– junk"}


def text_of(node) -> str:
    return " ".join(node.get_text(" ").split())


def table(soup, caption):
    return next(each.parent for each in soup.find_all("caption") if text_of(each).startswith(caption))


def page_of(run, sets):
    return BeautifulSoup(run_evaluation.page_of(run, sets, "0" * 64, COMMAND), "html.parser")


def rows(found):
    return [[text_of(cell) for cell in row.find_all(["th", "td"])] for row in found.tbody.find_all("tr")]


def test_it_refers_to_nothing_outside_and_its_policy_lets_nothing_else_in(page, soup):
    policy = soup.find("meta", attrs={"http-equiv": "Content-Security-Policy"})["content"]
    assert policy.startswith("default-src 'none'; img-src data:; ")
    for name, kind in (("style", "style-src"), ("script", "script-src")):
        [element] = soup.find_all(name)
        digest = base64.b64encode(hashlib.sha256(element.string.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy and not element.attrs
    assert not re.findall(r"https?://", page)
    assert not soup.find_all(["link", "iframe", "object", "embed", "form", "base"])
    assert all(re.match("data:image/(jpeg|svg.xml);base64,", image["src"]) for image in soup.find_all("img"))
    assert all(link["href"].startswith("#") for link in soup.find_all("a"))
    assert not [name for node in soup.find_all() for name in node.attrs if name.startswith("on") or name == "style"]


def test_names_that_hold_markup_or_no_text_are_shown_as_they_are_called(page, soup):
    assert len(soup.find_all("script")) == 1 and "<img src=x" not in page
    assert '0_0_"><script>window.hurt=1<&script><img src=x onerror=hurt=1>.png' in text_of(soup)
    assert r"1_0_\udcff\n.png" in text_of(soup)
    assert "run <b> & co" in soup.title.string and "Another <set>" in text_of(soup.nav)
    assert COMMAND in text_of(soup.main)


def test_every_id_is_there_once_and_every_reference_leads_to_one(soup):
    ids = [node["id"] for node in soup.find_all(id=True)]
    assert len(ids) == len(set(ids)) > 20
    wanted = [link["href"][1:] for link in soup.find_all("a")]
    for attribute in ("aria-labelledby", "aria-describedby", "data-table", "data-row"):
        wanted += [each for node in soup.find_all(attrs={attribute: True}) for each in node[attribute].split()]
    assert set(wanted) <= set(ids) and len(wanted) > 20


def test_images_charts_and_fields_have_words(soup):
    images = soup.find_all("img")
    assert len(images) > 50 and all(image["alt"].strip() for image in images)
    assert all(image["width"].isdecimal() and image["height"].isdecimal() for image in images)
    charts = soup.find_all("figure", class_="chart")
    # loss and mAP of the training, distances and a CMC a test set, severities a kind of occlusion
    assert len(charts) == 2 + 2 * 2 + 5
    assert all(chart.img["src"].startswith("data:image/svg+xml;") for chart in charts)
    assert all(chart.find("details").find("table").caption.string in chart.img["alt"] for chart in charts)
    fields = soup.find_all(["input", "select"])
    assert len(fields) == 2 * 8 + 1 and all(field.find_parent("label") for field in fields)
    assert all(region.get("aria-label") and region["tabindex"] == "0" for region in soup.find_all(class_="scroll"))


def test_it_has_a_language_landmarks_a_skip_link_and_headings_in_order(soup):
    assert soup.html["lang"] == "en" and soup.find("meta", attrs={"name": "viewport"})
    assert [len(soup.find_all(name)) for name in ("header", "nav", "main", "h1")] == [1, 1, 1, 1]
    first = soup.body.find("a")
    assert first["href"] == "#main" and soup.find(id="main").name == "main"
    levels = [int(heading.name[1]) for heading in soup.find_all(re.compile("^h[1-6]$"))]
    assert levels[0] == 1 and all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))
    for found in soup.find_all("table"):
        assert found.caption.string.strip() and all(cell.get("scope") for cell in found.find_all("th"))


def test_without_the_script_everything_can_be_read_and_nothing_is_offered_that_does_not_work(soup):
    assert all(tools.has_attr("hidden") for tools in soup.find_all(class_="filter"))
    assert not [button for button in soup.find_all("button") if not button.find_parent(hidden=True)]
    hidden = [node for node in soup.find_all(hidden=True) if not {"filter", "none"} & set(node["class"])]
    assert hidden == []


def test_metrics_of_this_evaluation_stand_above_what_was_recorded_with_the_differences(soup, test_sets):
    own, recorded = rows(table(soup, "Metrics on TinyReID"))
    measured = [f"{value:.1f}" for value in test_sets[0].metrics.values()]
    assert own == ["this evaluation measured for this page", *measured]
    assert recorded == ["recorded results.json of the run", *5 * ["12.0"]]
    assert "TinyReID: These figures differ from results.json of the run: Rank-1" in text_of(soup.main)
    assert "no published figures of this test set after training on TinyReID" in text_of(soup.main)


def test_map_comes_second_in_every_table_of_metrics(soup):
    heads = {
        found.caption.string: [text_of(cell) for cell in found.thead.find_all("th")]
        for found in soup.select("table.sortable")
    }
    for caption in ("This evaluation, in %", 'Metrics on TinyReID, in %; "-": not measured, or not published'):
        assert heads[caption][1:] == ["Rank-1", "mAP", "Rank-5", "Rank-10", "mINP"]
    for what in ("camera", "identity"):
        assert heads[f"Average precision on TinyReID by {what}"][1:3] == ["Rank-1 (%)", "mAP (%)"]


def test_curves_of_the_training_and_distances_of_pairs_stand_on_top(opened_run, test_sets, soup):
    def titles(page):
        return [text_of(each) for each in page.find(id="metrics").parent.select(".chart caption")]

    distances = [f"Distances of pairs on {name}" for name in ("TinyReID", "Another <set>")]
    assert titles(soup) == ["Training: total loss by epoch", "Training: mAP (%) by epoch", *distances]
    assert rows(table(soup, "Training: total loss")) == [["1", "2"], ["2", "1"]]
    assert titles(page_of(replace(opened_run, lines=[]), test_sets)) == distances[:1]


def test_five_queries_are_open_and_the_others_folded(soup):
    for key in ("set-1", "set-2"):
        cards = soup.find(id=key).parent.select("article > details")
        assert [card.has_attr("open") for card in cards] == [*5 * [True], False]
        assert all(card.find_parent("article").h5 in card.summary for card in cards)


def test_cameras_are_the_same_in_tables_filters_and_cards(soup, test_sets):
    cameras = {str(query.camera) for query in test_sets[0].queries}
    assert {row[4] for row in rows(table(soup, "All queries of TinyReID"))} == cameras == {"0"}
    assert [row[0] for row in rows(table(soup, "Average precision on TinyReID by camera"))] == ["0"]
    assert [option.string for option in soup.find("select").find_all("option")] == ["all", "0"]
    captions = [text_of(each) for each in soup.select(".ranked figcaption")]
    assert {each.split("cam ")[1][0] for each in captions} == {"0", "1"}
    assert all(text_of(each).endswith(", camera 0") for each in soup.select("article > details > summary"))


def test_without_the_camera_rule_the_page_says_so_and_explains_no_junk(opened_run, test_sets, soup):
    run = replace(opened_run, cfg=opened_run.cfg.clone())
    run.cfg.TEST.CAMERA_RULE = False
    told = text_of(page_of(run, [replace(test_sets[0], retrieval=replace(test_sets[0].retrieval, camera_rule=False))]))
    with_rule = text_of(soup)
    assert "images of the query's camera ranked (TEST.CAMERA_RULE False): published figures are without" in told
    for words in ("its own camera", "in another camera"):
        assert words in with_rule and words not in told


def test_steps_before_the_ranking_stand_beside_every_figure_of_the_page(opened_run, test_sets):
    run = replace(opened_run, cfg=opened_run.cfg.clone())
    run.cfg.TEST.NFC.ENABLED = run.cfg.TEST.RERANK.ENABLED = run.cfg.TEST.FLIP.ENABLED = True
    soup, mark = page_of(run, test_sets), "(transductive: NFC, re-ranking)"
    assert rows(table(soup, "This evaluation"))[0][0] == text_of(soup.find(id="set-1")) == f"TinyReID {mark}"
    assert rows(table(soup, "Metrics on TinyReID"))[0][0].startswith(f"this evaluation {mark}")
    assert table(soup, f"Cumulative match characteristic on TinyReID {mark}")
    assert "Evaluated with transductive: NFC, re-ranking, flipping: published figures are without" in text_of(soup)


def test_published_rows_are_marked_as_such_with_their_source(opened_run, test_sets, monkeypatch):
    row = run_evaluation.MetricRow("IGOAS, TIP 2021", "published", ("60.1", "49.4", "-", "-", "-"), "its paper")
    measured = run_evaluation.rows_of(opened_run, "TinyReID", test_sets[0].metrics)[0]
    monkeypatch.setattr(run_evaluation, "rows_of", lambda *_: [measured, row])
    soup = page_of(opened_run, test_sets)
    found = table(soup, "Metrics on TinyReID")
    assert rows(found)[1] == ["IGOAS, TIP 2021 published: its paper", "60.1", "49.4", "-", "-", "-"]
    assert "published" in found.tbody.find_all("tr")[1]["class"]
    assert "Published figures are those of the same test protocol after training on TinyReID" in text_of(soup.main)


def test_all_queries_are_in_the_table_and_those_with_pictures_lead_to_them(soup, test_sets):
    found = table(soup, "All queries of TinyReID")
    assert len(rows(found)) == len(test_sets[0].queries) == 8
    precisions = [float(row[1]) for row in rows(found)]
    assert precisions == sorted(precisions)
    links = [link["href"][1:] for link in found.find_all("a")]
    assert len(links) == 6  # two worst, two best, two random
    for link in links:
        article = soup.find(id=link)
        assert article.name == "article" and article.find("ol").find_all("li")
        assert soup.find(id=article["data-row"]).name == "tr"


def test_rank_lists_say_right_wrong_and_junk_by_sign_and_word(soup, test_sets):
    lists = [ranked for kind in test_sets[0].lists.values() for ranked in kind]
    states = [each.match.state for ranked in lists for each in (*ranked.found, ranked.later) if each]
    items = [item for item in soup.find(id="set-1").parent.select("ol.ranked > li") if item.get("class")]
    assert [item["class"][0] for item in items] == states and set(states) == {"right", "wrong", "junk"}
    for item in items:
        assert STATES[item["class"][0]] in text_of(item)


def test_worst_and_best_queries_have_activation_maps_and_random_ones_have_none(soup):
    groups = {kind: soup.find(id=f"set-1-{kind}").parent for kind in ("worst", "best", "random")}
    assert {kind: len(group.select(".maps img")) for kind, group in groups.items()} == {
        "worst": 2, "best": 2, "random": 0,
    }  # fmt: skip
    assert "the suppression loss acts on it" in text_of(soup.main)


def test_configuration_and_counts_are_there(soup):
    settings = {row[0]: row[1:] for row in rows(soup.find(id="settings"))}
    assert settings["MODEL.META_ARCHITECTURE"] == ["IGOAS", "Baseline"] and "TEST.METRIC" not in settings
    assert "META_ARCHITECTURE: IGOAS" in soup.find("pre").string
    assert rows(table(soup, "Training and test sets")) == [
        ["TinyReID, train", "16", "4", "2", "ok"],
        ["TinyReID, query", "8", "4", "1", "ok"],
        ["TinyReID, gallery", "16", "4", "2", "ok"],
    ]


def test_a_query_that_could_not_be_answered_has_dashes(opened_run, test_sets):
    [tested] = test_sets
    queries = [*tested.queries[:-1], tested.queries[-1]._replace(ap=None, first=None)]
    soup = page_of(opened_run, [replace(tested, queries=queries, lists={kind: [] for kind in tested.lists})])
    assert rows(table(soup, "All queries"))[-1][1:3] == ["-", "-"]
    assert "1 queries have no gallery image of their identity in another camera" in text_of(soup.main)


def luminance(colour: str) -> float:
    """Returns the relative luminance of a colour, as WCAG 2.2 defines it."""
    channels = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_and_what_carries_meaning_stands_out_from_its_ground(scheme):
    blocks = re.findall(r":root \{(.*?)\}", STYLE, re.S)
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", blocks[scheme]))
    assert len(blocks) == 2 and len(colours) > 10
    grounds = [colours["background"], colours["surface"]]
    for name in ("text", "muted", "link", "right", "wrong", "junk"):  # text: WCAG AA, 4.5
        assert min(contrast(colours[name], ground) for ground in grounds) >= 4.5, name
    for name in ("frame", "focus"):  # fields and focus: 3
        assert min(contrast(colours[name], ground) for ground in grounds) >= 3, name


def test_contrast_is_that_of_the_standard():
    assert contrast("#000000", "#ffffff") == pytest.approx(21) and contrast("#777777", "#ffffff") == pytest.approx(
        4.48, abs=0.005
    )
