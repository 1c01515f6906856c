"""A second client: reads one order a line, does it with Ceph's own library, writes one answer a line."""

import ctypes
import errno
import fcntl
import json
import os
import sys

try:
    import cephfs
except ImportError:
    sys.exit("python3-cephfs is not installed: run `cargo xtask setup`, or `apt-get install python3-cephfs`")

fs = cephfs.LibCephFS(conffile=sys.argv[1])
fs.mount()
files = {}

# CEPH_STATX_BASIC_STATS and btime; AT_SYMLINK_NOFOLLOW.
WANT, NOFOLLOW = 0xFFF, 0x100
DOTS = (b".", b"..")


def stat(path):
    st = fs.statx(path, WANT, NOFOLLOW)
    return {
        "ino": st["ino"],
        "mode": st["mode"],
        "nlink": st["nlink"],
        "uid": st["uid"],
        "gid": st["gid"],
        "size": st["size"],
        "atime": int(st["atime"].timestamp()),
        "mtime": int(st["mtime"].timestamp()),
        "btime": int(st["btime"].timestamp()),
    }


def readdir(path):
    handle, names = fs.opendir(path), []
    while entry := fs.readdir(handle):
        if entry.d_name not in DOTS:
            names.append([entry.d_name.decode(), entry.d_ino])
    fs.closedir(handle)
    return sorted(names)


