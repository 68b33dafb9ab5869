"""A proxy in front of the Engine that denies access: an error, and never an unknown ID."""

import asyncio
from pathlib import Path

import pytest

from infrakit.instances.docker import Docker
from infrakit.spi.errors import InfraKitError
from infrakit.spi.values import InstanceID


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden", "404 Not Found", "500 Internal Server Error"])
async def test_a_denied_inspection_confirms_no_termination(status: str, tmp_path: Path) -> None:
    async def deny(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b'{"message": "access denied"}'
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(deny, tmp_path / "s"):
        docker = Docker(tmp_path / "docker", host=f"unix://{tmp_path / 's'}")
        for call in (docker.inspect(instance=InstanceID("i-1")), docker.describe_instances(tags={}), docker.identity()):
            with pytest.raises(InfraKitError):
                await call
        await docker.close()
