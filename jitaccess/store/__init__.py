"""Where it is kept: engines, the one transaction type, tables, row seals and migrations.

`store.db` holds the only commit() of the program. Nothing here decides anything.
"""
