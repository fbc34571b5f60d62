"""What each subcommand takes on the command line, one file per command."""
