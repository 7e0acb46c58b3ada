"""The page as a real browser shows it: nothing hostile acts, it is used by keyboard, and a big run is no matter."""

import dataclasses
import re
import shutil
from collections import Counter
from datetime import date
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from harness.bisect.course import Case, Course, JudgedTrial
from harness.bisect.hunks import Unit
from harness.bisect.report import Story, write_html
from harness.bisect.search import Costs
from harness.escapes import decoded, one_line, visible
from harness.programs.model import Expectation
from harness.results import index
from harness.results import page as pages
from harness.results.build_matrix import build_matrix
from harness.results.expected import Entry
from harness.results.listing import list_runs
from harness.results.load import history_runs, load_history
from harness.results.outdiff import output_diff
from harness.results.plan import RunPlan
from harness.results.store import Store
from harness.trial.record import Trial
from tests import runs

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(
    not CHROMIUM, reason="no Chromium; `python3 -m harness.doctor --install --tests` gets it"
)

PROGRAMS = runs.names(120)
TRIALS = list(runs.trials(PROGRAMS))
#: A trial of everything that is shown of one, all of it hostile.
HOSTILE = dataclasses.replace(
    TRIALS[0], guest=runs.GUESTS[0], variant=runs.VARIANTS[0], program=runs.EVIL.replace("/", "|"), signature="",
    number=1, verdict="crash", reason=runs.EVIL, signal=runs.EVIL, command=runs.EVIL, stdout=runs.HOSTILE,
    stderr=runs.HOSTILE, stdout_total=len(runs.HOSTILE), stderr_total=10**6,
)  # fmt: skip


def matrix_of(trials, programs, **more):
    events = [{"time": "t", "guest": runs.EVIL, "text": f"{runs.EVIL}\n{runs.EVIL}"}]
    return build_matrix(runs.facts(), runs.GUESTS, runs.VARIANTS, programs, "pristine", trials, events, **more)


