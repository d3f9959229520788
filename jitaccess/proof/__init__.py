"""What can be checked without us? The lowest room: the standard library, rfc8785 and cryptography only.

Used by the broker, the log, the SDK, a witness and the offline verifier; there is no second copy. The assertion check here is the
one exception to "never by hand": py_webauthn stays at the door, and both must agree on every vector.
"""
