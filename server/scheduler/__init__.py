"""The scheduler: which worker runs which action, and when.

`core.py` decides and does nothing else: frozen events (`events.py`) go in, frozen commands
(`commands.py`) come out, and every change of an operation's state is a row of the table in
`transitions.py`. The policies are pure functions in files of their own: `matching.py`,
`fairness.py`, `retries.py`, `deduplication.py`. `driver.py` alone is asynchronous; it reads the
clock, carries out the commands and wakes whoever waits. The package may import `remote_apis` and
nothing else of the project; what it needs from storage comes in through `ports.py`.
"""
