"""Whether tests may mount disks of their own."""

import shutil
import subprocess


def namespaces() -> bool:
    """Whether this system lets us mount a small disk."""
    if not shutil.which("unshare"):
        return False
    return not subprocess.run(
        ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
    ).returncode
