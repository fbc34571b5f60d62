"""A trace in Perfetto's native format, TrackEvent, which ui.perfetto.dev opens."""

from collections.abc import Mapping
from itertools import count
from typing import Any

from kpuprof.tracks import CounterTrack, Slice, Trace, Value, lanes

PID = 1
SEQUENCE = 1  # of packets; one writer
UNITS = {"B": "UNIT_SIZE_BYTES"}  # others by name


def perfetto_bytes(trace: Trace) -> bytes:
    """The same trace gives the same bytes."""
    from perfetto.trace_builder.proto_builder import TraceProtoBuilder

    writer = _Writer(TraceProtoBuilder(), trace)
    writer.write()
    serialised: bytes = writer.builder.serialize()
    return serialised


class _Writer:
    """Packets in the making. Tracks are numbered in the order in which they are shown."""

    def __init__(self, builder: Any, trace: Trace) -> None:
        from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as protos

        self.builder = builder
        self._trace = trace
        self._events, self._counters = protos.TrackEvent, protos.CounterDescriptor
        self._descriptors, self._packets = protos.TrackDescriptor, protos.TracePacket
        self._numbers = count(1)

    def write(self) -> None:
        process = self._describe_process()
        for rank, (name, slices) in enumerate(self._trace.tracks.items()):
            for row in lanes(slices):
                self._write_slices(self._track(process, name, rank), row)
        for rank, counter in enumerate(self._trace.counters, len(self._trace.tracks)):
            self._write_counter(process, counter, rank)

    def _describe_process(self) -> int:
        """The process, and in an instant at its start what is known of the whole run."""
        number = next(self._numbers)
        descriptor = self._packet().track_descriptor
        descriptor.uuid = number
        descriptor.process.pid = PID
        descriptor.process.process_name = self._trace.process
        descriptor.child_ordering = self._descriptors.EXPLICIT
        descriptor.description = self._trace.scale
        about = next(self._numbers)
        self._describe(about, number, "Run", -1)
        packet = self._packet(0)
        packet.track_event.type = self._events.TYPE_INSTANT
        packet.track_event.track_uuid = about
        packet.track_event.name = "run"
        _annotate(packet.track_event, _about(self._trace))
        return number

    def _track(self, process: int, name: str, rank: int) -> int:
        """Rows of one track have its name, and are shown as one."""
        number = next(self._numbers)
        self._describe(number, process, name, rank)
        return number

    def _describe(self, number: int, parent: int, name: str, rank: int) -> Any:
        descriptor = self._packet().track_descriptor
        descriptor.uuid, descriptor.parent_uuid = number, parent
        descriptor.name, descriptor.sibling_order_rank = name, rank
        return descriptor

    def _write_slices(self, track: int, row: list[Slice]) -> None:
        for each in row:
            packet = self._packet(each.start)
            event = packet.track_event
            event.type, event.track_uuid = self._events.TYPE_SLICE_BEGIN, track
            event.name = each.name
            event.flow_ids.extend(each.leaving)
            event.terminating_flow_ids.extend(each.arriving)
            _annotate(event, each.args)
            end = self._packet(each.end).track_event
            end.type, end.track_uuid = self._events.TYPE_SLICE_END, track

    def _write_counter(self, process: int, counter: CounterTrack, rank: int) -> None:
        number = next(self._numbers)
        descriptor = self._describe(number, process, counter.name, rank)
        if counter.about:
            descriptor.description = counter.about
        described = descriptor.counter
        if counter.unit in UNITS:
            described.unit = self._counters.Unit.Value(UNITS[counter.unit])
        else:
            described.unit_name = counter.unit
        for cycle, value in counter.points:
            event = self._packet(cycle).track_event
            event.type, event.track_uuid = self._events.TYPE_COUNTER, number
            event.double_counter_value = value

    def _packet(self, cycle: int | None = None) -> Any:
        packet = self.builder.add_packet()
        packet.trusted_packet_sequence_id = SEQUENCE
        if cycle is not None:
            packet.timestamp = self._trace.ns(cycle)
        return packet


def _about(trace: Trace) -> dict[str, Value]:
    missing = {f"missing_{number}": each for number, each in enumerate(trace.missing, 1)}
    return {**trace.about, "scale": trace.scale, **missing}


def _annotate(event: Any, args: Mapping[str, Value]) -> None:
    for name, value in args.items():
        note = event.debug_annotations.add()
        note.name = name
        if isinstance(value, str):
            note.string_value = value
        elif isinstance(value, float):
            note.double_value = value
        else:
            note.int_value = value
