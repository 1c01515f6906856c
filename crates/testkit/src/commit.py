"""Commits: one client, one config-key after another, each its own paxos version."""

import json
import sys

try:
    import rados
except ImportError:
    sys.exit("python3-rados is not installed: run `cargo xtask setup`, or `apt-get install python3-rados`")

conf, prefix, count, value_bytes = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
cluster = rados.Rados(conffile=conf, name="client.admin")
cluster.connect(timeout=30)
for i in range(count):
    command = {"prefix": "config-key set", "key": f"{prefix}/{i}", "val": f"{i:x}".ljust(value_bytes, "v")}
    code, _, status = cluster.mon_command(json.dumps(command), b"", timeout=30)
    if code != 0:
        sys.exit(f"commit {i}: {code} {status}")
    print(i, flush=True)
cluster.shutdown()
