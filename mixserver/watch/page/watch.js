"use strict";
/* Asks the page's server once a second and shows what it says; texts are never taken as HTML. */

const EVERY_MS = 1000;
const CURVES_EVERY_MS = 2000;
const PLAY_MS = 150;
const MANY_ATOMS = 5000;
const REST = 3;  // times as long as drawing a frame takes, nothing new is drawn by itself
const $ = (id) => document.getElementById(id);

// the token came in the address and is in a cookie by now
if (location.search) history.replaceState(null, "", "/");

const page = {
  state: null, run: "", curves: -1, curvesAt: 0, frames: 0, shown: -1, wanted: -1, loading: false,
  playing: null, drawnAt: 0, drawMs: 0, first: true,
};
const view = new AtomsView($("viewer"), (words) => { $("picked").textContent = words; });

const RED = "#b5403a", PURPLE = "#7a5195", BLUE = "#3b6fb6", GREY = "#808080", GREEN = "#3c8d5a";
const charts = {
  kelvin: new Chart($("charts"), "Temperature", "K", "ps", [{name: "T", colour: RED}]),
  conserved: new Chart($("charts"), "Conserved energy since the start", "eV", "ps",
    [{name: "conserved", colour: BLUE}]),
  sizes: new Chart($("charts"), "Region, atoms", "", "evaluations",
    [{name: "core", colour: RED}, {name: "blend", colour: PURPLE}]),
  local: new Chart($("charts"), "Temperature by region", "K", "evaluations",
    [{name: "core", colour: RED}, {name: "bulk", colour: GREY}], true),
  work: new Chart($("charts"), "λ work", "eV", "evaluations", [{name: "work", colour: PURPLE}]),
  apart: new Chart($("charts"), "Difference of forces, rms", "eV/Å", "evaluations",
    [{name: "core", colour: RED}, {name: "blend", colour: PURPLE}]),
  took: new Chart($("charts"), "Evaluation", "ms", "evaluations",
    [{name: "total", colour: GREY}, {name: "cheap", colour: BLUE},
     {name: "expensive", colour: RED}, {name: "own", colour: GREEN}]),
};

