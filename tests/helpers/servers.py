"""An application served on this machine."""

import contextlib
import threading
import time

import httpx2 as httpx
import uvicorn


@contextlib.contextmanager
def running(app, **options):
    """Serve an application on a free port → a client of it.

    Options are those of ``uvicorn.Config``.
    """
    options = {"port": 0, "log_level": "critical", **options}
    config = uvicorn.Config(app, **options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()
