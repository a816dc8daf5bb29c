"""What the Python clients here have in common: channels, errors as the wire has them, checks."""

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, duration_pb2, message_factory
from google.rpc import status_pb2

assert duration_pb2  # RetryInfo needs it

_DETAILS = "grpc-status-details-bin"


def _details():
    """google.rpc.ErrorInfo and RetryInfo, from their published definition."""
    file = descriptor_pb2.FileDescriptorProto(
        name="tests/error_details.proto",
        package="google.rpc",
        syntax="proto3",
        dependency=["google/protobuf/duration.proto"],
    )
    text = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
    message = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
    one = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
    many = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
    info = file.message_type.add(name="ErrorInfo")
    info.field.add(name="reason", number=1, type=text, label=one)
    info.field.add(name="domain", number=2, type=text, label=one)
    entry = ".google.rpc.ErrorInfo.MetadataEntry"
    info.field.add(name="metadata", number=3, type=message, label=many, type_name=entry)
    pair = info.nested_type.add(name="MetadataEntry")
    pair.options.map_entry = True
    pair.field.add(name="key", number=1, type=text, label=one)
    pair.field.add(name="value", number=2, type=text, label=one)
    retry = file.message_type.add(name="RetryInfo")
    duration = ".google.protobuf.Duration"
    retry.field.add(name="retry_delay", number=1, type=message, label=one, type_name=duration)
    pool = descriptor_pool.Default()
    pool.Add(file)
    return [
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"google.rpc.{name}"))
        for name in ("ErrorInfo", "RetryInfo")
    ]


ErrorInfo, RetryInfo = _details()


def error_info(status):
    """The ErrorInfo of a google.rpc.Status; None if it has none."""
    for detail in status.details:
        info = ErrorInfo()
        if detail.Unpack(info):
            return info
    return None


def of_call(error):
    """The google.rpc.Status of a failed call; None if no sidecar sent it."""
    for name, value in error.trailing_metadata() or ():
        if name == _DETAILS:
            return status_pb2.Status.FromString(value)
    return None


def read(path):
    with open(path, "rb") as file:
        return file.read()


def credentials(directory, who, ca="ca"):
    """Those of a caller whose certificate lies in this directory; `who` None: without one."""
    tls = f"{directory}/tls"
    if who is None:
        return grpc.ssl_channel_credentials(read(f"{tls}/{ca}.pem"))
    pair = read(f"{tls}/{who}.key"), read(f"{tls}/{who}.pem")
    return grpc.ssl_channel_credentials(read(f"{tls}/{ca}.pem"), *pair)


class Checks:
    """Counts what was checked; too few are a failure too."""

    def __init__(self):
        self.done = 0

    def that(self, what, holds, seen=""):
        if not holds:
            raise SystemExit(f"error: {what}: {seen}")
        self.done += 1

    def end(self, planned):
        print(f"{self.done} checks, {planned} planned")
        if self.done < planned:
            raise SystemExit(f"error: {planned - self.done} checks were not made")
