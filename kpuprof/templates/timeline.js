// The timeline: a canvas with a track per unit, L2 in use and power, all over the same time.

const LABEL_WIDTH = 116, TRACK = 26, GAP = 10, AXIS = 26, TALL = 64;
const KIND_COLOURS = ["dram", "store", "sram", "l1store", "compute"];

function running(differences) {
  let sum = 0;
  return differences.map((difference) => (sum += difference));
}

function tracksOf(run) {
  const spans = (starts, lengths, ops, kinds) => ({
    starts, ends: starts.map((start, i) => start + lengths[i]), ops, kinds });
  const ops = run.ops;
  const every = ops.start_cycle.map((_, i) => i).filter((i) => ops.end_cycle[i] > ops.start_cycle[i]);
  const starts = every.map((i) => ops.start_cycle[i]);
  const lengths = every.map((i) => ops.end_cycle[i] - ops.start_cycle[i]);
  const tracks = [{ name: "Ops", height: TRACK, ...spans(starts, lengths, every, null) }];
  for (const unit of run.units) {
    tracks.push({ name: unit.unit, height: TRACK, ...spans(running(unit.starts), unit.lengths, unit.ops, unit.kinds) });
  }
  tracks.push({
    name: "L2 in use", height: TALL, unit: bytesText, top: run.memory.capacity_bytes, colour: "vector",
    ...spans(starts, lengths, every, null), values: every.map((i) => ops.l2_live_bytes[i]),
  });
  if (run.power) {
    const times = running(run.power.starts);
    const lasts = times.map((start, i) => (i + 1 < times.length ? times[i + 1] : run.power.end) - start);
    tracks.push({
      name: "Power", height: TALL, unit: (watts) => watts.toFixed(2) + THIN + "W", colour: "compute",
      top: Math.max(run.summary.tdp_watts, ...run.power.watts.length < 1e5 ? run.power.watts : [0]),
      line: run.summary.tdp_watts, lineName: "TDP", ...spans(times, lasts, null, null), values: run.power.watts,
    });
  }
  let y = AXIS;
  for (const track of tracks) { track.y = y; y += track.height + GAP; }
  return { tracks, height: y };
}

// The last span that starts at or before a cycle, -1 for none.
function spanAt(track, cycle) {
  let low = 0, high = track.starts.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (track.starts[middle] <= cycle) low = middle + 1; else high = middle;
  }
  return low - 1;
}

