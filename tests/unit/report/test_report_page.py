from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from datetime import date
from html.parser import HTMLParser

import pytest
from report_rows import HOSTILE, bin_rows, day_rows, metric_rows, model_row, network_row, sample_report, trees_row

from clickmill.report import figures
from clickmill.report.data import Bin
from clickmill.report.page import SECTIONS, render

VOID = {"meta", "link", "br"}


class Page(HTMLParser):
    """Tags with attributes, text, and whether every tag is closed where it should be."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


@pytest.fixture(scope="module")
def html() -> str:
    return render(sample_report())


def test_the_page_is_well_formed_and_holds_every_section_and_figure(html):
    page = Page(html)
    assert page.open == []
    ids = {attributes.get("id") for _, attributes in page.tags}
    assert {anchor for anchor, _ in SECTIONS} <= ids
    for figure in (
        "0.8034",
        "0.10854",
        "9.800",
        "1.003",
        "1.004",
        "0.00061",
        "0.7812",
        "8.3",
        "161,004",
        "24 bits",
    ):
        assert figure in page.text
    assert "lr predicts best: NE 0.8034 on 200,000 test impressions with 6,021 clicks (CTR 3.01 %)" in page.text


def test_nothing_is_fetched_and_nothing_runs(html):
    page = Page(html)
    (policy,) = [a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")
    assert "script" not in policy
    assert not [tag for tag, _ in page.tags if tag in ("script", "iframe", "object", "img", "form")]
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("href", "xlink:href", "src"):
            value = attributes.get(name)
            assert value is None or value.startswith("#") or value == "data:,", (tag, value)
    assert len(html.encode()) < 2_000_000


def test_ids_are_unique_and_every_reference_finds_its_id(html):
    page = Page(html)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = set(re.findall(r'href="#([^"]+)"', html)) | set(re.findall(r"url\(#([^)]+)\)", html))
    wanted |= {word for _, a in page.tags for word in (a.get("aria-labelledby") or "").split()}
    assert wanted <= set(ids)


def test_tables_have_captions_and_scopes_and_figures_have_words(html):
    page = Page(html)
    assert html.count("<table") == html.count("<caption>") > 6
    assert all("scope" in attributes for tag, attributes in page.tags if tag == "th")
    drawn = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(drawn) == 5
    assert all(attributes["role"] == "img" and attributes["aria-labelledby"] for attributes in drawn)
    assert "Farthest from the diagonal" in page.text


@pytest.mark.parametrize("inside", [False, True])
def test_trees_show_how_they_grew_and_what_they_split_by(inside):
    model_id = "trees-2026-01-10-1f09aa31"
    rows = trees_row(model_id, "trees", column=f"e_{HOSTILE}", inside=inside)
    page = Page(render(sample_report(metrics=metric_rows(model_id, 0.8), models=[rows], reliability=[])))
    for words in ("2 trees, 14 leaves", "2 of 3 rounds kept", "validation rows end at NE 0.9300", "0.4321"):
        assert words in page.text
    assert "75.00 %25.00 %0.4321" in page.text.replace(" 75", "75")
    assert "read 0.4, grow 12.5" in page.text
    assert "No model with trees" in Page(render(sample_report())).text
    assert [tag for tag, _ in page.tags if tag == "script"] == []


@pytest.mark.parametrize(
    ("judged", "told"), [(True, "have NE 0.9100 there"), (False, "validation rows have no NE there")]
)
def test_networks_show_how_they_learned_and_what_it_cost(judged, told):
    model_id = "deep-2026-01-10-1f09aa31"
    rows = network_row(model_id, "deep", judged=judged)
    page = Page(render(sample_report(metrics=metric_rows(model_id, 0.8), models=[rows], reliability=[])))
    shown = " ".join(page.text.split())
    for words in (
        "deep: 30 steps of 2 processes, horovod",
        "after step 20 of 30 kept",
        told,
        "123,456 bytes a step",
    ):
        assert words in shown
    assert "read 0.4, step 12.5, communicate 3.0 (the first process). 54,321 rows a second" in shown
    assert "No network was judged" in Page(render(sample_report())).text


def test_a_value_from_the_log_shows_as_text_wherever_it_stands():
    model_id = f"m-1-{HOSTILE}"
    report = sample_report(
        dataset=HOSTILE,
        metrics=metric_rows(model_id, 0.8),
        models=[{**model_row(model_id, f"name {HOSTILE}"), "kind": HOSTILE, "versions": '{"<script>": 3}'}],
        calibrations=[{"model_id": model_id, "method": HOSTILE}],
        reliability=bin_rows(model_id),
        history=day_rows(model_id, {"2026-01-09": 0.8, "2026-01-10": 0.81}),
        audit=[{**row, "slot": HOSTILE} for row in _audit()],
        rejects=[{"reason": HOSTILE, "lines": 1, "source": HOSTILE, "line": 3, "text": HOSTILE}],
        versions={HOSTILE: 1},
    )
    html = render(report)
    assert "<script" not in html
    assert "\x1b" not in html
    assert "\u202e" not in html
    assert "49" not in "".join(re.findall(r"\{\{.*?\}\}", html))
    assert Page(html).open == []
    shown = "<script>alert(1)</script>[red]\ufffd[31m\ufffd{{7*7}}"
    assert Page(html).text.count(shown) >= 12


def _audit():
    shares = {"missing_share": None, "unseen_share": None, "collision_mass": 0.5}
    return [{"ds": date(2026, 1, 10), "slot": "s", "rows": 9, "distinct": 3, "bits": 22, **shares}]


def test_an_empty_report_is_a_page_that_says_what_is_missing():
    nothing = sample_report(metrics=[], history=[], reliability=[], models=[], audit=[], rejects=[])
    text = Page(render(nothing)).text
    for words in ("No reliability bins", "No day of the test time", "have no audit", "No line was refused"):
        assert words in text


def test_one_test_day_has_its_row_but_no_curve():
    page = Page(render(sample_report(history=day_rows("lr-2026-01-10-1f09aa31", {"2026-01-10": 0.8056}))))
    assert "the curve begins with a second" in page.text
    assert "0.8056" in page.text


def test_slots_over_the_limit_are_marked_and_counted():
    html = render(sample_report())
    assert html.count('class="heavy"') == 3
    assert "At 22 bits 2 of 3 slots and crosses have 1 % or more" in Page(html).text


def test_the_same_report_is_the_same_page_to_the_byte():
    assert render(sample_report()) == render(sample_report())


def reliability_texts(bins: list[Bin], before: list[Bin] | None = None) -> list[str]:
    svg = figures.reliability(before or [], bins, key="k", title="t", description="d")
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{{{figures.SVG}}}text")]


def test_axes_are_logarithmic_where_clicks_are_rare():
    rare = reliability_texts([Bin(0.001 * 2**i, 0.001 * 2**i, 10) for i in range(6)])
    common = reliability_texts([Bin(0.1 * i, 0.1 * i, 10) for i in range(1, 7)])
    assert "0.2 %" in rare
    assert "0.5 %" in rare
    assert {"0 %", "20 %", "40 %"} <= set(common)


def test_bins_without_clicks_are_drawn_even_on_log_axes():
    bins = [Bin(0.001, 0.0, 10), Bin(0.01, 0.011, 10)]
    svg = figures.reliability([], bins, key="k", title="t", description="d")
    assert svg.count("<use") >= 2
    assert "nan" not in svg.lower()


def test_a_log_in_which_nobody_clicked_still_has_a_figure():
    assert "observed CTR" in reliability_texts([Bin(0.0, 0.0, 10)])


def test_figures_take_their_colours_and_font_from_the_page():
    svg = figures.by_day(
        [[(date(2026, 1, 1), 0.8), (date(2026, 1, 2), 0.81)]], metric="NE", key="k", title="t", description="d"
    )
    assert "var(--c10)" in svg
    assert "var(--font)" in svg
    assert "#0a0b" not in svg
    assert "DejaVu" not in svg


def test_the_gate_speaks_in_sentences_and_slices_stand_by_harm(html):
    page = Page(html)
    assert "lr-2026-01-10-1f09aa31 is refused, lr_nocross-2026-01-10-77c0ee02 stays the champion." in page.text
    passed = [attributes for tag, attributes in page.tags if tag == "li" and attributes.get("class") == "passed"]
    failed = [attributes for tag, attributes in page.tags if tag == "li" and attributes.get("class") == "failed"]
    assert (len(passed), len(failed)) == (1, 1)
    assert page.text.index("site=b") < page.text.index("site=a") < page.text.index("site=few")
    assert "+0.0061[+0.0021, +0.0101]worse" in page.text
    assert "−0.0173[−0.0213, −0.0133]" in page.text
    assert "0.8034[0.7954, 0.8114]" in page.text


def test_slices_are_those_of_the_best_two_where_nobody_was_up_for_promotion():
    page = Page(render(sample_report(decision=None)))
    assert "Nobody was up for promotion" in page.text
    assert "Where lr differs from lr_nocross, the most harmed first" in page.text


def test_a_forest_plot_is_numbered_as_its_table_where_intervals_lack():
    rows = [(2, figures.Interval(-0.01, -0.02, 0.0)), (5, figures.Interval(0.02, 0.01, 0.03))]
    svg = figures.forest(rows, key="k", title="t", description="d")
    numbers = [e.text for e in ElementTree.fromstring(svg).iter(f"{{{figures.SVG}}}text") if e.text in "12345"]
    assert numbers == ["2", "5"]
