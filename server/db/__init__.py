"""Everything that is kept in SQL.

`engine.py` runs statements on threads, `tables.py` says what there is, `migrations.py` how it came
about; every other file is one repository that implements an interface of a lower layer. May import
remote_apis, server.actioncache and server.scheduler.
"""
