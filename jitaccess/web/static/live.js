// Countdowns: every second, from the page's own clock; the server decides all the same.
"use strict";
(() => {
  const two = (number) => String(number).padStart(2, "0");
  function tick() {
    for (const element of document.querySelectorAll("[data-countdown]")) {
      const left = Math.max(0, Number(element.dataset.countdown) - Math.floor(Date.now() / 1000));
      const hours = Math.floor(left / 3600);
      element.textContent = (hours ? `${hours}:` : "") + `${two(Math.floor((left % 3600) / 60))}:${two(left % 60)}`;
      element.classList.toggle("soon", left < 120);
    }
  }
  tick();
  setInterval(tick, 1000);
})();
