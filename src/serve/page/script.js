"use strict";
document.documentElement.classList.add("scripted");

// Copies a text. Browsers have a clipboard on HTTPS and loopback only; elsewhere a selection is copied.
async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");
  area.value = text;
  area.readOnly = true;
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  if (!copied) throw new Error("not copied");
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest(".copy");
  if (!button) return;
  let said = "Copied";
  try { await copy(button.dataset.copy); } catch { said = "Not copied"; }
  button.focus();
  button.textContent = said;
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
});

// Searches while the user types: asks the server as the form does, and replaces the list by the answer's.
const field = document.getElementById("q");
let asked;

async function search() {
  asked?.abort();
  const asking = asked = new AbortController();
  const address = "/?q=" + encodeURIComponent(field.value.trim());
  try {
    const answer = await fetch(address, { signal: asking.signal });
    if (!answer.ok) throw new Error(answer.statusText);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (asking.signal.aborted) return;
    for (const id of ["status", "results"]) {
      document.getElementById(id).replaceChildren(...page.getElementById(id).childNodes);
    }
    history.replaceState(null, "", address);
  } catch (error) {
    if (error.name !== "AbortError") document.getElementById("status").textContent = "The registry does not answer.";
  }
}

if (field) {
  let waiting;
  field.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(search, 120);
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea");
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    field.select();
    field.focus();
  });
}
