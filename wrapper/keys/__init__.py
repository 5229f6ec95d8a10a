"""What was in each unit's and each build script run's key, so that `why-miss` can say what changed.

`journal` keeps the messages of every unit's action, `components` reads them again, `compare` and
`explain` find what differs from the time before. Only the journal is used while a build runs. May
import remote_apis, wrapper.action, wrapper.rustc, wrapper.script, wrapper.inputs and
wrapper.build_scripts.keys.
"""
