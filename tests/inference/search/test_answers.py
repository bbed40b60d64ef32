import base64
import io
import json
import os

import numpy as np
import pytest
from bs4 import BeautifulSoup
from PIL import Image
from small_predictor import SmallPredictor, draw, names, picture

from igoas_plugin.core.errors import InputError, OutputError
from igoas_plugin.inference.search.answers import Match, as_json, as_text, matches_of, search
from igoas_plugin.inference.search.gallery_file import Gallery, GalleryFile, write_gallery
from igoas_plugin.inference.search.indexing import index_folder
from igoas_plugin.reports.html.search_page import write_page

NASTY = ["a b.png", "line\nend.png", "人 é.png", "<script>alert(1)<|script>&\"'.png", "{{ 7 * 7 }}.png", "\udcff.png"]
SHOWN = ["a b.png", "line\\nend.png", "人 é.png", "<script>alert(1)<|script>&\"'.png", "{{ 7 * 7 }}.png", "\\udcff.png"]


@pytest.fixture
def asked(tmp_path):
    """Function that indexes drawn crops and returns the answers for pictures."""

    def ask(crops, pictures, top=10, kind="flat", predictor=None):
        draw(tmp_path / "crops", crops)
        index_folder(str(tmp_path / "crops"), str(tmp_path / "gallery.index"), SmallPredictor(), kind)
        with GalleryFile(str(tmp_path / "gallery.index")) as file:
            return search(file, [str(each) for each in pictures], top, predictor or SmallPredictor())

    return ask


@pytest.fixture
def query(tmp_path):
    picture(seed=99).save(tmp_path / "query.png")
    return tmp_path / "query.png"


def test_the_answers_are_the_exact_order_and_cosines(asked, query, tmp_path):
    crops = names(300)
    answers = asked(crops, [query, tmp_path / "crops" / crops[7]])
    predictor = SmallPredictor()
    gallery = predictor([str(tmp_path / "crops" / name) for name in crops])
    for (asked_for, matches), path in zip(answers.matches, [query, tmp_path / "crops" / crops[7]], strict=True):
        cosines = gallery.astype(np.float64) @ predictor([str(path)])[0].astype(np.float64)
        best = np.argsort(-cosines)[:10]
        assert asked_for == str(path)
        assert [match.path for match in matches] == [crops[position] for position in best]
        assert [match.rank for match in matches] == [*range(1, 11)]
        # scores are float32, rounded to six decimals
        np.testing.assert_allclose([match.score for match in matches], cosines[best], rtol=0, atol=1e-6)


def test_a_query_that_is_in_the_gallery_comes_first_with_score_1(asked, tmp_path):
    [(_, matches)] = asked(names(30), [tmp_path / "crops" / names(30)[4]], top=3).matches
    assert matches[0] == Match(rank=1, score=1.0, path=names(30)[4]) and matches[1].score < 1


def test_a_top_beyond_the_gallery_gives_all_of_it(asked, query):
    [(_, matches)] = asked(names(5), [query], top=1000).matches
    assert sorted(match.path for match in matches) == sorted(names(5))


def test_where_a_search_finds_less_there_are_fewer_matches(asked, query, tmp_path):
    asked(["a.png", "b.png"], [query])
    with GalleryFile(str(tmp_path / "gallery.index")) as file:
        found = matches_of(np.array([1.0000002, -3e38], np.float32), np.array([1, -1]), file)
    assert found == [Match(1, 1.0, "b.png")]


def test_an_unfinished_index_is_searched_with_a_warning(asked, query, tmp_path, host_log):
    class Stopped(SmallPredictor):
        def describe(self, images):
            if self.described:
                raise KeyboardInterrupt
            return super().describe(images)

    draw(tmp_path / "crops", names(10))
    with pytest.raises(KeyboardInterrupt):
        index_folder(str(tmp_path / "crops"), str(tmp_path / "gallery.index"), Stopped(), "ivf")
    with GalleryFile(str(tmp_path / "gallery.index")) as file:
        answers = search(file, [str(query)], 10, SmallPredictor())
    assert len(answers.matches[0][1]) == answers.images == 4
    assert "gallery.index is not finished: the command that made it goes on where it was stopped" in host_log.text


@pytest.mark.parametrize("made_by, asked_by", [(False, True), (True, False), (True, True)])
def test_a_changed_onnx_file_is_the_same_model_if_its_descriptors_agree(made_by, asked_by, query, tmp_path):
    draw(tmp_path / "crops", names(5))
    index_folder(str(tmp_path / "crops"), str(tmp_path / "gallery.index"), SmallPredictor(altered=made_by))
    with GalleryFile(str(tmp_path / "gallery.index")) as file:
        assert file.gallery.fingerprint.altered == made_by
        for noise in (0, 0.019, -0.019):
            assert search(file, [str(query)], 1, SmallPredictor(altered=asked_by, noise=noise)).images == 5
        for noise in (0.021, np.nan):
            other = SmallPredictor(altered=asked_by, noise=noise)
            with pytest.raises(InputError, match=f"an ONNX file was changed after .* {noise:.2g} away, more than 0.02"):
                search(file, [str(query)], 1, other)
            assert other.described == 0


