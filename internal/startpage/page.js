// The start page. Everything that comes from events goes into the page by
// textContent, so none of it is ever markup.

const $ = id => document.getElementById(id);
const maxRows = 500;

// ---- Live view ----

// One stream at a time. A row is kept by its cursor, so that an event which
// comes both by the stream and by a page is shown once.
const rows = new Map(); // cursor -> <li>
let stream; // the open view: its selector, from, types, source, and the cursor up to which types are learned
let waiting = []; // rows to be shown with the next frame
let paused = false;
let shown = 0;

function eventsURL(selector, parameters) {
  return "/v1/events?" + new URLSearchParams({ topic: selector, ...parameters });
}

async function watch(selector, from) {
  stream?.source?.close();
  clearRows();
  const view = { selector, from, types: new Set(["message"]), source: undefined, learned: "", learning: false };
  stream = view;
  setState("connecting", "connecting");
  // Six streams of one origin are all that a browser opens over HTTP/1.1.
  const slow = setTimeout(() => {
    if (view === stream) setState("connecting", "no connection yet; other tabs may have all that the browser opens");
  }, 4000);
  await learnTypes(view); // before the stream, so that it misses nothing that is kept
  if (view !== stream) return;

  view.source = new EventSource(eventsURL(selector, { from, meta: "1" }));
  view.source.onopen = () => {
    clearTimeout(slow);
    if (view === stream) setState("live", "live");
  };
  view.source.onerror = () => {
    clearTimeout(slow);
    if (view !== stream) return;
    if (view.source.readyState === EventSource.CLOSED) explain(view);
    else setState("connecting", "connection lost, trying again");
  };
  for (const type of view.types) listen(view, type);
  view.source.addEventListener("tailrace.gap", e => {
    const gap = JSON.parse(e.data);
    const row = makeRow(new Date(), "Gap", gap.reason, "", `Events after ${gap.requested || "the place asked for"} are missing here.`);
    row.classList.add("gap");
    show(Symbol("gap"), row);
  });
  view.source.addEventListener("tailrace.end", () => {
    view.source.close();
    setState("closed", "the topic has ended");
  });
}

function listen(view, type) {
  view.source.addEventListener(type, e => {
    if (view === stream) showEvent(JSON.parse(e.data));
  });
}

// An EventSource hands over only the types that somebody listens to, and the
// types of a topic are nowhere written. So a page of the same events is read
// first and now and then: what the stream passed over is shown, and its type
// is listened to from then on.
async function learnTypes(view) {
  if (view.learning) return;
  view.learning = true;
  try {
    const place = view.learned ? { last_event_id: view.learned } : { from: view.from === "new" ? "last:1" : "last:500" };
    const answer = await fetch(eventsURL(view.selector, { ...place, format: "json", limit: "1000" }), { cache: "no-store" });
    if (!answer.ok) return; // the stream itself gets the same answer
    const page = await answer.json();
    view.learned = page.next;
    let passedOver = false;
    for (const { event: type = "message" } of page.events) {
      if (view.types.has(type)) continue;
      view.types.add(type);
      if (view.source) listen(view, type);
      passedOver = true;
    }
    if (view.source && passedOver && view === stream) insertMissing(page.events);
  } catch {
    // The stream itself tells when the server is gone.
  } finally {
    view.learning = false;
  }
}

// insertMissing puts the events of a page that are not shown where they belong.
function insertMissing(events) {
  flush();
  let older = null;
  for (const e of events.slice(-maxRows)) {
    const row = rows.get(e.cursor);
    if (row) {
      older = row;
      continue;
    }
    const made = eventRow(e);
    rows.set(e.cursor, made);
    if (older) older.before(made);
    else $("events").append(made);
    older = made;
    shown++;
  }
  trim();
}

async function explain(view) {
  if (view !== stream) return;
  setState("closed", "closed");
  try {
    const answer = await fetch(eventsURL(view.selector, { from: "last:1", format: "json" }), { cache: "no-store" });
    if (!answer.ok && view === stream) {
      const problem = await answer.json();
      setState("closed", problem.detail || problem.title);
    }
  } catch {
    if (view === stream) setState("closed", "the server does not answer");
  }
}

function showEvent(e) {
  if (rows.has(e.cursor)) return;
  show(e.cursor, eventRow(e));
}

function eventRow(e) {
  const time = e.time ? new Date(e.time) : new Date();
  return makeRow(time, e.topic ?? "", e.event ?? "", e.id || e.cursor || "", e.data ?? "");
}

function makeRow(time, topic, type, id, data) {
  const row = $("event-row").content.firstElementChild.cloneNode(true);
  const t = row.querySelector("time");
  t.dateTime = time.toISOString();
  t.textContent = clock(time);
  t.title = time.toLocaleString();
  row.querySelector(".topic").textContent = topic;
  row.querySelector(".type").textContent = type;
  const idBox = row.querySelector(".id");
  idBox.textContent = id;
  idBox.title = id;
  row.querySelector(".data").textContent = data;
  return row;
}

function clock(time) {
  const two = n => String(n).padStart(2, "0");
  return `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}.${String(time.getMilliseconds()).padStart(3, "0")}`;
}

// show puts a row on top, with the next frame: a burst is one change of the page.
function show(cursor, row) {
  rows.set(cursor, row);
  waiting.push(row);
  shown++;
  if (waiting.length === 1 && !paused) requestAnimationFrame(flush);
  if (waiting.length > maxRows) waiting.shift();
  if (paused) showCount();
}

function flush() {
  if (paused) return;
  for (const row of waiting) {
    row.classList.add("new");
    $("events").prepend(row);
  }
  waiting = [];
  trim();
}

