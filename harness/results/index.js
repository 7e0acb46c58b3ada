(async () => {
  if (!("DecompressionStream" in window)) {
    if (byId("map-note")) byId("map-note").textContent = "This page needs a browser of 2023 or later to show its cells.";
    return;
  }
  const index = await unpack("index");
  if (!index.rows.length) {
    document.documentElement.dataset.ready = "yes";
    return;
  }
  const map = byId("map");
  const body = byId("map-body");
  const rows = index.rows.map(([program, guest, variant, titles, counts]) => {
    const label = program + ", " + guest + ", " + variant;
    const cells = new Map(counts.map(([run, passed, trials, number, verdict]) =>
      [run, { passed, trials, number, verdict: index.verdicts[verdict] }]));
    const wrong = counts.some(([, passed, trials]) => passed < trials);
    return { label, titles, cells, wrong, words: (label + " " + titles).toLowerCase() };
  });
  const address = (run, number) => "runs/" + index.runs[run] + "/report.html" + (number < 0 ? "" : "#cell-" + number);
  let shown = rows;
  let height = 26;

  const line = (row, place) => {
    const name = make("span", "name program", make("span", "", row.label));
    name.title = row.titles ? row.label + ": " + row.titles : row.label;
    const element = make("div", "line", name);
    element.style.top = place * height + "px";
    for (let run = 0; run < index.runs.length; run += 1) {
      const cell = row.cells.get(run);
      if (!cell) {
        element.append(make("span", "gap"));
        continue;
      }
      const failed = cell.trials - cell.passed;
      const link = make("a", cell.verdict, index.signs[cell.verdict], failed ? String(failed) : "");
      if (index.pages[run]) link.href = address(run, cell.number);
      link.title = "run " + index.runs[run] + ": " + cell.passed + " of " + cell.trials + " passed; " + row.label;
      link.setAttribute("aria-label", link.title);
      link.style.setProperty("--tint", 14 + (28 * failed) / cell.trials + "%");
      element.append(link);
    }
    return element;
  };
  // Only the rows in sight are there; the focus stays where it is.
  const draw = (everything = false) => {
    height = parseFloat(getComputedStyle(body).getPropertyValue("--row"));
    body.style.height = shown.length * height + "px";
    const first = everything ? 0 : Math.max(0, Math.floor(map.scrollTop / height) - 5);
    const last = everything ? shown.length : Math.min(shown.length, first + Math.ceil(map.clientHeight / height) + 10);
    const lines = [];
    for (let place = first; place < last; place += 1) lines.push(line(shown[place], place));
    const focused = body.contains(document.activeElement) && document.activeElement.getAttribute("href");
    body.replaceChildren(...lines);
    if (focused) body.querySelector("a[href=" + CSS.escape(focused) + "]")?.focus({ preventScroll: true });
  };
  const filter = () => {
    const words = byId("filter-text").value.toLowerCase().split(/\s+/).filter(Boolean);
    const wrong = byId("filter-wrong").checked;
    shown = rows.filter((row) => (!wrong || row.wrong) && words.every((word) => row.words.includes(word)));
    byId("filter-count").textContent = count(shown.length, "cell");
    map.scrollTop = 0;
    draw();
  };
  const head = byId("map-head");
  head.append(make("span", "name program", "Cell"));
  index.runs.forEach((run, place) => {
    const link = make("a", "", String(run));
    if (index.pages[place]) link.href = address(place, -1);
    head.append(link);
  });
  const widest = rows.reduce((most, row) => Math.max(most, row.label.length), 8);
  map.style.setProperty("--names", Math.min(100, widest + 3) + "ch");
  byId("filter").hidden = false;
  map.hidden = false;
  byId("map-note").remove();
  let asked = 0;
  map.addEventListener("scroll", () => {
    cancelAnimationFrame(asked);
    asked = requestAnimationFrame(() => draw());
  });
  addEventListener("resize", () => draw());
  addEventListener("beforeprint", () => draw(true));
  addEventListener("afterprint", () => draw());
  byId("filter-text").addEventListener("input", filter);
  byId("filter-wrong").addEventListener("change", filter);
  filter();
  document.documentElement.dataset.ready = "yes";
})();
