"""A provisioner of one's own as a target: before, during and after."""