@pytest.fixture(scope="module")
def some(tmp_path_factory):
    """A page that has a cell of every kind."""
    file = tmp_path_factory.mktemp("some") / "page.html"
    trials = [*TRIALS, HOSTILE]
    parts = {"dossier/threads": runs.HOSTILE, f"dossier/{runs.EVIL}": runs.HOSTILE, "dossier/screen.png": b"\x89PNG"}
    matrix = matrix_of(trials, [*PROGRAMS, HOSTILE.program])
    pages.write(file, matrix, trials, collected=lambda _: parts, work=Path("/here"))
    return file


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A page of 100,000 trials: a thousand programs, four columns, 25 trials."""
    file = tmp_path_factory.mktemp("many") / "page.html"
    programs = runs.names(1000)
    pages.write(file, matrix_of(runs.trials(programs, each=25), programs), runs.trials(programs, each=25))
    return file


@pytest.fixture(scope="module")
def pages_of_all_kinds(tmp_path_factory):
    """A folder with the pages of a run that has cells of all kinds, of an attribution, of a bisect and of all runs."""
    folder = tmp_path_factory.mktemp("kinds")
    expected = {"s/differs": Expectation(stdout=b"<b>\ntwo\nthree\n")}
    store = Store(folder / "results.sqlite")
    run = store.begin(RunPlan.model_validate({**KINDS, "facts": {"command": "harness run s"}}))
    for trial in kinds():
        store.add(run, trial)
    trials = list(store.trials(run))
    axes = (["hurd"], ["pristine", "a-libgo-with-a-long-name"], KINDS["programs"])
    entry = Entry("*", "a-libgo*", "s/crashes", ("crash",), "", "reported in 2013", date.max, False, "expected.yaml:3")
    matrix = build_matrix(
        {"command": "harness run s"}, *axes, "pristine", trials, [], expected=[entry], day=date(2026, 1, 1)
    )
    links = {"All runs": "index.html"}
    pages.write(
        folder / "report.html", matrix, trials, links=links,
        compared=lambda trial: output_diff(trial, expected.get(trial.program, Expectation())),
    )  # fmt: skip
    pages.write_attribution(folder / "attribution.html", matrix, links)
    write_bisect(folder / "bisect.html", links)
    entries = [index.RunEntry(run, {"trials": "report.html"}) for run in list_runs(store, folder).runs]
    index.write(folder / "index.html", entries, history_runs(store, folder), load_history(store, folder))
    return folder


KINDS = {
    "guests": ["hurd"], "variants": ["pristine", "a-libgo-with-a-long-name"],
    "programs": ["s/flakes", "s/crashes", "s/differs", "s/dies-once", "s/never-run"],
}  # fmt: skip


def kinds():
    """Trials that make the cells 0 to 7: 0 and 1 flake, 1 with deaths; 2 and 3 crash, of which 3 is known to; 4 prints
    what it should not, 5 kills its guests, 6 passes though its guest died once, 7 passes. There are none of 8 and 9."""
    panic = "panic: Kernel page fault in thread_block"
    cells = {
        ("s/flakes", 0): ["pass", "crash", "hang", "pass", "crash"], ("s/flakes", 1): ["pass", "pass", *["error"] * 6],
        ("s/crashes", 0): ["crash", "crash"], ("s/crashes", 1): ["crash", "crash"],
        ("s/differs", 0): ["fail", "fail"], ("s/differs", 1): ["error"] * 6,
        ("s/dies-once", 0): ["error", "pass", "pass"], ("s/dies-once", 1): ["pass", "pass"],
    }  # fmt: skip
    titles = {
        ("crash", 0): "panic: nil map in main.main",
        ("crash", 1): "panic: known",
        ("hang", 0): "hang: semacquire",
    }
    for (program, variant), verdicts in cells.items():
        for number, verdict in enumerate(verdicts, start=1):
            number = number - 1 if verdicts[0] == "error" and number > 1 else number
            reason = {"error": panic, "fail": "line 2 of stdout is 'two '"}.get(verdict, "why")
            yield dataclasses.replace(
                TRIALS[0], guest="hurd", variant=KINDS["variants"][variant], program=program, number=number,
                verdict=verdict, reason=reason, signature=titles.get((verdict, variant), ""),
                stdout=b"<b>\ntwo \n\xffthree", stdout_total=15, command=f"harness run {program}",
            )  # fmt: skip


def write_bisect(file, links):
    """The page of a bisect of three hunks, of which the second brings the crash."""
    course = Course(Case(3))
    numbers, trial_ids = Counter(), {}
    while (subset := course.next(Costs(1.0, 5.0, dict.fromkeys(course.built, 0.0)))) is not None:
        course.builds(subset)
        numbers[subset] += 1
        trial_ids[subset, numbers[subset]] = len(trial_ids) + 1
        outcome = ("crash", "panic: nil map") if 1 in subset else ("pass", "as expected")
        course.record(JudgedTrial(subset, *outcome, numbers[subset]))
    units = [Unit(f"runtime/proc.c:{line}", "libgo/runtime/proc.c", "x = y;" * 9, b"") for line in (1, 2, 3)]
    story = Story(course, units, "hunk", "s/flakes", "hurd", "pristine")
    write_html(file, story, b"--- a\n+++ b\n", {"command": "harness bisect"}, trial_ids, links)


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


class Shown:
    """A page in a browser, and everything that went wrong or out in it."""

    def __init__(self, browser, file, **more):
        self.context = browser.new_context(viewport={"width": 1280, "height": 900}, **more)
        self.page = self.context.new_page()
        self.told, self.asked = [], []
        self.page.on("console", lambda message: self.told.append(message.text))
        self.page.on("pageerror", lambda error: self.told.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.told.append(dialog.message), dialog.dismiss()))
        self.context.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(file.as_uri())
        if more.get("java_script_enabled", True) and self.page.locator("#index").count():
            self.page.wait_for_selector("html[data-ready]")

    def __getattr__(self, name):
        return getattr(self.page, name)

    def texts(self, selector):
        return self.page.locator(selector).all_text_contents()

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def active(self):
        """The number of the cell that the grid's focus is on."""
        return int(self.page.get_attribute("#grid", "aria-activedescendant").removeprefix("cell-"))

    def opened(self):
        self.page.wait_for_selector("#drawer[open] .trial pre, #drawer[open] .trial .soft")
        return self.page.text_content("#drawer-title")


@pytest.fixture
def show(chromium, some):
    """Opens a page. At the end no one may have said or asked for anything."""
    page = []

    def open_(file=some, fragment="", **more):
        one = Shown(chromium, file, **more)
        if fragment:
            one.page.goto(file.as_uri() + fragment)
            one.page.wait_for_selector("html[data-ready]")
        page.append(one)
        return one

    yield open_
    for one in page:
        assert not one.told
        assert {url.split("#")[0] for url in one.asked if not url.startswith("data:image/png")} == {
            one.page.url.split("#")[0]
        }
        one.context.close()


