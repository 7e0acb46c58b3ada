(async () => {
  if (!("DecompressionStream" in window)) {
    byId("matrix-note").textContent = "This page needs a browser of 2023 or later to show its matrix.";
    return;
  }
  const index = await unpack("index");
  const width = index.columns.length;
  const TRIAL_VERDICTS = ["pass", "fail", "crash", "hang", "error", "kills guest"];
  const MARKS = ["surprise", "known", "differs"];
  const SHORT = ["?", "known", "*"];

  // The rows of the matrix: one for each suite, and one for each of its programs.
  const all = [];
  index.rows.forEach(([suite, members], group) => {
    if (suite) all.push({ suite, group });
    for (const [name, place] of members) {
      all.push({ name, group, first: place * width, whole: suite ? suite + "/" + name : name });
    }
  });
  const programs = all.filter((row) => row.first !== undefined);
  const verdictOf = (cell) => index.verdicts[index.verdict[cell]];
  const hueOf = (cell) => index.verdicts[index.hues[cell] ?? index.verdict[cell]];
  const sign = (verdict) => {
    const element = make("span", "sign", index.signs[verdict]);
    element.setAttribute("aria-hidden", "true");
    return element;
  };
  // What a cell that flakes came to besides passes: verdicts and how many trials.
  const partsOf = (cell) => (index.parts[cell] || []).map(([verdict, number]) => [TRIAL_VERDICTS[verdict], number]);
  const percent = (cell) => {
    const interval = index.intervals[index.passed[cell] + "/" + index.trials[cell]];
    return interval && { low: 100 * interval[0], high: 100 * interval[1],
      text: Math.round(100 * interval[0]) + " to " + Math.round(100 * interval[1]) + " %" };
  };
  const evidence = (cell) => {
    const difference = index.differences[cell];
    return difference && index.passed[cell] + " of " + index.trials[cell] + " passed against " + difference[2] + " of " + difference[3]
      + " with " + index.baseline + "; p " + difference[0] + ", corrected " + difference[1]
      + (difference[4] && "; " + difference[4]);
  };
  const infraErrors = (cell) => {
    const errors = index.errors[cell];
    return errors && count(errors[0], "infrastructure error") + ", " + errors[1] + " not repeated"
      + (errors[2] ? "; the guest died in " + errors[2] + " of them" : "");
  };
  const describe = (row, column) => {
    const cell = row.first + column;
    const sentences = [row.whole + ", " + index.columns[column].join(", ") + ": " + verdictOf(cell)];
    if (index.trials[cell]) {
      sentences.push([index.passed[cell] + " of " + index.trials[cell] + " passed",
        ...partsOf(cell).map(([verdict, number]) => number + " " + verdict),
        "95 % interval " + percent(cell).text].join(", "));
    }
    sentences.push(...MARKS.filter((_, bit) => index.marks[cell] & (1 << bit)));
    return [...sentences, evidence(cell), infraErrors(cell), index.contradicts[cell]].filter(Boolean).join("; ");
  };

  // The grid draws the rows that are seen and a few more; its focus stays on the grid, which names the active cell.
  const grid = byId("grid");
  const scroller = byId("matrix");
  const body = byId("grid-body");
  let shown = all;
  let places = new Map();
  let drawn = [0, 0];
  let active = null;
  let fits = () => true;
  let height = 32;

  // The shares of a cell's verdicts, passes first, as a gradient.
  const strip = (cell, parts) => {
    let from = 0;
    const stops = [["pass", index.passed[cell]], ...parts].map(([kind, number]) => {
      const to = from + (100 * number) / index.trials[cell];
      const stop = "var(--" + kind.split(" ")[0] + ") " + from.toFixed(1) + "% " + to.toFixed(1) + "%";
      from = to;
      return stop;
    });
    return "linear-gradient(to right, " + stops.join(", ") + ")";
  };
  const drawCell = (row, column) => {
    const cell = row.first + column;
    const verdict = verdictOf(cell);
    const parts = partsOf(cell);
    const element = make("div", "cell " + hueOf(cell), sign(verdict));
    if (!parts.length) element.append(make("span", "word", verdict));
    if (index.marks[cell] & 1) element.classList.add("surprise");
    else if (index.marks[cell] & 2) element.classList.add("known");
    element.id = "cell-" + cell;
    element.dataset.column = column;
    element.setAttribute("role", "gridcell");
    element.setAttribute("aria-colindex", column + 2);
    element.title = visible(describe(row, column));
    element.setAttribute("aria-label", element.title);
    if (index.trials[cell]) element.append(make("span", "", index.passed[cell] + "/" + index.trials[cell]));
    for (const [kind, number] of parts) element.append(make("span", "outcome " + kind, sign(kind), String(number)));
    if (parts.length) element.style.setProperty("--strip", strip(cell, parts));
    SHORT.forEach((mark, bit) => {
      if (index.marks[cell] & (1 << bit)) element.append(make("span", "mark", mark));
    });
    if (index.errors[cell]) element.append(make("span", "mark error", "!" + index.errors[cell][0]));
    if (!fits(cell)) element.classList.add("dim");
    return element;
  };
  const drawRow = (row, at) => {
    const element = make("div", row.suite ? "row suite" : "row");
    element.setAttribute("role", "row");
    element.setAttribute("aria-rowindex", at + 3);
    const head = make("div", "program", make("span", "", row.suite || row.name));
    head.setAttribute("role", "rowheader");
    head.title = visible(row.suite || row.whole);
    element.append(head);
    if (row.suite) head.setAttribute("aria-colspan", width + 1);
    else for (let column = 0; column < width; column += 1) element.append(drawCell(row, column));
    element.row = row;
    return element;
  };
  const draw = (anew, everything) => {
    const first = everything ? 0 : Math.max(0, Math.floor(scroller.scrollTop / height) - 8);
    const last = everything ? shown.length
      : Math.min(shown.length, Math.ceil((scroller.scrollTop + scroller.clientHeight) / height) + 8);
    if (!anew && first === drawn[0] && last === drawn[1]) return;
    drawn = [first, last];
    body.replaceChildren(...shown.slice(first, last).map((row, place) => drawRow(row, first + place)));
    body.style.paddingTop = first * height + "px";
    body.style.paddingBottom = (shown.length - last) * height + "px";
    mark();
  };
  const activeId = () => "cell-" + (active.row.first + active.column);
  const mark = () => {
    const cell = active && byId(activeId());
    body.querySelector(".active")?.classList.remove("active");
    cell?.classList.add("active");
    if (cell) grid.setAttribute("aria-activedescendant", cell.id);
    else grid.removeAttribute("aria-activedescendant");
  };
  const show = (rows) => {
    shown = rows;
    places = new Map(rows.map((row, place) => [row, place]));
    grid.setAttribute("aria-rowcount", rows.length + 2);
    if (active && !places.has(active.row)) active = null;
    draw(true);
  };
  const measure = () => {
    height = parseFloat(getComputedStyle(grid).getPropertyValue("--row"));
    draw(true);
  };
  // Scrolls so far that the active cell is clear of the head and of the column of names, which stay in place.
  const reveal = () => {
    const top = places.get(active.row) * height;
    const head = byId("grid-head").offsetHeight;
    const room = scroller.clientHeight - head - height;
    if (top < scroller.scrollTop) scroller.scrollTop = top;
    else if (top > scroller.scrollTop + room) scroller.scrollTop = top - room;
    draw(false);
    mark();
    const cell = byId(activeId());
    const names = cell.parentElement.firstElementChild.offsetWidth;
    if (cell.offsetLeft < scroller.scrollLeft + names) scroller.scrollLeft = cell.offsetLeft - names;
    else if (cell.offsetLeft + cell.offsetWidth > scroller.scrollLeft + scroller.clientWidth) {
      scroller.scrollLeft = cell.offsetLeft + cell.offsetWidth - scroller.clientWidth;
    }
  };
  const activate = (row, column) => {
    active = { row, column };
    reveal();
  };
  const step = (rows, columns) => {
    const column = Math.min(width - 1, Math.max(0, active.column + columns));
    let place = Math.min(shown.length - 1, Math.max(0, places.get(active.row) + rows));
    const way = rows < 0 ? -1 : 1;
    const from = place;
    while (shown[place] && shown[place].suite) place += way;
    if (!shown[place]) for (place = from; shown[place].suite;) place -= way;
    activate(shown[place], column);
  };

  // The drawer shows a cell; what is long of its trials is unpacked when it is looked at.
  const dialog = byId("drawer");
  let trials = null;
  const loadTrials = async () => {
    if (trials) return trials;
    await whole;
    const data = await unpack("trials");
    data.of = new Map();
    let started = 0;
    (data.cell || []).forEach((cell, place) => {
      started += data.started[place];
      data.started[place] = started;
      if (!data.of.has(cell)) data.of.set(cell, []);
      data.of.get(cell).push(place);
    });
    trials = data;
    return trials;
  };
  const blocks = new Map();
  const loadDetail = async (data, place) => {
    const name = data.verdict[place] === 0 ? "passed" : "others";
    const begins = data.begins[name];
    let block = begins.length - 1;
    while (begins[block] > data.detail[place]) block -= 1;
    const id = name + "-" + block;
    if (!blocks.has(id)) {
      if (blocks.size > 20) blocks.delete(blocks.keys().next().value);
      blocks.set(id, unpack(id));
    }
    return (await blocks.get(id))[data.detail[place] - begins[block]];
  };
  const fact = (list, name, value) => {
    if (value !== "" && value !== null) list.append(make("dt", "", name), make("dd", "", String(value)));
  };
  const command = (text) => make("code", "command", text);
  const showStream = (into, [name, size, gap, parts]) => {
    into.append(make("h4", "", name + " ", make("span", "soft", "(" + size + ")")));
    parts.forEach((part, place) => {
      if (place) into.append(make("p", "soft gap", "\u2026 " + gap + " \u2026"));
      if (part) {
        const text = make("pre", "", part);
        text.tabIndex = 0;
        into.append(text);
      }
    });
  };
  const DIFF = { "-": "minus", "+": "plus", "@": "soft", "\\": "soft", " ": "" };
  const showDifference = (into, [stream, leftOut, lines]) => {
    into.append(make("h4", "", stream + ", expected (\u2212) and printed (+)"));
    const text = make("pre", "diff");
    text.tabIndex = 0;
    for (const [mark, ...pieces] of lines) {
      const line = make("div", DIFF[mark], /[@\\]/.test(mark) ? mark + " " : mark);
      pieces.forEach((piece, place) => line.append(place % 2 ? make("b", "spelt", piece) : visible(piece)));
      text.append(line);
    }
    if (lines.length) into.append(text);
    const notes = [leftOut, lines.some((line) => line.length > 2) && "Marked: \u00b7 is a space, \u2192 a tab, \\ begins what is no plain character."];
    for (const note of notes.filter(Boolean)) into.append(make("p", "soft", note));
  };
  const fill = async (into, data, place) => {
    const detail = await loadDetail(data, place);
    const facts = make("dl", "facts");
    fact(facts, "reason", detail.reason);
    fact(facts, "signature", detail.signature);
    fact(facts, "exit status", data.status[place] < 0 ? "" : data.status[place]);
    fact(facts, "signal", data.signals[data.signal[place]]);
    fact(facts, "time", data.seconds[place].toFixed(2) + " s");
    fact(facts, "started", data.started[place] ? new Date(1000 * data.started[place]).toISOString().slice(0, 19) + "Z" : "");
    const id = data.id[place];
    into.replaceChildren(facts);
    if (detail.difference) showDifference(into, detail.difference);
    into.append(make("h4", "", "Run it again"), command(index.harness + " rerun " + id + index.option),
      command(index.harness + " open " + id + index.option), command(detail.command + index.option));
    if (!detail.streams) into.append(make("p", "soft", "Its output is not in this page, which has no room for more."));
    for (const stream of detail.streams || []) showStream(into, stream);
    for (const part of detail.parts || []) {
      const inside = make("div", "");
      showStream(inside, part);
      into.append(make("details", "part", make("summary", "", part[0]), inside));
    }
    if (detail.screen) {
      const picture = make("img", "");
      picture.src = "data:image/png;base64," + detail.screen;
      picture.alt = "the guest's screen";
      into.append(make("details", "part", make("summary", "", "screen"), picture));
    }
  };
  const showTrial = (data, place) => {
    const verdict = TRIAL_VERDICTS[data.verdict[place]];
    const again = data.attempt[place] > 1 ? ", attempt " + data.attempt[place] : "";
    const body = make("div", "", make("p", "soft", "\u2026"));
    const entry = make("details", "trial " + verdict,
      make("summary", "", make("span", "verdict", sign(verdict), verdict),
        " trial " + data.id[place],
        make("span", "soft", " #" + data.number[place] + again + ", " + data.seconds[place].toFixed(2) + " s")),
      body);
    entry.addEventListener("toggle", () => {
      if (entry.open && !entry.filled) {
        entry.filled = true;
        fill(body, data, place);
      }
    });
    return entry;
  };
  const MOST = 50;
  const showTrials = (into, data, places, from) => {
    const added = places.slice(from, from + MOST).map((place) => showTrial(data, place));
    into.append(...added);
    const left = places.length - from - added.length;
    if (left > 0) {
      const more = make("button", "more", "Show more, " + left + " left");
      more.type = "button";
      more.addEventListener("click", () => {
        more.remove();
        showTrials(into, data, places, from + MOST);
      });
      into.append(more);
    }
    return added;
  };
  const interval = (cell) => {
    const { low, high } = percent(cell);
    const bar = make("div", "interval", make("span", "range"), make("span", "point"));
    bar.setAttribute("aria-hidden", "true");
    bar.firstChild.style.left = low + "%";
    bar.firstChild.style.width = high - low + "%";
    bar.lastChild.style.left = (100 * index.passed[cell]) / index.trials[cell] + "%";
    return bar;
  };
  const summary = (cell) => {
    const verdict = verdictOf(cell);
    const lines = make("div", "about " + hueOf(cell));
    const head = make("p", "headline", make("span", "verdict", sign(verdict), verdict));
    lines.append(head);
    if (index.trials[cell]) {
      const parts = partsOf(cell).flatMap(([kind, number]) => [", ", make("span", "verdict " + kind, sign(kind), number + " " + kind)]);
      head.append(" " + index.passed[cell] + " of " + index.trials[cell] + (index.trials[cell] === 1 ? " trial" : " trials") + " passed", ...parts, "; ",
        make("span", "soft", "the chance of a pass is " + percent(cell).text + " (95 %, Wilson)"));
      lines.append(interval(cell));
    }
    MARKS.forEach((mark, bit) => {
      if (index.marks[cell] & (1 << bit)) head.append(make("span", "mark", mark));
    });
    for (const sentence of [index.contradicts[cell], evidence(cell), infraErrors(cell)].filter(Boolean)) {
      lines.append(make("p", "", sentence));
    }
    for (const [verdict, title, number, trial, expected] of index.findings[cell] || []) {
      const kind = TRIAL_VERDICTS[verdict];
      const line = make("p", "finding " + kind, make("span", "verdict", sign(kind), kind), " " + count(number, "time") + ": ",
        make("code", "", index.titles[title]));
      if (index.titles[expected]) line.append(make("span", "soft", " expected: " + index.titles[expected]));
      lines.append(line);
    }
    return lines;
  };
  let opened = null;
  const open = async (row, column, wanted) => {
    const cell = row.first + column;
    opened = cell;
    byId("drawer-title").textContent = visible(row.whole);
    byId("drawer-about").textContent = visible(index.columns[column].join(", "));
    const into = byId("drawer-trials");
    into.replaceChildren(summary(cell), make("p", "soft", "\u2026"));
    into.scrollTop = 0;
    if (!dialog.open) dialog.showModal();
    const data = await loadTrials();
    if (opened !== cell) return;
    const places = data.of.get(cell) || [];
    into.lastChild.remove();
    if (!places.length) into.append(make("p", "soft", "No trial yet."));
    const strip = make("p", "strip", ...places.slice(0, 500).map((place) => {
      const verdict = TRIAL_VERDICTS[data.verdict[place]];
      return make("span", verdict, index.signs[verdict]);
    }));
    strip.title = "the trials in the order in which they ended";
    strip.setAttribute("aria-hidden", "true");
    if (places.length > 1) into.append(strip);
    // What is wanted comes first, then what did not pass.
    const rank = (place) => (place === wanted ? 0 : data.verdict[place] ? 1 : 2);
    const sorted = [...places].sort((one, other) => rank(one) - rank(other) || one - other);
    const [first] = showTrials(into, data, sorted, 0);
    if (first) first.open = true;
  };
  const openFromAddress = async () => {
    const [, kind, number] = /^#(cell|trial)-(\d+)$/.exec(location.hash) || [];
    if (!kind) return;
    let cell = Number(number);
    let wanted;
    if (kind === "trial") {
      const data = await loadTrials();
      wanted = (data.id || []).indexOf(cell);
      cell = wanted < 0 ? -1 : data.cell[wanted];
    }
    const row = programs.find((one) => one.first === cell - (cell % width));
    if (!row) return;
    if (!places.has(row)) clear();
    activate(row, cell % width);
    open(row, cell % width, wanted);
  };
  const setAddress = (hash) => history.replaceState(null, "", location.pathname + location.search + hash);
  const openActive = () => {
    setAddress("#" + activeId());
    open(active.row, active.column);
  };

  // The filter: words that a row must have, and verdicts, marks and a signature of which one of its cells has all.
  const text = byId("filter-text");
  const signature = byId("filter-signature");
  const chips = [...document.querySelectorAll(".chip input")];
  const haystack = (row) => {
    if (row.text === undefined) {
      const texts = [row.whole];
      for (let cell = row.first; cell < row.first + width; cell += 1) {
        for (const finding of index.findings[cell] || []) texts.push(index.titles[finding[1]]);
      }
      row.text = texts.join("\n").toLowerCase();
    }
    return row.text;
  };
  const filter = () => {
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = chips.filter((chip) => chip.checked).map((chip) => chip.value);
    const verdicts = new Set(chosen.filter((one) => index.verdicts.includes(one)));
    const marks = MARKS.reduce((sum, mark, bit) => sum + (chosen.includes(mark) ? 1 << bit : 0), 0);
    const title = signature.value === "" ? -1 : Number(signature.value);
    const narrow = verdicts.size || marks || title >= 0;
    fits = (cell) => (!verdicts.size || verdicts.has(verdictOf(cell)))
      && (!marks || (index.marks[cell] & marks) !== 0)
      && (title < 0 || (index.findings[cell] || []).some((one) => one[1] === title));
    let number = 0;
    const rows = [];
    let suite = null;
    for (const row of all) {
      if (row.suite) {
        suite = row;
        continue;
      }
      let fit = words.every((word) => haystack(row).includes(word));
      if (fit && narrow) {
        fit = false;
        for (let cell = row.first; cell < row.first + width && !fit; cell += 1) fit = fits(cell);
      }
      if (!fit) continue;
      if (suite && suite.group === row.group) rows.push(suite);
      suite = null;
      rows.push(row);
      number += 1;
    }
    if (!narrow) fits = () => true;
    scroller.scrollTop = 0;
    show(rows);
    byId("filter-count").textContent = number + " of " + count(programs.length, "program");
    byId("filter-clear").hidden = !words.length && !narrow;
  };
  const clear = () => {
    text.value = "";
    signature.value = "";
    for (const chip of chips) chip.checked = false;
    filter();
  };

  scroller.addEventListener("scroll", () => draw(false), { passive: true });
  addEventListener("resize", measure);
  addEventListener("beforeprint", () => draw(true, true));
  addEventListener("afterprint", () => draw(true));
  body.addEventListener("click", (event) => {
    const cell = event.target.closest(".cell");
    if (!cell) return;
    activate(cell.parentElement.row, Number(cell.dataset.column));
    grid.focus({ preventScroll: true });
    openActive();
  });
  const begin = () => {
    const row = shown.find((one) => !one.suite);
    if (!active && row) activate(row, 0);
  };
  // A click focuses the grid too, before it is known to be one: nothing may move under it.
  grid.addEventListener("focus", () => { if (grid.matches(":focus-visible")) begin(); });
  grid.addEventListener("keydown", (event) => {
    const page = Math.max(1, Math.floor(scroller.clientHeight / height) - 3);
    const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], PageUp: [-page, 0],
      PageDown: [page, 0], Home: [event.ctrlKey ? -Infinity : 0, -Infinity], End: [event.ctrlKey ? Infinity : 0, Infinity] };
    if (event.altKey || event.metaKey) return;
    begin();
    if (!active) return;
    if (event.key === "Enter" || event.key === " ") openActive();
    else if (steps[event.key]) step(...steps[event.key]);
    else return;
    event.preventDefault();
  });
  addEventListener("keydown", (event) => {
    if (event.key !== "/" || dialog.open || event.ctrlKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    event.preventDefault();
    text.focus();
    text.select();
  });
  text.addEventListener("input", filter);
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter") grid.focus();
  });
  signature.addEventListener("change", filter);
  for (const chip of chips) chip.addEventListener("change", filter);
  byId("filter-clear").addEventListener("click", clear);
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-signature]");
    if (!button) return;
    clear();
    signature.value = button.dataset.signature;
    filter();
    byId("filter").scrollIntoView();
    grid.focus({ preventScroll: true });
  });
  dialog.addEventListener("close", () => {
    if (dialog.open) return; // too late: the next cell is open already
    opened = null;
    setAddress("");
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  byId("drawer-close").addEventListener("click", () => dialog.close());
  addEventListener("hashchange", openFromAddress);

  // The columns are as wide as the longest thing in them.
  const letters = (texts) => texts.reduce((most, one) => Math.max(most, one.length), 0);
  const widest = index.verdict.reduce((most, verdict, cell) => {
    const parts = index.parts[cell] || [];
    const word = parts.length ? 0 : index.verdicts[verdict].length;
    let wide = word + String(index.passed[cell]).length + String(index.trials[cell]).length + 4;
    for (const [, number] of parts) wide += String(number).length + 4;
    SHORT.forEach((mark, bit) => { if (index.marks[cell] & (1 << bit)) wide += mark.length + 3; });
    return Math.max(most, wide + (index.errors[cell] ? 5 : 0));
  }, 0);
  const names = Math.min(44, letters(programs.map((row) => row.name)) + 3);
  const cells = Math.min(36, Math.max(0.8 * widest, letters(index.columns.map((column) => column[1])) + 1));
  grid.style.setProperty("--names", names + "ch");
  grid.style.setProperty("--cells", cells + "ch");
  grid.style.setProperty("--columns", String(width));
  grid.style.setProperty("--guests", grid.dataset.guests);
  byId("filter").hidden = false;
  byId("matrix").hidden = false;
  byId("matrix-note").remove();
  show(all);
  measure();
  filter();
  document.documentElement.dataset.ready = "yes";
  openFromAddress();
})();
