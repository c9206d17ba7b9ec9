// Shows one clip after another, with frames from a sheet of tiles, and takes one score for each dimension, by keyboard.
// Answers are stored in localStorage at each key; a served page also sends completed ones to the server.
const study = JSON.parse(document.getElementById("study").textContent);
const byId = (id) => document.getElementById(id);
const fields = [...document.querySelectorAll("fieldset[data-dimension]")];
const canvas = byId("picture");
const SPEEDS = [1, 2, 4, 6, 10, 15, 25];
const JOIN_MS = 1000; // in dimensions of ten points or more, digits within this time form one number

let rater = study.rater;
let answers = {}; // place -> {scores: {dimension: points}, kept: whether Enter was pressed, sent: whether the server has it}
let place = 0;
let active = 0;
let changes = []; // [place, dimension, previous points], for undo
let speed = SPEEDS.indexOf(10);
let typed = { dimension: -1, at: 0 };

// --- storage

const drawer = () => `roboalign/${study.id}/${rater}`;
const answer = (at = place) => (answers[at] ??= { scores: {}, kept: false, sent: false });
const kept = (at) => Boolean(answers[at]?.kept);
const complete = (at) => study.dimensions.every((dimension) => dimension.name in answer(at).scores);

function store() {
  try {
    localStorage.setItem(drawer(), JSON.stringify({ answers, place }));
  } catch {
    say("This browser does not store scores for this page: download them before you close it.", true);
  }
}

function restore() {
  let found = {};
  try {
    found = JSON.parse(localStorage.getItem(drawer())) ?? {};
  } catch {}
  answers = found.answers ?? {};
  // The server's answer replaces an absent one and one that was sent, but not one that was not sent yet.
  for (const [at, scores] of Object.entries(study.answers[rater] ?? {})) {
    if (!answers[at] || answers[at].sent) answers[at] = { scores, kept: true, sent: true };
  }
  // Answers that were sent but are not in the server's file (another file, or lost) are sent again.
  for (const [at, answer] of Object.entries(answers)) {
    if (study.served && answer.sent && !study.answers[rater]?.[at]) answer.sent = false;
  }
  const open = study.clips.findIndex((_, at) => !kept(at));
  place = Number.isInteger(found.place) && !kept(found.place) ? found.place : open;
}

function line(at) {
  const { clip, showing } = study.clips[at];
  return JSON.stringify({ clip, rater, kind: "person", scores: answers[at].scores, showing });
}

function download() {
  const lines = study.clips.flatMap((_, at) => (kept(at) ? [line(at) + "\n"] : []));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(lines, { type: "application/jsonl" }));
  link.download = `annotations-${rater}.jsonl`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

async function send() {
  if (!study.served) return;
  const waiting = study.clips.map((_, at) => at).filter((at) => kept(at) && !answers[at].sent);
  for (const at of waiting) {
    const body = line(at);
    try {
      const reply = await fetch("answers", { method: "POST", headers: { "Content-Type": "application/json" }, body });
      if (!reply.ok) throw new Error(await reply.text());
      if (line(at) === body) answers[at].sent = true;
      store();
    } catch (error) {
      say(`Not saved on the server yet (${error.message}); kept in this browser.`, true);
      return;
    }
  }
  if (waiting.length) say("Saved.");
}

// --- display

function say(text, bad = false) {
  byId("saved").textContent = text;
  byId("saved").classList.toggle("bad", bad);
}

function count() {
  const done = study.clips.filter((_, at) => kept(at)).length;
  byId("done").value = done / study.clips.length;
  byId("count").textContent = `${done} of ${study.clips.length} scored`;
  byId("download").hidden = done === 0;
  return done;
}

function section(name) {
  for (const id of ["start", "task", "end"]) byId(id).hidden = id !== name;
}

const player = new ClipPlayer(() => SPEEDS[speed], ({ frame, last, playing }) => {
  byId("seek").max = last;
  byId("seek").value = frame;
  byId("frame").textContent = `frame ${frame + 1} of ${last + 1} · ${SPEEDS[speed]}/s`;
  byId("play").textContent = playing ? "Pause" : "Play";
});

async function show(at) {
  player.step(0);
  place = at;
  active = 0;
  const clip = study.clips[at];
  section("task");
  byId("instruction").textContent = clip.instruction;
  byId("told").textContent = "";
  [canvas.width, canvas.height] = [clip.width, clip.height];
  marks();
  store();
  count();
  const image = Object.assign(new Image(), { src: clip.image });
  const missing = await player.load([{ ...clip, image, brush: canvas.getContext("2d") }]);
  if (missing) byId("told").textContent = "This clip cannot be shown by this browser.";
  if (missing === 0 && !matchMedia("(prefers-reduced-motion: reduce)").matches) player.play(true);
}

