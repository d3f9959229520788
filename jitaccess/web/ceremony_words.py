"""What does a page say when a passkey ceremony fails? One plain sentence for each cause, by the name of the DOMException.

The browser tells the cause, the page the words, in the reader's language: the script finds them in a block of JSON. WebAuthn Level 3
sections 5.1.3 and 5.1.4 list the causes.
"""

from collections.abc import Mapping

from flask import Flask

from jitaccess.web.speech import lazy_gettext

CEREMONY_WORDS: Mapping[str, str] = {
    "NotAllowedError": lazy_gettext(
        "The passkey was not used: the window was closed, the time was over, or the device found no passkey for this site. Try again."
    ),
    "AbortError": "",
    "InvalidStateError": lazy_gettext(
        "This device holds a passkey for this account already. Choose another device or key."
    ),
    "NotSupportedError": lazy_gettext(
        "This device cannot make the kind of passkey that is needed. Try another device or a security key."
    ),
    "SecurityError": lazy_gettext(
        "Passkeys do not work at this address. Open the site by its proper name, with https."
    ),
    "ConstraintError": lazy_gettext(
        "This device has no screen lock, or the key has no PIN. Set one up and try again: without it nobody knows that it is you."
    ),
    "UnknownError": lazy_gettext(
        "The device could not finish. It may be full or locked. Unlock it, or use another passkey."
    ),
    "NotReadableError": lazy_gettext("The device could not be read. Take the key out, put it in again, and retry."),
    "TimeoutError": lazy_gettext("This took too long. Try again, and unlock the passkey when asked."),
    "DataError": lazy_gettext(
        "The device did not understand the question. Update its system or browser, or use another passkey."
    ),
    "EncodingError": lazy_gettext(
        "The device did not understand the question. Update its system or browser, or use another passkey."
    ),
    "OperationError": lazy_gettext("Another passkey window is open already. Close it and try again."),
    "QuotaExceededError": lazy_gettext("The security key is full. Remove an old passkey from it, or use another one."),
    "TypeError": lazy_gettext("The broker cannot be reached. Look at the network and try again."),
    "unsupported": lazy_gettext("This browser knows no passkeys. Use a newer one."),
    "failed": lazy_gettext("Something went wrong. Try again."),
}
"""What a page says when a ceremony fails, by the name of the DOMException (WebAuthn Level 3 sections 5.1.3 and 5.1.4)."""


def install(app: Flask) -> None:
    """Give templates the words as `ceremony_words()`."""
    app.add_template_global(in_words, "ceremony_words")


def in_words() -> dict[str, str]:
    """Return cause -> sentence in the language of this request."""
    return {name: str(text) for name, text in CEREMONY_WORDS.items()}