/** A time in one or two units, such as "2 h 5 min". */
function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 60) return `${Number(seconds.toPrecision(seconds < 10 ? 2 : 3))} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  if (minutes < 2880) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  const hours = Math.round(seconds / 3600);
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

async function get(path) {
  const answer = await fetch(path, {credentials: "same-origin"});
  if (!answer.ok) {
    const error = new Error((await answer.text()).trim());
    error.status = answer.status;
    throw error;
  }
  return answer;
}

async function tick() {
  if (!document.hidden) {
    try {
      const state = await (await get("/api/state")).json();
      show(state);
      await showCurves(state);
    } catch (error) {
      lost(error);
    }
  }
  setTimeout(tick, EVERY_MS);
}

function lost(error) {
  badge("no answer", "bad");
  messages([["bad", error.status ? error.message :
    "mixserver watch does not answer: it was ended, or the tunnel is closed. Start it again and " +
    "open the address that it prints."]]);
}

function show(state) {
  if (state.folder !== page.run) {
    Object.assign(page, {run: state.folder, curves: -1, curvesAt: 0, frames: 0, shown: -1, wanted: -1});
  }
  page.state = state;
  $("name").textContent = state.name;
  document.title = `${state.name} · mixserver`;
  const status = state.status;
  showStage(state, status);
  showProgress(state, status);
  showMessages(state, status);
  showFacts(state, status);
  showWorkers(status);
  $("where").textContent = [state.folder, status && `${status.host}, process ${status.pid}`]
    .filter(Boolean).join(" · ");
  showFrames(state);
}

function badge(words, kind) {
  $("stage").textContent = words;
  $("stage").className = `badge ${kind}`;
}

function showStage(state, status) {
  $("since").textContent = status ? `for ${duration(status.up_s)}` : "";
  if (status) {
    badge(status.stage, status.healthy ? "good" : "bad");
  } else if (state.ended.startsWith("failed:")) {
    badge("failed", "bad");
  } else if (state.ended) {
    badge(state.ended, state.ended === "killed" ? "bad" : state.ended === "done" ? "good" : "");
  } else {
    badge("no answer", "doubt");
  }
}

function showProgress(state, status) {
  const step = status?.ipi.step ?? state.latest?.step ?? null;
  const total = status?.ipi.total_steps ?? null;
  $("bar").hidden = total === null || step === null;
  const words = [];
  if (step !== null) words.push(total === null ? `step ${step}` : `step ${step} of ${total}`);
  if (total) $("done").style.width = `${Math.min(100, 100 * (step ?? 0) / total)}%`;
  if (status && status.ipi.eta_s !== null && status.ipi.eta_s !== undefined) {
    words.push(`${duration(status.ipi.eta_s)} left`);
  }
  $("steps").textContent = words.join(", ");
}

function showMessages(state, status) {
  const found = [];
  if (state.ended.startsWith("failed:")) found.push(["bad", state.ended]);
  if (!status && !state.ended) found.push(["quiet", state.silent]);
  for (const problem of status?.problems ?? []) found.push(["bad", `Problem: ${problem}`]);
  for (const warning of state.warnings) found.push(["", `Warning: ${warning}`]);
  if (state.no_folder && state.no_folder !== state.silent) found.push(["quiet", state.no_folder]);
  if (state.unreadable) {
    found.push(["", `${state.unreadable} line(s) of mixserver.jsonl cannot be read and are left out`]);
  }
  messages(found.filter(([, words]) => words));
}

function messages(found) {
  const key = JSON.stringify(found);
  if ($("messages").dataset.key === key) return;
  $("messages").dataset.key = key;
  $("messages").replaceChildren(...found.map(([kind, words]) => {
    const item = document.createElement("li");
    item.className = kind;
    item.textContent = words;
    return item;
  }));
}

function showFacts(state, status) {
  const facts = [], latest = state.latest ?? {}, made = status?.evaluations;
  const add = (name, value, small = "") => {
    if (value !== null && value !== undefined && value !== "") facts.push([name, value, small]);
  };
  if (made) {
    add("evaluations", String(made.total),
      made.per_s ? `${number(made.per_s)} per second` : "");
    add("last answered", made.last_age_s === null ? "–" : `${duration(made.last_age_s)} ago`);
  }
  if (latest.time !== null && latest.time !== undefined) add("time", `${number(latest.time)} ps`);
  if (latest.temperature) add("temperature", `${number(latest.temperature)} K`);
  if (latest.conserved !== null && latest.conserved !== undefined) {
    add("conserved energy", `${latest.conserved.toFixed(4)} eV`);
  }
  if (made && made.core !== null && made.core !== undefined && status.roles.length > 1) {
    add("core, blend", `${made.core}, ${made.blend}`, "atoms");
    add("buffer, halo", `${made.buffer}, ${made.halo}`, `in ${made.clusters} cluster(s)`);
    add("λ work", made.work === null ? null : `${number(made.work)} eV`);
  }
  if (made && made.ms_total !== null && made.ms_total !== undefined) {
    add("time of an evaluation", `${number(made.ms_total)} ms`,
      `cheap ${number(made.ms_cheap)}, expensive ${number(made.ms_expensive)}, own ${number(made.ms_own)}`);
  }
  if (status) {
    const ipi = status.ipi;
    add("i-PI", ipi.state, ipi.silent_s > 2 ? `silent for ${duration(ipi.silent_s)}` : "");
  }
  $("facts").replaceChildren(...facts.map(([name, value, small]) => {
    const box = document.createElement("div"), dt = document.createElement("dt"),
      dd = document.createElement("dd");
    dt.textContent = name;
    dd.textContent = `${value} `;
    const more = document.createElement("small");
    more.textContent = small;
    dd.append(more);
    box.append(dt, dd);
    return box;
  }));
}

function showWorkers(status) {
  $("people").hidden = !status;
  if (!status) return;
  $("roles").textContent = status.roles.map((role) => {
    let words = `${role.role}: ${role.state}, ${role.healthy} of ${role.workers} workers on time`;
    if (role.queue) words += `, ${role.queue} job(s) wait`;
    if (role.last_loss && role.state !== "ok") words += `; last lost ${role.last_loss}`;
    return words;
  }).join(" · ");
  $("workers").hidden = status.workers.length === 0;
  $("workers").tBodies[0].replaceChildren(...status.workers.map((worker) => {
    const since = worker.state === "silent" ? worker.silent_s : worker.busy_s;
    const row = document.createElement("tr");
    for (const words of [
      worker.name, worker.role, worker.host || "–", `${worker.engine} ${worker.model} (${worker.dtype})`,
      since === null ? worker.state : `${worker.state} ${duration(since)}`,
      worker.atoms ?? "–", worker.jobs, duration(worker.mean_s),
    ]) row.insertCell().textContent = words;
    if (worker.state === "silent" || worker.state === "overdue") row.cells[4].className = "bad";
    return row;
  }));
}

async function showCurves(state) {
  const now = performance.now();
  if (state.curves === page.curves || now - page.curvesAt < CURVES_EVERY_MS) return;
  page.curvesAt = now;
  const found = await (await get("/api/curves")).json();
  if (!found.evaluations) return;
  page.curves = found.version;
  page.data = found;
  drawCurves();
}

function drawCurves() {
  if (!page.data) return;
  const {evaluations: e, properties: p} = page.data;
  const since = (values) => {
    const first = values.find((value) => value !== null) ?? 0;
    return values.map((value) => value === null ? null : value - first);
  };
  const time = p.time.every((value) => value !== null) ? p.time : p.step;
  charts.kelvin.xName = charts.conserved.xName = time === p.time ? "ps" : "steps";
  const any = (values) => values.some((value) => value) ? values : values.map(() => null);
  charts.kelvin.draw(time, [p.temperature]);
  charts.conserved.draw(time, [since(p.conserved)]);
  charts.sizes.draw(e.evaluation, any(e.core.concat(e.blend)).some((v) => v !== null) ?
    [e.core, e.blend] : [[], []]);
  charts.local.draw(e.evaluation, [e.kelvin_core, e.kelvin_bulk]);
  charts.work.draw(e.evaluation, [any(e.work)]);
  charts.apart.draw(e.evaluation, [e.core_mismatch_rms, e.mismatch_rms]);
  charts.took.draw(e.evaluation, [e.ms_total, e.ms_cheap, e.ms_expensive, e.ms_own]);
}

/* Frames */

function showFrames(state) {
  const slider = $("slider");
  page.frames = state.frames;
  slider.max = Math.max(0, state.frames - 1);
  slider.disabled = $("play").disabled = state.frames < 2;
  if (!state.frames) {
    $("label").textContent = "no frame";
    $("frame-words").textContent = state.frames_words ?? "";
    return;
  }
  const rested = performance.now() - page.drawnAt > REST * page.drawMs;
  if ($("follow").checked && rested) want(state.frames - 1);
}

/** Load and draw a frame, the latest one that was asked for. */
async function want(at) {
  page.wanted = at;
  $("slider").value = at;
  if (page.loading || at === page.shown) return;
  page.loading = true;
  try {
    while (page.wanted !== page.shown) {
      const next = page.wanted;
      const frame = parseFrame(await (await get(`/api/frames/${next}`)).arrayBuffer());
      page.shown = next;
      if (page.first) {
        page.first = false;
        // else others hide the seeds
        $("open").checked = frame.about.lambda || frame.about.drawn > MANY_ATOMS;
      }
      const begun = performance.now();
      view.show(frame, $("open").checked);
      page.drawnAt = performance.now();
      page.drawMs = page.drawnAt - begun;
      describe(frame.about, next);
    }
  } catch (error) {
    $("frame-words").textContent = error.message;
    page.shown = page.wanted;
  } finally {
    page.loading = false;
  }
}

function describe(about, at) {
  $("label").textContent = `${about.label} (${at + 1} of ${page.frames})`;
  $("legend").hidden = $("bulk").parentElement.hidden = !about.lambda;
  const words = [];
  if (about.words) words.push(about.words);
  if (about.drawn < about.atoms) {
    words.push(`${about.drawn} of ${about.atoms} atoms are drawn: the region and its surroundings.`);
  }
  $("frame-words").textContent = words.join(" ");
}

function stop() {
  clearInterval(page.playing);
  page.playing = null;
  $("play").textContent = "▶";
}

$("play").addEventListener("click", () => {
  if (page.playing !== null) return stop();
  $("follow").checked = false;
  $("play").textContent = "❚❚";
  let at = page.shown >= page.frames - 1 ? 0 : page.shown;
  page.playing = setInterval(() => {
    if (at >= page.frames) return stop();
    if (!page.loading) want(at++);
  }, PLAY_MS);
});
$("slider").addEventListener("input", () => {
  stop();
  $("follow").checked = Number($("slider").value) === page.frames - 1;
  want(Number($("slider").value));
});
$("follow").addEventListener("change", () => {
  stop();
  if ($("follow").checked && page.frames) want(page.frames - 1);
});
$("open").addEventListener("change", () => view.cutOpen($("open").checked));
$("bulk").addEventListener("change", () => view.showBulk($("bulk").checked));
addEventListener("resize", () => { view.resize(); drawCurves(); });

tick();
