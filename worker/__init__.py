"""The worker: takes actions from a scheduler, runs them in a sandbox, hands back results.

`run` starts it from a `config.WorkerConfig`; `lease` talks to the scheduler, `action` runs one
action with `materialise`, `sandbox` and `outputs`. May import `remote_apis` and
`server.blobstore`; nothing else of the server.
"""
