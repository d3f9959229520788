"""Pages and the JSON API: parse, call a verb, render. No query and no decision lives here."""
