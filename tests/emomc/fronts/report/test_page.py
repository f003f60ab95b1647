"""The page as a file: whole, self-contained, and safe whatever the names in it are."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import re

import pytest

from emomc.common.errors import UserError
from emomc.fronts.report import render_report, write_report

HOSTILE = '</script><script>window.hacked=1</script><img src=x onerror="window.hacked=1">&{{script}}\'\u2028'


class Reader(html.parser.HTMLParser):
    """Collects the tags, and the text of scripts and styles."""

    def __init__(self):
        super().__init__()
        self.tags, self.texts, self.policy, self.open = [], [], None, False

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.texts.append("")
        self.open = True
        if dict(attrs).get("http-equiv") == "Content-Security-Policy":
            self.policy = dict(attrs)["content"]

    def handle_endtag(self, tag):
        self.open = False

    def handle_data(self, data):
        if self.open:
            self.texts[-1] += data

    def text_of(self, tag, **attributes):
        for (name, found), text in zip(self.tags, self.texts, strict=True):
            if name == tag and attributes.items() <= found.items():
                return text
        raise AssertionError(f"no {tag}")


def read(page):
    reader = Reader()
    reader.feed(page)
    return reader


def hostile(front):
    names = {name: f"{name}{HOSTILE}" for name in front["points"][0]["bits"]}
    text = json.dumps(front)
    changed = json.loads(text)
    for key in ("network", "dataset", "hardware", "dataflow", "coding", "accounting", "energy_unit"):
        changed[key] += HOSTILE
    changed["settings"][HOSTILE] = HOSTILE
    changed["versions"][HOSTILE] = HOSTILE
    for layer in changed["layers"]:
        layer["name"] = names[layer["name"]]
    for point in changed["points"]:
        for key in ("bits", "density", "energy_by_layer", "bytes_by_layer", "next_bit_cost"):
            point[key] = {names[name]: value for name, value in point[key].items()}
    return changed


def test_writes_one_file(front, tmp_path):
    write_report(front, tmp_path / "new" / "report.html")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["report.html"]
    assert (tmp_path / "new" / "report.html").read_text(encoding="utf-8") == render_report(front)


def test_loads_nothing_from_elsewhere(front):
    page = render_report(front)
    assert set(re.findall(r"https?://[^\s\"']+", page)) == {"http://www.w3.org/2000/svg"}
    for tag, attributes in read(page).tags:
        assert not attributes.get("src"), tag
        assert attributes.get("href", "data:,") == "data:,", tag


def test_is_small_even_for_large_fronts(front):
    layers = [dict(front["layers"][0], name=f"features.{n}.conv") for n in range(21)]
    points = []
    for index in range(60):
        point = dict(front["points"][index % 24], index=index)
        for key in ("bits", "density", "energy_by_layer", "bytes_by_layer", "next_bit_cost"):
            point[key] = {layer["name"]: point[key]["conv1"] for layer in layers}
        points.append(point)
    front["points"] = points
    assert len(render_report(front | {"layers": layers})) < 300_000


def test_policy_allows_exactly_the_script_and_the_style(front):
    reader = read(render_report(front))
    scripts = [text for (tag, _), text in zip(reader.tags, reader.texts, strict=True) if tag == "script"]
    for directive, content in (("script-src", scripts[-1]), ("style-src", reader.text_of("style"))):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}';" in reader.policy
    assert "default-src 'none'" in reader.policy
    assert "unsafe" not in reader.policy


def test_data_is_the_front_with_picks_and_intervals(front):
    data = json.loads(read(render_report(front)).text_of("script", type="application/json"))
    assert [point["index"] for point in data["front"]["points"]] == list(range(24))
    assert data["front"]["settings"] == front["settings"]
    assert data["costs"] == ["energy_mj"]
    by_rule = {pick["rule"]: pick for pick in data["picks"]}
    assert by_rule["budget:energy_mj=10%"]["name"] == "A tenth of the energy"
    for entry, point in zip(data["intervals"]["points"], front["points"], strict=True):
        low, high = entry["test"]
        assert low < point["test_accuracy"] < high
    low, high = data["intervals"]["baseline"]["validation"]
    assert low < front["baseline"]["validation_accuracy"] < high


@pytest.mark.parametrize(
    ("images", "name"),
    [(360, "Most accurate: none is safely within one point"), (360_000, "Safely within one point of uncompressed")],
)
def test_the_recommendation_says_whether_it_is_safe(front, images, name):
    for entry in [front["baseline"], *front["points"]]:
        entry |= {"validation_images": images, "validation_correct": None}
    first = json.loads(read(render_report(front)).text_of("script", type="application/json"))["picks"][0]
    assert (first["rule"], first["name"]) == ("safe:1", name)


def test_hostile_names_stay_text(front):
    reader = read(render_report(hostile(front)))
    assert [tag for tag, _ in reader.tags].count("script") == 2
    assert not [tag for tag, _ in reader.tags if tag == "img"]
    data = json.loads(reader.text_of("script", type="application/json"))
    assert data["front"]["network"].endswith(HOSTILE)
    assert data["front"]["layers"][1] == f"conv2{HOSTILE}"


def test_no_test_set_yet_and_accuracies_without_counts(front):
    for point in front["points"]:
        point["validation_correct"] = None
        point["test_accuracy"] = point["test_correct"] = None
    intervals = json.loads(read(render_report(front)).text_of("script", type="application/json"))["intervals"]["points"]
    low, high = intervals[0]["validation"]
    assert low < front["points"][0]["validation_accuracy"] < high
    assert intervals[0]["test"] is None


def test_refuses_empty_and_other_layouts(front, tmp_path):
    with pytest.raises(UserError, match="empty"):
        write_report(front | {"points": []}, tmp_path / "report.html")
    with pytest.raises(UserError, match="format_version"):
        write_report({}, tmp_path / "report.html")
    assert not list(tmp_path.iterdir())
