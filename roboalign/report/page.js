"use strict";
// Sorts and copies tables, plays rollouts in step, switches the theme, and opens what links lead to. All of the report
// but the clips is there without it.
const byId = (id) => document.getElementById(id);
const element = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};

// --- theme: as the system has it, light, or dark; stored for the next visit

const THEMES = ["system", "light", "dark"];
function setTheme(name) {
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  byId("theme").textContent = `Theme: ${name}`;
}
function storedTheme() {
  try {
    return THEMES.find((name) => name === localStorage.getItem("roboalign/theme")) ?? "system";
  } catch {
    return "system"; // a browser that stores nothing for files
  }
}
let theme = storedTheme();
setTheme(theme);
byId("theme").hidden = false;
byId("theme").addEventListener("click", () => {
  theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  setTheme(theme);
  try {
    localStorage.setItem("roboalign/theme", theme);
  } catch {}
});

// --- tables: a cell is its text and, in <small>, its interval

const noteOf = (cell) => cell.querySelector("small")?.textContent.replace(/\s+/g, " ").trim() ?? "";
function textOf(cell) {
  return [...cell.childNodes].filter((node) => node.nodeName !== "SMALL").map((node) => node.textContent).join("").replace(/\s+/g, " ").trim();
}
function numberOf(cell) {
  const text = textOf(cell).replace(/\u2212/g, "-").replace(/[\u202f,]/g, "");
  return /^[+-]?(\d|\.\d)/.test(text) ? parseFloat(text) : NaN;
}

function sortBy(table, column, order) {
  const body = table.tBodies[0];
  table.rowsAtFirst ??= [...body.rows];
  const value = (row) => numberOf(row.cells[column]);
  const rows = [...table.rowsAtFirst];
  const sign = order === "descending" ? -1 : 1;
  const compare = (a, b) => {
    const [x, y] = [value(a), value(b)];
    if (!Number.isNaN(x) && !Number.isNaN(y)) return sign * (x - y);
    if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1; // absent values last
    return sign * textOf(a.cells[column]).localeCompare(textOf(b.cells[column]));
  };
  if (order !== "none") rows.sort(compare);
  body.append(...rows);
  [...table.tHead.rows[0].cells].forEach((head, number) => {
    if (number === column && order !== "none") head.setAttribute("aria-sort", order);
    else head.removeAttribute("aria-sort");
  });
}

