"""Run commands in a separate network namespace, because Ray and TensorFlow listen on all addresses."""

import subprocess

# Put before a command. The command then has only a loopback interface.
ALONE = ["unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "--"]


def why_not():
    """Return why this user cannot create a network namespace; an empty string if that works."""
    try:
        done = subprocess.run([*ALONE, "true"], capture_output=True, text=True)
    except OSError as error:
        return f"unshare cannot be run: {error}"
    return f"unshare cannot create a network: {done.stderr.strip()}" if done.returncode else ""
