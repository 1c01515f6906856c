// Keeps the page current while somebody looks at it: fetches it again and swaps what is inside <main>.
"use strict";
const PERIOD_MS = 2000;
const live = document.getElementById("live");

async function refresh() {
  if (document.hidden) {
    return;
  }
  try {
    const answer = await fetch("/", { cache: "no-store" });
    if (!answer.ok) {
      throw new Error(answer.status);
    }
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("status");
    document.getElementById("status").replaceChildren(...fresh.childNodes);
    live.textContent = "";
  } catch {
    live.textContent = "The node does not answer; this is what it said last.";
  }
}

setInterval(refresh, PERIOD_MS);
