"""Templates in a bucket: relative includes stay in it, and other buckets cannot be read."""

import asyncio

import pytest

from infrakit.clients import s3
from infrakit.clients.s3 import Bucket
from infrakit.spi.errors import InvalidSpec, NotFound, Refused
from infrakit.template.engine import Engine
from infrakit.template.loaders import Loader
from infrakit.template.scope import Scope
from tests.integration.s3.buckets import needs_s3

pytestmark = needs_s3


async def test_templates_of_a_bucket_include_only_templates_of_this_bucket(bucket: Bucket) -> None:
    await bucket.create("deep/boot.sh", b"a {{ include('parts/b c.sh') }}")
    await bucket.create("deep/parts/b c.sh", b"b {{ include('../../c.sh') }}")
    await bucket.create("c.sh", b"c")
    await bucket.create("deep/away.sh", b"{{ include('s3://another/c.sh') }}")
    await bucket.create("deep/astray.sh", b"{{ include('gone.sh') }}")
    await bucket.create("big", b"x" * 1_000_001)
    engine = Engine(Loader(fetchers={"s3": s3.load}))

    def rendered(key: str) -> str:
        template = engine.template(f"s3://{bucket._name}/{key}?endpoint={bucket._endpoint}")
        return engine.render(template, Scope()).text

    assert await asyncio.to_thread(rendered, "deep/boot.sh") == "a b c"
    with pytest.raises(Refused, match="may not read this bucket"):
        await asyncio.to_thread(rendered, "deep/away.sh")
    with pytest.raises(NotFound):
        await asyncio.to_thread(rendered, "deep/astray.sh")
    with pytest.raises(Refused, match="has more than 1,000,000 bytes"):
        await asyncio.to_thread(rendered, "big")
    with pytest.raises(InvalidSpec, match="this is not an object"):
        s3.load("s3://bucket", 1.0)