def test_nothing_hostile_acts_wherever_it_is_shown(show):
    page = show(fragment=f"#cell-{4 * len(PROGRAMS)}")
    assert page.opened() == one_line(HOSTILE.program)
    for part in page.locator("#drawer details.part").all():
        part.locator("summary").first.click()
    outputs = [visible(decoded(runs.HOSTILE))] * 4
    assert [text.lower() for text in page.texts("#drawer pre")] == [text.lower() for text in outputs]
    assert one_line(runs.EVIL).lower() in page.text_content("#drawer").lower()
    assert page.title() == page.text_content("h1").split(",")[0] and "owned" not in page.title()
    assert page.evaluate("document.querySelectorAll('img[src^=\"x\"], script:not([type])').length") == 1
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e]", page.inner_text("body"))


def test_a_script_that_came_in_all_the_same_would_not_run(some, tmp_path, chromium):
    evil = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\"></body>"
    (tmp_path / "evil.html").write_text(some.read_text().replace("</body>", evil))
    page = Shown(chromium, tmp_path / "evil.html")
    assert "owned" not in page.title()
    assert sum("Content Security Policy" in told for told in page.told) >= 2
    page.context.close()


def test_it_is_used_by_keyboard(show):
    page = show()
    page.press("/")
    assert page.evaluate("document.activeElement.id") == "filter-text"
    page.keyboard.type("program-07 suite-0")
    assert page.text_content("#filter-count") == "1 of 121 programs"
    page.press("Enter")
    assert page.evaluate("document.activeElement.id") == "grid" and page.active() == 28
    page.press("ArrowRight", "Enter")
    assert page.opened() == PROGRAMS[7]
    assert page.evaluate("document.activeElement.closest('dialog').id") == "drawer"
    page.press("Escape")
    page.wait_for_selector("#drawer", state="hidden")
    assert page.evaluate("document.activeElement.id") == "grid"
    page.click("#filter-clear")
    page.focus("#grid")
    assert page.active() == 29  # where it was
    for keys, cell in (
        (["ArrowDown", "End"], 35), (["ArrowUp", "Home"], 28), (["Control+Home"], 0), (["ArrowUp", "ArrowLeft"], 0),
        (["Control+End"], 4 * 121 - 1), (["ArrowDown"], 4 * 121 - 1), (["ArrowUp", "ArrowUp"], 4 * 119 - 1),
    ):  # fmt: skip
        page.press(*keys)
        assert page.active() == cell, keys
        box = page.locator(f"#cell-{cell}").bounding_box()
        around = page.locator("#matrix").bounding_box()
        head = page.locator("#grid-head").bounding_box()
        assert head["y"] + head["height"] <= box["y"] + 1 and box["y"] + box["height"] <= around["y"] + around["height"]
    page.press("PageUp")
    assert page.active() < 4 * 110


def test_the_grid_tells_what_it_is_to_those_who_do_not_see_it(show):
    page = show()
    page.focus("#grid")
    assert page.get_attribute("#grid", "aria-rowcount") == str(121 + 2 + 2)  # programs, suites, heads
    first = page.get_by_role("gridcell").first
    assert first.get_attribute("aria-label").startswith(
        f"{PROGRAMS[0]}, hurd-i386, pristine: crash; 0 of 5 passed, 95 % "
    )
    assert "p " in page.locator("#cell-1").get_attribute("aria-label")
    assert page.locator("[role=row]").first.get_attribute("aria-rowindex") == "1"


def test_a_cell_s_drawer_holds_its_evidence_its_trials_and_how_to_run_them_again(show):
    page = show()
    page.click("#cell-0")
    assert page.opened() == PROGRAMS[0]
    assert page.evaluate("location.hash") == "#cell-0"
    of = [trial for trial in TRIALS if (trial.program, trial.guest, trial.variant) == (PROGRAMS[0], *HOSTILE_CELL)]
    said = page.inner_text("#drawer")
    assert "0 of 5 trials passed; the chance of a pass is 0 to 43 % (95 %, Wilson)" in said
    assert of[0].signature in said and f"harness rerun {of[0].id} --work /here" in said
    assert f"harness open {of[0].id} --work /here" in said
    assert f"{of[0].command} --work /here" in said
    assert page.locator("#drawer details.trial").count() == 5
    assert page.texts("#drawer pre")[:2] == [of[0].stdout.decode(), of[0].stderr.decode()]
    page.locator("#drawer details.trial").nth(1).locator("summary").click()
    page.locator("#drawer pre").nth(4).wait_for(state="attached")  # wait_for_function evals, which the page forbids
    page.press("Escape")
    page.wait_for_url(lambda url: "#" not in url)
    page.click("#cell-1")
    assert "5 of 5 passed against 0 of 5 with pristine; p 0.00794, corrected " in page.inner_text("#drawer")


