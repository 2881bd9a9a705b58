"""A checkpoint as somebody would make it who may write into the object store, and wants more than that."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from migrator.containerd import Container, read_record
from migrator.gen.containerd.services.containers.v1 import containers_pb2
from migrator.lab.control import BUCKET
from migrator.lab.lab import Lab
from tests.acceptance.inventory import S3_CLIENT

Change = Callable[[dict[str, Any]], None]
STORE = (
    S3_CLIENT
    + """
import base64
key, data = os.environ["KEY"], os.environ["DATA"]
if data:
    s3.put_object(Bucket=bucket, Key=key, Body=base64.b64decode(data))
else:
    print(base64.b64encode(s3.get_object(Bucket=bucket, Key=key)["Body"].read()).decode())
"""
)


def forge(lab: Lab, workload_id: str, checkpoint_id: str, change: Change) -> str:
    """Write a copy of a checkpoint whose container's spec is changed; return its id, which no database knows."""
    index = json.loads(_get(lab, f"checkpoints/{workload_id}/{checkpoint_id}/index.json"))
    (part,) = [part for part in index["manifests"] if "container" in part["annotations"].values()]
    record = read_record(_get(lab, f"blobs/sha256/{part['digest'].removeprefix('sha256:')}"))
    spec = record.spec_json()
    change(spec)
    wire: containers_pb2.Container = record.to_wire()
    wire.spec.CopyFrom(Container.pack_spec(spec))
    data, forged = wire.SerializeToString(), f"{checkpoint_id}-forged"
    part |= {"digest": f"sha256:{sha256(data).hexdigest()}", "size": len(data)}
    _put(lab, f"blobs/{part['digest'].replace(':', '/')}", data)
    _put(lab, f"checkpoints/{workload_id}/{forged}/index.json", json.dumps(index).encode())
    return forged


def _get(lab: Lab, key: str) -> bytes:
    return base64.b64decode(_ask(lab, key, b""))


def _put(lab: Lab, key: str, data: bytes) -> None:
    _ask(lab, key, data)


def _ask(lab: Lab, key: str, data: bytes) -> str:
    settings = lab.host("alpha").service("worker").spec.environment
    wanted = {name: value for name, value in settings.items() if name.startswith("MIGRATOR_S3")}
    words = {"BUCKET": BUCKET, "KEY": key, "DATA": base64.b64encode(data).decode()}
    done = lab.control.exec(["python3", "-c", STORE], timeout_s=60, environment=wanted | words)
    assert done.returncode == 0, done.stderr
    return done.stdout