function trim() {
  const list = $("events");
  while (list.childElementCount > maxRows) list.lastElementChild.remove();
  if (rows.size > 2 * maxRows) {
    for (const [cursor, row] of rows) if (!row.isConnected && !waiting.includes(row)) rows.delete(cursor);
  }
  $("empty").hidden = list.childElementCount > 0;
  showCount();
}

function clearRows() {
  rows.clear();
  waiting = [];
  shown = 0;
  $("events").replaceChildren();
  $("empty").hidden = false;
  showCount();
}

function showCount() {
  const held = paused && waiting.length ? `, ${number(waiting.length)} held` : "";
  $("count").textContent = shown ? `${number(shown)} ${shown === 1 ? "event" : "events"}${held}` : "";
}

function setState(state, text) {
  $("state").dataset.state = state;
  $("state").textContent = text;
}

$("watch").addEventListener("submit", e => {
  e.preventDefault();
  const selector = $("selector").value;
  history.replaceState(null, "", "#" + encodeURIComponent(selector));
  watch(selector, $("from").value);
});
$("from").addEventListener("change", () => $("watch").requestSubmit());
$("clear").addEventListener("click", clearRows);
$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  $("pause").textContent = paused ? "Go on" : "Pause";
  flush();
  showCount();
});
// Without this the connection would count against the browser's six while the
// page lies in its back-forward cache.
addEventListener("pagehide", () => stream?.source?.close());
addEventListener("pageshow", e => { if (e.persisted) $("watch").requestSubmit(); });

// ---- Publish ----

$("publish").addEventListener("submit", async e => {
  e.preventDefault();
  const type = $("publish-type").value;
  const result = $("publish-result");
  const url = "/v1/topics/" + encodeURIComponent($("publish-topic").value) + (type ? "?" + new URLSearchParams({ event: type }) : "");
  const say = (className, text) => { result.className = "result " + className; result.textContent = text; };
  try {
    const answer = await fetch(url, { method: "POST", headers: { "Content-Type": "text/plain; charset=utf-8" }, body: $("publish-data").value });
    const body = await answer.json();
    if (answer.ok) say("good", "Stored as " + (body.id || body.cursor));
    else say("bad", body.detail || body.title);
  } catch {
    say("bad", "The server does not answer.");
  }
  refresh();
});

// ---- Terminal ----

const lines = [
  ["Publish", `curl -d hello ${location.origin}/v1/topics/demo`],
  ["Subscribe", `curl -N '${location.origin}/v1/topics/demo?from=start'`],
  ["Several topics, by pattern", `curl -N '${location.origin}/v1/events?topic=host/**&topic=demo&meta=1'`],
  ["A live source", `while sleep 1; do cat /proc/loadavg; done | tailrace pub host/load${location.port === "8080" ? "" : " --server " + location.origin}`],
];
for (const [what, text] of lines) {
  const row = $("line-row").content.firstElementChild.cloneNode(true);
  row.querySelector(".what").textContent = what;
  row.querySelector("code").textContent = text;
  const button = row.querySelector("button");
  button.setAttribute("aria-label", "Copy: " + what);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
      button.classList.add("done");
    } catch {
      getSelection().selectAllChildren(row.querySelector("code"));
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; button.classList.remove("done"); }, 1600);
  });
  $("lines").append(row);
}

// ---- What is running ----

const number = n => n.toLocaleString("en");

function duration(ms) {
  const s = Math.floor(ms / 1000);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor(s % 86400 / 3600)} h`;
}

async function refresh() {
  try {
    const [status, topics] = await Promise.all([get("/start/status"), get("/v1/topics?limit=200")]);
    showStatus(status);
    showTopics(topics);
    $("facts").classList.remove("stale");
  } catch {
    $("facts").classList.add("stale");
  }
}

async function get(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" }, cache: "no-store" });
  if (!answer.ok) throw new Error(path + ": " + answer.status);
  return answer.json();
}

function showStatus(s) {
  $("fact-version").textContent = s.version;
  $("fact-log").textContent = s.dir ? `${s.engine} in ${s.dir}` : s.engine;
  $("fact-log").title = $("fact-log").textContent;
  $("fact-up").textContent = duration(Date.now() - Date.parse(s.started));
  $("fact-connections").textContent = number(s.connections);
  $("fact-published").textContent = number(s.published);
  $("fact-delivered").textContent = number(s.delivered);
}

let topicNames = "";

function showTopics(list) {
  const names = list.topics.map(t => t.topic + (t.closed ? "\u0000closed" : "")).join("\n");
  if (names === topicNames) return; // leave focus and scroll position alone
  topicNames = names;
  $("topic-count").textContent = number(list.topics.length) + (list.after ? "+" : "");
  $("topic-list").replaceChildren(...list.topics.map(t => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    const name = document.createElement("span");
    button.type = "button";
    button.title = "Watch this topic";
    name.className = "name-of";
    name.textContent = t.topic;
    button.append(name);
    if (t.closed) {
      const closed = document.createElement("span");
      closed.className = "closed";
      closed.textContent = "closed";
      button.append(closed);
    }
    button.addEventListener("click", () => {
      $("selector").value = t.topic;
      $("publish-topic").value = t.topic;
      $("watch").requestSubmit();
    });
    item.append(button);
    return item;
  }));
  $("topics").replaceChildren(...list.topics.map(t => {
    const option = document.createElement("option");
    option.value = t.topic;
    return option;
  }));
}

// ---- Start ----

if (location.hash.length > 1) {
  try {
    $("selector").value = decodeURIComponent(location.hash.slice(1));
  } catch {
    // A hash that is none of ours.
  }
}
watch($("selector").value, $("from").value);
refresh();
setInterval(() => {
  if (document.hidden) return;
  refresh();
  if (stream?.source?.readyState === EventSource.OPEN) learnTypes(stream);
}, 2000);
