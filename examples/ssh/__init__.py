"""SSH hosts as a target: before, during and after."""
