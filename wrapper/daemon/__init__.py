"""The user's daemon: answers the shims of all builds over a Unix socket.

`protocol` is the wire to the shim, `calls` takes one rustc call from arrival to answer, `server`
listens. May import all of the wrapper but its command line.
"""
