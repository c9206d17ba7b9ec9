// Shows one pair after another, in an order and with sides that depend on the rater, and takes one choice for each.
// Answers are stored in localStorage at each choice, so that a closed page goes on where it was.
const content = JSON.parse(document.getElementById("content").textContent);
const byId = (id) => document.getElementById(id);

let rater = "";
let order = []; // [{pair, flipped}], the pairs of this rater
let answers = {}; // pair's id -> {choice, seconds}
let place = 0;
let since = 0;

// --- order: random, and the same each time for a rater of a study

function randomOf(text) {
  let state = 2166136261; // FNV-1a, then mulberry32
  for (const character of text) state = Math.imul(state ^ character.codePointAt(0), 16777619);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}
function orderOf(name) {
  const random = randomOf(`${content.study}/${name}`);
  const pairs = [...content.pairs];
  for (let last = pairs.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    [pairs[last], pairs[other]] = [pairs[other], pairs[last]];
  }
  return pairs.map((pair) => ({ pair, flipped: random() < 0.5 }));
}

// --- storage

const drawer = () => `roboalign/pairs/${content.study}/${rater}`;
function store() {
  try {
    localStorage.setItem(drawer(), JSON.stringify(answers));
    byId("saved").textContent = "Kept in this browser.";
  } catch {
    byId("saved").textContent = "This browser does not store answers for this page: download them before you close it.";
    byId("saved").classList.add("bad");
  }
}
function restore() {
  try {
    answers = JSON.parse(localStorage.getItem(drawer())) ?? {};
  } catch {
    answers = {};
  }
}
function download() {
  const lines = order
    .filter(({ pair }) => pair.id in answers)
    .map(({ pair, flipped }) => JSON.stringify({ study: content.study, pair: pair.id, rater, flipped, ...answers[pair.id] }) + "\n");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(lines, { type: "application/jsonl" }));
  link.download = `pairs-${rater}.jsonl`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// --- display

const player = new ClipPlayer(content.fps, ({ frame, last, playing }) => {
  byId("task").dataset.frame = frame;
  byId("seek").max = last;
  byId("seek").value = frame;
  byId("frame").textContent = `frame ${frame} of ${last}`;
  byId("play").textContent = playing ? "Pause" : "Play";
});
function section(name) {
  for (const id of ["start", "task", "end"]) byId(id).hidden = id !== name;
  byId("task").dataset.pair = name === "task" ? order[place].pair.id : "";
}
function count() {
  const done = order.filter(({ pair }) => pair.id in answers).length;
  byId("done").value = done / order.length;
  byId("count").textContent = `${done} of ${order.length} compared`;
  byId("download").hidden = done === 0;
}
async function show(at) {
  place = at;
  player.step(0);
  const { pair, flipped } = order[at];
  section("task");
  byId("task").dataset.flipped = flipped;
  byId("task").dataset.frame = "";
  byId("instruction").textContent = pair.instruction;
  byId("told").textContent = "";
  byId("back").disabled = at === 0;
  byId("task").focus(); // not the button that was clicked, which a press of Space would choose again
  count();
  since = performance.now();
  const clips = (flipped ? [pair.b, pair.a] : [pair.a, pair.b]).map((number, side) => {
    const clip = content.clips[number];
    const canvas = byId(side ? "right" : "left");
    [canvas.width, canvas.height] = [clip.width, clip.height];
    return { ...clip, image: Object.assign(new Image(), { src: clip.image }), brush: canvas.getContext("2d") };
  });
  const missing = await player.load(clips);
  if (missing) byId("told").textContent = "A clip cannot be shown by this browser.";
  if (missing === 0 && !matchMedia("(prefers-reduced-motion: reduce)").matches) player.play(true);
}
function next() {
  const open = order.findIndex(({ pair }) => !(pair.id in answers));
  if (open >= 0) return show(open);
  player.step(0);
  section("end");
  return count();
}

// --- choices: of the side that is shown, kept as the clip that was on it

function choose(side) {
  const { pair, flipped } = order[place];
  const choice = side === "tie" ? "tie" : (side === "left") !== flipped ? "a" : "b";
  answers[pair.id] = { choice, seconds: Math.round((performance.now() - since) / 100) / 10 };
  store();
  next();
}
const back = () => place > 0 && show(place - 1);
const KEYS = {
  ArrowLeft: () => choose("left"), 1: () => choose("left"), ArrowRight: () => choose("right"), 2: () => choose("right"),
  ArrowDown: () => choose("tie"), 0: () => choose("tie"), " ": () => player.play(),
  r: () => { player.step(-player.last); player.play(true); },
  b: back, Backspace: back, "?": () => byId("keys").showModal(),
};
document.addEventListener("keydown", (event) => {
  if (byId("task").hidden || byId("keys").open || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.target.type === "range" || (event.target.tagName === "BUTTON" && [" ", "Enter"].includes(event.key))) return;
  const action = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!action) return;
  event.preventDefault();
  action();
});
for (const side of ["left", "tie", "right"]) byId(`choose-${side}`).addEventListener("click", () => choose(side));
byId("begin").addEventListener("submit", (event) => {
  event.preventDefault();
  rater = byId("rater").value;
  order = orderOf(rater);
  restore();
  next();
});
byId("play").addEventListener("click", KEYS[" "]);
byId("seek").addEventListener("input", () => player.step(Number(byId("seek").value) - player.frame));
byId("back").addEventListener("click", back);
byId("help").addEventListener("click", KEYS["?"]);
byId("download").addEventListener("click", download);
byId("fetch").addEventListener("click", download);
