"""A network of its own for what opens ports: Ray and TensorFlow listen on all addresses."""

import subprocess

# Before a command: it sees a loopback and nothing else.
ALONE = ["unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "--"]


def why_not():
    """Return why the system lets this user make no network; an empty string if it does."""
    try:
        done = subprocess.run([*ALONE, "true"], capture_output=True, text=True)
    except OSError as error:
        return f"unshare cannot be run: {error}"
    return f"unshare gives no network: {done.stderr.strip()}" if done.returncode else ""
