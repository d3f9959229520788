// Counts down, and leaves as soon as the treasury says that the access has ended.
"use strict";
(() => {
  const until = Number(document.getElementById("until").dataset.until);
  const left = document.getElementById("left");
  const tick = async () => {
    const seconds = Math.max(0, Math.floor(until - Date.now() / 1000));
    left.textContent = `(${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, "0")} s)`;
    try {
      const answer = await fetch("/status", { credentials: "same-origin" });
      if (answer.status === 401) return location.assign("/");
    } catch {
      // The server is away for a moment; it will refuse by itself if access ended.
    }
    return setTimeout(tick, 1000);
  };
  tick();
})();
