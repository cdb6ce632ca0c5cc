"""What is wired, what is not, and what to do: facts of one project, and what they mean.

Facts are gathered by small functions, each with a time limit; what they mean is decided by pure ones. The
command `celery plet doctor` shows them; whoever else wants one of these facts calls the same function.

| module | subject |
|---|---|
| `finding` | a fact with its level, its fix and where to read on |
| `gathering` | steps in threads, bounded in time; what failed is a fact, too |
| `folders` | home, journal, runs: owner, mode, file system, free space |
| `journal` | who ships, what is behind, what was lost on the way |
| `storefacts` | the store: reachable, schema, size, refused events, hosts |
| `celeryconf` | Celery's settings that lose runs, results or progress |
| `promising` | promises of `plet_objectives` that no task stands behind |
| `versions` | Python and the packages that matter |
| `examination` | all of it |
"""
