"""`parley`: an operator's commands. Each imports what it needs when it runs, and no sooner."""
