// Browser notifications of the run on this page. Permission is asked only on a click; nothing leaves the browser.
(() => {
  "use strict";
  const KEY = "ttrl-studio.notify";
  const TOLD_KEY = "ttrl-studio.notified";
  const MAX_TOLD = 200;
  const ENDS = { finished: "is finished", failed: "has failed", lost: "was lost with its worker" };
  let before = null;
  let refused = false;

  function wanted() {
    try { return localStorage.getItem(KEY) === "yes"; } catch { return false; }
  }
  function allowed() { return "Notification" in window && Notification.permission === "granted" && wanted() && !refused; }

  function say() {
    const place = document.querySelector("[data-notify-said]");
    const button = document.querySelector("[data-notify-ask]");
    if (!place || !button) return;
    let text = "";
    if (!("Notification" in window) || !window.isSecureContext || refused) {
      text = refused
        ? "This browser shows no notifications of an open page. Add a webhook under Settings instead."
        : "This browser allows notifications only on https or on this machine itself.";
    } else if (Notification.permission === "denied") {
      text = "This browser refuses notifications of this page. Allow them in its settings for this site.";
    } else if (allowed()) {
      text = "Switched on in this browser.";
    }
    const words = allowed() ? "Do not tell me any more" : "Tell me in this browser";
    if (place.textContent !== text) place.textContent = text;
    if (button.textContent !== words) button.textContent = words;
  }

  async function ask() {
    if (!("Notification" in window)) return;
    const off = allowed();
    if (!off && Notification.permission === "default") await Notification.requestPermission();
    try { localStorage.setItem(KEY, off ? "no" : "yes"); } catch { /* private mode: nothing is remembered */ }
    say();
  }

  // Whether this tab is the first to tell of something; the others of this browser stay quiet.
  function claim(event) {
    const take = () => {
      try {
        const told = JSON.parse(localStorage.getItem(TOLD_KEY) || "[]");
        if (told.includes(event)) return false;
        localStorage.setItem(TOLD_KEY, JSON.stringify([...told, event].slice(-MAX_TOLD)));
      } catch { /* private mode: each tab tells by itself */ }
      return true;
    };
    return navigator.locks ? navigator.locks.request(TOLD_KEY, take) : Promise.resolve(take());
  }

  async function tell(mark, title, text, what) {
    const event = `${mark.watchAttempt}-${what}`;
    if (!allowed() || !(await claim(event))) return;
    try {
      const note = new Notification(title, { body: text, tag: `ttrl-${event}` });
      note.onclick = () => { window.focus(); note.close(); };
    } catch { // browsers of phones allow them to service workers only
      refused = true;
      say();
    }
  }

  function look() {
    say();
    const mark = document.querySelector("[data-watch-run]");
    if (!mark) return;
    const now = { ...mark.dataset };
    const last = before;
    before = now;
    // The first look only learns how things stand.
    if (!last || last.watchRun !== now.watchRun) return;
    if (now.state !== last.state && ENDS[now.state]) tell(now, `${now.name} ${ENDS[now.state]}`, "", now.state);
    if (Number(now.alarms) > Number(last.alarms)) tell(now, `${now.name}: alarm`, now.alarm, `alarm-${now.alarms}`);
    if (now.stalled !== "0" && last.stalled !== now.stalled) {
      tell(now, `${now.name} has gone silent`, "No news for a while.", `stall-${now.stalled}`);
    }
  }

  document.addEventListener("click", (event) => {
    if (event.target instanceof Element && event.target.closest("[data-notify-ask]")) ask();
  });
  setInterval(look, 2000);
})();