def test_a_changed_onnx_file_is_refused_by_an_index_without_references(query, tmp_path):
    index, crops = str(tmp_path / "gallery.index"), str(tmp_path / "crops")
    draw(tmp_path / "crops", names(5))
    known = Gallery(crops, "flat", SmallPredictor().fingerprint, [])
    write_gallery(index, known, np.empty((0, 96), np.float32))  # as 0.1.0 wrote it
    with GalleryFile(index) as file, pytest.raises(InputError, match="no descriptors of reference pictures to compare"):
        search(file, [str(query)], 1, SmallPredictor(altered=True))
    index_folder(crops, index, SmallPredictor())
    with GalleryFile(index) as file:
        assert search(file, [str(query)], 1, SmallPredictor(altered=True)).images == 5


def test_an_index_keeps_the_references_of_the_model_that_made_it(tmp_path):
    index, crops = str(tmp_path / "gallery.index"), tmp_path / "crops"
    for number, noise in enumerate((0, 0.015)):
        draw(crops, [f"{number}.png"])
        index_folder(str(crops), index, SmallPredictor(altered=number == 1, noise=noise))
    with GalleryFile(index) as file:
        assert len(file.gallery.crops) == 2 and not file.gallery.fingerprint.altered
        np.testing.assert_array_equal(file.gallery.references, SmallPredictor().references())


@pytest.mark.parametrize("other", [SmallPredictor(weights="2f"), SmallPredictor(size_of_config=(16, 8))])
def test_another_model_is_refused(asked, query, other):
    with pytest.raises(InputError, match="was made by another model than this one: (other weights|INPUT.SIZE_TEST .*)"):
        asked(names(3), [query], predictor=other)
    assert other.described == 0


def test_a_query_that_cannot_be_read_is_refused(asked, tmp_path):
    with pytest.raises(InputError, match="/nowhere.png cannot be read: there is no such file"):
        asked(names(3), [tmp_path / "nowhere.png"])


def test_every_name_is_one_line_of_the_text(asked, tmp_path):
    answers = asked(NASTY, [tmp_path / "crops" / name for name in NASTY])
    lines = as_text(answers).split("\n")
    assert lines[0] == f"6 images of {tmp_path}/crops, index flat"
    assert len(lines) == 1 + len(NASTY) * (3 + len(NASTY))
    for number, name in enumerate(SHOWN):
        heading, columns, first, *_ = lines[2 + 9 * number :]
        assert heading == f"{tmp_path}/crops/{name}" and columns == "rank    score  image"
        assert first == f"   1   1.0000  {name}"
    as_text(answers).encode()  # no surrogates are left


def test_json_holds_everything_and_names_as_they_are(asked, tmp_path):
    pictures = [str(tmp_path / "crops" / name) for name in NASTY]
    read = json.loads(as_json(asked(NASTY, pictures, top=2)).encode("ascii"))
    queries = read.pop("queries")
    folder = str(tmp_path / "crops")
    assert read == {"index": str(tmp_path / "gallery.index"), "folder": folder, "kind": "flat", "images": 6}
    assert [each["query"] for each in queries] == pictures
    for name, each in zip(NASTY, queries, strict=True):
        first, second = each["matches"]
        assert first == {"rank": 1, "score": 1.0, "path": name, "file": f"{folder}/{name}"}
        assert second["rank"] == 2 and -1 <= second["score"] < 1 and os.path.isfile(second["file"])


def read_page(path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(), "html.parser")


def test_the_page_shows_every_picture_and_name_and_loads_nothing(asked, tmp_path):
    answers = asked(NASTY, [tmp_path / "crops" / name for name in NASTY], top=3)
    write_page(answers, str(tmp_path / "out" / "page.html"))
    page = read_page(tmp_path / "out" / "page.html")
    images, text = page.find_all("img"), page.get_text()
    assert len(images) == len(NASTY) * 4 and not page.find("script")
    names = {"src", "href", "srcset", "data", "action"}
    loaded = [tag[name] for tag in page.find_all() for name in names & tag.attrs.keys()]
    assert all(address.startswith("data:image/jpeg;base64,") for address in loaded)
    assert "url(" not in (tmp_path / "out" / "page.html").read_text()
    for number, name in enumerate(SHOWN):
        query, first = images[4 * number : 4 * number + 2]
        assert query["alt"] == f"query {tmp_path}/crops/{name}" and first["alt"] == f"match 1: {name}"
        shown = [Image.open(io.BytesIO(base64.b64decode(each["src"].partition(",")[2]))) for each in (query, first)]
        assert shown[0].format == "JPEG" and shown[0].size == (8, 16) == (int(query["width"]), int(query["height"]))
        assert np.array_equal(*map(np.asarray, shown))  # the query itself was found
        assert text.count(name) >= 2  # as a query and as its first match
    assert text.count("1.0000") == len(NASTY)


def test_the_page_tells_which_pictures_are_gone(asked, query, tmp_path):
    answers = asked(["a.png", "b.png"], [query])
    (tmp_path / "crops/a.png").unlink()
    write_page(answers, str(tmp_path / "page.html"))
    page = read_page(tmp_path / "page.html")
    assert [image["alt"] for image in page.find_all("img")] == [f"query {query}", next(
        f"match {match.rank}: b.png" for match in answers.matches[0][1] if match.path == "b.png"
    )]  # fmt: skip
    assert page.get_text().count("cannot be read now") == 1 and "a.png" in page.get_text()


def test_a_page_that_cannot_be_written_is_one_line(asked, query, tmp_path):
    with pytest.raises(OutputError, match="^cannot write .*/crops: "):
        write_page(asked(["a.png"], [query]), str(tmp_path / "crops"))
