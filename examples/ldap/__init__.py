"""A directory as a target: before, during and after."""
