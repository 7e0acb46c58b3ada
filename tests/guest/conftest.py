"""Things that several modules of tests of guests use."""

import gzip
import re
import shutil

import pytest

from harness import host, paths
from harness.cache import Cache
from harness.images import debian


@pytest.fixture(scope="session")
def gnumach():
    """Debian's GNU Mach, from its i386 package, which the host's own architecture need not be."""

    def make(folder):
        apt = debian.Apt(folder / "apt", "i386")
        names = host.run(
            "apt-cache", "-c", apt.conf_file, "pkgnames", "gnumach-image-", what="the kernel's name"
        ).split()
        fitting = [name for name in names if re.fullmatch(r"gnumach-image-\d+\.\d+(-up)?-486", name)]
        if not fitting:
            pytest.skip("this release of Debian has no GNU Mach in its i386 archive, as Debian 12 has")
        name = max(fitting)
        (deb,) = apt.kernel([f"{name}:i386"])
        host.run("dpkg-deb", "-x", deb, folder / "x", what="unpacking the kernel")
        (packed,) = (folder / "x" / "boot").glob("gnumach-*.gz")
        (folder / "gnumach").write_bytes(gzip.decompress(packed.read_bytes()))
        shutil.rmtree(folder / "apt")

    return Cache(paths.cache_dir()).make("test-kernels", "gnumach-486", make, 50) / "gnumach"
