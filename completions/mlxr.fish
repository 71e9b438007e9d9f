complete --keep-order --exclusive --command mlxr --arguments "(MLXR_COMPLETE=fish mlxr -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token))"
