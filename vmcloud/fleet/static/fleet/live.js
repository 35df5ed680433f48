// Pages follow the cloud. The server says what changed (/api/v1/watch); the page is then fetched again and its live parts are made
// equal to the fresh ones, node by node: focus, selection, scroll, checked boxes, open details and half-filled forms stay.
"use strict";
(() => {
  const sign = document.getElementById("live");
  const FIRST_WAIT = 500, LONGEST_WAIT = 30000; // ms between attempts to connect
  const REST = 250, REST_SHARE = 4; // ms between two looks at the page; and four times as long as the last took: it costs the server that
  const HIDDEN = 30000; // ms after which a page nobody looks at lets go of its connection: a browser has six for one server

  // ---------------------------------------------------------------------------------------------------------- the same as that

  const LEFT_ALONE = new Set(["INPUT", "TEXTAREA", "SELECT"]); // what a person may have changed
  const OWN = { DETAILS: new Set(["open"]) };

  function morph(old, fresh) {
    if (old.nodeType === Node.TEXT_NODE) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    if (old.nodeType !== Node.ELEMENT_NODE || LEFT_ALONE.has(old.tagName) || old.isEqualNode(fresh)) return;
    const own = OWN[old.tagName] || new Set();
    for (const { name } of [...old.attributes]) if (!own.has(name) && !fresh.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of fresh.attributes) if (!own.has(name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
    const named = new Map([...old.children].filter((each) => each.id).map((each) => [each.id, each]));
    const kept = new Set([...fresh.children].filter((each) => each.id).map((each) => each.id));
    let place = old.firstChild;
    for (const wanted of [...fresh.childNodes]) {
      // What has a name that is not wanted any more goes first, so that its neighbours are compared with what they are.
      while (place && place.id && !kept.has(place.id)) place = drop(place);
      const same = wanted.id ? named.get(wanted.id) : alike(place, wanted) ? place : null;
      if (same && same.nodeName === wanted.nodeName) {
        if (same === place) place = place.nextSibling;
        else old.insertBefore(same, place);
        morph(same, wanted);
      } else {
        const made = document.importNode(wanted, true);
        if (made.nodeName === "TR" && made.id) made.classList.add("vmc-new");
        old.insertBefore(made, place);
      }
    }
    while (place) place = drop(place);
  }

  const alike = (one, other) => one && !one.id && one.nodeName === other.nodeName;

  function drop(node) {
    const next = node.nextSibling;
    node.remove();
    return next;
  }

  // --------------------------------------------------------------------------------------------------------------- looking again

  let looking = false, again = false, failures = 0;

  async function look() {
    if (looking) {
      again = true;
      return;
    }
    looking = true;
    const began = performance.now();
    const answer = await ask();
    failures = answer && answer.ok ? 0 : failures + 1;
    if (answer && answer.status === 404) over("gone", "This is there no more. What you see is how it was last.");
    else if (answer && answer.elsewhere) over("logged out", "You are logged out. Load the page again to log in.");
    else if (answer && answer.ok) show(new DOMParser().parseFromString(answer.text, "text/html"));
    else again = true;
    const rest = Math.max(REST, REST_SHARE * (performance.now() - began), failures && Math.min(FIRST_WAIT * 2 ** failures, LONGEST_WAIT));
    setTimeout(() => {
      looking = false;
      if (again && source) {
        again = false;
        look();
      }
    }, rest);
  }

  // The page as it is now; nothing where the network failed.
  async function ask() {
    try {
      const answer = await fetch(location.href, { headers: { "X-Live": "1" }, cache: "no-store", credentials: "same-origin" });
      const elsewhere = answer.redirected && new URL(answer.url).pathname !== location.pathname;
      return { ok: answer.ok && !elsewhere, status: answer.status, elsewhere, text: await answer.text() };
    } catch {
      return null;
    }
  }

  function show(fresh) {
    document.title = fresh.title;
    for (const part of document.querySelectorAll("[data-live]")) {
      const other = fresh.getElementById(part.id);
      if (other) morph(part, other);
    }
    document.dispatchEvent(new CustomEvent("vmc:shown"));
  }

  // ---------------------------------------------------------------------------------------------------------------- being told

  let source = null, wait = FIRST_WAIT, timer = 0, ended = false;
  let after = sign ? sign.dataset.after : "";

  function say(state, words) {
    sign.dataset.state = state;
    const place = sign.querySelector(".vmc-live-word");
    if (place.textContent !== words) place.textContent = words;
  }

  function connect() {
    clearTimeout(timer);
    if (ended || source) return;
    const mine = (source = new EventSource(`/api/v1/watch?${sign.dataset.watch}${after ? `&after=${after}` : ""}`));
    const told = (event) => { if (event.lastEventId) after = event.lastEventId; };
    const well = () => {
      wait = FIRST_WAIT;
      say("live", "live");
    };
    mine.addEventListener("ready", (event) => { told(event); well(); });
    mine.addEventListener("reset", (event) => { told(event); well(); look(); });
    mine.addEventListener("change", (event) => { told(event); look(); });
    mine.addEventListener("error", () => {
      // Not the browser's own way of trying again: it gives up on an answer that is no stream, as from a server that is starting.
      disconnect();
      say("reconnecting", "reconnecting");
      timer = setTimeout(connect, wait * (0.75 + Math.random() / 2));
      wait = Math.min(2 * wait, LONGEST_WAIT);
    });
  }

  function disconnect() {
    clearTimeout(timer);
    if (source) source.close();
    source = null;
  }

  function over(state, words) {
    ended = true;
    disconnect();
    say(state, state);
    const note = document.createElement("p");
    note.className = "vmc-message vmc-message-warning";
    note.textContent = words;
    document.querySelector(".vmc-messages").append(note);
  }

  if (sign && window.EventSource) {
    connect();
    let hidden = 0;
    document.addEventListener("visibilitychange", () => {
      clearTimeout(hidden);
      if (document.hidden) {
        hidden = setTimeout(() => { disconnect(); if (!ended) say("", "paused"); }, HIDDEN);
      } else connect();
    });
    // What is measured all the time is no change that is told.
    if (sign.dataset.every) setInterval(() => { if (source && !document.hidden) look(); }, 1000 * sign.dataset.every);
    window.addEventListener("pagehide", disconnect);
    window.addEventListener("pageshow", (event) => { if (event.persisted) connect(); });
    window.addEventListener("online", () => { wait = FIRST_WAIT; connect(); });
  }

  // --------------------------------------------------------------------------------------------------------------------- times

  function ago(passed) {
    if (passed < 5) return "now";
    for (const [limit, unit, name] of [[90, 1, "s"], [5400, 60, "min"], [129600, 3600, "h"]]) {
      if (passed < limit) return `${Math.round(passed / unit)} ${name} ago`;
    }
    return `${Math.round(passed / 86400)} days ago`;
  }

  // The server's clock counts: a page is as old as it says, whatever this machine's clock says.
  const skew = Date.now() - Date.parse(document.body.dataset.now || new Date().toISOString());
  setInterval(() => {
    for (const each of document.querySelectorAll("time:not(.vmc-exact)")) {
      const words = ago((Date.now() - skew - Date.parse(each.dateTime)) / 1000);
      if (each.textContent !== words) each.textContent = words;
    }
  }, 5000);

  // ------------------------------------------------------------------------------------------------------------------ conveniences

  function chosen() {
    const boxes = [...document.querySelectorAll(".action-select")], all = document.getElementById("action-toggle");
    const count = boxes.filter((each) => each.checked).length;
    for (const place of document.querySelectorAll(".vmc-chosen")) place.textContent = `With the ${count} chosen:`;
    if (all) {
      all.checked = count > 0 && count === boxes.length;
      all.indeterminate = count > 0 && count < boxes.length;
    }
  }
  document.addEventListener("vmc:shown", chosen);
  document.addEventListener("change", (event) => {
    if (event.target.id === "action-toggle") for (const each of document.querySelectorAll(".action-select")) each.checked = event.target.checked;
    if (event.target.matches("#action-toggle, .action-select")) chosen();
  });
  window.addEventListener("pageshow", chosen);

  document.addEventListener("click", (event) => {
    for (const each of document.querySelectorAll("details.vmc-drop[open]")) if (!each.contains(event.target)) each.open = false;
    const button = event.target.closest("[data-copy]");
    if (button) copy(button);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const each of document.querySelectorAll("details.vmc-drop[open]")) {
      each.open = false;
      each.querySelector("summary").focus();
    }
  });

  async function copy(button) {
    const icon = button.querySelector("span");
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
    } catch {
      // Without HTTPS there is no clipboard: what is to be copied is at least chosen.
      getSelection().selectAllChildren(button.parentElement.querySelector("code"));
      return;
    }
    icon.textContent = "check";
    setTimeout(() => { icon.textContent = "content_copy"; }, 1500);
  }

  // A form goes out once. The server knows a second sending by its key; this only spares the person the question.
  document.addEventListener("submit", (event) => {
    setTimeout(() => {
      if (event.defaultPrevented) return;
      for (const each of event.target.querySelectorAll("button[type=submit]")) each.disabled = true;
    });
  });
  window.addEventListener("pageshow", () => {
    for (const each of document.querySelectorAll("button[type=submit][disabled]")) each.disabled = false;
  });
})();
