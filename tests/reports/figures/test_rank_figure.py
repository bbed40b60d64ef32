import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from PIL import Image

from igoas_plugin.core.errors import InputError
from igoas_plugin.evaluation.retrieval import Match, ranked_retrieval
from igoas_plugin.reports.figures import rank_figure
from igoas_plugin.reports.figures.rank_figure import FRAMES, chosen, draw_ranks, find_queries
from igoas_plugin.reports.rank_lists import Found, Query, RankList, query_at, rank_list

# Person 7 finds its own camera, then a wrong image, then two right ones. Person 8 finds a right image first.
DISTANCES = [[0.1, 0.2, 0.3, 0.4, 0.5], [0.5, 0.1, 0.2, 0.3, 0.4], [0.5, 0.4, 0.3, 0.2, 0.1]]


@pytest.fixture
def retrieval(tmp_path):
    def item(name, identity, camera):
        path = str(tmp_path / name)
        Image.new("RGB", (4, 8), (identity, camera, 0)).save(path)
        return path, identity, camera

    query = [item("q0.png", 7, 0), item("q1.png", 8, 0), item("q2.png", 9, 0)]
    persons = [(7, 0), (8, 1), (7, 1), (7, 2), (9, 0)]
    gallery = [item(f"g{number}.png", *person) for number, person in enumerate(persons)]
    return ranked_retrieval("Drawn", query, gallery, torch.zeros(8, 2), [(0, torch.tensor(DISTANCES))])


def frames_of(figure):
    """Returns colour and style of the frame, heading and label of each panel with a found image."""
    found = [panel for panel in figure.axes if panel.axison and not panel.get_title().startswith("query")]
    spines = [panel.spines["left"] for panel in found]
    looks = [(to_hex(spine.get_edgecolor()), spine.get_linestyle()) for spine in spines]
    return looks, [panel.get_title() for panel in found], [panel.get_xlabel() for panel in found]


def test_right_wrong_and_junk_differ_in_frame_and_mark_and_junk_has_no_rank(retrieval):
    figure = draw_ranks([rank_list(retrieval, query_at(retrieval, 0), top=4, junk=True)], "a title")
    looks, headings, labels = frames_of(figure)
    states = ["junk", "wrong", "right", "right"]
    assert [colour for colour, _ in looks] == [FRAMES[state][0] for state in states]
    assert [style == "-" for _, style in looks] == [False, True, True, True]
    assert headings == ["same camera", "✗ 1", "✓ 2", "✓ 3"]
    assert labels == ["0.100\ncam 0", "0.200\ncam 1", "0.300\ncam 1", "0.400\ncam 2"]
    query = figure.axes[0]
    # without the junk: wrong, right, right, wrong: (1/2 + 2/3) / 2
    assert query.get_title() == "query 0\nidentity 7" and query.get_xlabel() == "AP 58.3 %\ncam 0"
    assert [int(panel.images[0].get_array()[0, 0, 0]) for panel in figure.axes] == [7, 7, 8, 7, 7]


def test_a_first_match_behind_the_list_follows_it_with_its_rank(retrieval):
    _, headings, _ = frames_of(draw_ranks([rank_list(retrieval, query_at(retrieval, 0), top=1, junk=False)], ""))
    assert headings == ["✗ 1", "first match\n✓ 2"]


def test_junk_can_be_hidden_and_the_ranks_stay(retrieval):
    _, headings, _ = frames_of(draw_ranks([rank_list(retrieval, query_at(retrieval, 0), top=3, junk=False)], ""))
    assert headings == ["✗ 1", "✓ 2", "✓ 3"]


def test_a_query_without_a_match_says_so_and_shorter_lists_leave_panels_empty(retrieval):
    lists = [rank_list(retrieval, query_at(retrieval, query), top) for query, top in ((2, 1), (1, 5))]
    figure = draw_ranks(lists, "")
    assert figure.axes[0].get_xlabel() == "no match\ncam 0"
    assert [panel.axison for panel in figure.axes] == 2 * [True] + 4 * [False] + 6 * [True]