def create(path, mode=0o644):
    fs.close(fs.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
    return stat(path)["ino"]


def hold(path, flags, mode=0o644):
    """Opens a file and keeps it open, so that this client wants capabilities on it."""
    files[path] = fs.open(path, flags, mode)


def write(path, text):
    return fs.write(files[path], text.encode(), 0)


def drop(path):
    fs.close(files.pop(path))


def mkdir(path, mode=0o755):
    fs.mkdir(path, mode)
    return stat(path)["ino"]


def listxattr(path):
    size, names = fs.llistxattr(path, 65536)
    return sorted(name.decode() for name in names[:size].split(b"\0") if name)


def statfs():
    return {key: value for key, value in fs.statfs(b"/").items() if isinstance(value, int)}


def batch(op, prefix, count):
    """Does the same to `count` names, so that a test with many does not wait for as many lines."""
    for i in range(count):
        OPS[op](f"{prefix}{i}")


def timed(path, count):
    """Makes and removes a directory beside one path again and again, and answers how long each pair took, in microseconds."""
    import time

    took = []
    for i in range(count):
        begin = time.perf_counter()
        fs.mkdir(f"{path}.{i}", 0o755)
        fs.rmdir(f"{path}.{i}")
        took.append((time.perf_counter() - begin) * 1e6)
    return took


class Low:
    """Ceph's library at the level of inodes, which its Python face does not have: one more mount, made when it is needed."""

    class Statx(ctypes.Structure):
        _fields_ = (
            [(name, ctypes.c_uint32) for name in ("mask", "blksize", "nlink", "uid", "gid")]
            + [("mode", ctypes.c_uint16)]
            + [(name, ctypes.c_uint64) for name in ("ino", "size", "blocks", "dev", "rdev")]
            + [("times", ctypes.c_int64 * 8), ("version", ctypes.c_uint64)]
        )

    made = None

    def __init__(self):
        self.lib = ctypes.CDLL("libcephfs.so.2")
        self.lib.ceph_mount_perms.restype = ctypes.c_void_p
        self.mount = ctypes.c_void_p()
        self.do("create", ctypes.byref(self.mount), None, of_mount=False)
        self.do("conf_read_file", sys.argv[1].encode())
        self.do("mount", b"/")
        self.perms = ctypes.c_void_p(self.lib.ceph_mount_perms(self.mount))

    @classmethod
    def get(cls):
        cls.made = cls.made or cls()
        return cls.made

    def do(self, name, *args, of_mount=True):
        result = getattr(self.lib, f"ceph_{name}")(*([self.mount] if of_mount else []), *args)
        if result < 0:
            raise cephfs.OSError(-result, name)
        return result

    class Flock(ctypes.Structure):
        _fields_ = [
            ("type", ctypes.c_short),
            ("whence", ctypes.c_short),
            ("start", ctypes.c_int64),
            ("len", ctypes.c_int64),
            ("pid", ctypes.c_int),
        ]

    opened = {}

    def taken(self, name, *args):
        """Whether a lock was given."""
        try:
            self.do(name, *args)
        except cephfs.OSError as error:
            if error.errno == errno.EAGAIN:
                return False
            raise
        return True

    def flock(self, path, how):
        if path not in self.opened:
            self.opened[path] = self.do("open", path.encode(), os.O_RDWR, 0)
        owner = ctypes.c_uint64(1 << 63 | 7)
        return self.taken("flock", self.opened[path], how | fcntl.LOCK_NB, owner)

    def setlk(self, ino, how):
        if ino not in self.opened:
            inode, handle = ctypes.c_void_p(), ctypes.c_void_p()
            self.do("ll_lookup_inode", ctypes.c_uint64(ino), ctypes.byref(inode))
            self.do("ll_open", inode, os.O_RDWR, ctypes.byref(handle), self.perms)
            self.opened[ino] = handle
        whole = self.Flock(how, os.SEEK_SET, 0, 0, os.getpid())
        owner = ctypes.c_uint64(1 << 63 | 7)
        return self.taken("ll_setlk", self.opened[ino], ctypes.byref(whole), owner, 0)

    def stat(self, ino):
        inode, told = ctypes.c_void_p(), self.Statx()
        self.do("ll_lookup_inode", ctypes.c_uint64(ino), ctypes.byref(inode))
        self.do("ll_getattr", inode, ctypes.byref(told), WANT, 0, self.perms)
        self.do("ll_put", inode)
        return {name: getattr(told, name) for name in ("ino", "mode", "nlink", "uid", "gid", "size")}


def unmount():
    fs.unmount()
    fs.shutdown()
    if Low.made:
        Low.made.do("unmount")


OPS = {
    "stat": stat,
    "readdir": readdir,
    "create": create,
    "hold": hold,
    "write": write,
    "drop": drop,
    "mkdir": mkdir,
    "statfs": statfs,
    "batch": batch,
    "timed": timed,
    "unmount": unmount,
    "unlink": lambda path: fs.unlink(path),
    "rmdir": lambda path: fs.rmdir(path),
    "rename": lambda old, new: fs.rename(old, new),
    "link": lambda old, new: fs.link(old, new),
    "symlink": lambda target, path: fs.symlink(target, path),
    "readlink": lambda path: fs.readlink(path, 4096).decode(),
    "chmod": lambda path, mode: fs.chmod(path, mode),
    "chown": lambda path, uid, gid: fs.chown(path, uid, gid),
    "truncate": lambda path, size: fs.truncate(path, size),
    "utime": lambda path, atime, mtime: fs.utime(path, (atime, mtime)),
    "setxattr": lambda path, name, value, flags=0: fs.lsetxattr(path, name, value.encode(), flags),
    "listxattr": listxattr,
    "lssnap": lambda path: [name for name, _ in readdir(path + "/.snap") if not name.startswith("_")],
    "getxattr": lambda path, name: fs.lgetxattr(path, name, 65536).decode(),
    "removexattr": lambda path, name: fs.lremovexattr(path, name),
    "mksnap": lambda path, name: fs.mksnap(path, name, 0o755),
    "rmsnap": lambda path, name: fs.rmsnap(path, name),
    "caps": lambda path: fs.debug_get_file_caps(path),
    "flock": lambda path, how: Low.get().flock(path, how),
    "setlk": lambda ino, how: Low.get().setlk(ino, how),
    "stat_ino": lambda ino: Low.get().stat(ino),
    "sync": lambda: fs.sync_fs(),
}


def answer(message):
    print(json.dumps(message), flush=True)


answer({"ok": fs.get_instance_id()})
for line in sys.stdin:
    order = json.loads(line)
    try:
        answer({"ok": OPS[order["op"]](*order["args"])})
    except cephfs.OSError as error:
        answer({"errno": error.errno})
    if order["op"] == "unmount":
        break
