import json

import pytest
from helpers import record_fields

from keras_dynnets.zoo.weights.cards import BEGIN, END, card_texts, write_cards
from keras_dynnets.zoo.weights.records import WeightsRecord, format_index, parse_index, read_index

FIELDS = record_fields(b"content")
RECORD = WeightsRecord.model_validate(FIELDS)


def test_an_index_comes_back():
    other = WeightsRecord.model_validate(record_fields(b"content", tag="two"))
    text = format_index([RECORD, other])
    assert parse_index(text, "index") == [RECORD, other]
    assert json.loads(text)["version"] == 1


def test_the_mean_of_macs():
    assert RECORD.macs_mean == 1000
    dynamic = WeightsRecord.model_validate(
        {**FIELDS, "metrics": {"accuracy": 0.5, "macs_mean": 700.5}}
    )
    assert dynamic.macs_mean == 700.5


@pytest.mark.parametrize(
    "name",
    ["../{}", "/tmp/{}", "a/{}", "..\\{}", "a\\{}", "C:{}", ".{}", "..{}", "a..{}"]
    + ["{}\n", "é{}", "{}.part", "a" * 250 + "{}"],
)
def test_a_file_that_is_no_plain_name_is_refused(name):
    with pytest.raises(ValueError, match=r"file .* is refused: it must be a plain name"):
        WeightsRecord.model_validate({**FIELDS, "file": name.format(FIELDS["file"])})


def test_a_file_without_the_hash_s_first_digits_or_the_ending_is_refused():
    for name in (
        "resnet20-one-00000000.weights.h5",
        FIELDS["file"].replace(".weights.h5", ".keras"),
        "weights.h5",
    ):
        with pytest.raises(
            ValueError, match=rf"that ends with '-{FIELDS['sha256'][:8]}.weights.h5'"
        ):
            WeightsRecord.model_validate({**FIELDS, "file": name})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": FIELDS["sha256"][:-1]}, "sha256: String should match"),
        ({"sha256": FIELDS["sha256"][:-1] + "g"}, "sha256: String should match"),
        ({"sha256": FIELDS["sha256"] + "\n"}, "sha256: String should match"),
        ({"bytes": 0}, "bytes: Input should be greater than 0"),
        ({"bytes": -1}, "bytes: Input should be greater than 0"),
        ({"params": 0}, "params: Input should be greater than 0"),
        ({"entry": ".."}, "entry: String should match"),
        ({"entry": "a/b"}, "entry: String should match"),
        ({"tag": ""}, "tag: String should match"),
        ({"metrics": {}}, "metrics must hold the accuracy"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
    ],
)
def test_a_bad_record_is_refused_by_its_place(changes, message):
    text = json.dumps({"version": 1, "weights": [FIELDS, {**FIELDS, "tag": "two", **changes}]})
    with pytest.raises(ValueError, match=rf"^zoo/index.json, record 2: .*{message}"):
        parse_index(text, "zoo/index.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<html>", "it is not JSON"),
        (b"\xff\xfe", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("[]", 'an index has the form {"version": 1, "weights"'),
        ('{"weights": []}', 'an index has the form {"version": 1, "weights"'),
        ('{"version": "1", "weights": []}', 'an index has the form {"version": 1, "weights"'),
        ('{"version": true, "weights": []}', 'an index has the form {"version": 1, "weights"'),
        ('{"version": 1}', "lists no weights"),
        ('{"version": 1, "weights": {}}', "lists no weights"),
        ('{"version": 1, "weights": [3]}', "record 1"),
        (
            '{"version": 2, "things": []}',
            "version 2, and this keras_dynnets reads version 1: update keras_dynnets",
        ),
        (format_index([RECORD, RECORD]), "lists resnet20 one more than once"),
    ],
)
def test_what_is_no_index_is_refused(text, message):
    with pytest.raises(ValueError) as refused:
        parse_index(text, "zoo/index.json")
    assert str(refused.value).startswith("zoo/index.json") and message in str(refused.value)


# ---- what is generated from them


@pytest.fixture
def folder(tmp_path):
    """A published folder with one record."""
    folder = tmp_path / "zoo"
    (folder / "resnet20").mkdir(parents=True)
    (folder / "index.json").write_text(format_index([RECORD]))
    return folder


@pytest.fixture
def page(tmp_path):
    """The page that takes the table, still empty."""
    path = tmp_path / "docs" / "published.md"
    path.parent.mkdir()
    path.touch()
    return path


def test_cards_are_written_once(folder, page):
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    (folder / "resnet20" / "what_it_costs.png").write_bytes(b"a picture")
    written = write_cards(folder)
    assert set(written) == {folder / "results.csv", folder / "resnet20" / "README.md", page}
    assert write_cards(folder) == []
    card = written[written.index(folder / "resnet20" / "README.md")].read_text()
    assert "accuracy | 50.00% top-1 on the 10 test images" in card and RECORD.sha256 in card
    assert "made for a test" in card and "![what it costs](what_it_costs.png)" in card
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\n| weights |") and text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    assert read_index(folder) == [RECORD]


def test_a_page_without_the_markers_is_left_alone(folder, page):
    page.write_text("no table here\n")
    assert page not in card_texts(folder)
    for lost in (BEGIN, END, f"{END}\n{BEGIN}"):
        page.write_text(lost)
        with pytest.raises(ValueError, match="needs both lines, in this order"):
            card_texts(folder)
