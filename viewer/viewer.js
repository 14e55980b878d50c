"use strict";
// Compares layers of hyperspectral scenes. One instance per element .hsv; the data format is that of scene.py.
(() => {
  // Okabe and Ito's colours; the reference is black.
  const COLOURS = ["#767676", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
  const DASHES = ["2 3", "", "", "8 3", "8 3 2 3", "", ""];
  const REFERENCE_STYLE = { colour: "#111111", dash: "7 4" };
  // Black, violet, red, orange, pale yellow: even steps in lightness.
  const MAP_COLOURS = [[0, 0, 4], [86, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]];
  const GAMMA = 2.2;
  const SVG = "http://www.w3.org/2000/svg";
  // Of the differences, the share that the colour scale covers.
  const MAP_SHARE = 0.99;
  // Controls whose values are a part of the state.
  const KEPT = ["mode", "red", "green", "blue", "brightness", "left", "right", "divider", "map-layer", "map-band"];

  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const format = (value) => String(Number(value.toPrecision(3)));

  function element(name, attributes, text) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function roundTicks(low, high, count) {
    const rough = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((factor) => power * factor >= rough * 0.999);
    const ticks = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) ticks.push(Number((k * step).toPrecision(12)));
    return ticks;
  }

  async function inflate(text) {
    const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  // One layer: codes band by band, C x H x W.
  class Layer {
    static async decode(description, view, reference) {
      const bytes = await inflate(description.data);
      const size = description.height * description.width;
      const count = size * view.bands;
      const codes = view.levels < 255 ? bytes : new Uint16Array(count);
      if (view.levels >= 255) for (let k = 0; k < count; k++) codes[k] = bytes[k] | (bytes[count + k] << 8);
      // Zigzag code; the typed array takes numbers modulo its type.
      for (let k = 0; k < count; k++) codes[k] = (codes[k] >>> 1) ^ -(codes[k] & 1);
      for (let k = size; k < count; k++) codes[k] += codes[k - size];
      if (description.hasBase) for (let k = 0; k < count; k++) codes[k] += reference.codes[k];
      return new Layer(description, view, codes);
    }

    constructor({ name, height, width }, view, codes) {
      Object.assign(this, { name, height, width, codes, size: height * width });
      Object.assign(this, { low: view.low, step: view.step, levels: view.levels });
      this.rows = Array.from({ length: view.height }, (_, y) => Math.floor(((y + 0.5) * height) / view.height));
      this.columns = Array.from({ length: view.width }, (_, x) => Math.floor(((x + 0.5) * width) / view.width));
      this.canvas = Object.assign(document.createElement("canvas"), { height, width });
    }

    // The value in parts of full scale of a pixel of the view; NaN for missing data.
    value(band, row, column) {
      const code = this.codes[band * this.size + this.rows[row] * this.width + this.columns[column]];
      return code > this.levels ? NaN : this.low + code * this.step;
    }

    paint(bands, white) {
      const image = new ImageData(this.width, this.height);
      const table = new Uint8Array(this.levels + 1);
      for (let code = 0; code <= this.levels; code++) {
        table[code] = Math.round(255 * clamp((this.low + code * this.step) / white, 0, 1) ** (1 / GAMMA));
      }
      for (let k = 0; k < this.size; k++) {
        // Transparent where a shown band is missing, so that the hatching appears.
        image.data[4 * k + 3] = 255;
        for (let channel = 0; channel < 3; channel++) {
          const code = this.codes[bands[channel] * this.size + k];
          if (code > this.levels) image.data[4 * k + 3] = 0;
          else image.data[4 * k + channel] = table[code];
        }
      }
      this.canvas.getContext("2d").putImageData(image, 0, 0);
    }
  }

  class View {
    static async decode(description) {
      const view = Object.assign(new View(), description);
      view.height = Math.max(...description.layers.map((layer) => layer.height));
      view.width = Math.max(...description.layers.map((layer) => layer.width));
      view.reference = await Layer.decode(description.layers.find((layer) => layer.name === description.reference), view);
      const decode = (layer) => (layer.name === description.reference ? view.reference : Layer.decode(layer, view, view.reference));
      view.layers = await Promise.all(description.layers.map(decode));
      view.differences = new Map();
      view.hidden = new Set();
      return view;
    }

    layer(name) {
      return this.layers.find((layer) => layer.name === name);
    }

    get shown() {
      return this.layers.filter((layer) => !this.hidden.has(layer.name));
    }

    style(layer) {
      if (this.styles[layer.name]) return { colour: this.styles[layer.name][0], dash: this.styles[layer.name][1] };
      if (layer === this.reference) return REFERENCE_STYLE;
      const k = this.layers.filter((other) => other !== this.reference).indexOf(layer);
      return { colour: COLOURS[k % COLOURS.length], dash: DASHES[k % DASHES.length] };
    }

    bandText(band) {
      return this.unit ? `${Number(this.x[band].toFixed(1))} ${this.unit} (band ${band + 1})` : `band ${band + 1}`;
    }

    // The 99.5th percentile of the reference in some bands.
    white(bands) {
      const { codes, size, levels, low, step } = this.reference;
      const counts = new Float64Array(levels + 2);
      for (const band of bands) for (let k = 0; k < size; k++) counts[Math.min(codes[band * size + k], levels + 1)] += 1;
      let left = 0.005 * (bands.length * size - counts[levels + 1]);
      let code = levels;
      while (code > 0 && (left -= counts[code]) >= 0) code -= 1;
      return Math.max(low + code * step, 1e-6);
    }

    // Absolute differences of a layer from the reference, of one band or (-1) the mean over bands with data in both.
    difference(layer, band) {
      const key = `${layer.name} ${band}`;
      if (!this.differences.has(key)) this.differences.set(key, this.computeDifference(layer, band));
      return this.differences.get(key);
    }

    computeDifference(layer, band) {
      const sums = new Float32Array(this.height * this.width);
      const counts = new Uint16Array(sums.length);
      const [first, last] = band < 0 ? [0, this.bands] : [band, band + 1];
      const other = this.reference;
      for (let c = first; c < last; c++) {
        for (let y = 0, k = 0; y < this.height; y++) {
          const a = c * layer.size + layer.rows[y] * layer.width;
          const b = c * other.size + other.rows[y] * other.width;
          for (let x = 0; x < this.width; x++, k++) {
            const mine = layer.codes[a + layer.columns[x]];
            const reference = other.codes[b + other.columns[x]];
            if (mine > layer.levels || reference > other.levels) continue;
            sums[k] += Math.abs(mine - reference);
            counts[k] += 1;
          }
        }
      }
      return sums.map((sum, k) => (counts[k] ? (sum * layer.step) / counts[k] : NaN));
    }

    // The pixel [row, column] in which the layer that is shown first on the right differs most from the reference.
    brightestDifference() {
      const other = this.layers.findLast((layer) => layer !== this.reference);
      const layer = this.after === this.reference.name ? other : this.layer(this.after);
      const difference = this.difference(layer, -1);
      const at = difference.reduce((best, value, k) => (value > (difference[best] || 0) ? k : best), 0);
      return [Math.floor(at / this.width), at % this.width];
    }

    // End of the colour scale that all visible layers share; coarser layers count only if no other differs.
    mapEnd(band) {
      const others = this.shown.filter((layer) => layer !== this.reference);
      const fine = others.filter((layer) => layer.height === this.height);
      let end = 0;
      for (const layer of fine.length ? fine : others) {
        const sorted = this.difference(layer, band).filter((value) => !Number.isNaN(value)).sort();
        if (sorted.length) end = Math.max(end, sorted[Math.floor(MAP_SHARE * (sorted.length - 1))]);
      }
      return end || this.reference.step;
    }

    // Spectral angle of two layers at a pixel in degrees; NaN without data.
    angle(layer, row, column) {
      let [product, mine, reference] = [0, 0, 0];
      for (let band = 0; band < this.bands; band++) {
        const a = layer.value(band, row, column);
        const b = this.reference.value(band, row, column);
        if (Number.isNaN(a) || Number.isNaN(b)) continue;
        product += a * b;
        mine += a * a;
        reference += b * b;
      }
      return (Math.acos(clamp(product / Math.sqrt(mine * reference), -1, 1)) * 180) / Math.PI;
    }

    meanDifference(layer, row, column) {
      let [sum, count] = [0, 0];
      for (let band = 0; band < this.bands; band++) {
        const difference = Math.abs(layer.value(band, row, column) - this.reference.value(band, row, column));
        if (!Number.isNaN(difference)) [sum, count] = [sum + difference, count + 1];
      }
      return sum / count;
    }
  }

  class Viewer {
    constructor(root) {
      this.root = root;
      this.parts = {};
      for (const part of root.querySelectorAll("[data-part]")) this.parts[part.dataset.part] ??= part;
      this.statics = [...root.querySelectorAll(".hsv-scene")];
      this.scripts = [...root.querySelectorAll('script[type="application/json"]')];
      this.views = new Map();
      this.mapCanvas = document.createElement("canvas");
      this.hatch = this.makeHatch();
    }

    // The choices, to be restored after the page was loaded again.
    get state() {
      const { pixel, zoom, centre, parts, view } = this;
      const values = Object.fromEntries(KEPT.map((name) => [name, parts[name].value]));
      return { values, scene: view.title, pixel, zoom, centre, hidden: [...view.hidden] };
    }

    async restore({ values, scene, pixel, zoom, centre, hidden }) {
      const k = this.scripts.findIndex((script) => script.dataset.title === scene);
      if (k < 0) return;
      this.parts.scene.value = k;
      await this.open(k);
      this.hide(hidden);
      for (const name of KEPT) {
        const part = this.parts[name];
        if (!part.options || [...part.options].some((option) => option.value === values[name])) part.value = values[name];
      }
      Object.assign(this, { zoom, centre });
      this.updateColours();
      this.mark(...pixel);
    }

    // Hide layers by name in this scene and in those that are opened later, as far as two remain.
    hide(names) {
      const { view } = this;
      this.unwanted = names;
      const others = view.layers.filter((layer) => layer !== view.reference).map((layer) => layer.name);
      const isPossible = others.some((name) => !names.includes(name));
      view.hidden = new Set(isPossible ? others.filter((name) => names.includes(name)) : []);
      this.fillLayerTable();
      this.fillLayers(this.parts.left.value, this.parts.right.value, this.parts["map-layer"].value);
      this.updateMap();
      this.drawSpectra();
    }

    async start() {
      const { scene } = this.parts;
      this.scripts.forEach((script, k) => scene.add(new Option(script.dataset.title, k)));
      this.parts["scene-label"].hidden = this.scripts.length < 2;
      this.listen();
      await this.open(0);
      for (const block of this.statics) for (const part of block.querySelectorAll("figure, h2, h3, h4")) part.hidden = true;
      this.parts.app.hidden = false;
      new ResizeObserver(() => this.resize()).observe(this.parts.app);
      this.resize();
    }

    async open(k) {
      if (!this.views.has(k)) this.views.set(k, await View.decode(JSON.parse(this.scripts[k].textContent)));
      this.view = this.views.get(k);
      for (const block of this.statics) block.hidden = !block.contains(this.scripts[k]);
      const { view, parts } = this;
      Object.assign(this, { zoom: 1, centre: [0.5, 0.5], pixel: view.brightestDifference() });
      for (const [name, k] of [["red", 0], ["green", 1], ["blue", 2]]) this.fillBands(parts[name], view.rgb[k]);
      this.fillBands(parts["map-band"], -1);
      parts.reference.textContent = view.reference.name;
      this.fillLayerTable();
      this.fillLayers(view.before, view.after, view.after);
      this.updateColours();
      if (this.unwanted) this.hide(this.unwanted);
      this.resize();
    }

    fillBands(select, chosen) {
      const options = this.view.x.map((_, band) => new Option(this.view.bandText(band), band, false, band === chosen));
      if (chosen < 0) options.unshift(new Option("mean over bands", -1, true, true));
      select.replaceChildren(...options);
    }

    // The choices of layers, without hidden ones.
    fillLayers(left, right, mapped) {
      const names = this.view.shown.map((layer) => layer.name);
      const fill = (select, offered, wanted, fallback) => {
        select.replaceChildren(...offered.map((name) => new Option(name)));
        select.value = offered.includes(wanted) ? wanted : fallback;
      };
      fill(this.parts.left, names, left, names.find((name) => name !== right));
      fill(this.parts.right, names, right, names.findLast((name) => name !== this.parts.left.value));
      const others = names.filter((name) => name !== this.view.reference.name);
      fill(this.parts["map-layer"], others, mapped, others.at(-1));
    }

    fillLayerTable() {
      const { view } = this;
      const rows = view.layers.map((layer) => {
        const row = document.createElement("tr");
        const head = Object.assign(document.createElement("th"), { scope: "row" });
        const label = document.createElement("label");
        const box = Object.assign(document.createElement("input"), { type: "checkbox", value: layer.name });
        box.checked = !view.hidden.has(layer.name);
        box.addEventListener("change", () => this.toggle(layer.name, box.checked));
        const { colour, dash } = view.style(layer);
        const swatch = element("svg", { viewBox: "0 0 34 12", "aria-hidden": "true" });
        swatch.append(element("path", { d: "M1 6h32", stroke: colour, "stroke-width": 2.5, "stroke-dasharray": dash }));
        label.append(box, swatch, layer.name);
        head.append(label);
        row.append(head, document.createElement("td"), document.createElement("td"));
        return row;
      });
      this.parts.layers.replaceChildren(...rows);
      this.limitToggles();
    }

    // Two layers stay visible, one of which is not the reference.
    limitToggles() {
      const { view } = this;
      const others = view.shown.filter((layer) => layer !== view.reference);
      for (const box of this.parts.layers.querySelectorAll("input")) {
        const isLastOther = others.length < 2 && box.value === others[0]?.name;
        box.disabled = box.checked && (view.shown.length <= 2 || isLastOther);
      }
    }

    toggle(name, isShown) {
      this.view.hidden[isShown ? "delete" : "add"](name);
      this.limitToggles();
      this.fillLayers(this.parts.left.value, this.parts.right.value, this.parts["map-layer"].value);
      this.updateMap();
      this.draw();
      this.drawSpectra();
    }

    listen() {
      const { parts } = this;
      const on = (names, type, action) => names.split(" ").forEach((name) => parts[name].addEventListener(type, action));
      on("scene", "change", () => this.open(Number(parts.scene.value)));
      on("mode red green blue", "change", () => this.updateColours());
      on("brightness", "input", () => this.updateColours());
      on("left right", "change", () => this.draw());
      on("divider", "input", () => this.draw());
      on("map-layer map-band", "change", () => this.updateMap());
      on("zoom-in", "click", () => this.zoomBy(1.5));
      on("zoom-out", "click", () => this.zoomBy(1 / 1.5));
      on("reset", "click", () => this.showAll());
      for (const canvas of [parts.images, parts.map]) {
        canvas.addEventListener("keydown", (event) => this.press(event));
        canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
        canvas.addEventListener("pointerdown", (event) => this.grab(event));
      }
    }

    press(event) {
      const directions = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
      const actions = { "+": () => this.zoomBy(1.5), "=": () => this.zoomBy(1.5), "-": () => this.zoomBy(1 / 1.5), 0: () => this.showAll() };
      const direction = directions[event.key];
      if (event.ctrlKey || event.metaKey || event.altKey || !(direction || actions[event.key])) return;
      event.preventDefault();
      if (!direction) return actions[event.key]();
      const [down, right] = direction;
      if (event.shiftKey) return this.panBy(40 * right, 40 * down);
      this.mark(this.pixel[0] + down, this.pixel[1] + right);
      this.reveal();
    }

    wheel(event) {
      event.preventDefault();
      this.zoomBy(1.2 ** (-Math.sign(event.deltaY)), [event.offsetX, event.offsetY]);
    }

    // Follow a pointer: it moves the divider or the view, or marks a pixel if it does not move.
    grab(event) {
      const canvas = event.currentTarget;
      const { divider, images } = this.parts;
      const isDivider = canvas === images && Math.abs(event.offsetX - divider.value * canvas.clientWidth) < 12;
      let [x, y, moved] = [event.offsetX, event.offsetY, 0];
      const follow = (next) => {
        moved += Math.abs(next.offsetX - x) + Math.abs(next.offsetY - y);
        if (isDivider) {
          divider.value = next.offsetX / canvas.clientWidth;
          this.draw();
        } else if (moved > 4) this.panBy(x - next.offsetX, y - next.offsetY);
        [x, y] = [next.offsetX, next.offsetY];
      };
      const release = (next) => {
        canvas.removeEventListener("pointermove", follow);
        if (next.type === "pointerup" && moved <= 4) this.mark(...this.pixelAt(next.offsetX, next.offsetY));
      };
      canvas.setPointerCapture(event.pointerId);
      canvas.addEventListener("pointermove", follow);
      for (const type of ["pointerup", "pointercancel"]) canvas.addEventListener(type, release, { once: true });
    }

    // Left and top of the image in the canvas, and CSS pixels of one of its pixels.
    get frame() {
      const { clientWidth, clientHeight } = this.parts.images;
      const size = Math.min(clientWidth / this.view.width, clientHeight / this.view.height) * this.zoom;
      const place = (canvas, image, centre) => (image <= canvas ? (canvas - image) / 2 : clamp(canvas / 2 - centre * image, canvas - image, 0));
      const left = place(clientWidth, size * this.view.width, this.centre[0]);
      return { left, top: place(clientHeight, size * this.view.height, this.centre[1]), size };
    }

    pixelAt(x, y) {
      const { left, top, size } = this.frame;
      return [Math.floor((y - top) / size), Math.floor((x - left) / size)];
    }

    // Take the centre of the view from what is visible, after a move of the frame's corner.
    centreOn(left, top, size) {
      const { clientWidth, clientHeight } = this.parts.images;
      const middle = (canvas, corner, image) => (image <= canvas ? 0.5 : clamp((canvas / 2 - corner) / image, canvas / 2 / image, 1 - canvas / 2 / image));
      this.centre = [middle(clientWidth, left, size * this.view.width), middle(clientHeight, top, size * this.view.height)];
      this.draw();
    }

    panBy(x, y) {
      const { left, top, size } = this.frame;
      this.centreOn(left - x, top - y, size);
    }

    // Zoom with a point of the canvas kept in place: by default its middle.
    zoomBy(factor, at) {
      const { clientWidth, clientHeight } = this.parts.images;
      const [x, y] = at ?? [clientWidth / 2, clientHeight / 2];
      const { left, top, size } = this.frame;
      this.zoom = clamp(this.zoom * factor, 1, Math.max(8, (40 * this.zoom) / size));
      const next = this.frame.size;
      this.centreOn(x - ((x - left) * next) / size, y - ((y - top) * next) / size, next);
    }

    showAll() {
      Object.assign(this, { zoom: 1, centre: [0.5, 0.5] });
      this.draw();
    }

    // Move the view so that the marked pixel is visible.
    reveal() {
      const { left, top, size } = this.frame;
      const { clientWidth, clientHeight } = this.parts.images;
      const [y, x] = [top + (this.pixel[0] + 0.5) * size, left + (this.pixel[1] + 0.5) * size];
      const excess = (at, end) => Math.min(0, at - size) + Math.max(0, at + size - end);
      this.panBy(excess(x, clientWidth), excess(y, clientHeight));
    }

    mark(row, column) {
      this.pixel = [clamp(row, 0, this.view.height - 1), clamp(column, 0, this.view.width - 1)];
      this.draw();
      this.drawSpectra();
    }

    updateColours() {
      const { parts, view } = this;
      const isGrey = parts.mode.value === "grey";
      parts["red-text"].textContent = isGrey ? "Band" : "Red";
      parts["green-label"].hidden = parts["blue-label"].hidden = isGrey;
      const names = isGrey ? ["red", "red", "red"] : ["red", "green", "blue"];
      const bands = names.map((name) => Number(parts[name].value));
      const white = view.white(isGrey ? bands.slice(0, 1) : bands) / 2 ** parts.brightness.value;
      for (const layer of view.layers) layer.paint(bands, white);
      this.marked = [...new Set(bands)];
      this.updateMap();
      this.drawSpectra();
    }

    updateMap() {
      const { view, parts, mapCanvas } = this;
      const band = Number(parts["map-band"].value);
      const difference = view.difference(view.layer(parts["map-layer"].value), band);
      const end = view.mapEnd(band);
      Object.assign(mapCanvas, { width: view.width, height: view.height });
      const image = new ImageData(view.width, view.height);
      difference.forEach((value, k) => {
        if (Number.isNaN(value)) return;
        const at = clamp(value / end, 0, 1) * (MAP_COLOURS.length - 1);
        const first = Math.min(Math.floor(at), MAP_COLOURS.length - 2);
        for (let channel = 0; channel < 3; channel++) {
          const [low, high] = [MAP_COLOURS[first][channel], MAP_COLOURS[first + 1][channel]];
          image.data[4 * k + channel] = low + (at - first) * (high - low);
        }
        image.data[4 * k + 3] = 255;
      });
      mapCanvas.getContext("2d").putImageData(image, 0, 0);
      parts["bar-colours"].style.background = `linear-gradient(to right, ${MAP_COLOURS.map((c) => `rgb(${c})`)})`;
      const values = [0, 0.25, 0.5, 0.75, 1].map((share) => format(share * end));
      values[4] = `\u2265 ${values[4]}`;
      parts["bar-values"].replaceChildren(...values.map((text) => Object.assign(document.createElement("span"), { textContent: text })));
      parts.bar.setAttribute("aria-label", `Colour scale from 0, black, to ${format(end)} of full scale, pale yellow`);
      this.draw();
    }

    resize() {
      const { images, map } = this.parts;
      const ratio = window.devicePixelRatio || 1;
      for (const canvas of [images, map]) {
        const width = canvas.parentElement.clientWidth;
        const height = Math.round(Math.min((width * this.view.height) / this.view.width, Math.max(240, 0.7 * window.innerHeight)));
        canvas.style.height = `${height}px`;
        Object.assign(canvas, { width: Math.round(width * ratio), height: Math.round(height * ratio) });
      }
      this.draw();
      this.drawSpectra();
    }

    makeHatch() {
      const tile = Object.assign(document.createElement("canvas"), { width: 8, height: 8 });
      const context = tile.getContext("2d");
      context.fillStyle = "#e4e4e4";
      context.fillRect(0, 0, 8, 8);
      context.strokeStyle = "#8a8a8a";
      for (const shift of [-8, 0, 8]) {
        context.moveTo(shift, 8);
        context.lineTo(shift + 8, 0);
      }
      context.stroke();
      return tile;
    }

    draw() {
      const { view, parts } = this;
      const divider = parts.divider.value * parts.images.clientWidth;
      const [left, right] = [view.layer(parts.left.value), view.layer(parts.right.value)];
      this.drawOn(parts.images, [[left.canvas, 0, divider], [right.canvas, divider, Infinity]]);
      this.drawOn(parts.map, [[this.mapCanvas, 0, Infinity]]);
      this.drawDivider(parts.images.getContext("2d"), divider);
      parts["left-tag"].textContent = left.name;
      parts["right-tag"].textContent = right.name;
      parts.zoom.textContent = `${this.zoom.toFixed(1)}\u00d7`;
    }

    // Draw [image, from, to] in parts of a canvas, between these CSS pixels, and the mark of the pixel.
    drawOn(canvas, images) {
      const context = canvas.getContext("2d");
      const ratio = window.devicePixelRatio || 1;
      const { left, top, size } = this.frame;
      const [width, height] = [this.view.width * size, this.view.height * size];
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
      context.imageSmoothingEnabled = false;
      for (const [image, from, to] of images) {
        const end = Math.min(to, canvas.clientWidth);
        context.save();
        context.beginPath();
        context.rect(from, 0, Math.max(0, end - from), canvas.clientHeight);
        context.clip();
        context.fillStyle = context.createPattern(this.hatch, "repeat");
        context.fillRect(left, top, width, height);
        context.drawImage(image, left, top, width, height);
        context.restore();
      }
      const edge = Math.max(size, 9);
      const [x, y] = [left + (this.pixel[1] + 0.5) * size, top + (this.pixel[0] + 0.5) * size];
      for (const [colour, margin] of [["#000", 1.5], ["#fff", 0]]) {
        context.strokeStyle = colour;
        context.lineWidth = 1.5;
        context.strokeRect(x - edge / 2 - margin, y - edge / 2 - margin, edge + 2 * margin, edge + 2 * margin);
      }
    }

    drawDivider(context, x) {
      const height = this.parts.images.clientHeight;
      for (const [colour, width] of [["#000", 4], ["#fff", 2]]) {
        context.fillStyle = colour;
        context.fillRect(x - width / 2, 0, width, height);
      }
      context.beginPath();
      context.arc(x, height / 2, 13, 0, 2 * Math.PI);
      context.fillStyle = "#fff";
      context.strokeStyle = "#000";
      context.fill();
      context.stroke();
      context.fillStyle = "#000";
      for (const side of [-1, 1]) {
        context.beginPath();
        context.moveTo(x + side * 9, height / 2);
        context.lineTo(x + side * 3.5, height / 2 - 4.5);
        context.lineTo(x + side * 3.5, height / 2 + 4.5);
        context.fill();
      }
    }

    drawSpectra() {
      const { view, parts } = this;
      const [row, column] = this.pixel;
      const spectra = view.shown.map((layer) => view.x.map((_, band) => layer.value(band, row, column)));
      const known = spectra.flat().filter((value) => !Number.isNaN(value));
      const [low, high] = [Math.min(0, ...known), Math.max(...known, known.length ? -Infinity : 1)];
      const axes = this.drawAxes(low, high > low ? high : low + 1);
      for (const band of this.marked) {
        const x = axes.x(view.x[band]);
        parts.spectra.append(element("path", { d: `M${x} ${axes.top}V${axes.bottom}`, stroke: "#bbb", "stroke-dasharray": "2 3" }));
      }
      view.shown.forEach((layer, k) => {
        const { colour, dash } = view.style(layer);
        const attributes = { fill: "none", stroke: colour, "stroke-width": 1.8, "stroke-linecap": "round", "stroke-dasharray": dash };
        parts.spectra.append(element("path", { d: this.linePath(spectra[k], axes), "data-layer": layer.name, ...attributes }));
      });
      const [top, left] = [view.origin[0] + row * view.pixel, view.origin[1] + column * view.pixel];
      const averaged = view.pixel > 1 ? `, mean of ${view.pixel} \u00d7 ${view.pixel} pixels` : "";
      parts.status.textContent = `Row ${top}, column ${left}${averaged}${known.length ? "" : ": no data"}`;
      this.updateTable(row, column);
    }

    linePath(values, axes) {
      let path = "";
      for (const run of this.view.runs) {
        let isOpen = false;
        for (const band of run) {
          if (Number.isNaN(values[band])) {
            isOpen = false;
            continue;
          }
          const point = `${axes.x(this.view.x[band]).toFixed(2)} ${axes.y(values[band]).toFixed(2)}`;
          path += isOpen ? `L${point}` : `M${point}h0`;
          isOpen = true;
        }
      }
      return path;
    }

    drawAxes(low, high) {
      const { view } = this;
      const chart = this.parts.spectra;
      const [width, height] = [chart.clientWidth || 600, chart.clientHeight || 300];
      const [left, right, top, bottom] = [66, width - 12, 10, height - 44];
      const [first, last] = [Math.min(...view.x), Math.max(...view.x)];
      const room = 0.04 * (high - low);
      const x = (value) => left + ((value - first) / (last - first || 1)) * (right - left);
      const y = (value) => bottom - ((value - low) / (high + room - low)) * (bottom - top);
      chart.replaceChildren();
      chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
      Object.assign(chart.dataset, { low, high: high + room, top, bottom });
      for (const value of roundTicks(low, high + room, 5)) {
        chart.append(element("path", { class: "hsv-grid", d: `M${left} ${y(value)}H${right}` }));
        chart.append(element("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, value));
      }
      for (const value of roundTicks(first, last > first ? last : first + 1, Math.max(3, width / 90))) {
        chart.append(element("path", { class: "hsv-grid", d: `M${x(value)} ${bottom}v5` }));
        chart.append(element("text", { x: x(value), y: bottom + 19, "text-anchor": "middle" }, value));
      }
      const label = view.unit ? `wavelength (${view.unit})` : "band";
      chart.append(element("text", { x: (left + right) / 2, y: height - 6, "text-anchor": "middle" }, label));
      const turned = `translate(14 ${(top + bottom) / 2}) rotate(-90)`;
      chart.append(element("text", { transform: turned, "text-anchor": "middle" }, "value (full scale = 1)"));
      chart.append(element("path", { d: `M${left} ${bottom}H${right}`, stroke: "#333" }));
      return { x, y, top, bottom };
    }

    updateTable(row, column) {
      const { view } = this;
      [...this.parts.layers.rows].forEach((line, k) => {
        const layer = view.layers[k];
        const isReference = layer === view.reference;
        const [angle, difference] = [view.angle(layer, row, column), view.meanDifference(layer, row, column)];
        line.cells[1].textContent = isReference ? "reference" : Number.isNaN(angle) ? "no data" : `${angle.toFixed(2)}\u00b0`;
        line.cells[2].textContent = isReference ? "" : Number.isNaN(difference) ? "" : format(difference);
      });
    }
  }

  for (const root of document.querySelectorAll(".hsv:not([data-viewer])")) {
    root.dataset.viewer = "starting";
    const message = root.querySelector('[data-part="message"]');
    const fail = (text) => {
      message.textContent = `${text} Static pictures and charts follow.`;
      message.hidden = false;
      root.dataset.viewer = "failed";
    };
    if (typeof DecompressionStream === "undefined") {
      fail("This browser cannot decompress the data (DecompressionStream is missing); a browser from 2023 or later can.");
      continue;
    }
    root.viewer = new Viewer(root);
    root.viewer.start().then(
      () => { root.dataset.viewer = "ready"; },
      (error) => fail(`The interactive comparison failed: ${error.message}.`),
    );
  }
})();
