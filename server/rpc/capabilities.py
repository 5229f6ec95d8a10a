"""Capabilities (REAPI 2.12): what this server offers, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc.aio

from remote_apis.blob_files import DIRECTORY_HEADER
from remote_apis.chunking import FastCdc2020, RepMaxCdc
from remote_apis.digest_functions import DigestFunction
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as re_grpc
from remote_apis.stubs.build.bazel.semver import semver_pb2
from remote_apis.this_machine import MACHINE_HEADER, machine_id
from server.rpc.terms import Terms

_Context = grpc.aio.ServicerContext[Any, Any]
_LOW = (2, 0)
_HIGH = (2, 12)
_THIS_MACHINE = ("unix:", "ipv4:127.", "ipv6:%5B::1%5D:", "ipv6:[::1]:")
_Strategy = re_pb.SymlinkAbsolutePathStrategy


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionOffer:
    """What Execute takes. Priorities are a closed range around 0, lower sooner."""

    min_priority: int = -(2**31)
    max_priority: int = 2**31 - 1
    node_properties: tuple[str, ...] = ()
    digest_functions: tuple[DigestFunction, ...] = tuple(DigestFunction)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What one instance offers. `execution`: None where actions are not run."""

    update_enabled: bool = True
    absolute_symlinks: bool = True
    execution: ExecutionOffer | None = None


class CapabilitiesServicer(re_grpc.CapabilitiesServicer):
    """GetCapabilities."""

    def __init__(
        self,
        *,
        terms: Terms,
        offer_of: Callable[[str], Offer],
        fast_cdc: FastCdc2020 | None = None,
        rep_max_cdc: RepMaxCdc | None = None,
        blob_directory: str | None = None,
    ) -> None:
        """`offer_of` is asked with valid instance names. The chunkers: as CasServicer's.

        `blob_directory`: told to clients that call from this machine (`remote_apis.blob_files`).
        """
        self._terms = terms
        self._offer_of = offer_of
        self._fast_cdc = fast_cdc
        self._rep_max_cdc = rep_max_cdc
        self._blob_directory = blob_directory

    async def GetCapabilities(
        self, request: re_pb.GetCapabilitiesRequest, context: _Context
    ) -> re_pb.ServerCapabilities:
        offer = self._offer_of(self._terms.check_instance(request.instance_name))
        capabilities = re_pb.ServerCapabilities(
            cache_capabilities=self._cache(offer),
            low_api_version=semver_pb2.SemVer(major=_LOW[0], minor=_LOW[1]),
            high_api_version=semver_pb2.SemVer(major=_HIGH[0], minor=_HIGH[1]),
        )
        if offer.execution is not None:
            capabilities.execution_capabilities.CopyFrom(_execution(offer.execution))
        told = [(MACHINE_HEADER, machine_id())]
        if self._blob_directory is not None and is_on_this_machine(context.peer()):
            told.append((DIRECTORY_HEADER, os.fsencode(self._blob_directory)))
        await context.send_initial_metadata(tuple(told))
        return capabilities

    def _cache(self, offer: Offer) -> re_pb.CacheCapabilities:
        compressors = [each.name for each in self._terms.compressors]
        strategy = _Strategy.ALLOWED if offer.absolute_symlinks else _Strategy.DISALLOWED
        cache = re_pb.CacheCapabilities(
            digest_functions=[each.name for each in self._terms.digest_functions],
            max_batch_total_size_bytes=self._terms.max_batch_bytes,
            symlink_absolute_path_strategy=strategy,
            supported_compressors=compressors,
            supported_batch_update_compressors=compressors,
            max_cas_blob_size_bytes=self._terms.max_blob_bytes,
            split_blob_support=self._fast_cdc is not None or self._rep_max_cdc is not None,
            splice_blob_support=True,
        )
        cache.action_cache_update_capabilities.update_enabled = offer.update_enabled
        cache.cache_priority_capabilities.priorities.add(min_priority=0, max_priority=0)
        if self._fast_cdc is not None:
            cache.fast_cdc_2020_params.avg_chunk_size_bytes = self._fast_cdc.average_bytes
            cache.fast_cdc_2020_params.seed = self._fast_cdc.seed
        if self._rep_max_cdc is not None:
            cache.rep_max_cdc_params.min_chunk_size_bytes = self._rep_max_cdc.min_bytes
            cache.rep_max_cdc_params.horizon_size_bytes = self._rep_max_cdc.horizon_bytes
        return cache


def is_on_this_machine(peer: str) -> bool:
    """Whether a caller, as gRPC names it, came by loopback or by a Unix socket."""
    return peer.startswith(_THIS_MACHINE)


def _execution(offer: ExecutionOffer) -> re_pb.ExecutionCapabilities:
    functions = [each.name for each in offer.digest_functions]
    execution = re_pb.ExecutionCapabilities(
        digest_function=functions[0],
        exec_enabled=True,
        supported_node_properties=offer.node_properties,
        digest_functions=functions,
    )
    execution.execution_priority_capabilities.priorities.add(
        min_priority=offer.min_priority, max_priority=offer.max_priority
    )
    return execution
