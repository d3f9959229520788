"""What the broker does: one file per verb, in the order of the flow (docs/explanation/flow.md).

context (the parts and `advance`), request, approve, issue, verify, revoke, sweep, notify, hold.
"""