HOSTILE_CELL = (runs.GUESTS[0], runs.VARIANTS[0])


def test_it_is_filtered_by_text_verdict_and_signature(show):
    page = show()
    of = {}
    for trial in TRIALS:
        of.setdefault(trial.program, set()).add(trial.verdict)
    everywhere = len(PROGRAMS) + 1
    page.check(".chip input[value=hang]")
    hanging = sum(verdicts >= {"hang"} for verdicts in of.values())
    assert page.text_content("#filter-count") == f"{hanging} of {everywhere} programs"
    assert set(page.texts(".cell:not(.dim) .word")) == {"hang"}
    page.click("#filter-clear")
    assert page.text_content("#filter-count") == f"{everywhere} of {everywhere} programs"
    title = next(trial.signature for trial in TRIALS if trial.verdict == "crash")
    signed = {trial.program for trial in TRIALS if trial.signature == title}
    page.select_option("#filter-signature", label=next(
        text for text in page.texts("#filter-signature option") if text.startswith(title)
    ))  # fmt: skip
    assert page.text_content("#filter-count") == f"{len(signed)} of {everywhere} programs"
    page.click("#filter-clear")
    page.fill("#filter-text", "NIL DEREFERENCE")
    crashing = sum(verdicts >= {"crash"} for verdicts in of.values())
    assert page.text_content("#filter-count") == f"{crashing} of {everywhere} programs"
    page.fill("#filter-text", "nothing like this")
    assert page.text_content("#filter-count") == f"0 of {everywhere} programs" and not page.texts(".cell")
    button = page.locator("button[data-signature]").first
    cells = int(button.text_content().split()[1])
    button.click()
    assert page.locator(".cell:not(.dim)").count() == cells


def test_a_hundred_thousand_trials_are_drawn_no_more_than_is_seen(show, many):
    assert many.stat().st_size < 6_000_000
    page = show(many)
    nodes = "document.querySelectorAll('*').length"
    assert page.evaluate(nodes) < 4000
    page.fill("#filter-text", "program-99")
    assert page.text_content("#filter-count") == "10 of 1000 programs"
    page.fill("#filter-text", "")
    page.focus("#grid")
    page.press("Control+End", "Enter")
    assert page.opened() == runs.names(1000)[-1]
    assert page.locator("#drawer details.trial").count() == 25
    page.press("Escape")
    assert page.evaluate(nodes) < 4000
    page.evaluate("document.getElementById('matrix').scrollTop = 16000")
    page.wait_for_selector(f"#cell-{4 * 490}")
    assert page.evaluate(nodes) < 4000


