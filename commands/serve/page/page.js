// A chat with the server, and what it holds. Uses the interfaces that everybody has.
"use strict";

const EVERY_MS = 2000;
const MOST_PREFIXES = 40;

const byId = (id) => document.getElementById(id);
const model = byId("model");
const messages = byId("messages");
const history = [];
let under_way = null;

byId("key").value = sessionStorage.getItem("key") ?? "";

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function notice(text) {
  byId("notice").textContent = text;
}

async function request(path, options = {}) {
  const key = byId("key").value;
  const headers = key ? { authorization: `Bearer ${key}` } : {};
  const response = await fetch(path, { ...options, headers });
  if (response.ok) return response;
  if (response.status === 401) byId("key-field").hidden = false;
  const body = await response.json().catch(() => ({}));
  throw new Error(body.error?.message ?? `the server answered ${response.status}`);
}

async function listModels() {
  const { data } = await (await request("v1/models")).json();
  model.replaceChildren(...data.map(({ id }) => new Option(id, id)));
}

// The events of a stream, one by one.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      if (part.startsWith("data: ") && part !== "data: [DONE]") yield JSON.parse(part.slice(6));
    }
  }
}

function question() {
  const system = byId("system").value.trim();
  const asked = {
    model: model.value,
    messages: [...(system ? [{ role: "system", content: system }] : []), ...history],
    stream: true,
    stream_options: { include_usage: true },
  };
  if (byId("temperature").value) asked.temperature = Number(byId("temperature").value);
  if (byId("limit").value) asked.max_tokens = Number(byId("limit").value);
  return asked;
}

function follow() {
  messages.scrollTop = messages.scrollHeight;
}

async function answer() {
  const item = messages.appendChild(element("li", undefined, "assistant"));
  const thinking = element("div", "", "thinking");
  const content = item.appendChild(element("div", ""));
  const begin = performance.now();
  under_way = new AbortController();
  byId("stop").disabled = false;
  byId("send").disabled = true;
  try {
    const response = await request("v1/chat/completions", {
      method: "POST",
      body: JSON.stringify(question()),
      signal: under_way.signal,
    });
    for await (const event of events(response)) {
      if (event.error) throw new Error(event.error.message);
      const delta = event.choices[0]?.delta ?? {};
      if (delta.reasoning_content) {
        if (!thinking.isConnected) item.prepend(thinking);
        thinking.textContent += delta.reasoning_content;
      }
      if (delta.content) content.textContent += delta.content;
      if (event.usage) {
        const { prompt_tokens, completion_tokens, prompt_tokens_details } = event.usage;
        const seconds = (performance.now() - begin) / 1000;
        const cached = prompt_tokens_details.cached_tokens;
        const rate = (completion_tokens / seconds).toFixed(1);
        item.append(element("small",
          `${prompt_tokens} tokens in, ${cached} of them known; ${completion_tokens} out, ${rate} a second`));
      }
      follow();
    }
  } catch (error) {
    if (error.name !== "AbortError") {
      item.classList.add("failed");
      item.append(element("small", error.message));
    }
  } finally {
    history.push({ role: "assistant", content: content.textContent });
    under_way = null;
    byId("stop").disabled = true;
    byId("send").disabled = false;
    follow();
  }
}

byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = byId("text").value.trim();
  if (!text || under_way) return;
  byId("text").value = "";
  history.push({ role: "user", content: text });
  messages.append(element("li", text, "user"));
  answer();
});

byId("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    byId("ask").requestSubmit();
  }
});

byId("stop").addEventListener("click", () => under_way?.abort());

byId("clear").addEventListener("click", () => {
  under_way?.abort();
  history.length = 0;
  messages.replaceChildren();
  byId("text").focus();
});

byId("key").addEventListener("change", () => {
  sessionStorage.setItem("key", byId("key").value);
  start();
});

function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (bytes >= 1024 && unit < units.length - 1) {
    bytes /= 1024;
    unit += 1;
  }
  return `${unit ? bytes.toFixed(1) : bytes} ${units[unit]}`;
}

function bar(part, whole) {
  const made = element("div", undefined, "bar");
  const filled = made.appendChild(element("i"));
  filled.style.width = `${Math.min(100, (100 * part) / Math.max(whole, 1))}%`;
  return made;
}

function requests(live, waiting) {
  const lines = live.map((one) => {
    const prompt = `prompt ${one.evaluated_tokens} of ${one.prompt_tokens} tokens (${one.cached_tokens} known)`;
    return element("div", `${prompt}, ${one.produced_tokens} out, ${one.seconds.toFixed(0)} s`);
  });
  if (waiting) lines.push(element("div", `${waiting} waiting`));
  return lines.length ? lines : [element("div", "none")];
}

function tree(prefixes) {
  const made = element("div", undefined, "tree");
  const depths = [];
  prefixes.forEach((prefix, index) => {
    depths[index] = prefix.parent === null ? 0 : depths[prefix.parent] + 1;
    if (index >= MOST_PREFIXES) return;
    const bytes = prefix.bytes + prefix.offloaded_bytes;
    const where = [
      prefix.sequences ? "live" : bytes ? size(bytes) : "",
      prefix.is_stored ? "on disk" : "",
      prefix.has_checkpoint ? "state" : "",
    ].filter(Boolean).join(", ");
    const row = element("div", `${"\u00a0".repeat(2 * depths[index])}[${prefix.start},${prefix.end}) ${where} `);
    row.append(element("span", JSON.stringify((prefix.text ?? "").slice(0, 60))));
    made.append(row);
  });
  if (prefixes.length > MOST_PREFIXES) made.append(element("div", `and ${prefixes.length - MOST_PREFIXES} more`));
  return prefixes.length ? made : element("div", "none");
}

function show(told) {
  const made = document.createElement("div");
  made.append(element("h2", told.model));
  if (told.state === "loading") {
    made.append(element("div", `loading for ${told.seconds.toFixed(0)} s`));
    return made;
  }
  made.append(
    element("div", `${told.architecture} on ${told.device}, ${told.context} tokens of context`),
    element("h3", "Memory"),
    element("div", `weights ${size(told.weights_bytes)}`),
    element("div", `state ${size(told.state_bytes)} of ${size(told.state_bytes_limit)}`),
    bar(told.state_bytes, told.state_bytes_limit),
  );
  if (told.offloaded_bytes_limit) {
    made.append(
      element("div", `handed to the host ${size(told.offloaded_bytes)} of ${size(told.offloaded_bytes_limit)}`),
      bar(told.offloaded_bytes, told.offloaded_bytes_limit),
    );
  }
  made.append(element("h3", "Requests"), ...requests(told.live, told.waiting));
  made.append(element("h3", "Known beginnings"), tree(told.prefixes));
  return made;
}

async function look() {
  if (!document.hidden) {
    try {
      const { models } = await (await request("cache?text=true")).json();
      const shown = models.map(show);
      byId("state").replaceChildren(...(shown.length ? shown : [element("div", "no model is loaded")]));
      notice("");
    } catch (error) {
      notice(error.message);
    }
  }
  setTimeout(look, EVERY_MS);
}

async function start() {
  try {
    await listModels();
    notice("");
  } catch (error) {
    notice(error.message);
  }
}

start();
look();
