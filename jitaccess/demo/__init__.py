"""The story, seeded and driven over real HTTP: `jitaccess demo`, its cast, its servers and a software passkey.

Nothing in the program itself imports this room.
"""
