"""`hfmem-check`: whether what is about to be started fits, file by file, for hooks and workflows.

A file is a training file (YAML or JSON, as `hfmem --from-args` takes it) or a script with launch lines of servers.
Each is one question to `hfmem`, whose JSON is summed up.
"""