function setUpTimeline(article, run) {
  const canvas = article.querySelector("canvas");
  const tip = article.querySelector(".tip");
  const output = article.querySelector("output.window");
  const context = canvas.getContext("2d");
  const { tracks, height } = tracksOf(run);
  const total = Math.max(1, run.summary.total_cycles);
  const microseconds = (cycle) => cycle / run.clock_mhz;
  let from = 0, to = total, width = 0;
  canvas.style.height = height + "px";

  const place = (cycle) => LABEL_WIDTH + (cycle - from) / (to - from) * (width - LABEL_WIDTH - 8);
  const cycleAt = (x) => from + (x - LABEL_WIDTH) / (width - LABEL_WIDTH - 8) * (to - from);

  function setWindow(start, length) {
    const kept = Math.min(total, Math.max(Math.min(total, 64), length));
    from = Math.min(Math.max(0, start), total - kept);
    to = from + kept;
    draw();
  }

  function zoom(factor, around = (from + to) / 2) {
    setWindow(around - (around - from) * factor, (to - from) * factor);
  }

  function draw() {
    width = canvas.clientWidth;
    if (!width) return;
    const scale = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.font = "12px system-ui, sans-serif";
    context.textBaseline = "middle";
    drawAxis();
    const colours = Object.fromEntries(
      ["compute", "vector", "dram", "store", "sram", "l1store", "dispatch", "none", "ink", "mute", "line", "sunk", "bad", "card"]
        .map((name) => [name, colour(name)]));
    for (const track of tracks) drawTrack(track, colours);
    output.textContent = `${from ? timeText(microseconds(from)) : 0} to ${timeText(microseconds(to))} · ${count(Math.round(to - from))} cycles`;
  }

  function drawAxis() {
    const inMs = microseconds(to) >= 1000;
    const perUnit = run.clock_mhz * (inMs ? 1000 : 1);
    const rough = (to - from) / perUnit / Math.max(2, width / 130);
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough);
    context.strokeStyle = colour("line");
    context.fillStyle = colour("mute");
    context.textAlign = "center";
    const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    for (let at = Math.ceil(from / perUnit / step) * step; at <= to / perUnit; at += step) {
      const x = Math.round(place(at * perUnit)) + 0.5;
      context.beginPath(); context.moveTo(x, AXIS - 6); context.lineTo(x, height - GAP); context.stroke();
      if (x < width - 18) context.fillText(at.toFixed(digits), x, 9);
    }
    context.textAlign = "left";
    context.fillText(inMs ? "time, ms" : "time, µs", 0, 9);
  }

  function drawTrack(track, colours) {
    context.fillStyle = colours.ink;
    context.textAlign = "left";
    context.fillText(track.name, 0, track.y + (track.values ? 8 : track.height / 2));
    if (track.values) {
      context.fillStyle = colours.mute;
      context.fillText("of " + track.unit(track.top), 0, track.y + 25);
    }
    context.fillStyle = colours.sunk;
    context.fillRect(LABEL_WIDTH, track.y, width - LABEL_WIDTH - 8, track.height);
    context.save();
    context.beginPath(); context.rect(LABEL_WIDTH, track.y - 1, width - LABEL_WIDTH - 8, track.height + 2); context.clip();
    const first = Math.max(0, spanAt(track, from) - (track.ops && track.kinds ? 8 : 0));
    for (let i = first; i < track.starts.length && track.starts[i] < to; i += 1) {
      const x = place(track.starts[i]), w = Math.max(0.3, place(track.ends[i]) - x); // a fraction of a dot is drawn as paler
      if (x + w < LABEL_WIDTH) continue;
      if (track.values) {
        const h = track.height * track.values[i] / (track.top || 1);
        context.fillStyle = colours[track.colour];
        context.fillRect(x, track.y + track.height - h, w + 0.3, h);
        continue;
      }
      const name = track.kinds ? KIND_COLOURS[track.kinds[i]] : run.ops.bound_by[track.ops[i]];
      context.fillStyle = colours[name];
      context.fillRect(x, track.y, w > 3 ? w - 0.7 : w, track.height);
      if (!track.kinds && w > 46) {
        context.fillStyle = colours.card;
        context.fillText(fitted(run.ops.name[track.ops[i]], w - 10), Math.max(x, LABEL_WIDTH) + 5, track.y + track.height / 2);
      }
    }
    if (track.line) {
      const y = track.y + track.height * (1 - track.line / track.top) + 0.5;
      context.strokeStyle = colours.bad;
      context.beginPath(); context.moveTo(LABEL_WIDTH, y); context.lineTo(width, y); context.stroke();
    }
    context.restore();
  }

  function fitted(text, room) {
    const fits = Math.floor(room / 6.4);
    return text.length <= fits ? text : fits > 3 ? text.slice(0, fits - 1) + "…" : "";
  }

  function explain(event) {
    const box = canvas.getBoundingClientRect();
    const x = event.clientX - box.left, y = event.clientY - box.top;
    const track = tracks.find((each) => y >= each.y && y <= each.y + each.height);
    const index = track && x >= LABEL_WIDTH ? spanAt(track, cycleAt(x)) : -1;
    tip.hidden = index < 0 || cycleAt(x) > track.ends[index] + 2 * (to - from) / width;
    if (tip.hidden) return;
    tip.textContent = tipText(track, index);
    tip.style.left = Math.max(0, Math.min(x + 14, width - tip.offsetWidth - 4)) + "px";
    tip.style.top = y + 16 + "px";
  }

  function tipText(track, index) {
    const start = track.starts[index], end = track.ends[index];
    const lasts = `${timeText(microseconds(end - start))} (${count(end - start)} cycles)`;
    const when = `at ${microseconds(start).toLocaleString("en-US", { maximumFractionDigits: 1 })}${THIN}µs for ${lasts}`;
    const lines = [];
    if (track.ops) lines.push(`${run.ops.name[track.ops[index]]} · ${run.ops.op_type[track.ops[index]]}`);
    if (track.kinds) lines.push(run.kinds[track.kinds[index]]);
    if (track.values) lines.push(track.unit(track.values[index]));
    if (!track.kinds && !track.values) lines.push(`bound by ${run.ops.bound_by[track.ops[index]]}`);
    return [...lines, when].join("\n");
  }

  const actions = {
    in: () => zoom(0.5), out: () => zoom(2), all: () => setWindow(0, total),
    left: () => setWindow(from - (to - from) / 4, to - from),
    right: () => setWindow(from + (to - from) / 4, to - from),
  };
  const keys = { "+": "in", "=": "in", "-": "out", ArrowLeft: "left", ArrowRight: "right", 0: "all" };
  article.querySelectorAll("button[data-zoom]").forEach((button) => {
    button.addEventListener("click", actions[button.dataset.zoom]);
  });
  canvas.addEventListener("keydown", (event) => {
    const action = actions[keys[event.key]];
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    action();
  });
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.shiftKey) return; // the page scrolls as ever
    event.preventDefault();
    zoom(event.deltaY + event.deltaX > 0 ? 1.25 : 0.8, cycleAt(event.clientX - canvas.getBoundingClientRect().left));
  }, { passive: false });
  let dragged = null;
  canvas.addEventListener("pointerdown", (event) => { dragged = { x: event.clientX, from }; canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointerup", () => { dragged = null; });
  canvas.addEventListener("pointermove", (event) => {
    if (!dragged) return explain(event);
    tip.hidden = true;
    setWindow(dragged.from - (event.clientX - dragged.x) / (width - LABEL_WIDTH - 8) * (to - from), to - from);
  });
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  canvas.addEventListener("dblclick", (event) => zoom(0.4, cycleAt(event.clientX - canvas.getBoundingClientRect().left)));
  window.addEventListener("resize", draw);
  article.addEventListener("shown", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
}

articles.forEach((article, index) => setUpTimeline(article, data.runs[index]));
if (articles.length > 1) showRun(0);
