"use strict";
// The page of results: hides rows in charts and images, sorts tables, reloads itself on request.
(() => {
  // Pixels of the y axis at its bottom and top, and the share left free there, as in charts.py.
  const [BOTTOM, TOP, MARGIN] = [254, 30, 0.04];
  const SVG = "http://www.w3.org/2000/svg";
  const hidden = new Set();
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  class Chart {
    constructor(svg) {
      this.ticks = svg.querySelector(".y-ticks");
      this.drawnTicks = [...this.ticks.childNodes];
      this.isLogarithmic = svg.dataset.log === "True";
      [this.low, this.high] = svg.dataset.axis.split(" ").map(Number);
      [this.left, this.right] = svg.dataset.ends.split(" ");
      this.paths = all("path[data-row]", svg).map((path) => {
        const d = path.getAttribute("d");
        return { path, d, points: [...d.matchAll(/([ML])(\S+) ([\d.-]+)/g)].map(([, letter, x, y]) => [letter, x, Number(y)]) };
      });
    }

    value(y) {
      return this.low + ((BOTTOM - y) / (BOTTOM - TOP)) * (this.high - this.low);
    }

    // Stretch the y axis to the visible rows.
    update() {
      for (const { path } of this.paths) path.style.display = hidden.has(path.dataset.row) ? "none" : "";
      const visible = this.paths.filter(({ path }) => !hidden.has(path.dataset.row));
      const values = visible.flatMap(({ points }) => points.map(([, , y]) => this.value(y)));
      if (visible.length === this.paths.length || !values.length) {
        for (const { path, d } of this.paths) path.setAttribute("d", d);
        this.ticks.replaceChildren(...this.drawnTicks);
        return;
      }
      let [low, high] = [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
      const room = (high - low) * MARGIN || Math.max(Math.abs(high) * 0.05, 0.05);
      [low, high] = [low - room, high + room];
      const place = (value) => BOTTOM - ((value - low) / (high - low)) * (BOTTOM - TOP);
      for (const { path, points } of visible) {
        path.setAttribute("d", points.map(([letter, x, y]) => `${letter}${x} ${place(this.value(y)).toFixed(1)}`).join(""));
      }
      this.ticks.replaceChildren(...this.roundValues(low, high).flatMap((value) => this.drawTick(value, place)));
    }

    roundValues(low, high) {
      const [from, to] = this.isLogarithmic ? [10 ** low, 10 ** high] : [low, high];
      if (this.isLogarithmic && high - low > 1) {
        const powers = Array.from({ length: Math.ceil(high) - Math.floor(low) + 1 }, (_, k) => 10 ** (Math.floor(low) + k));
        const factors = high - low > 3 ? [1] : [1, 2, 5];
        return powers.flatMap((power) => factors.map((f) => f * power)).filter((v) => v >= from && v <= to);
      }
      const rough = (to - from) / 5;
      const power = 10 ** Math.floor(Math.log10(rough));
      const step = power * [1, 2, 2.5, 5, 10].find((f) => f * power >= rough * 0.999);
      const first = Math.ceil(from / step - 1e-9);
      return Array.from({ length: Math.floor(to / step + 1e-9) - first + 1 }, (_, k) => (first + k) * step);
    }

    drawTick(value, place) {
      const y = place(this.isLogarithmic ? Math.log10(value) : value);
      const line = document.createElementNS(SVG, "path");
      line.setAttribute("class", "grid");
      line.setAttribute("d", `M${this.left} ${y}H${this.right}`);
      const text = document.createElementNS(SVG, "text");
      for (const [name, part] of Object.entries({ x: this.left - 6, y: y + 4, "text-anchor": "end" })) text.setAttribute(name, part);
      text.textContent = String(Number(value.toPrecision(6)));
      return [line, text];
    }
  }

  const charts = all("svg.chart").map((svg) => new Chart(svg));
  const viewers = all(".hsv");
  const tables = all("table.sortable");

  function updateRows() {
    for (const box of all("input[data-toggle]")) {
      box.checked = !hidden.has(box.dataset.toggle);
      box.closest("tr, li")?.classList.toggle("off", !box.checked);
    }
    for (const part of all("td[data-row], th[data-row], .tile[data-row]")) part.hidden = hidden.has(part.dataset.row);
    for (const chart of charts) chart.update();
    for (const root of viewers) if (root.dataset.viewer === "ready") root.viewer.hide([...hidden]);
  }

  // Number of a cell's text: h:mm:ss in seconds, else the number at its beginning; NaN for other text.
  function parse(text) {
    const time = text.match(/^(\d+):(\d\d):(\d\d)$/);
    return time ? time[1] * 3600 + time[2] * 60 + Number(time[3]) : parseFloat(text.replaceAll(",", ""));
  }

  // Sort the rows of a table, each with the lines that belong to it; empty cells are last.
  function sort(table, column, direction) {
    const body = table.tBodies[0];
    const groups = [];
    for (const row of body.rows) {
      if (row.matches(".published, .difference")) groups.at(-1).rows.push(row);
      else groups.push({ rows: [row], text: row.cells[column].innerText.trim() });
    }
    const isText = groups.some(({ text }) => text && Number.isNaN(parse(text)));
    const sign = direction === "descending" ? -1 : 1;
    groups.sort((a, b) => {
      if (!a.text || !b.text) return !a.text - !b.text;
      return sign * (isText ? a.text.localeCompare(b.text, undefined, { numeric: true }) : parse(a.text) - parse(b.text));
    });
    body.append(...groups.flatMap(({ rows }) => rows));
    all("thead th", table).forEach((head, k) => (k === column ? head.setAttribute("aria-sort", direction) : head.removeAttribute("aria-sort")));
  }

  for (const table of tables) {
    all("thead th", table).forEach((head, column) => {
      const button = Object.assign(document.createElement("button"), { type: "button", className: "sort" });
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => sort(table, column, head.ariaSort === "descending" ? "ascending" : "descending"));
    });
  }

  for (const box of all("input[data-toggle]")) {
    box.hidden = false;
    box.addEventListener("change", () => {
      hidden[box.checked ? "delete" : "add"](box.dataset.toggle);
      updateRows();
    });
  }

  // The settings outlive a reload.
  const KEY = `tables ${location.pathname}`;

  function save() {
    const sorted = tables.map((table) => {
      const head = table.querySelector("th[aria-sort]");
      return head && [head.cellIndex, head.ariaSort];
    });
    const states = viewers.map((root) => (root.dataset.viewer === "ready" ? root.viewer.state : null));
    const open = all("details").map((details) => details.open);
    sessionStorage.setItem(KEY, JSON.stringify({ hidden: [...hidden], sorted, states, open, scroll: [scrollX, scrollY] }));
  }

  async function restore() {
    const saved = JSON.parse(sessionStorage.getItem(KEY) ?? "null");
    sessionStorage.removeItem(KEY);
    if (!saved) return;
    for (const name of saved.hidden) hidden.add(name);
    updateRows();
    const isSame = (list, parts) => list.length === parts.length;
    if (isSame(saved.sorted, tables)) saved.sorted.forEach((sorted, k) => sorted && sort(tables[k], ...sorted));
    if (isSame(saved.states, viewers)) {
      await Promise.all(viewers.map((root, k) => root.dataset.viewer === "ready" && saved.states[k] && root.viewer.restore(saved.states[k])));
    }
    if (isSame(saved.open, all("details"))) all("details").forEach((details, k) => (details.open = saved.open[k]));
    scrollTo(...saved.scroll);
  }

  function reloadEvery(seconds) {
    let isDown = false;
    addEventListener("pointerdown", () => (isDown = true));
    for (const type of ["pointerup", "pointercancel"]) addEventListener(type, () => (isDown = false));
    setInterval(() => {
      if (isDown || document.hidden) return;
      save();
      location.reload();
    }, 1000 * seconds);
  }

  const isOver = (root) => ["ready", "failed"].includes(root.dataset.viewer);
  const waitFor = (root) => new Promise((resolve) => {
    if (isOver(root)) return resolve();
    const observer = new MutationObserver(() => isOver(root) && (observer.disconnect(), resolve()));
    observer.observe(root, { attributeFilter: ["data-viewer"] });
  });

  async function start() {
    const { refresh } = document.body.dataset;
    if (refresh) history.scrollRestoration = "manual";
    await Promise.all(viewers.map(waitFor));
    // The viewers show all that the static pictures show.
    for (const root of viewers) {
      if (root.dataset.viewer === "ready") for (const details of all(".static", root.parentElement)) details.open = false;
    }
    // Also the last page of `--watch`, which reloads itself no longer.
    await restore();
    if (refresh) reloadEvery(Number(refresh));
    document.body.dataset.page = "ready";
  }

  start();
})();
