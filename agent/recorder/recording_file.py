"""One recording being written: an MCAP file that a power cut can not take away."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from agent.recorder.recording_format import FORMAT_VERSION, METADATA_NAME, schema_of

CHUNK_BYTES = 256 * 1024
"""A chunk is written when it has grown so large, or at the next flush."""


class RecordingFile:
    """Writes messages in chunks, each compressed and with a checksum; used from one thread at a time.

    What was flushed is on the disk and readable whatever happens next: the index at the file's end only makes
    opening faster.
    """

    def __init__(self, path: Path, metadata: Mapping[str, str]) -> None:
        self.path = path
        self._metadata = {"format": FORMAT_VERSION, **metadata}
        self._channels: dict[str, int] = {}
        self._schemas: dict[str, int] = {}
        self._stream: BinaryIO | None = None
        self._writer: Any = None
        """mcap.writer.Writer, whose methods are only half annotated."""

    def open(self) -> None:
        """Create the file; one that is there already is never overwritten. Raises OSError."""
        # Imported here: 7 MB that a vehicle without a recorder does not pay.
        from mcap.writer import Writer

        self._stream = self.path.open("xb")
        self._writer = Writer(self._stream, chunk_size=CHUNK_BYTES, enable_data_crcs=True)
        self._writer.start(profile="", library="mdt")
        self._writer.add_metadata(METADATA_NAME, self._metadata)
        self.flush(sync=True)
        _sync_folder(self.path.parent)

    @property
    def size_bytes(self) -> int:
        """What is in the file so far, without the chunk that is being filled."""
        return self._stream.tell() if self._stream else 0

    def add(self, topic: str, log_time_ns: int, publish_time_ns: int, message: bytes) -> None:
        """Add a message. Raises OSError when a chunk is full and can not be written."""
        channel = self._channels.get(topic)
        if channel is None:
            channel = self._register(topic)
        # MCAP times are unsigned; a press that a box kept from before the boot has a negative one.
        self._writer.add_message(channel, log_time_ns, message, max(publish_time_ns, 0))

    def flush(self, *, sync: bool) -> None:
        """End the chunk and hand it to the system; with `sync` wait until the disk has it. Raises OSError."""
        self._writer.flush()
        if sync and self._stream is not None:
            os.fdatasync(self._stream.fileno())

    def close(self) -> None:
        """Write the index and close. Raises OSError; the file is closed all the same. Idempotent."""
        stream, self._stream = self._stream, None
        if stream is None:
            return
        try:
            self._writer.finish()
            stream.flush()
            os.fsync(stream.fileno())
        finally:
            _close(stream)

    def abandon(self) -> None:
        """Close without writing any more, after an error."""
        stream, self._stream = self._stream, None
        if stream is not None:
            _close(stream)

    def _register(self, topic: str) -> int:
        schema = schema_of(topic)
        if schema.name not in self._schemas:
            schema_id = self._writer.register_schema(schema.name, schema.encoding, schema.text.encode())
            self._schemas[schema.name] = schema_id
        channel: int = self._writer.register_channel(
            topic, schema.message_encoding, self._schemas[schema.name]
        )
        self._channels[topic] = channel
        return channel


def _close(stream: BinaryIO) -> None:
    """Close, also when what is buffered can not be written: the error was told before."""
    try:
        stream.close()
    except OSError:
        # BufferedWriter.close() closes the descriptor even when its flush fails.
        return


def _sync_folder(folder: Path) -> None:
    """Make the new name in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
