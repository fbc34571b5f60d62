"""Where points are computed: in this process, in processes of this computer, or on a Ray cluster.

An engine takes tasks and gives results in the order in which they are done. It holds no more tasks
than it needs to keep its workers busy, so that a space may be larger than memory.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from typing import Any

from formats.errors import LimitError, UsageError
from kpuprof.sweep.evaluate import Programs, evaluate
from kpuprof.sweep.result import Result, Task

Evaluator = Callable[[Iterable[Task]], Iterator[Result]]
ENGINES = ("local", "ray")
TASKS_PER_WORKER = 2  # one at work, one at hand

_programs: Programs = {}  # of a worker process, for as long as it lives


def engine(
    name: str, programs: Programs, workers: int | None, address: str | None
) -> AbstractContextManager[Evaluator]:
    """workers: None for all cores, of the computer or of the cluster."""
    if name == "ray":
        return _on_ray(programs, workers, address)
    count = workers or os.cpu_count() or 1
    return _here(programs) if count == 1 else _in_processes(programs, count)


@contextmanager
def _here(programs: Programs) -> Iterator[Evaluator]:
    yield lambda tasks: (evaluate(programs, task) for task in tasks)


@contextmanager
def _in_processes(programs: Programs, workers: int) -> Iterator[Evaluator]:
    """Spawned, not forked: kpuc has left threads of torch behind in this process."""
    from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import active_children, get_context

    before = set(active_children())
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _begin, (programs,))

    def computed(tasks: Iterable[Task]) -> Iterator[Result]:
        waiting = iter(tasks)
        running: set[Future[Result]] = set()
        while True:
            more = islice(waiting, TASKS_PER_WORKER * workers - len(running))
            running |= {pool.submit(_evaluated, task) for task in more}
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for each in done:
                yield each.result()

    try:
        yield computed
        pool.shutdown()
    except BrokenProcessPool as error:
        raise LimitError("a worker process was ended from outside: is memory short?") from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(active_children()) - before:
            child.terminate()  # an interrupt does not wait for what is half computed


def _begin(programs: Programs) -> None:
    """Of a worker process: Ctrl-C is the parent's to handle, and without a parent it ends."""
    import signal
    from threading import Thread

    global _programs
    _programs = programs
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    from multiprocessing import parent_process

    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _evaluated(task: Task) -> Result:
    return evaluate(_programs, task)


@contextmanager
def _on_ray(programs: Programs, workers: int | None, address: str | None) -> Iterator[Evaluator]:
    """Tasks of Ray; the programs are sent once to each computer of the cluster."""
    ray = _ray()
    _require_listener(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError) as error:
        where = "--engine ray" if address is None else f"--address {address}"
        raise UsageError(f"{where}: {' '.join(str(error).split())}") from error
    try:
        count = workers or int(ray.cluster_resources().get("CPU", 1))
        shared = ray.put(programs)
        remote = ray.remote(evaluate)

        def computed(tasks: Iterable[Task]) -> Iterator[Result]:
            waiting = iter(tasks)
            running: list[Any] = []
            while True:
                more = islice(waiting, TASKS_PER_WORKER * count - len(running))
                running += [remote.remote(shared, task) for task in more]
                if not running:
                    return
                done, running = ray.wait(running)
                for each in done:
                    yield ray.get(each)

        yield computed
    finally:
        ray.shutdown()


def _require_listener(address: str | None) -> None:
    """Of host:port, as Ray itself would try for minutes; UsageError where nobody answers."""
    import socket

    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise UsageError(f"--address {address}: no Ray cluster answers there ({error})") from error


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise UsageError("--engine ray needs Ray: pip install 'kpu-toolchain[ray]'") from error
    return ray
