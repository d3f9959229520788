"""What can be wrong with evidence: one error type with a stable reason code."""


class ProofError(ValueError):
    """Evidence that does not hold; `reason` is a stable code, `field` names what is wrong where one thing is."""

    def __init__(self, reason: str, message: str = "", field: str | None = None) -> None:
        super().__init__(message or reason)
        self.reason = reason
        self.field = field
