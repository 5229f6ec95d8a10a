import grpc.aio
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as re_grpc
from google.rpc import status_pb2, error_details_pb2, code_pb2
from google.longrunning import operations_pb2

async def f(ch: grpc.aio.Channel) -> None:
    stub = re_grpc.ContentAddressableStorageStub(ch)
    r = await stub.FindMissingBlobs(re_pb.FindMissingBlobsRequest(), timeout=3)
    reveal_type(r)
    reveal_type(status_pb2.Status().code)