// The table as rows of strings; with `split`, a column with intervals is followed by one that holds them.
function rowsOf(table, split) {
  const lines = [table.tHead.rows[0], ...table.tBodies[0].rows].map((row) => [...row.cells]);
  const noted = lines[0].map((_, column) => lines.slice(1).some((line) => noteOf(line[column])));
  return lines.map((line, number) =>
    line.flatMap((cell, column) => {
      const [text, note] = [textOf(cell), noteOf(cell)];
      if (!split || !noted[column]) return [note ? `${text} (${note})` : text];
      return number === 0 ? [text, `${text}, note`] : [text, note];
    }),
  );
}
const FORMATS = {
  CSV: (table) =>
    rowsOf(table, true).map((row) => row.map((text) => (/[",\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text)).join(",")).join("\n") + "\n",
  Markdown: (table) => {
    const [head, ...rows] = rowsOf(table, false).map((row) => `| ${row.map((text) => text.replace(/\|/g, "\\|")).join(" | ")} |`);
    return [head, head.replace(/[^|]+/g, " --- "), ...rows].join("\n") + "\n";
  },
  LaTeX: (table) => {
    const escape = (text) =>
      text.replace(/[\\{}$&#%_~^]/g, (sign) => ({ "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}" })[sign] ?? `\\${sign}`)
        .replace(/\u2212/g, "$-$").replace(/[\u202f]/g, "\\,").replace(/\u2013/g, "--").replace(/\u00b7/g, "$\\cdot$");
    const [head, ...rows] = rowsOf(table, false).map((row) => `${row.map(escape).join(" & ")} \\\\`);
    const columns = "l".repeat(table.tHead.rows[0].cells.length);
    return [`\\begin{tabular}{${columns}}`, "\\toprule", head, "\\midrule", ...rows, "\\bottomrule", "\\end{tabular}"].join("\n") + "\n";
  },
};

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = element("textarea", { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

function equip(figure) {
  const table = figure.querySelector("table");
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    if (!head.textContent || table.tBodies[0].rows.length < 2) return;
    const button = element("button", { type: "button", textContent: head.textContent });
    button.addEventListener("click", () => {
      const numeric = [...table.tBodies[0].rows].some((row) => !Number.isNaN(numberOf(row.cells[column])));
      const turns = numeric ? ["descending", "ascending", "none"] : ["ascending", "descending", "none"];
      sortBy(table, column, turns[(turns.indexOf(head.getAttribute("aria-sort") ?? "none") + 1) % 3]);
    });
    head.replaceChildren(button);
  });
  const tools = element("span", { className: "tools" }, "Copy as");
  for (const [name, format] of Object.entries(FORMATS)) {
    const button = element("button", { type: "button", textContent: name });
    button.setAttribute("aria-label", `Copy as ${name}: ${figure.dataset.caption}`);
    button.addEventListener("click", async () => {
      await copy(format(table));
      button.textContent = "copied";
      setTimeout(() => (button.textContent = name), 1200);
    });
    tools.append(button);
  }
  const caption = figure.querySelector("figcaption");
  if (caption) caption.append(tools);
  else figure.prepend(tools);
}
document.querySelectorAll("figure.table").forEach(equip);

// --- tables of a file beside the page, which differ between runs

for (const place of document.querySelectorAll(".local")) {
  const script = element("script", { src: place.dataset.file });
  script.addEventListener("load", () => {
    const cell = (name, [text, note]) => element(name, {}, text, ...(note ? [element("small", { textContent: note })] : []));
    const figures = window.roboalignProvenance.map(({ caption, head, rows }) => {
      const table = element("table", {}, element("thead", {}, element("tr", {}, ...head.map((text) => element(text ? "th" : "td", { textContent: text })))));
      table.append(element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map((value, n) => cell(n ? "td" : "th", value))))));
      table.querySelectorAll("thead th").forEach((th) => (th.scope = "col"));
      table.querySelectorAll("tbody th").forEach((th) => (th.scope = "row"));
      const scroll = element("div", { className: "scroll", tabIndex: 0 }, table);
      scroll.setAttribute("role", "region");
      scroll.setAttribute("aria-label", caption);
      const figure = element("figure", { className: "table" }, element("figcaption", { textContent: caption }), scroll);
      figure.dataset.caption = caption;
      equip(figure);
      return figure;
    });
    place.replaceChildren(...figures);
  });
  document.body.append(script);
}

// --- links into folded parts, and the section at hand

function reveal() {
  const target = byId(decodeURIComponent(location.hash.slice(1)));
  for (let fold = target?.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  target?.scrollIntoView();
}
addEventListener("hashchange", reveal);
if (location.hash) reveal();
const links = [...document.querySelectorAll("nav a")];
const watcher = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      const link = links.find((each) => each.hash === `#${target.id}`);
      if (isIntersecting) link?.setAttribute("aria-current", "true");
      else link?.removeAttribute("aria-current");
    }
  },
  { rootMargin: "-45% 0px -45% 0px" },
);
document.querySelectorAll("main > section").forEach((section) => watcher.observe(section));

// --- rollouts: the clips of an episode, frame by frame in step

function startViewer() {
  const root = byId("viewer");
  const content = JSON.parse(byId("viewer-content").textContent);
  const part = (name) => byId(`viewer-${name}`);
  const titles = content.titles;
  let episode;
  const player = new ClipPlayer(() => content.fps * Number(part("speed").value), ({ clips, frame, last, playing }) => {
    const truth = part("difference").checked ? clips.find(({ column }) => column === "ground_truth") : undefined;
    for (const { brush } of truth ? clips.filter((clip) => clip !== truth) : []) {
      brush.globalCompositeOperation = "difference";
      player.draw(truth, brush);
      brush.globalCompositeOperation = "source-over";
    }
    part("seek").value = frame;
    part("frame").textContent = `frame ${frame} of ${last} · ${(frame / content.fps).toFixed(1)} s`;
    part("play").textContent = playing ? "Pause" : "Play";
    root.dataset.frame = frame;
  });

  for (const name of new Set(content.episodes.map(({ source }) => source))) part("source").append(element("option", { textContent: name, value: name }));

  const rank = ({ clips }) => clips.at(-1).scores[part("dimension").value];
  function shown() {
    const [source, name, kind] = ["source", "dimension", "case"].map((each) => part(each).value);
    return content.episodes
      .filter((each) => (!source || each.source === source) && (!kind || each.cases[name] === kind))
      .sort((a, b) => (rank(b) ?? -1) - (rank(a) ?? -1));
  }
  function list() {
    const options = shown().map((each) => {
      const score = rank(each);
      const text = `${each.id} · ${score === undefined ? "not scored" : score.toFixed(2)}`;
      return element("option", { value: each.id, textContent: text });
    });
    part("episode").replaceChildren(...options);
    if (episode && options.some(({ value }) => value === episode.id)) part("episode").value = episode.id;
    show();
  }

  async function show() {
    episode = content.episodes.find(({ id }) => id === part("episode").value);
    part("clips").replaceChildren();
    part("instruction").textContent = episode?.instruction ?? "";
    if (!episode) {
      part("tag").textContent = "No episode of this source is such a case.";
      return;
    }
    const { name, title, maximum } = content.dimensions.find(({ name }) => name === part("dimension").value);
    const cases = episode.cases[name] ? `${episode.cases[name]} of ${episode.source}` : episode.source;
    part("tag").textContent = `${cases}, by ${title.toLowerCase()} (0–${maximum})`;
    const made = episode.clips.map((clip) => {
      const score = clip.scores[name];
      const caption = element("figcaption", {}, element("span", { textContent: titles[clip.column] }), element("span", { className: "tag", textContent: score === undefined ? "" : score.toFixed(2) }));
      const canvas = element("canvas", { width: clip.width, height: clip.height });
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${titles[clip.column]}: ${episode.instruction}`);
      part("clips").append(element("figure", {}, caption, canvas));
      const image = Object.assign(new Image(), { src: clip.file });
      return { ...clip, image, brush: canvas.getContext("2d") };
    });
    const missing = await player.load(made);
    if (missing) part("tag").textContent += " · some clips are missing beside this page";
    part("seek").max = player.last;
  }

  function turn(by) {
    const { options, selectedIndex } = part("episode");
    if (!options.length) return;
    part("episode").selectedIndex = (selectedIndex + by + options.length) % options.length;
    show();
  }

  const KEYS = {
    " ": () => player.play(), ArrowLeft: () => player.step(-1), ArrowRight: () => player.step(1),
    Home: () => player.step(-player.last), End: () => player.step(player.last), n: () => turn(1), p: () => turn(-1),
    d: () => { part("difference").checked = !part("difference").checked; player.seek(player.frame); },
  };
  root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
    if (event.key === " " && ["BUTTON", "INPUT"].includes(event.target.tagName) && event.target.type !== "range") return;
    const action = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
  for (const name of ["source", "dimension", "case"]) part(name).addEventListener("change", list);
  part("episode").addEventListener("change", show);
  part("play").addEventListener("click", () => player.play());
  part("previous").addEventListener("click", () => player.step(-1));
  part("next").addEventListener("click", () => player.step(1));
  part("seek").addEventListener("input", () => player.step(Number(part("seek").value) - player.frame));
  part("difference").addEventListener("change", () => player.seek(player.frame));
  root.querySelectorAll("[hidden]").forEach((each) => (each.hidden = false));
  list();
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches) {
    const once = new IntersectionObserver(([{ isIntersecting }]) => {
      if (!isIntersecting) return;
      once.disconnect();
      player.play(true);
    }, { threshold: 0.5 });
    once.observe(root);
  }
}
if (byId("viewer")) startViewer();
