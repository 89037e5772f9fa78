"use strict";
// Searches without loading the page again. The server renders the answer; without this script the same forms work.

const form = document.getElementById("upload");
const input = form.querySelector("input");
const status = document.getElementById("status");
const enlarged = document.getElementById("enlarged");
const LIMIT = Number(form.dataset.limit);

let running = null; // the AbortController of the search that runs
let shown = 0; // place of the enlarged hit

document.documentElement.classList.add("scripted");

// --- searching

async function search(address, body) {
  running?.abort();
  const mine = (running = new AbortController());
  say("Searching …", true);
  try {
    const answer = await fetch(address, { method: "POST", body, headers: { Accept: "text/html" }, signal: mine.signal });
    show(new DOMParser().parseFromString(await answer.text(), "text/html"));
  } catch (error) {
    if (mine.signal.aborted) return; // a newer search has taken over
    fail("The server did not answer. It may have been stopped, or is busy: try again in a moment.");
  }
  running = null;
}

function searchFor(file) {
  if (!file) return;
  if (file.size > LIMIT) {
    fail(`${file.name || "The photograph"} has ${(file.size / 2 ** 20).toFixed(1)} MiB; at most ${LIMIT / 2 ** 20} MiB are searched.`);
    return;
  }
  const body = new FormData();
  body.append(input.name, file);
  search(form.action, body);
}

function show(page) {
  for (const id of ["query", "results"]) {
    const made = page.getElementById(id);
    if (made) document.getElementById(id).replaceWith(made);
    else return fail("The server's answer cannot be read. Load the page again.");
  }
  say(document.querySelector("#results h2, #results p").textContent, false);
  // Beside the photograph on a screen, below it on a phone.
  if (innerWidth <= 860) document.getElementById("query").scrollIntoView({ block: "start" });
}

function fail(why) {
  const note = document.createElement("p");
  note.className = "card error";
  note.setAttribute("role", "alert");
  note.textContent = why;
  document.getElementById("results").replaceChildren(note);
  document.getElementById("query").replaceChildren();
  say("", false);
}

function say(text, busy) {
  status.textContent = text;
  document.body.classList.toggle("busy", busy);
  document.getElementById("results").setAttribute("aria-busy", String(busy));
}

// --- ways to give a photograph

input.addEventListener("change", () => {
  searchFor(input.files[0]);
  input.value = ""; // so that the same file can be chosen again
});

form.addEventListener("submit", (event) => event.preventDefault());

document.getElementById("examples")?.addEventListener("submit", (event) => {
  event.preventDefault();
  search(event.submitter.formAction, null);
});

document.addEventListener("paste", (event) => searchFor(event.clipboardData.files[0]));

document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dragging");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  const file = event.dataTransfer.files[0];
  if (file) searchFor(file);
  else fail("Only a file can be dropped. Save the image first, or copy and paste it.");
});

// --- enlarging

function hits() {
  return [...document.querySelectorAll("#results .hit a")];
}

function enlarge(place) {
  const all = hits();
  shown = (place + all.length) % all.length;
  const hit = all[shown].closest(".hit");
  const text = (name) => hit.querySelector(name).textContent;
  document.getElementById("enlarged-hit").src = all[shown].href;
  document.getElementById("enlarged-hit").alt = text(".name");
  document.getElementById("enlarged-name").textContent = `${text(".rank")}. ${text(".name")}, similarity ${text(".similarity")}`;
  document.getElementById("enlarged-query").src = document.querySelector("#query img").src;
  if (!enlarged.open) enlarged.showModal();
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("#results .hit a");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  enlarge(hits().indexOf(link));
});

enlarged.addEventListener("click", (event) => {
  const step = event.target.dataset.step;
  if (step) enlarge(shown + Number(step));
  else if (event.target === enlarged || "close" in event.target.dataset) enlarged.close(); // the dialog itself is its backdrop
});

enlarged.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (step) enlarge(shown + step);
});

enlarged.addEventListener("close", () => hits()[shown]?.focus());