function marks() {
  const { scores } = answer();
  fields.forEach((field, number) => {
    field.classList.toggle("active", number === active);
    const points = scores[study.dimensions[number].name];
    for (const input of field.querySelectorAll("input")) input.checked = Number(input.value) === points;
  });
  const top = fields[active].getBoundingClientRect();
  if (top.top < 0 || top.bottom > innerHeight) fields[active].scrollIntoView({ block: "nearest" });
  byId("undo").disabled = changes.length === 0;
  byId("back").disabled = place === 0;
}

// --- scoring

function score(dimension, points) {
  const { name } = study.dimensions[dimension];
  const before = answer().scores[name];
  active = dimension;
  if (points !== before) {
    changes.push([place, dimension, before]);
    answer().scores[name] = points;
    answer().sent = false;
  }
  byId("told").textContent = "";
  marks();
  store();
}

function digit(value) {
  const { maximum, name } = study.dimensions[active];
  const now = performance.now();
  const joins = maximum >= 10 && typed.dimension === active && now - typed.at < JOIN_MS;
  const points = joins ? Math.floor(answer().scores[name]) * 10 + value : value;
  typed = { dimension: active, at: now };
  if (points > maximum) byId("told").textContent = `${study.dimensions[active].title} has at most ${maximum}.`;
  else score(active, points);
}

function half() {
  const { name, maximum } = study.dimensions[active];
  const points = answer().scores[name] ?? 0;
  score(active, Number.isInteger(points) && points < maximum ? Math.min(points + 0.5, maximum) : Math.floor(points));
}

function undo() {
  const change = changes.pop();
  if (!change) return;
  const [at, dimension, before] = change;
  if (at !== place) show(at);
  const { name } = study.dimensions[dimension];
  if (before === undefined) delete answer().scores[name];
  else answer().scores[name] = before;
  answer().sent = false;
  if (!complete(place)) answer().kept = false;
  active = dimension;
  marks();
  store();
  count();
}

function keep() {
  const missing = study.dimensions.findIndex((dimension) => !(dimension.name in answer().scores));
  if (missing >= 0) {
    active = missing;
    byId("told").textContent = `${study.dimensions[missing].title} has no score yet.`;
    marks();
    return;
  }
  answer().kept = true;
  store();
  send();
  next();
}

function next() {
  const count = study.clips.length;
  const order = [...Array(count).keys()].map((step) => (place + 1 + step) % count);
  const open = order.find((at) => !kept(at));
  if (open === undefined) finish();
  else show(open);
}

function finish() {
  player.step(0);
  section("end");
  count();
  byId("ending").textContent = study.served
    ? "The scores are saved in the server's file. You can close this page."
    : "Download the scores and send the file to the person who gave you this page.";
}

function step(by) {
  active = Math.max(0, Math.min(fields.length - 1, active + by));
  marks();
}

const KEYS = {
  " ": () => player.play(),
  ArrowLeft: () => player.step(-1),
  ArrowRight: () => player.step(1),
  ArrowUp: () => step(-1),
  ArrowDown: () => step(1),
  Enter: () => {
    const { name } = study.dimensions[active];
    if (name in answer().scores && active < fields.length - 1 && !complete(place)) step(1);
    else keep();
  },
  r: () => { player.step(-player.last); player.play(true); },
  ".": half, ",": half, h: half,
  u: undo, b: () => place > 0 && show(place - 1), Backspace: () => place > 0 && show(place - 1),
  n: next,
  "+": () => { speed = Math.min(SPEEDS.length - 1, speed + 1); player.seek(player.frame); },
  "-": () => { speed = Math.max(0, speed - 1); player.seek(player.frame); },
  "?": () => byId("keys").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (byId("task").hidden || byId("keys").open || event.ctrlKey || event.metaKey || event.altKey) return;
  const { target } = event;
  if (target.tagName === "BUTTON" && (event.key === " " || event.key === "Enter")) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const action = /^[0-9]$/.test(key) ? () => digit(Number(key)) : KEYS[key];
  if (!action) return;
  event.preventDefault();
  action();
});

fields.forEach((field, number) => {
  field.addEventListener("change", (event) => score(number, Number(event.target.value)));
  field.addEventListener("focusin", () => { active = number; marks(); });
});
byId("scores").addEventListener("submit", (event) => { event.preventDefault(); keep(); });
byId("begin").addEventListener("submit", (event) => {
  event.preventDefault();
  rater = byId("rater").value;
  restore();
  if (place < 0) finish();
  else show(place);
  send();
});
byId("play").addEventListener("click", () => KEYS[" "]());
byId("seek").addEventListener("input", () => player.step(Number(byId("seek").value) - player.frame));
byId("back").addEventListener("click", KEYS.b);
byId("later").addEventListener("click", next);
byId("undo").addEventListener("click", undo);
byId("help").addEventListener("click", KEYS["?"]);
byId("download").addEventListener("click", download);
byId("fetch").addEventListener("click", download);
byId("review").addEventListener("click", () => show(0));
if (rater) {
  byId("rater").value = rater;
  byId("rater").readOnly = true;
}
setInterval(send, 15000); // answers that the server has not saved yet
