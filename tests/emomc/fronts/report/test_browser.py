"""The page in a real browser: headless Chromium from the system, driven through playwright.

Skipped where either is missing: `apt-get install chromium` and `pip install emomc[test]` bring them.
"""

from __future__ import annotations

import re
import shutil

import pytest

from emomc.common.intervals import wilson_interval
from emomc.fronts.pick_rules import DEFAULT_PICK
from emomc.fronts.picks import pick_point
from emomc.fronts.report import write_report

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (apt-get install chromium)")
HOSTILE = '</script><script>window.hacked=1</script><img src=x onerror="window.hacked=1">&{{data}}'


@pytest.fixture(scope="module")
def browser():
    quiet = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=[*quiet, "--disable-component-update"])
        yield started
        started.close()


@pytest.fixture
def show(browser, tmp_path):
    """Write a front's page and open it; afterwards nothing may have been complained about or asked of a network."""
    said, asked, contexts = [], [], []

    def opened(front, *, address="", **options):
        path = tmp_path / "report.html"
        write_report(front, path)
        context = browser.new_context(**{"viewport": {"width": 1360, "height": 860}} | options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(5000)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri() + address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []
    assert all(url.startswith(("file:", "data:")) for url in asked)


def point(page, index):
    return page.locator(f'#chart .point[data-index="{index}"]')


def text(page, selector):
    return page.locator(selector).inner_text().replace("\u00a0", " ")


def test_renders_the_front_and_selects_the_recommended_point(front, show):
    page = show(front)
    assert page.title() == "lenet5 on digits: networks to choose from"
    assert page.locator("#chart .point").count() == 24
    best = page.locator("#chart .point.recommended")
    assert best.count() == 1
    assert "selected" in best.get_attribute("class")
    assert best.get_attribute("data-index") == str(pick_point(DEFAULT_PICK, front).index)
    assert text(page, "#selected-title") == f"Point {best.get_attribute('data-index')}"
    assert page.locator("#points tbody tr").count() == 24
    assert page.locator("#layers tbody tr").count() == 5
    assert "generation" in text(page, "#history-note")
    assert "emomc" in text(page, "#made")


@pytest.mark.parametrize("width", [420, 1320])
def test_bits_of_inputs_have_a_column_where_they_are_searched(front, show, width):
    names = list(front["points"][0]["bits"])
    assert "Input bits" not in text(show(front), "#layers")
    for entry in front["points"]:
        entry["activation_bits"] = dict(zip(names, (4, 16, 8, 4, 6), strict=True))
    page = show(front, viewport={"width": width, "height": 860})
    assert "Input bits" in text(page, "#layers thead")
    cells = page.locator("#layers tbody tr td:nth-child(3) .bar-row")
    assert [cells.nth(row).inner_text().strip() for row in range(5)] == ["4", "16", "8", "4", "6"]
    assert cells.nth(1).get_attribute("title") == "inputs not rounded"
    assert page.locator("#layers tfoot td").count() == page.locator("#layers thead th").count()
    point(page, 0).hover()
    assert "bits of inputs:" in text(page, "#tooltip")
    assert page.evaluate(TOO_WIDE) == []


# What reaches out of the window to the right, other than inside of what scrolls by itself, and letters of charts that
# are too small to read.
TOO_WIDE = """() => {
  const found = [...document.querySelectorAll("body *")].filter((node) => {
    if (node.getBoundingClientRect().right <= window.innerWidth + 0.5) return false;
    for (let above = node.parentElement; above; above = above.parentElement) {
      const outer = getComputedStyle(above).overflowX;
      if (outer === "auto" || outer === "scroll") return above.getBoundingClientRect().right > window.innerWidth + 0.5;
    }
    return true;
  }).map((node) => node.outerHTML.slice(0, 80));
  if (document.documentElement.scrollWidth > window.innerWidth) found.push("the page");
  return found;
}"""
LETTERS = """() => [...document.querySelectorAll("svg text")].map((node) => {
  const drawn = node.getScreenCTM();
  return parseFloat(getComputedStyle(node).fontSize) * drawn.d;
})"""


@pytest.mark.parametrize("width", [420, 1320])
@pytest.mark.parametrize("long_names", [False, True])
def test_fits_a_phone_and_a_desktop(front, show, width, long_names):
    if long_names:
        front["network"] = front["hardware"] = "a" * 120
        front["settings"]["a" * 60] = "b" * 200
    page = show(front, viewport={"width": width, "height": 860})
    assert page.evaluate(TOO_WIDE) == []
    sizes = page.evaluate(LETTERS)
    assert len(sizes) > 15
    assert min(sizes) >= 11
    point(page, 0).hover()
    assert page.evaluate(TOO_WIDE) == []
    words = page.locator("body").inner_text()
    assert "on the right" not in words
    assert "on the left" not in words
    if width > 1000:
        columns = page.evaluate(
            "['.own', '.picks', '.history', '.points'].map((name) => "
            "document.querySelector(name).getBoundingClientRect().bottom)"
        )
        assert columns[0] == pytest.approx(columns[1], abs=2)
        assert columns[2] == pytest.approx(columns[3], abs=2)


@pytest.mark.parametrize("width", [420, 1320])
def test_the_default_pick_is_shown_as_recommended(front, show, width):
    best = pick_point(DEFAULT_PICK, front)
    page = show(front, viewport={"width": width, "height": 860})
    shown = text(page, "#picks button.recommended")
    assert shown.startswith("Recommended")
    assert f"point {best.index}" in shown
    assert best.reason in shown
    assert page.locator("#picks button").first.get_attribute("data-rule") == str(best.pick)
    assert f"Point {best.index} is recommended" in text(page, "#summary")
    assert text(page, "#selected-title") == f"Point {best.index}"
    assert "recommended" in text(page, "#selected-level")
    # The other rules are a click away.
    knee = pick_point("knee", front)
    page.locator("#picks button[data-rule=knee]").click()
    assert text(page, "#selected-title") == f"Point {knee.index}"
    assert "recommended" not in text(page, "#selected-level")


def test_a_chart_is_drawn_again_when_its_place_changes(front, show):
    page = show(front)
    page.set_viewport_size({"width": 420, "height": 860})
    page.wait_for_function("document.getElementById('chart').viewBox.baseVal.width < 420")
    assert page.evaluate(TOO_WIDE) == []
    assert min(page.evaluate(LETTERS)) >= 11


def test_hovering_shows_level_bits_and_costs(front, show):
    page = show(front)
    assert not page.locator("#tooltip").is_visible()
    point(page, 20).hover()
    shown = text(page, "#tooltip")
    entry = front["points"][20]
    assert f"Point 20 · {entry['level']} % of weights remaining" in shown
    for layer, bits in entry["bits"].items():
        assert re.search(rf"{layer}\s*{bits}\b", shown)
    assert f"{100 * entry['validation_accuracy']:.2f} %" in shown
    assert f"{100 * entry['test_accuracy']:.2f} %" in shown
    low, high = wilson_interval(entry["test_correct"], entry["test_images"])
    assert f"({100 * low:.1f} to {100 * high:.1f} %)" in shown
    assert f"{entry['energy_mj']:.3g} mJ" in shown
    assert "KiB" in shown
    assert text(page, "#selected-title") != "Point 20"
    page.mouse.move(5, 5)
    assert not page.locator("#tooltip").is_visible()


def test_clicking_selects(front, show):
    page = show(front)
    point(page, 3).click()
    entry = front["points"][3]
    assert text(page, "#selected-title") == "Point 3"
    assert "selected" in point(page, 3).get_attribute("class")
    assert page.locator("#chart .point.selected").count() == 1
    assert page.locator("#chart .ring").get_attribute("cx") == point(page, 3).get_attribute("cx")
    assert f"{100 * entry['test_accuracy']:.2f} %" in text(page, "#comparison")
    assert "× less" in text(page, "#comparison")
    bits = page.locator("#layers tbody tr td:nth-child(2)").all_inner_texts()
    assert [int(value) for value in bits] == list(entry["bits"].values())
    assert page.locator("#points tr.current").get_attribute("data-position") == "3"
    assert page.url.endswith("#point=3")


def test_clicking_beside_a_point_takes_the_nearest(front, show):
    page = show(front)
    box = point(page, 23).bounding_box()
    page.mouse.click(box["x"] - 5, box["y"] + 14)
    assert text(page, "#selected-title") == "Point 23"


def test_keyboard_walks_and_selects(front, show):
    page = show(front)
    point(page, 23).focus()
    page.keyboard.press("ArrowRight")
    assert text(page, "#tooltip").startswith("Point 22")
    page.keyboard.press("Enter")
    assert text(page, "#selected-title") == "Point 22"


def test_the_three_questions_of_a_new_user(front, show):
    """Which network for a tenth of the energy, what does it cost in test accuracy, which layer eats the energy."""
    page = show(front)
    pick = page.locator("#picks button", has_text="A tenth of the energy")
    pick.click()
    meeting = [p for p in front["points"] if p["energy_mj"] <= front["baseline"]["energy_mj"] / 10]
    best = max(meeting, key=lambda p: p["validation_accuracy"])
    assert text(page, "#selected-title") == f"Point {best['index']}"
    assert "current" in pick.get_attribute("class")
    change = 100 * (best["test_accuracy"] - front["baseline"]["test_accuracy"])
    assert f"−{abs(change):.2f} points" in text(page, "#comparison tbody tr:nth-child(2)")
    energies = {name: sum(parts.values()) for name, parts in best["energy_by_layer"].items()}
    hungriest = max(energies, key=energies.get)
    share = 100 * energies[hungriest] / sum(energies.values())
    assert f"{hungriest} takes the most energy: {share:.0f} % of the whole" in text(page, "#layers-sentence")
    widths = page.evaluate(
        "[...document.querySelectorAll('#layers tbody .wide')].map((cell) => "
        "[...cell.querySelectorAll('.track span')].reduce((sum, part) => sum + part.offsetWidth, 0))"
    )
    assert list(energies)[widths.index(max(widths))] == hungriest


def test_which_layer_needs_its_bits_most(front, show):
    page = show(front)
    page.locator("#picks button[data-rule=max-accuracy]").click()
    index = int(text(page, "#selected-title").removeprefix("Point "))
    costs = next(entry["next_bit_cost"] for entry in front["points"] if entry["index"] == index)
    known = {name: cost for name, cost in costs.items() if cost is not None}
    dearest = max(known, key=known.get)
    said = f"One bit less is expected to cost most in {dearest}: {100 * known[dearest]:.2f} points"
    assert said in text(page, "#layers-sentence")
    assert page.locator("#layers th").last.text_content() == "One bit less (points)"
    cells = dict(zip(costs, page.locator("#layers tbody tr td:last-child").all_text_contents(), strict=True))
    for name, cost in costs.items():
        assert cells[name] == ("–" if cost is None else "0.00" if cost < 5e-5 else f"−{100 * cost:.2f}")


def test_own_budget(front, show):
    page = show(front)
    energy, size = page.locator("#budget input").all()
    energy.fill("20%")
    meeting = [p for p in front["points"] if p["energy_mj"] <= front["baseline"]["energy_mj"] / 5]
    best = max(meeting, key=lambda p: (p["validation_accuracy"], -p["energy_mj"]))
    assert text(page, "#budget-answer").startswith(f"Point {best['index']} is the most accurate")
    assert text(page, "#selected-title") == f"Point {best['index']}"
    size.fill("9")
    assert text(page, "#budget-answer").startswith("Point 23 is the most accurate")
    size.fill("1")
    assert text(page, "#budget-answer").startswith("No network of this front needs")
    assert "nearest is point 23" in text(page, "#budget-answer")
    size.fill("<b>")
    assert text(page, "#budget-answer") == "Expected a number or a percentage, found “<b>”."


def test_axes_can_be_chosen(front, show):
    page = show(front)
    assert "Energy (mJ)" in page.locator("#chart").text_content()
    page.select_option("#x-axis", "size_kib")
    page.select_option("#y-axis", "test_accuracy")
    drawn = page.locator("#chart").text_content()
    assert "Size (KiB)" in drawn
    assert "Test accuracy" in drawn
    before = point(page, 23).get_attribute("cx")
    page.locator("#x-log").click()
    assert point(page, 23).get_attribute("cx") != before
    page.select_option("#y-range", "5")
    shown = [p for p in front["points"] if p["test_accuracy"] >= front["baseline"]["validation_accuracy"] - 0.05]
    assert page.locator("#chart .point").count() == len(shown) < 24
    point(page, 0).hover()
    assert text(page, "#tooltip").startswith("Point 0")


def test_table_sorts_and_selects(front, show):
    page = show(front)
    page.locator("#points th button", has_text="Validation").click()
    page.locator("#points th button", has_text="Validation").click()
    assert page.locator("#points tbody tr").first.get_attribute("data-position") == "0"
    page.locator("#points tbody tr").nth(2).click()
    assert text(page, "#selected-title") == "Point 2"


def test_a_tail_that_nobody_ships_is_out_of_range_until_asked_for(front, show):
    tail = front["points"][-1]
    tail["validation_accuracy"], tail["validation_correct"] = 0.1, 36
    page = show(front, address="#point=3")
    shown = [entry for entry in front["points"] if entry["validation_accuracy"] >= 356 / 360 - 0.05]
    assert page.locator("#chart .point").count() == len(shown) < 24
    assert page.locator("#y-range").input_value() == "5"
    assert f"{24 - len(shown)} less accurate points are out of range" in text(page, "#chart-note")
    # Whoever selects one of them elsewhere sees it.
    page.locator('#points tbody tr[data-position="23"]').click()
    assert text(page, "#selected-title") == "Point 23"
    assert page.locator("#chart .point").count() == 24
    assert page.locator("#y-range").input_value() == ""


def test_a_pick_says_what_it_costs_and_which_layer_eats_the_energy(front, show):
    said = text(show(front), "#picks button:has-text('A tenth of the energy')")
    picked = front["points"][pick_point("budget:energy_mj=10%", front).position]
    lost = 100 * (front["baseline"]["test_accuracy"] - picked["test_accuracy"])
    assert f"Test accuracy: −{lost:.2f} points." in said
    energies = {name: sum(parts.values()) for name, parts in picked["energy_by_layer"].items()}
    assert f"Most energy: {max(energies, key=energies.get)}, " in said


def test_a_linked_point_opens_selected(front, show):
    assert text(show(front, address="#point=7"), "#selected-title") == "Point 7"


def test_dark_and_light(front, show):
    colour = "getComputedStyle(document.body).backgroundColor"
    light, dark = (show(front, color_scheme=scheme).evaluate(colour) for scheme in ("light", "dark"))
    assert sum(map(int, re.findall(r"\d+", light))) > 600
    assert sum(map(int, re.findall(r"\d+", dark))) < 150


def test_hostile_names_are_shown_and_not_run(front, show):
    front["network"] = front["dataset"] = front["hardware"] = front["energy_unit"] = HOSTILE
    front["layers"][1]["name"] = HOSTILE
    front["settings"][HOSTILE] = HOSTILE
    for entry in front["points"]:
        for key in ("bits", "density", "energy_by_layer", "bytes_by_layer", "next_bit_cost"):
            entry[key] = {HOSTILE if name == "conv2" else name: value for name, value in entry[key].items()}
    page = show(front)
    point(page, 4).hover()
    assert HOSTILE in text(page, "#tooltip")
    assert HOSTILE in text(page, "h1")
    assert page.locator("#layers tbody tr .name").nth(1).text_content() == HOSTILE
    assert page.evaluate("window.hacked === undefined && document.images.length === 0")


@pytest.mark.parametrize("case", ["one point", "no test", "bare", "three objectives", "unfinished", "equal costs"])
def test_other_fronts(front, show, case):
    if case == "one point":
        front["points"] = front["points"][:1]
    if case == "no test":
        for entry in [front["baseline"], *front["points"]]:
            entry["test_accuracy"] = None
    if case == "bare":
        front["history"] = []
        for entry in front["points"]:
            del entry["energy_by_layer"], entry["bytes_by_layer"], entry["next_bit_cost"]
    if case == "three objectives":
        front["objectives"] = ["accuracy", "energy", "latency"]
        for entry in [front["baseline"], *front["points"]]:
            entry["latency_ms"] = entry["energy_mj"] * 300
    if case == "equal costs":
        for entry in front["points"]:
            entry["energy_mj"] = 0.001
    page = show(front | {"finished": case != "unfinished"})
    assert page.locator("#chart .point").count() == len(front["points"])
    assert page.evaluate("![...document.querySelectorAll('#chart *')].some((n) => n.outerHTML.includes('NaN'))")
    expected = {
        "one point": "One compressed network",
        "no test": "Not evaluated on the test set yet",
        "bare": "No generation was recorded",
        "three objectives": "Latency (ms)",
        "unfinished": "the search had not finished",
        "equal costs": "24 compressed networks",
    }
    assert expected[case] in text(page, "body")


def test_hardware_without_energies_shows_none(front, show):
    front["objectives"], front["energy_unit"] = ["accuracy", "latency"], ""
    for entry in [front["baseline"], *front["points"]]:
        entry["latency_ms"] = entry.pop("energy_mj") * 300
        entry.pop("energy_by_layer", None)
    page = show(front)
    assert page.locator("#chart .point").count() == 24
    shown = " ".join(text(page, place) for place in ("#points", "#comparison", "#picks", "#summary"))
    assert "Latency (ms)" in shown
    assert "nergy" not in shown
    assert "undefined" not in text(page, "body")


def test_points_of_one_pattern_can_be_shown_alone(front, show):
    assert not show(front).locator("#patterns").is_visible()
    for entry in front["points"][::2]:
        entry["level"], entry["pattern"] = 50, "2:4"
    page = show(front)
    page.locator("#pattern").select_option("2:4")
    assert page.locator("#chart .point").count() == page.locator("#points tbody tr").count() == 12
    assert {cell.strip() for cell in page.locator("#points tbody td:nth-child(2)").all_inner_texts()} == {"2:4"}
    point(page, front["points"][0]["index"]).click()
    assert "library level 2:4" in text(page, "#selected-level")
    page.locator("#pattern").select_option("unstructured")
    assert page.locator("#points tbody tr").count() == 12
    page.locator("#pattern").select_option("")
    assert page.locator("#points tbody tr").count() == 24
