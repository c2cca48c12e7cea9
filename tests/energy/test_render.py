"""Reports in every format: read back, checked against the record, and free of anything from outside."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from energy_nets import measured, one_layer, small_snn, spikes

from tcja_deploy import zoo
from tcja_deploy.energy.render.documents import (
    FORMATS,
    rates_document,
    report_document,
    reproduction_document,
    write_plots,
    write_text,
)
from tcja_deploy.energy.render.formats import to_latex, to_markdown, to_rich
from tcja_deploy.energy.render.plots import rate_plots, report_plots
from tcja_deploy.energy.render.rate_tables import rate_summary
from tcja_deploy.energy.render.report_tables import all_tables, summary_tables
from tcja_deploy.energy.render.reproduce_tables import reproduction_summary, reproduction_tables
from tcja_deploy.energy.render.table import Column, Table, energy_text, number_text
from tcja_deploy.energy.report.rates import Rates, rates
from tcja_deploy.energy.report.record import Report, make_report
from tcja_deploy.energy.report.reproduce import reproduce
from tcja_deploy.errors import ExportError, UsageError
from tcja_deploy.hardware_profiles import load_profile
from tcja_deploy.ir import Graph, GraphBuilder, Kind
from tcja_deploy.ir import ops as ir


@pytest.fixture(scope="module")
def report() -> Report:
    m = measured(small_snn(bias=True), spikes(np.random.default_rng(0), 5, 4, 2, 8, 12))
    profiles = [load_profile(n) for n in ("asic45", "asic45-int8", "loihi1", "loihi2", "speck", "cpu")]
    return make_report(m, profiles, provenance={"command": "tcja-deploy energy <m> & 'more'"})


@pytest.fixture(scope="module")
def found(report: Report) -> Rates:
    return report.rates


class Reader(HTMLParser):
    """Collects what a page holds, and checks that its elements are closed in order."""

    void = frozenset({"meta", "br", "hr", "link", "img", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.outside: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.void:
            self.open.append(tag)
        for name, value in attrs:
            local = value is None or value.startswith("#")
            if name in ("src", "href", "xlink:href") and not local:
                self.outside.append(f"{tag} {name}={value}")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.void:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_html_is_one_whole_file(report: Report) -> None:
    page = report_document(report, ".html")
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    assert reader.outside == []
    assert "@import" not in page
    assert "url(http" not in page
    assert reader.tags.count("svg") >= 8
    assert reader.tags.count("script") == 1
    text = " ".join(reader.text)
    for e in report.estimates:
        if e.energy_pJ is not None:
            assert energy_text(e.energy_pJ.mean) in text
    assert "tcja-deploy energy <m> & 'more'" in text  # escaped in the source, whole for the reader
    for label in ("per inference", "Sensitivity", "Unpriced work", "Assumptions", "Provenance", "sigmoid"):
        assert label in text


def test_html_tables_carry_raw_values_to_sort_by(report: Report) -> None:
    page = report_document(report, ".html")
    snn = next(e for e in report.estimates if e.energy_pJ is not None)
    assert snn.energy_pJ is not None
    assert f'data-v="{snn.energy_pJ.mean}"' in page


def test_csv_adds_up_to_the_report(report: Report) -> None:
    rows = list(csv.DictReader(io.StringIO(report_document(report, ".csv"))))
    for e in report.estimates:
        mine = [
            r
            for r in rows
            if (r["convention"], r["profile"], r["network"]) == (e.convention, e.profile, e.subject)
        ]
        assert len(mine) == len(e.entries)
        total = sum(float(r["energy_pJ_per_inference"]) for r in mine if r["energy_pJ_per_inference"])
        assert total == pytest.approx(0.0 if e.energy_pJ is None else e.energy_pJ.mean)
        for r in mine:
            if r["price_pJ"]:
                product = float(r["count_per_inference"]) * float(r["price_pJ"])
                assert product == pytest.approx(float(r["energy_pJ_per_inference"]))
            else:
                assert r["energy_pJ_per_inference"] == ""  # no price is no energy, never zero


def test_json_holds_the_whole_record(report: Report) -> None:
    read = json.loads(report_document(report, ".json"))
    assert read["kind"] == "tcja-deploy energy report"
    assert read["schema"] == 2
    assert [e["convention"] for e in read["estimates"]] == [e.convention for e in report.estimates]
    assert read["layers"][0]["macs"]["dense"] == report.layers[0].macs.dense
    assert read["options"]["first_layer"] == "ac"
    assert read["model"]["graph hash"] == report.model["graph hash"]
    unpriced = next(e for e in read["estimates"] if "loihi2" in e["profile"])
    assert unpriced["energy_pJ"] is None


def test_markdown_tables_are_rectangular(report: Report) -> None:
    lines = report_document(report, ".md").splitlines()
    width = None
    for line in lines:
        if line.startswith("|"):
            cells = len(re.findall(r"(?<!\\)\|", line))
            assert width in (None, cells), line
            width = cells
        else:
            width = None
    assert sum(line.startswith("## ") for line in lines) == len(all_tables(report))


def test_latex_is_balanced_and_escaped(report: Report) -> None:
    text = report_document(report, ".tex")
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == len(all_tables(report))
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == text.count(r"\midrule")
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert not re.search(
        r"(?<!\\)[%&#_](?![^{]*\})", re.sub(r" & ", " ", re.sub(r"\\label\{[^}]*\}", "", body))
    )
    assert all(ord(c) < 128 for c in body), {c for c in body if ord(c) > 127}


def test_latex_rows_have_the_columns_of_the_head() -> None:
    table = Table(
        "t",
        "A & B_1",
        (Column("a", "α%"), Column("b", "n", "int")),
        ((r"x\y", 1234), ("{z}", None)),
        ("50 %",),
    )
    text = to_latex(table)
    assert r"\caption{A \& B\_1}" in text
    assert r"x\textbackslash{}y & 1,234 \\" in text
    assert r"\{z\} & -- \\" in text


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_of_the_other_reports(suffix: str, found: Rates) -> None:
    assert "lif2" in rates_document(found, {"data": "here"}, suffix)
    r = reproduce(
        [("events34", zoo.build("events34")), ("dvs128", zoo.build("dvs128"))], load_profile("asic45")
    )
    assert "dvs128" in reproduction_document(r, {}, suffix)


def test_rates_csv_reads_back(found: Rates) -> None:
    rows = list(csv.DictReader(io.StringIO(rates_document(found, {}, ".csv"))))
    assert len(rows) == len(found.neurons) + len(found.inputs)
    assert float(rows[0]["rate_mean"]) == found.neurons[0].rate.mean
    assert [float(rows[0][f"rate_t{t}"]) for t in range(found.steps)] == list(found.neurons[0].per_step)


def test_plots_are_svg_documents_and_repeat_to_the_byte(report: Report) -> None:
    plots = report_plots(report)
    assert len({p.key for p in plots}) == len(plots)
    for plot in plots:
        root = ElementTree.fromstring(plot.svg)
        assert root.tag.endswith("svg")
        assert len(list(root.iter())) > 20
    assert [p.svg for p in report_plots(report)] == [p.svg for p in plots]


def test_terminal_tables_fit_80_columns(report: Report) -> None:
    from rich.console import Console

    inventories = [(name, zoo.build(name)) for name in ("ncaltech101", "dvs128", "cifar10dvs")]
    m = measured(small_snn(), spikes(np.random.default_rng(0), 3, 4, 2, 8, 12))
    reproduction = reproduction_summary(reproduce(inventories, load_profile("asic45"), m))
    console = Console(width=80, file=io.StringIO(), record=True)
    for table in [*summary_tables(report), *rate_summary(report.rates), *reproduction]:
        console.print(to_rich(table), crop=False)  # cropping would hide what does not fit
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    for e in report.estimates:
        if e.energy_pJ is not None:
            assert energy_text(e.energy_pJ.mean) in text
    assert "ncaltech101  14  2,244,670,464" in text


def test_numbers_stay_whole_where_a_table_does_not_fit() -> None:
    from rich.console import Console

    numbers = Column("n", "A long heading above a number", "int")
    table = Table("t", "T", (Column("name", "Name"), *[numbers] * 4), (("layer", *[1_234_567_890] * 4),))
    console = Console(width=40, file=io.StringIO(), record=True)
    console.print(to_rich(table), crop=False)
    assert console.export_text().count("1,234,567,890") == 4


def test_remarks_stand_below_the_energies_of_the_terminal() -> None:
    wide = one_layer(
        ir.Linear(np.ones((5, 300), np.float32)), (300,)
    )  # TrueNorth's neurons have 256 synapses
    profiles = [load_profile(name) for name in ("loihi2:inherited-loihi1", "truenorth")]
    totals = summary_tables(make_report(measured(wide, np.ones((1, 1, 300))), profiles))[0]
    assert "loihi2:inherited-loihi1: prices of another chip." in totals.notes
    assert "truenorth:line: the network does not fit the chip." in totals.notes


def test_nodes_stand_in_the_order_of_the_network(report: Report) -> None:
    table = next(t for t in all_tables(report) if t.key == "energy_by_node")
    order = [c.node for c in report.coverage]
    found = [row[0] for row in table.rows if row[0] in order]
    assert found == sorted(found, key=order.index)
    assert {"conv1", "lif1", "tcja"} <= set(found)


def test_every_column_has_a_heading(report: Report) -> None:
    for table in [
        *all_tables(report),
        *reproduction_tables(reproduce([("n", small_snn())], load_profile("asic45"))),
    ]:
        assert all(c.head for c in table.columns), table.key
    assert "<th></th>" not in report_document(report, ".html")


@pytest.mark.parametrize("suffix", [".html", ".md", ".tex"])
def test_documents_state_choices_assumptions_and_sources(report: Report, suffix: str) -> None:
    text = report_document(report, suffix)
    for needed in ("weight reuse in 'memory'", "a write costs what a read costs", "ISSCC 2014"):
        assert needed in text.replace("&#x27;", "'")


ENERGIES = {
    0.0: "0 pJ",
    0.5: "0.5000 pJ",
    999.94: "999.9 pJ",
    1234.5: "1.234 nJ",
    10.3254841344e9: "10.33 mJ",
    5e13: "50.00 J",
}


@pytest.mark.parametrize(("pJ", "text"), ENERGIES.items())
def test_energies_choose_their_unit(pJ: float, text: str) -> None:
    assert energy_text(pJ) == text


def test_numbers_have_significant_digits_without_exponents() -> None:
    assert [number_text(x) for x in (12345.6, 1.23456, 0.000123456, 0, -2.5)] == [
        "12,346",
        "1.235",
        "0.0001235",
        "0",
        "-2.500",
    ]
    assert number_text(float("nan")) == "–"


def test_missing_cells_are_dashes_for_people_and_empty_for_machines() -> None:
    columns = (Column("a_pJ", "A", "energy"), Column("b", "B", "percents"), Column("c", "C", "counts"))
    table = Table("t", "T", columns, ((None, None, (1, 2000)),))
    assert table.cells() == [["–", "–", "1 – 2,000"]]
    assert table.records() == [{"a_pJ": None, "b_low": None, "b_high": None, "c_low": 1, "c_high": 2000}]
    assert "a\\|b" in to_markdown(Table("t", "T", (Column("x", "X"),), (("a|b",),)))


def test_writing_is_atomic_and_never_replaces_silently(tmp_path: Path, found: Rates) -> None:
    path = tmp_path / "r.md"
    write_text(path, lambda suffix: f"one {suffix}")
    assert path.read_text() == "one .md"
    with pytest.raises(ExportError, match="already"):
        write_text(path, lambda suffix: "two")
    write_text(path, lambda suffix: "two", force=True)
    assert path.read_text() == "two"
    with pytest.raises(UsageError, match=r"\.docx"):
        write_text(tmp_path / "r.docx", str)
    with pytest.raises(ZeroDivisionError):
        write_text(tmp_path / "broken.md", lambda suffix: str(1 / 0))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r.md"]
    written = write_plots(tmp_path / "plots", rate_plots(found))
    assert [p.name for p in written] == ["rates.svg", "rates_over_time.svg", "rate_histogram.svg"]
    with pytest.raises(ExportError, match="already"):
        write_plots(tmp_path / "plots", rate_plots(found))


def test_rates_of_a_measured_network_are_those_of_the_report(report: Report) -> None:
    m = measured(small_snn(bias=True), spikes(np.random.default_rng(0), 5, 4, 2, 8, 12))
    assert rates(m) == report.rates


NAMES = ["x$\\foo{$", "a$b$c", "<script>alert(1)</script>", "e|f & 50 % _#~^", "\\input{evil}"]


@pytest.mark.parametrize("name", NAMES)
def test_names_from_a_file_stay_text(name: str) -> None:
    b = GraphBuilder(2)
    x = b.add(name, ir.Linear(np.ones((3, 4), np.float32)), b.add("input", ir.Input((4,), Kind.BINARY)))
    graph = b.finish(b.add(f"{name} neurons", ir.LIF(), x))
    named = Graph(graph.T, graph.nodes, graph.output, {"architecture": f"{name}\n\\evil"})
    report = make_report(
        measured(named, np.ones((2, 2, 4))), [load_profile("asic45"), load_profile("loihi1")]
    )
    page, tex, text = (report_document(report, suffix) for suffix in (".html", ".tex", ".md"))
    assert "<script>alert" not in page
    Reader().feed(page)
    commented, _, body = tex.partition("\n\n")
    assert all(line.startswith("%") for line in commented.splitlines())
    assert "\\input" not in body
    assert "\\evil" not in body
    assert not any(line.startswith("\\") for line in text.splitlines())
    for plot in report_plots(report):
        ElementTree.fromstring(plot.svg)


def test_numbers_of_a_plot_are_plain() -> None:
    found = rates(measured(small_snn(), spikes(np.random.default_rng(0), 5, 4, 2, 8, 12)))
    for plot in rate_plots(found):
        words = [e.text or "" for e in ElementTree.fromstring(plot.svg).iter() if e.tag.endswith("text")]
        assert words
        assert not any("$" in word or "\\" in word for word in words)


def test_json_of_a_network_without_sparse_inputs_is_json() -> None:
    dense = one_layer(ir.Linear(np.ones((5, 3), np.float32)), (3,), kind=Kind.REAL)
    m = measured(dense, np.ones((2, 1, 3)))
    report = make_report(m, [load_profile("asic45")])
    assert report.verdicts == ()
    found = reproduce([("n", small_snn())], load_profile("asic45"), m)
    for text in (report_document(report, ".json"), reproduction_document(found, {}, ".json")):
        json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert reproduction_document(found, {}, ".md").count("nan") == 0
