"""`python -m jitaccess.sdk.dev`: the same commands where only the SDK is installed."""

from jitaccess.sdk.dev.commands import dev

if __name__ == "__main__":
    dev(prog_name="jitaccess dev")
