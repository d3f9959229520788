"""May the broker call this address, and how is the other side sure who speaks? The one way out for calls over HTTP.

`guard`: the address, checked and pinned, one bounded call. `webhooks`: Standard Webhooks signatures. Used by notices, back-channel
logout and connectors; nothing else in the program opens an HTTP connection to an address that was configured.
"""
