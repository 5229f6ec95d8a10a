"""The input root of one action, from the CAS to the disk and, in parts, to the next action."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import Executor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from remote_apis.client.cas import CasClient
from remote_apis.digest import Digest
from worker.blob_cache import BlobCache, Hold
from worker.cached_file import AlteredInputs, CachedFile, is_intact_at
from worker.directories import DirectoryReader
from worker.input_tree import InputNode, build_tree, is_file_system
from worker.materialise import InputPlan, Owner, make_inputs, plan_inputs
from worker.removal import remove_tree
from worker.salvage import Checker, Salvage, move_out
from worker.sandbox.interface import SandboxError
from worker.threads import FEW, in_thread
from worker.tree_pool import TreePool

_ATTEMPTS = 3


class InputRoots:
    """Makes input roots; shared by all slots of a worker."""

    def __init__(
        self,
        *,
        cache: BlobCache,
        pool: TreePool,
        executor: Executor,
        directories: DirectoryReader,
        allow_absolute_symlinks: bool,
    ) -> None:
        self.cache = cache
        self.pool = pool
        self.executor = executor
        self._directories = directories
        self._allow_absolute_symlinks = allow_absolute_symlinks

    @asynccontextmanager
    async def open(
        self,
        digest: Digest,
        cas: CasClient,
        path: Path,
        owner: Owner | None,
        *,
        working_directory: str = "",
    ) -> AsyncIterator[InputRoot]:
        """Have the input root at `path`, which must not exist yet.

        In a whole file system the files of the working directory are the action's own to write,
        as on a machine; everywhere else inputs are shared and read-only.

        Raises MissingBlobs, InvalidRequest for a tree that cannot be made, OutOfSpace, OSError.
        """
        tree = await self._directories.read_tree(digest, cas)
        for attempt in range(1, _ATTEMPTS + 1):
            top = build_tree(digest, tree, allow_absolute_symlinks=self._allow_absolute_symlinks)
            whole = is_file_system(top)
            writable = working_directory if whole and working_directory else None
            plan = plan_inputs(top, self.pool, writable=writable)
            async with AsyncExitStack() as stack:
                try:
                    hold = await self._make(plan, stack, cas, path, owner)
                except AlteredInputs as altered:
                    if attempt == _ATTEMPTS:
                        raise SandboxError(
                            f"kept inputs are altered again and again: {altered}"
                        ) from altered
                    await self._forget(altered, plan, path)
                    continue
                root = InputRoot(self, path, top, hold, files_are_safe=owner is not None)
                root.is_file_system = whole
                yield root
                return

    async def _make(
        self,
        plan: InputPlan,
        stack: AsyncExitStack,
        cas: CasClient,
        path: Path,
        owner: Owner | None,
    ) -> Hold:
        """Carry out a plan; what its files are held by, until the stack is closed."""
        stack.callback(self._give_back, plan)
        # What an action could alter is watched; it cannot where it has a user of its own.
        watched = plan.reused_files() if owner is None else ()
        hold = await stack.enter_async_context(self.cache.hold(plan.wanted, cas, watched=watched))
        await in_thread(
            self.executor,
            lambda: make_inputs(plan, self.cache, path, owner),
            is_short=plan.root.is_plain and plan.root.entries <= FEW,
        )
        return hold

    def _give_back(self, plan: InputPlan) -> None:
        for _, unused in plan.reused:
            self.discard(self.pool.put(unused))

    async def _forget(self, altered: AlteredInputs, plan: InputPlan, path: Path) -> None:
        """Drop what was found altered, what is so beside it, and the half-made input root."""
        kept = [file for file in plan.wanted if file in self.cache]

        def look() -> set[CachedFile]:
            remove_tree(path)
            return {file for file in kept if not is_intact_at(file, self.cache.path(file))}

        self.cache.drop(altered.files | await in_thread(self.executor, look))
        if altered.tree is not None:
            self.discard([altered.tree])

    def discard(self, trees: list[Path]) -> None:
        """Remove directories, later and in a thread."""
        for path in trees:
            self.executor.submit(remove_tree, path)


class InputRoot:
    """An input root on the disk, as long as its action is at work.

    `is_file_system`: it is to be `/` for its action.
    """

    def __init__(
        self, roots: InputRoots, path: Path, top: InputNode, hold: Hold, *, files_are_safe: bool
    ) -> None:
        self._roots = roots
        self._path = path
        self._top = top
        self._hold = hold
        self._files_are_safe = files_are_safe
        self._salvage = Salvage()
        self.is_file_system = False

    async def check(self, started_ns: int) -> None:
        """After the command, which started at that time: see whether its inputs are as they were.

        Raises SandboxError when a shared file was altered: the result may rest on wrong bytes.
        Whether this action or one beside it did it cannot be told; another try can be well.
        """
        roots = self._roots
        checker = Checker(
            roots.cache, roots.pool, started_ns=started_ns, files_are_safe=self._files_are_safe
        )
        self._salvage = await in_thread(
            roots.executor,
            lambda: checker.check(str(self._path), self._top),
            is_short=self._top.entries <= FEW,
        )
        roots.cache.drop(self._salvage.altered)
        if self._hold.is_tainted or self._salvage.altered:
            raise SandboxError("an input file was altered while the action ran: inputs are shared")

    async def keep(self) -> None:
        """After `check` and once the outputs are uploaded: keep what the next action may need."""
        roots = self._roots
        if not self._salvage.trees:
            return
        trees = await in_thread(roots.executor, lambda: move_out(self._salvage, roots.pool))
        for tree in trees:
            roots.discard(roots.pool.put(tree))