#: The contrast of each kind of text with what is behind it (WCAG 2.2, 1.4.3), by the element's tag and classes.
CONTRASTS = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const light = (colours) => {
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    const parts = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((c) => c / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const contrasts = { page: light([getComputedStyle(document.body).backgroundColor]) };
  for (const element of document.querySelectorAll("body *")) {
    const texts = [...element.childNodes].filter((node) => node.nodeType === 3 && node.data.trim());
    if (!texts.length || !element.checkVisibility() || element.matches("script, option")) continue;
    const behind = [];
    for (let node = element; node; node = node.parentElement) behind.unshift(getComputedStyle(node).backgroundColor);
    const [one, other] = [light([...behind, getComputedStyle(element).color]), light(behind)];
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    const key = element.tagName + "." + element.className + " in " + element.parentElement.className;
    contrasts[key] = Math.min(contrast, contrasts[key] || 99);
  }
  return contrasts;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["report", "drawer", "attribution", "bisect", "index"])
def test_all_pages_can_be_read_in_the_light_and_in_the_dark(show, pages_of_all_kinds, name, scheme):
    file = pages_of_all_kinds / f"{'report' if name == 'drawer' else name}.html"
    page = show(file, "#cell-4" if name == "drawer" else "", color_scheme=scheme)
    if name == "drawer":
        page.wait_for_selector("#drawer .diff")
    contrasts = page.evaluate(CONTRASTS)
    assert (contrasts.pop("page") > 0.5) == (scheme == "light")
    assert len(contrasts) > 8 and {key: value for key, value in contrasts.items() if value < 4.5} == {}


@pytest.mark.parametrize("name", ["report", "attribution", "bisect", "index"])
def test_no_page_is_wider_than_a_telephone_and_what_scrolls_says_so(show, pages_of_all_kinds, name):
    page = show(pages_of_all_kinds / f"{name}.html")
    assert not page.locator("p.edges:visible").count()
    page.set_viewport_size({"width": 400, "height": 800})
    page.locator("p.edges:visible", has_text="scroll sideways →").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    wide = page.locator(".scroll.more-right").first.element_handle()
    wide.evaluate("scroller => scroller.scrollLeft = 1e6")
    page.locator("p.edges:visible", has_text="← scroll sideways").first.wait_for()
    classes = wide.get_attribute("class").split()
    assert "more-left" in classes and "more-right" not in classes


def test_bars_count_what_their_legends_count(show, pages_of_all_kinds):
    page = show(pages_of_all_kinds / "report.html")
    for tally, unit, number in zip(page.locator(".tally").all(), ("cells", "trials"), (10, 30), strict=True):
        assert tally.locator("figcaption").text_content() == f"{number} {unit}"
        legend = {}
        for entry in tally.locator(".verdict").all():
            count, verdict = re.search(r"(\d+) (.+)", entry.text_content()).groups()
            legend[verdict] = int(count)
        assert sum(legend.values()) == number
        widths = dict.fromkeys(legend, 0)
        for part in tally.locator("rect").all():
            widths[part.get_attribute("class").removesuffix(" known")] += float(part.get_attribute("width"))
        assert widths == pytest.approx({verdict: 100 * count / number for verdict, count in legend.items()}, abs=0.1)
    assert "2 crash (1 known)" in page.inner_text(".tally >> nth=0")


def test_a_cell_that_flakes_shows_with_what_and_how_often(show, pages_of_all_kinds):
    page = show(pages_of_all_kinds / "report.html")
    cell = page.locator("#cell-0")
    assert cell.inner_text().split() == ["~", "2/5", "✖\ufe0e2", "∞1", "?"]
    hues = {
        name: page.evaluate(f"getComputedStyle(document.querySelector('.tally .verdict.{name}')).color")
        for name in ("crash", "hang")
    }
    assert [part.evaluate("part => getComputedStyle(part).color") for part in cell.locator(".outcome").all()] == [
        hues["crash"], hues["hang"],
    ]  # fmt: skip
    assert "flaky; 2 of 5 passed, 2 crash, 1 hang, 95 % interval" in cell.get_attribute("title")
    strip = cell.evaluate("cell => getComputedStyle(cell).backgroundImage")
    assert re.findall(r"[\d.]+%", strip) == ["0%", "40%", "40%", "80%", "80%", "100%"]
    cell.click()
    page.opened()
    assert "2 of 5 trials passed, ✖\ufe0e2 crash, ∞1 hang; the chance" in page.inner_text("#drawer").replace("\n", "")


def test_a_known_failure_is_quieter_than_a_new_one_and_deaths_are_not_green(show, pages_of_all_kinds):
    page = show(pages_of_all_kinds / "report.html")
    new, known, dead, passed = (page.locator(f"#cell-{number}") for number in (2, 3, 6, 7))
    weights = [int(cell.evaluate("cell => getComputedStyle(cell).fontWeight")) for cell in (new, known)]
    assert weights == [600, 400]
    shares = "cell => getComputedStyle(cell).backgroundColor.match(/[\\d.]+(?=\\))/)[0]"
    assert float(new.evaluate(shares)) > 2 * float(known.evaluate(shares)), "how opaque the tint is"
    assert known.inner_text().split()[-1] == "known" and new.inner_text().split()[-1] == "?"
    green = passed.evaluate("cell => getComputedStyle(cell).color")
    assert dead.evaluate("cell => getComputedStyle(cell).color") != green
    assert dead.inner_text().split() == ["✔\ufe0e", "pass", "2/2", "!1"]
    assert "1 infrastructure error, 0 not repeated; the guest died in 1 of them" in dead.get_attribute("title")
    assert "Known failures (1)" in page.inner_text("main")


def test_a_failed_trial_shows_how_its_output_differs(show, pages_of_all_kinds):
    page = show(pages_of_all_kinds / "report.html", "#cell-4")
    page.wait_for_selector("#drawer .diff")
    assert page.texts("#drawer .diff div") == [
        "@ expected: lines 1 to 3; printed: lines 1 to 3", " <b>", "-two", "-three", "+two·", "+\\xffthree",
        "\\ no newline at the end of the output",
    ]  # fmt: skip
    assert page.texts("#drawer .diff .spelt") == ["·", "\\xff"]


def test_a_bisect_s_steps_open_their_trials(show, pages_of_all_kinds):
    page = show(pages_of_all_kinds / "bisect.html")
    links = page.locator(".signs a")
    assert links.first.get_attribute("href") == "report.html#trial-1" and links.first.get_attribute("title") == (
        "trial 1: crash"
    )
    trials = show(pages_of_all_kinds / "report.html", "#trial-19")
    trials.opened()
    assert trials.inner_text("#drawer details.trial[open] summary").split()[:4] == ["≠fail", "trial", "19", "#2,"]


def test_on_a_narrow_screen_only_the_tables_scroll_sideways_and_names_stay(show):
    page = show(color_scheme="light")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    name = page.locator(".row:not(.suite) [role=rowheader]").first
    before = name.bounding_box()["x"]
    page.evaluate("document.getElementById('matrix').scrollLeft = 300")
    assert name.bounding_box()["x"] == before
    assert page.locator("#cell-1").bounding_box()["x"] < 390
    page.click("#cell-3", force=True)
    assert page.opened() == PROGRAMS[0]
    assert page.locator("#drawer").bounding_box()["width"] == 390


def test_all_of_it_is_printed(show, tmp_path):
    page = show()
    page.evaluate("addEventListener('beforeprint', () => { window.rows = document.querySelectorAll('.row').length; })")
    page.pdf(path=tmp_path / "page.pdf")
    assert page.evaluate("window.rows") == 121 + 2 + 2  # programs, suites, heads
    page.emulate_media(media="print")
    assert (
        not page.is_visible("#filter")
        and page.evaluate("getComputedStyle(document.getElementById('matrix')).maxHeight") == "none"
    )


def test_without_script_it_is_a_table(show):
    page = show(java_script_enabled=False)
    assert page.locator("noscript td").count() == 4 * 121
    assert "✖" in page.locator("#cell-0").text_content() and page.locator("#cell-0").is_visible()
    assert not page.is_visible("#matrix") and not page.is_visible("#filter")


def test_the_page_of_all_runs(chromium, tmp_path):
    programs = [f"s/p{place}" for place in range(300)]
    plan = RunPlan.model_validate({"guests": ["g"], "variants": ["v"], "programs": programs})
    store = Store(tmp_path / "results.sqlite")
    for run in (1, 2):
        store.begin(plan)
        for number, program in enumerate(programs):
            verdict, title = ("crash", "SIGSEGV in f") if (run, number) == (2, 299) else ("pass", "")
            end = (verdict, "why", title, 0, "", 0.1, b"", b"", 0, 0, "t", "c")
            store.add(run, Trial(0, "g", "v", program, 1, 1, *end))
    file = tmp_path / "index.html"
    entries = [
        index.RunEntry(run, {"trials": f"runs/{run.run}/report.html"}) for run in list_runs(store, tmp_path).runs
    ]
    index.write(file, entries, history_runs(store, tmp_path), load_history(store, tmp_path))
    page = Shown(chromium, file)
    assert page.inner_text("#filter-count") == "300 cells"
    assert page.texts("#map-head a") == ["2", "1"] and page.texts("table.list tbody a") == ["2", "1"]
    drawn = page.locator("#map-body .line").count()
    assert 5 < drawn < 100, "only the rows in sight are there"
    page.locator("#map").evaluate("map => map.scrollTop = map.scrollHeight")
    page.locator("#map-body", has_text="s/p99, g, v").wait_for()
    page.fill("#filter-text", "sigsegv")
    assert page.inner_text("#filter-count") == "1 cell"
    newest, before = page.locator("#map-body a").all()
    assert (newest.text_content(), before.text_content()) == ("✖\ufe0e1", "✔\ufe0e")
    assert newest.get_attribute("href") == "runs/2/report.html#cell-299"
    assert newest.get_attribute("title") == "run 2: 0 of 1 passed; s/p299, g, v"
    page.fill("#filter-text", "")
    page.check("#filter-wrong")
    assert page.inner_text("#filter-count") == "1 cell"
    assert not page.told and page.asked == [file.as_uri()]
    page.context.close()
