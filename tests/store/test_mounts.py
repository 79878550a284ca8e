from pathlib import Path

import pytest

from service.store.mounts import kind_of

LIST = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:26 / /data rw shared:7 master:1 - nfs4 server:/export rw
31 30 0:27 / /data/local rw - xfs /dev/vdb rw
40 22 0:30 / /with\\040space rw - cifs //server/share rw
41 22 0:31 / /twice rw - ext4 /dev/vdc rw
42 22 0:32 / /twice rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/audit.db", "ext4"),
        ("/data/audit.db", "nfs4"),
        ("/data/local/a/audit.db", "xfs"),
        ("/database/audit.db", "ext4"),
        ("/with space/audit.db", "cifs"),
        ("/twice/audit.db", "tmpfs"),
    ],
)
def test_the_deepest_and_latest_mount_counts(tmp_path, path, kind):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(LIST)
    assert kind_of(Path(path), mounts) == kind


def test_without_the_kernels_list_the_kind_is_unknown(tmp_path):
    assert kind_of(Path("/data"), tmp_path / "none") is None


def test_the_kernels_own_list_is_understood():
    assert kind_of(Path("/proc/self")) == "proc"
