complete --keep-order --exclusive --command escli --arguments "(COMPLETE=fish escli -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token))"
