"""A small payments application of a state treasury, opened only by the broker: nobody has a standing account in it."""
