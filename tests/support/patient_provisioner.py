"""The shipped example of a provisioner, which takes messages of any time: drills move the broker's clock by hours, and not this one's."""

from examples.webhook import provisioner, signatures

if __name__ == "__main__":
    vars(signatures)["TOLERANCE_S"] = 86_400  # of this process alone
    provisioner.main()
