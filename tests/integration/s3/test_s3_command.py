"""`infrakit template s3://...`, which renders in a process with limits."""

import asyncio
import sys

from infrakit.clients.s3 import Bucket
from tests.integration.s3.buckets import needs_s3

pytestmark = needs_s3


async def test_the_command_renders_templates_of_a_bucket(bucket: Bucket) -> None:
    await bucket.create("deep/boot.sh", b"a {{ include('parts/b.sh', x=var('x')) }}")
    await bucket.create("deep/parts/b.sh", b"b {{ x }}")
    address = f"s3://{bucket._name}/deep/boot.sh?endpoint={bucket._endpoint}"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "infrakit", "template", address, "--var=x=1"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, out, err) == (0, b"a b 1", b"")