def test_images_of_any_size_are_drawn_in_their_own_proportions_and_in_one_height(tmp_path):
    sizes = {"square.png": (20, 20), "high.png": (10, 30), "usual.png": (10, 20)}
    paths = {name: str(tmp_path / name) for name in sizes}
    for name, size in sizes.items():
        Image.new("RGB", size).save(paths[name])
    rows = [("usual.png", "high.png"), ("high.png", "square.png"), ("square.png", "usual.png")]
    lists = [
        RankList(Query(0, paths[query], 1, 1, 100.0, 1), [Found(paths[found], 1, 0, Match(0, 0.5, 1, "right"))], None)
        for query, found in rows
    ]
    figure = draw_ranks(lists, "")
    FigureCanvasAgg(figure).draw()
    boxes = [panel.get_window_extent() for panel in figure.axes]
    drawn = [sizes[name][0] / sizes[name][1] for row in rows for name in row]
    assert [box.width / box.height for box in boxes] == pytest.approx(drawn, rel=1e-6)
    assert [box.height for box in boxes] == pytest.approx([boxes[0].height] * 6, rel=1e-6)


@pytest.mark.parametrize("choice, expected", [("worst", [0, 1]), ("best", [1, 0]), ("random", [0, 1])])
def test_queries_are_chosen_among_those_that_can_be_answered(retrieval, choice, expected):
    assert [query.position for query in chosen(retrieval, choice, 5, seed=0)] == expected
    if choice != "random":
        assert [query.position for query in chosen(retrieval, choice, 1, seed=0)] == expected[:1]


def test_a_random_choice_depends_on_the_seed(retrieval):
    assert {chosen(retrieval, "random", 1, seed)[0].position for seed in range(20)} == {0, 1}


def test_queries_are_named_by_position_path_or_the_end_of_a_path(data_root):
    path = str(data_root / "TinyReID" / "1_0_1.png")
    for word in ("3", path, "TinyReID/1_0_1.png", "1_0_1.png"):
        assert find_queries([word], "TinyReID") == [3]
    assert find_queries(["0", "1"], "TinyReID") == [0, 1]


@pytest.mark.parametrize(
    "word, message",
    [
        ("8", "--queries 8: the queries of TinyReID are 0 to 7"),
        (
            "absent.png",
            "--queries absent.png: no queries of TinyReID end with that; take random, worst, best, a position",
        ),
        ("0_1.png", "--queries 0_1.png: no queries"),  # only whole names
        ("1_1_1.png", "no queries of TinyReID end with that"),  # in the gallery alone
    ],
)
def test_an_unknown_query_is_refused(data_root, word, message):
    with pytest.raises(InputError, match=message):
        find_queries([word], "TinyReID")


def test_a_name_of_several_queries_is_refused():
    query = [("a/1.png", 1, 0), ("b/1.png", 1, 0)]
    with pytest.raises(
        InputError, match="--queries 1.png: 2 queries of Drawn end with that; take .* longer part of a path"
    ):
        rank_figure.find_query("1.png", "Drawn", query)
    assert rank_figure.find_query("b/1.png", "Drawn", query) == 1


def test_more_images_than_are_kept_are_refused(igoas_cfg):
    with pytest.raises(InputError, match="--top must be 1 to 100, got 101"):
        rank_figure.ranks_picture(igoas_cfg, ["random"], 1, 101, 0, True)


@pytest.mark.parametrize(
    "words, told",
    [
        (["random"], "Drawn: 1 random (seed 3) of 3 queries; Rank-1 50.0 %, mAP 79.2 %"),
        (["worst"], "Drawn: 1 worst of 3 queries"),
        (["2", "0"], "Drawn: 2 named of 3 queries"),
    ],
)
def test_the_title_says_how_queries_were_chosen(igoas_cfg, retrieval, monkeypatch, words, told):
    igoas_cfg.MODEL.WEIGHTS, igoas_cfg.TEST.RERANK.ENABLED = "logs/run/model_best.pth", True
    monkeypatch.setattr(rank_figure, "build_trained", lambda cfg: None)
    monkeypatch.setattr(rank_figure, "retrieve", lambda cfg, model, name: retrieval)
    title = rank_figure.ranks_picture(igoas_cfg, words, 1, 3, 3, True).get_suptitle().replace("TinyReID", "Drawn")
    assert told in title and "logs/run/model_best.pth; distances: cosine, transductive: re-ranking\n" in title
    assert title.endswith("in its own camera, which no metric counts")
    igoas_cfg.TEST.CAMERA_RULE = False
    title = rank_figure.ranks_picture(igoas_cfg, words, 1, 3, 3, True).get_suptitle()
    assert title.endswith("red ✗: wrong; images of the query's own camera are ranked too")
