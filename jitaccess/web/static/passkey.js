// Passkey ceremonies: the one thing that a page cannot do without a script.
// form[data-ceremony=URL]: POST URL/begin, let the passkey answer, POST URL/complete, go to data-next.
// data-register: make a passkey instead of using one; data-confirm-first: confirm with one at hand before (URL/confirm).
// script.body holds the JSON of begin; data-autostart starts at once.
// script.begun holds a ceremony that the server began and whose statement the page shows: nothing else is ever signed from
// that page. A prompt that was cancelled may be answered again; a challenge that was sent or is too old sends the form itself
// to its action, and the page comes back with the new statement.
"use strict";
(() => {
  const { startAuthentication, startRegistration, browserSupportsWebAuthnAutofill } = SimpleWebAuthnBrowser;
  // What to say when a ceremony fails, by the name of the DOMException, in the reader's language: the page brings the words.
  const WORDS = JSON.parse(document.getElementById("ceremony-words")?.textContent ?? "{}");
  const say = (error) => WORDS[error.name] ?? (error.fromServer ? error.message : WORDS.failed ?? error.message);

  async function post(url, body) {
    const answer = await fetch(url, {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json" },
      body: JSON.stringify(body),
      credentials: "same-origin",
    });
    const found = await answer.json().catch(() => ({}));
    if (!answer.ok) throw Object.assign(new Error(found.detail || WORDS.failed), { fromServer: true });
    return found;
  }

  function json(form, name) {
    const element = form.querySelector(`script.${name}`);
    if (!element) return null;
    const text = JSON.parse(element.textContent);
    return typeof text === "string" ? JSON.parse(text) : text;
  }

  function fields(form, complete) {
    const body = {};
    for (const element of form.elements) {
      if (!element.name || "ignore" in element.dataset || ("complete" in element.dataset) !== complete) continue;
      if ("optional" in element.dataset && !element.value) continue;
      const [head, tail] = element.name.split(".", 2);
      if (tail) (body[head] ??= {})[tail] = element.value;
      else body[head] = element.value;
    }
    return body;
  }

  function tell(form, message) {
    const place = form.querySelector(".problem");
    if (place) {
      place.textContent = message;
      place.hidden = !message;
    }
  }

  async function run(form) {
    const url = form.dataset.ceremony;
    const register = "register" in form.dataset;
    const shown = json(form, "begun");
    if (shown && ("spent" in form.dataset || performance.now() > shown.options.timeout)) return redraw(form);
    let begun = shown ?? (await post(`${url}/begin`, json(form, "body") || fields(form, false)));
    if ("confirmFirst" in form.dataset) {
      const confirmed = await startAuthentication({ optionsJSON: begun.options });
      begun = await post(`${url}/confirm`, { challenge_id: begun.challenge_id, response: confirmed });
    }
    const response = register
      ? await startRegistration({ optionsJSON: begun.options })
      : await startAuthentication({ optionsJSON: begun.options });
    const body = { challenge_id: begun.challenge_id, response, ...fields(form, true) };
    if (form.elements.token) body.token = form.elements.token.value;
    form.dataset.spent = ""; // a challenge answers once
    return done(form, await completed(url, body, begun.options));
  }

  function redraw(form) {
    form.submit();
    return new Promise(() => {}); // the page goes
  }

  async function completed(url, body, options) {
    try {
      return await post(`${url}/complete`, body);
    } catch (error) {
      if (url === "/api/sign-in") await forget(options.rpId, body.response.id);
      throw error;
    }
  }

  // Signal API (WebAuthn Level 3 section 5.1.10): passkeys that were removed here disappear from the browser's list too.
  const signal = (name, details) => window.PublicKeyCredential?.[name]?.(details)?.catch(() => {});

  async function forget(rpId, credentialId) {
    if (!window.PublicKeyCredential?.signalUnknownCredential) return;
    const found = await post("/api/sign-in/forgotten", { credential_id: credentialId }).catch(() => ({}));
    if (found.forget) await signal("signalUnknownCredential", { rpId, credentialId });
  }

  const kept = document.querySelector("script.kept");
  if (kept) {
    const { rpId, userId, allAcceptedCredentialIds, name, displayName } = JSON.parse(kept.textContent);
    signal("signalAllAcceptedCredentials", { rpId, userId, allAcceptedCredentialIds });
    signal("signalCurrentUserDetails", { rpId, userId, name, displayName });
  }

  function done(form, found) {
    if (found.redirect) return location.assign(found.redirect);
    if (form.dataset.show && found.shown) {
      const place = document.querySelector(form.dataset.show);
      place.querySelector("output").textContent = found.shown;
      place.hidden = false;
      place.scrollIntoView();
      return undefined;
    }
    return location.assign(form.dataset.next || location.href);
  }

  async function guarded(form, act) {
    const button = form.querySelector("button");
    tell(form, "");
    if (button) button.setAttribute("aria-busy", "true");
    try {
      await act();
    } catch (error) {
      tell(form, say(error));
    } finally {
      if (button) button.removeAttribute("aria-busy");
    }
  }

  for (const form of document.querySelectorAll("form[data-ceremony]")) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      guarded(form, () => run(form));
    });
    if ("autostart" in form.dataset) guarded(form, () => run(form));
  }

  for (const form of document.querySelectorAll("form[data-call]")) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      guarded(form, async () => done(form, await post(form.dataset.call, fields(form, false))));
    });
  }

  // Conditional sign-in: the browser offers passkeys in the field's own menu; the button stays for everybody else.
  const conditional = document.querySelector("form[data-conditional]");
  if (conditional) {
    (async () => {
      if (!(await browserSupportsWebAuthnAutofill())) return;
      const begun = await post(`${conditional.dataset.ceremony}/begin`, {});
      const response = await startAuthentication({ optionsJSON: begun.options, useBrowserAutofill: true });
      const body = { challenge_id: begun.challenge_id, response };
      done(conditional, await completed(conditional.dataset.ceremony, body, begun.options));
    })().catch((error) => {
      if (error.name !== "AbortError") tell(conditional, say(error));
    });
  }
})();
